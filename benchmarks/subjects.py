"""What is measured: ways to wait for the end of something that a server tells about."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

#: What `airflow-provider-revox[fast]` adds; hidden from the subject that measures the transport without it.
FAST_MODULES = ("aiohttp",)

_FOREVER_SECONDS = 7 * 24 * 3600.0


class SubjectFailedError(Exception):
    """A wait ended in another way than by the end of what it waited for."""


class Subject(ABC):
    """
    One way to wait. Made before anything is measured; what it imports and sets is not counted.

    :param base_url: root of the status server, without a path.
    :param interval: seconds between two looks at the same thing.
    """

    #: Looks in a second over all waits that leave the core of this machine well below its limit.
    looks_per_second: ClassVar[float] = 200.0
    #: More waits than these take minutes to start, or gigabytes.
    most_waits: ClassVar[int] = 100_000
    #: Whether a wait ends when the server says so.
    can_end: ClassVar[bool] = True

    def __init__(self, base_url: str, interval: float) -> None:
        self.base_url = base_url
        self.interval = interval
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Import, and set the connection; runs outside the event loop."""

    @abstractmethod
    async def wait(self, number: int) -> None:
        """Wait for the end of this thing. :raises SubjectFailedError: when it ends in another way."""


def call_id(number: int) -> str:
    """Return the id of an order, as wide as those of Revox."""
    return f"00000000-0000-4000-8000-{number:012d}"


async def _expect(trigger: BaseTrigger, **expected: str) -> None:
    async for event in trigger.run():
        payload = event.payload
        if not all(payload.get(key) == value for key, value in expected.items()):
            raise SubjectFailedError(str(payload)[:300])
        return
    raise SubjectFailedError("the trigger ended without an event")


def _connect(conn_id: str, **fields: Any) -> None:
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)


class Ours(Subject):
    """RevoxCallTrigger with what is installed, one GET a look."""

    extensions: ClassVar[str] = "off"

    def prepare(self) -> None:
        _connect(
            "revox_default",
            conn_type="revox",
            host=self.base_url,
            password="a-key-of-the-benchmark",  # noqa: S106  the server asks for none
            extra={"api_extensions": self.extensions},
        )
        from airflow_provider_revox import watcher  # noqa: F401  imported by the first wait otherwise
        from airflow_provider_revox.triggers import RevoxCallTrigger

        self._trigger = RevoxCallTrigger

    async def wait(self, number: int) -> None:
        trigger = self._trigger(
            call_id(number),
            "revox_default",
            poke_interval=self.interval,
            max_poll_interval=max(600.0, self.interval),
        )
        await _expect(trigger, status="completed", reason="ended")


class OursPlain(Ours):
    """RevoxCallTrigger on httpx alone, one GET a look."""

    def prepare(self) -> None:
        for name in FAST_MODULES:
            sys.modules[name] = None  # type: ignore[assignment]  # importing it raises ImportError
        super().prepare()


class OursBulk(Ours):
    """RevoxCallTrigger where the search extension answers."""

    extensions = "auto"
    looks_per_second = 1000.0


class DbtCloud(Subject):
    """DbtCloudRunJobTrigger."""

    def prepare(self) -> None:
        host = self.base_url.removeprefix("https://")
        _connect("dbt", conn_type="dbt_cloud", host=host, login="1", password="a-token")  # noqa: S106
        from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

        self._trigger = DbtCloudRunJobTrigger

    async def wait(self, number: int) -> None:
        trigger = self._trigger(
            conn_id="dbt",
            run_id=number,
            end_time=time.time() + _FOREVER_SECONDS,
            poll_interval=self.interval,
            account_id=1,
        )
        await _expect(trigger, status="success")


class Fivetran(Subject):
    """FivetranTrigger."""

    def prepare(self) -> None:
        _connect("fivetran", conn_type="fivetran", login="a-key", password="a-secret")  # noqa: S106
        import pendulum
        from fivetran_provider_async.hooks import FivetranHookAsync
        from fivetran_provider_async.triggers import FivetranTrigger

        # The host is a constant of the hook; no connection changes it.
        FivetranHookAsync.api_protocol, FivetranHookAsync.api_host = self.base_url.split("://")
        self._trigger = FivetranTrigger
        self._before = pendulum.datetime(2025, 3, 10, 9)

    async def wait(self, number: int) -> None:
        trigger = self._trigger(
            task_id=f"wait_{number}",
            connector_id=f"connector_{number:012d}",
            fivetran_conn_id="fivetran",
            previous_completed_at=self._before,
            poke_interval=self.interval,
        )
        await _expect(trigger, status="success")


class Airbyte(Subject):
    """AirbyteSyncTrigger."""

    # It builds a client with its TLS settings for every wait, on the event loop.
    most_waits = 1000

    def prepare(self) -> None:
        _connect("airbyte", conn_type="airbyte", host=f"{self.base_url}/v1")
        from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

        self._trigger = AirbyteSyncTrigger

    async def wait(self, number: int) -> None:
        trigger = self._trigger(
            job_id=number,
            conn_id="airbyte",
            end_time=time.time() + _FOREVER_SECONDS,
            poll_interval=self.interval,
        )
        await _expect(trigger, status="success")


class Vendor(Subject):
    """AsyncRevox, one client for all waits."""

    def prepare(self) -> None:
        from revox import AsyncRevox

        self._client = AsyncRevox(api_key="a-key-of-the-benchmark", base_url=f"{self.base_url}/api")

    async def wait(self, number: int) -> None:
        while (await self._client.call.retrieve(call_id(number))).call.status != "completed":
            await asyncio.sleep(self.interval)


class ClientPerPoll(Subject):
    """An httpx client for every look."""

    looks_per_second = 20.0
    most_waits = 100

    def prepare(self) -> None:
        import httpx

        self._client = httpx.AsyncClient

    async def wait(self, number: int) -> None:
        while True:
            async with self._client(headers={"Authorization": "Bearer a-key"}) as client:
                response = await client.get(f"{self.base_url}/api/call/{call_id(number)}")
            if response.raise_for_status().json()["call"]["status"] == "completed":
                return
            await asyncio.sleep(self.interval)


class Floor(Subject):
    """
    asyncio streams over 16 kept connections.

    Of a reply it reads the status line and the content length, and never what is in it.
    """

    can_end = False

    def prepare(self) -> None:
        import ssl

        scheme, _, address = self.base_url.partition("://")
        host, _, port = address.partition(":")
        self._context = ssl.create_default_context() if scheme == "https" else None
        self._host, self._port = host, int(port)
        self._gate = asyncio.Semaphore(16)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def wait(self, number: int) -> None:
        request = (
            f"GET /api/call/{call_id(number)} HTTP/1.1\r\nhost: {self._host}\r\naccept: */*\r\n"
            "authorization: Bearer a-key\r\n\r\n"
        ).encode()
        while True:
            async with self._gate:
                await self._look(request)
            await asyncio.sleep(self.interval)

    async def _look(self, request: bytes) -> None:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._context)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SubjectFailedError(head.decode())
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        self._idle.append((reader, writer))


SUBJECTS: dict[str, type[Subject]] = {
    "ours": Ours,
    "ours-plain": OursPlain,
    "ours-bulk": OursBulk,
    "dbt-cloud": DbtCloud,
    "fivetran": Fivetran,
    "airbyte": Airbyte,
    "vendor": Vendor,
    "client-per-poll": ClientPerPoll,
    "floor": Floor,
}
PEERS = ("dbt-cloud", "fivetran", "airbyte")
#: Distributions whose versions belong to the figures.
DISTRIBUTIONS = (
    "apache-airflow",
    "httpx",
    "httpx-aiohttp",
    "aiohttp",
    "apache-airflow-providers-dbt-cloud",
    "airflow-provider-fivetran-async",
    "apache-airflow-providers-airbyte",
    "revox",
)
