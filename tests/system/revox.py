"""The simulator as a process, and what tests ask it over HTTP."""

from __future__ import annotations

import json
import re
import secrets
import sys
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.system.machine import Machine


#: How long a request of the provider, or of the plain operator, waits for a reply.
REVOX_TIMEOUT = 10


class Revox:
    """
    A local Revox.

    :param speed: virtual seconds in a real second.
    """

    def __init__(self, machine: Machine, name: str, *, speed: float, extensions: bool = True) -> None:
        self.name = name
        self.api_key = secrets.token_hex(16)
        arguments = ["--port", "0", "--speed", str(speed), "--api-key", self.api_key]
        if not extensions:
            arguments.append("--no-extensions")
        machine.start(name, [sys.executable, "-m", "airflow_provider_revox.simulator", *arguments], {"PATH": ""})

        def address() -> str:
            said = re.search(r"listening on (\S+)", machine.log_of(name).read_text())
            return said[1] if said else ""

        self.url = machine.until(address, f"{name} to listen", 60)
        self._control = httpx.Client(base_url=f"{self.url.removesuffix('/api')}/_simulator", trust_env=False)

    def close(self) -> None:
        """Close the connections to it; the process is the machine's."""
        self._control.close()

    def connection(self, **extra: Any) -> dict[str, Any]:
        """Return an Airflow connection that leads here."""
        return {
            "conn_type": "revox",
            "host": self.url,
            "password": self.api_key,
            "extra": {"timeout": REVOX_TIMEOUT, **extra},
        }

    def connection_json(self, **extra: Any) -> str:
        return json.dumps(self.connection(**extra))

    def orders(self, number: str | None = None) -> list[dict[str, Any]]:
        """Return all orders, or those to one number, oldest first."""
        orders = self._control.get("/orders").raise_for_status().json()
        return [order for order in orders if number in (None, order["to_phone_number"])]

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._control.get("/stats").raise_for_status().json()
        return stats

    def looks(self, number: str) -> int:
        """Return how often somebody looked at the orders to a number."""
        polls = self.stats()["polls"]
        return sum(polls.get(order["id"], 0) for order in self.orders(number))

    def fault(self, endpoint: str, kind: str, **arguments: Any) -> int:
        """Arm a fault and return its id."""
        body = {"endpoint": endpoint, "kind": kind, **arguments}
        armed: int = self._control.post("/faults", json=body).raise_for_status().json()["id"]
        return armed

    def struck(self, fault: int) -> int:
        """Return how often a fault struck."""
        shown = self._control.get("/faults").raise_for_status().json()["faults"]
        return sum(each["fired"] for each in shown if each["id"] == fault)

    def has_struck(self, fault: int) -> bool:
        return self.struck(fault) > 0

    def clear_faults(self, number: str | None = None) -> None:
        self._control.delete("/faults", params={"phone_number": number} if number else None).raise_for_status()

    def release(self, number: str) -> int:
        released = self._control.post("/release", params={"phone_number": number}).raise_for_status()
        return int(released.json()["released"])

    def advance(self, seconds: float) -> None:
        self._control.post("/advance", json={"seconds": seconds}).raise_for_status()

    def rotate_key(self) -> str:
        """Take a new key from now on, and return it."""
        self.api_key = secrets.token_hex(16)
        self._control.post("/api-key", json={"api_key": self.api_key}).raise_for_status()
        return self.api_key
