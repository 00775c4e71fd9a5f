"""
The server that all subjects ask, in a process of its own: it does as little as it can for a request.

It answers on a TLS and on a plain port, from prebuilt bytes, and is told what to do over a third: see `Control`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.replies import Replies, airbyte_jobs, call_orders, dbt_cloud_runs, fivetran_connectors
from benchmarks.serving import end_position

_NUMBER = re.compile(rb"(\d+)/?(?:\?.*)?$")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Counts:
    """What the server has seen since the last reset."""

    requests: int = 0
    searches: int = 0
    #: Orders, runs, connectors or jobs shown: one for a GET, those in the reply for a search.
    looks: int = 0
    refused: int = 0
    accepted: int = 0
    open: int = 0
    most_open: int = 0


@dataclass
class Service:
    """
    Prebuilt replies, and when each thing ends.

    :param end_begin: `time.monotonic()` at which number 0 ends; that clock is the same in all processes of a machine.
    :param end_step: seconds from one end to the next; see `end_position` for which is the next.
    :param things: how many there are.
    """

    calls: Replies = field(default_factory=call_orders)
    peers: dict[bytes, Replies] = field(
        default_factory=lambda: {
            b"/api/v2/accounts/1/runs/": dbt_cloud_runs(),
            b"/v1/connectors/": fivetran_connectors(),
            b"/v1/jobs/": airbyte_jobs(),
        }
    )
    counts: Counts = field(default_factory=Counts)
    end_begin: float | None = None
    end_step: float = 0.0
    things: int = 1
    #: When each number was first shown as ended.
    shown_ended: dict[int, float] = field(default_factory=dict)

    def _has_ended(self, number: int) -> bool:
        now = time.monotonic()
        if self.end_begin is None or now < self.end_begin + end_position(number, self.things) * self.end_step:
            return False
        self.shown_ended.setdefault(number, now)
        return True

    def _shown(self, replies: Replies, number: int, identifier: bytes) -> bytes:
        self.counts.looks += 1
        template = replies.ended if self._has_ended(number) else replies.running
        return template.filled(identifier)

    def answer(self, method: bytes, path: bytes, body: bytes) -> bytes | None:
        """Return the body of the reply, None where there is nothing under that path."""
        self.counts.requests += 1
        if method == b"POST":
            return self._search(body) if path == b"/api/call/search" else None
        found = _NUMBER.search(path)
        if found is None:
            return None
        if path.startswith(b"/api/call/"):
            return b'{"call":' + self._shown(self.calls, int(found[1]), path[len("/api/call/") :]) + b"}"
        for prefix, replies in self.peers.items():
            if path.startswith(prefix):
                return self._shown(replies, int(found[1]), found[1])
        return None

    def _search(self, body: bytes) -> bytes:
        self.counts.searches += 1
        asked = json.loads(body)
        ids: list[str] = asked["call_ids"]
        begin = asked.get("page", 0) * asked.get("page_size", 50)
        page = ids[begin : begin + asked.get("page_size", 50)]
        orders = b",".join(self._shown(self.calls, int(call_id[-12:]), call_id.encode()) for call_id in page)
        return b'{"calls":[' + orders + b'],"total_count":%d}' % len(ids)


class Exchange(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        counts = self._service.counts
        counts.accepted += 1
        counts.open += 1
        counts.most_open = max(counts.most_open, counts.open)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the signature is asyncio's
        """Count it off."""
        self._service.counts.open -= 1

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            method, path, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
            length = _LENGTH.search(head) if method == b"POST" else None
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            body = self._received[end + 4 : size]
            self._received = self._received[size:]
            self._reply(self._service.answer(method, path, body))

    def _reply(self, body: bytes | None) -> None:
        assert self._transport is not None
        status = b"200 OK"
        if body is None:
            self._service.counts.refused += 1
            status, body = b"404 Not Found", b'{"error":"Not found"}'
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


class Control(asyncio.Protocol):
    """
    One command a line, one line of JSON in return.

    `counts` returns the counts, `reset` sets them back and lets nothing end, `end <begin> <step> <things>` lets
    things end, see `Service`, `ended` returns when each number was first shown as ended.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Do what the line says; whoever asks waits for the answer before the next line."""
        assert self._transport is not None
        name, *arguments = data.decode().split()
        self._transport.write(json.dumps(self._do(name, arguments)).encode() + b"\n")

    def _do(self, name: str, arguments: list[str]) -> Any:
        service = self._service
        if name == "end":
            service.end_begin, service.end_step = map(float, arguments[:2])
            service.things = int(arguments[2])
        elif name == "reset":
            service.counts = Counts(open=service.counts.open, most_open=service.counts.open)
            service.end_begin = None
            service.shown_ended = {}
        elif name == "ended":
            return service.shown_ended
        return asdict(service.counts)


async def serve(certificate: str) -> None:
    """Serve until stdin ends, as it does with whoever started this; the ports are written to stdout as one line of JSON."""
    service = Service()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    servers = {
        "https": await loop.create_server(lambda: Exchange(service), "127.0.0.1", 0, ssl=context, backlog=4096),
        "http": await loop.create_server(lambda: Exchange(service), "127.0.0.1", 0, backlog=4096),
        "control": await loop.create_server(lambda: Control(service), "127.0.0.1", 0),
    }
    ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    starter = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(starter), sys.stdin)
    await starter.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("certificate", help="PEM file with the key and the chain")
    asyncio.run(serve(parser.parse_args().certificate))
