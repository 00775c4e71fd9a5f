"""Starting the status server, and asking it what it has seen."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def end_position(number: int, things: int) -> int:
    """Return which in the row of ends a number's is: not the row in which they were started, and so are looked at."""
    return number * _SHUFFLING_PRIME % things


_SHUFFLING_PRIME = 7919


class ServerControl:
    """The server's control port; blocking, for it is used before and after what is measured."""

    def __init__(self, port: int) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), timeout=30).makefile("rwb")

    def ask(self, line: str) -> dict[str, Any]:
        """Send one command and return the answer; see `benchmarks.status_server.Control`."""
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        answer: dict[str, Any] = json.loads(self._stream.readline())
        return answer


@dataclass(frozen=True)
class RunningServer:
    """
    A status server that runs.

    :param authorities: PEM file with the usual certificate authorities and the server's: what a real bundle costs to
        load counts.
    """

    https_port: int
    http_port: int
    control_port: int
    authorities: Path


@contextmanager
def running_server(directory: Path) -> Iterator[RunningServer]:
    """
    Run a status server in a process of its own.

    :param directory: where its certificate is put.
    """
    import certifi
    import trustme

    authority = trustme.CA()
    certificate = directory / "server.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authorities = directory / "authorities.pem"
    authorities.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.status_server", str(certificate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline() or "{}")
        if not ports:
            raise RuntimeError("the status server did not start")
        yield RunningServer(ports["https"], ports["http"], ports["control"], authorities)
    finally:
        process.kill()
        process.wait()
