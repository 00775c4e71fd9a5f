"""One HTTP exchange, down to its connection: replies as they should be, and every way to break one."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator.orders import encoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

JSON = b"application/json"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Reply:
    """A reply, ready to be written."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem(
    status: int,
    message: str,
    details: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return an error reply with a readable body."""
    body: dict[str, Any] = {"error": message}
    if details:
        body["details"] = details
    raw = tuple((name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items())
    return Reply(status, encoded(body), headers=raw)


class Holding:
    """Requests that are held open, until they are released or the server stops."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._waiting: list[tuple[str | None, asyncio.Event]] = []

    @property
    def held(self) -> int:
        """How many requests are being held."""
        return len(self._waiting)

    def release(self, phone_number: str | None = None) -> int:
        """Let every held request go on, or those about one number, and return how many there were."""
        released = [event for number, event in self._waiting if phone_number in (None, number)]
        for event in released:
            event.set()
        return len(released)

    async def wait(self, phone_number: str | None) -> None:
        """Hold a request, which is about a number, until the next release."""
        waiting = (phone_number, asyncio.Event())
        self._waiting.append(waiting)
        try:
            await waiting[1].wait()
        finally:
            self._waiting.remove(waiting)


class Exchange:
    """A request that waits for its reply."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, holding: Holding) -> None:
        self._receive = receive
        self._send = send
        self._holding = holding
        #: The number that the request is about, once that is known.
        self.phone_number: str | None = None
        self._transport: asyncio.Transport = scope["state"]["transport"]

    async def body(self) -> bytes | None:
        """Read the body; None when the client has left."""
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    async def reply(self, reply: Reply) -> None:
        """Answer as HTTP wants it."""
        await self._send(
            {
                "type": "http.response.start",
                "status": reply.status,
                "headers": [
                    (b"content-type", reply.content_type),
                    (b"content-length", b"%d" % len(reply.body)),
                    *reply.headers,
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": reply.body})

    async def close(self, raw: bytes = b"") -> None:
        """Write these bytes, whatever they are, and close the connection."""
        if raw:
            self._transport.write(raw)
        self._transport.close()
        await self._gone()

    async def reset(self) -> None:
        """Reset the connection, so that the client sees ECONNRESET instead of an orderly end."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
        await self._gone()

    async def cut(self, reply: Reply, *, keep: int, announce: int) -> None:
        """Send the beginning of a reply under a content length of one's choice, and close."""
        head = (
            f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
            f"content-type: {reply.content_type.decode()}\r\ncontent-length: {announce}\r\n"
            "connection: close\r\n\r\n"
        )
        await self.close(head.encode() + reply.body[:keep])

    async def hold(self) -> bool:
        """Hold the request until it is released; False when the client has left or the server stops."""
        return await self._first_of(self._holding.wait(self.phone_number))

    async def delay(self, seconds: float) -> bool:
        """Let real seconds pass; False when the client has left or the server stops."""
        return await self._first_of(asyncio.sleep(seconds))

    async def _first_of(self, awaited: Any) -> bool:
        tasks = [
            asyncio.ensure_future(awaited),
            asyncio.ensure_future(self._gone()),
            asyncio.ensure_future(self._holding.closing.wait()),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        goes_on = tasks[0].done() and not tasks[1].done()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not goes_on:
            self._transport.abort()
            await self._gone()
        return goes_on

    async def _gone(self) -> None:
        # Returning before the server has noticed that the connection is gone would make it answer 500.
        while (await self._receive())["type"] != "http.disconnect":
            pass
