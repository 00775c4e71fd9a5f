"""
Placing orders, one after the other on a connection that is kept alive: our hook against the vendor's client.

Both send the same order, a whole assistant with it, to a server in a process of its own that answers from prebuilt bytes. Ours
checks the dict that it is given (`RevoxHook.create_call`); both read the reply into their full model. They take turns in blocks,
with and without TLS; medians over the blocks.

    python -m benchmarks.placing --orders 300 --rounds 7
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import multiprocessing
import os
import ssl
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.results import report, table
from benchmarks.status_server import Counts, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from benchmarks.status_server import Service

SUMMARY = "Orders per second and CPU per order through our hook and through the vendor's client."
API_KEY = "benchmark"
_ID = "00000000-0000-4000-8000-000000000001"
_PROMPT = (
    "You call {{name}} for the Corner Bakery. Ask whether the order of {{day}} arrived in time and was complete. If something was"
    " missing, ask what, and say that somebody will be in touch within a day. Ask whether they would order again. Be brief,"
    " friendly and clear; if they have no time, ask when to call again, thank them and say goodbye."
)
ORDER: dict[str, Any] = {
    "phone_number": "+14155550100",
    "assistant": {
        "prompt": _PROMPT,
        "first_sentence": "Hello {{name}}, this is the Corner Bakery. Do you have a minute?",
        "first_sentence_mode": "static",
        "voice": {"id": "a0e99841-438c-4a64-b679-ae501e7d6091", "provider": "cartesia", "speed": 1.0},
        "voicemail_message": None,
        "structured_output_config": [
            {"name": "satisfaction", "type": "number", "required": True, "description": "From 0 to 10."},
            {"name": "would_order_again", "type": "boolean", "required": True},
            {"name": "comment", "type": "string", "required": False, "description": "In their words."},
        ],
        "call_retry_config": {
            "calling_windows": [
                {
                    "calling_window_start_time": "09:00",
                    "calling_window_end_time": "20:00",
                    "retry_delay_seconds": 900,
                }
            ],
            "max_retry_attempts": 2,
        },
    },
    "prompt_variables": {"name": "Ada", "day": "Thursday"},
    "metadata": {"customer": "4711", "campaign": "spring"},
}
#: The same order to an assistant that Revox knows already.
SHORT_ORDER: dict[str, Any] = {name: value for name, value in ORDER.items() if name != "assistant"} | {
    "assistant_id": _ID
}


# --- the server ----------------------------------------


class _Prebuilt:
    """Answer every request with the same order, as the simulator shows one that was just placed."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self.counts = Counts()

    def answer(self, method: bytes, path: bytes, body: bytes) -> bytes | None:  # noqa: ARG002  the status server's
        return self._reply if (method, path) == (b"POST", b"/api/call") else None


def order_reply() -> bytes:
    """Return what the simulator answers to `ORDER`."""
    import httpx

    from airflow_provider_revox.simulator import Simulator

    with (
        Simulator(speed=0.001, live_fields=True) as revox,
        httpx.Client(headers={"Authorization": f"Bearer {revox.api_key}"}, trust_env=False) as client,
    ):
        return client.post(f"{revox.base_url}/call", json=ORDER).raise_for_status().content


def _serve(ports: Connection, reply: bytes, certificate: str) -> None:
    asyncio.run(_serving(ports, reply, certificate))


async def _serving(ports: Connection, reply: bytes, certificate: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    service = cast("Service", _Prebuilt(reply))
    servers = [await loop.create_server(lambda: Exchange(service), "127.0.0.1", 0, ssl=tls) for tls in (None, context)]
    ports.send([server.sockets[0].getsockname()[1] for server in servers])
    await asyncio.Event().wait()


@contextmanager
def running_server(reply: bytes) -> Iterator[dict[str, str]]:
    """Run the server in a process of its own; yields its base URLs, and has SSL_CERT_FILE lead to its authority."""
    import trustme

    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as place:
        certificate, trusted = Path(place, "server.pem"), Path(place, "authority.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        authority.cert_pem.write_to_path(str(trusted))
        os.environ["SSL_CERT_FILE"] = str(trusted)
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(there, reply, str(certificate)), daemon=True)
        process.start()
        try:
            if not here.poll(60):
                raise RuntimeError("the server did not start")
            plain, tls = here.recv()
            yield {"http": f"http://127.0.0.1:{plain}/api", "https": f"https://127.0.0.1:{tls}/api"}
        finally:
            process.kill()
            process.join()


# --- the subjects ----------------------------------------


def _ours(base_url: str) -> Callable[[dict[str, Any]], Any]:
    from airflow_provider_revox.hooks import RevoxHook

    # Airflow finds a connection in the environment under its name in capitals.
    connection = {"conn_type": "revox", "host": base_url, "password": API_KEY}
    os.environ["AIRFLOW_CONN_REVOX_BENCHMARK"] = json.dumps(connection)
    hook = RevoxHook("revox_benchmark")
    hook.get_conn()
    return hook.create_call


def _vendors(base_url: str) -> Callable[[dict[str, Any]], Any]:
    # Installed for the benchmark only, so the type checker does not have it.
    client = importlib.import_module("revox").Revox(api_key=API_KEY, base_url=base_url)
    return lambda order: client.call.create(**order)


def _block(place: Callable[[dict[str, Any]], Any], order: dict[str, Any], orders: int) -> tuple[float, float]:
    """Return milliseconds of CPU and of the clock for one order."""
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(orders):
        place(order)
    return 1000 * (time.process_time() - cpu) / orders, 1000 * (time.perf_counter() - clock) / orders


def compare(base_url: str, order: dict[str, Any], orders: int, rounds: int) -> dict[str, Any]:
    """Return both subjects' medians against one server, and the ratio of their CPU."""
    subjects = {"ours": _ours(base_url), "vendor": _vendors(base_url)}
    blocks: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for name, place in subjects.items():
        placed = place(order)
        call_id = placed.id if name == "ours" else placed.call.id
        if not call_id:
            raise RuntimeError(f"{name}: no order came back")
        _block(place, order, 50)
    for _ in range(rounds):
        for name, place in subjects.items():
            blocks[name].append(_block(place, order, orders))
    result: dict[str, Any] = {
        name: {
            "cpu_milliseconds": round(statistics.median(cpu for cpu, _ in seen), 3),
            "orders_per_second": round(1000 / statistics.median(clock for _, clock in seen)),
        }
        for name, seen in blocks.items()
    }
    pairs = zip(blocks["ours"], blocks["vendor"], strict=True)
    result["cpu_ratio"] = round(statistics.median(ours[0] / vendors[0] for ours, vendors in pairs), 3)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Compare over plain HTTP and over TLS, with a whole assistant in the order and with an assistant's id; write it down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placing", description=SUMMARY)
    parser.add_argument("--orders", type=int, default=300, help="orders in a block (default 300)")
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each subject (default 7)")
    options = parser.parse_args(argv)
    reply = order_reply()
    result: dict[str, Any] = {"orders": options.orders, "rounds": options.rounds, "reply_bytes": len(reply)}
    with running_server(reply) as urls:
        for scheme, base_url in urls.items():
            for name, order in (("assistant", ORDER), ("assistant_id", SHORT_ORDER)):
                result[f"{scheme}, {name}"] = compare(base_url, order, options.orders, options.rounds)
    cases = {name: case for name, case in result.items() if isinstance(case, dict)}
    rows = [
        (
            name,
            *(f"{case[who]['cpu_milliseconds']:.3f} ({case[who]['orders_per_second']})" for who in ("ours", "vendor")),
            f"{case['cpu_ratio']:.3f}",
        )
        for name, case in cases.items()
    ]
    heads = ("CPU ms an order (orders/s)", "ours", "vendor's client", "CPU ratio")
    return report("placing", "Placing orders", result, table(heads, rows), ("revox",))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
