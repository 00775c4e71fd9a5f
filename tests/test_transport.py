"""The ways on which requests leave: proxies and certificates, what aiohttp may carry, and connections that break."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_provider_revox.client import AsyncRevoxClient, ClientSettings, RevoxClient, tls_context
from airflow_provider_revox.endpoints import create_call, get_call, read_request
from airflow_provider_revox.exceptions import RevoxOutcomeUnknownError, RevoxReplyError, RevoxUnreachableError
from tests.conftest import TRANSPORTS, use_transport

LOOK = get_call("c1")
ORDER = create_call(read_request({"phone_number": "+14155550100", "assistant": {"prompt": "Ask."}}))
REPLY = b'{"call": {"id": "c1", "status": "calling"}}'

Send = Callable[[ClientSettings, Any], Any]


class Service(ThreadingHTTPServer):
    """Answers everything with one order, keeps connections open, and counts."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.requests: list[str] = []
        self.cookies: list[str | None] = []
        self.sockets: set[tuple[str, int]] = set()
        #: Closes the connection after a request of this method was read, without a reply.
        self.drop: str | None = None
        self.slow = threading.Event()
        self.let_go = threading.Event()
        scheme = "https" if context else "http"
        self.base_url = f"{scheme}://127.0.0.1:{self.server_address[1]}/api"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What clients break off is what these tests are about."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_GET(self) -> None:
        self.server.requests.append(self.command)
        self.server.cookies.append(self.headers["Cookie"])
        self.server.sockets.add(self.client_address)
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.server.slow.is_set():
            self.server.let_go.wait(10)
        if self.server.drop == self.command:
            self.close_connection = True
            return
        self.send_response(302 if self.path.endswith("moved") else 200)
        self.send_header("Content-Length", str(len(REPLY)))
        self.send_header("Set-Cookie", "who=somebody")
        if self.path.endswith("moved"):
            self.send_header("Location", "/api/call/c1")
        self.end_headers()
        self.wfile.write(REPLY)

    do_POST = do_GET  # noqa: N815  as http.server wants it

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Proxy(threading.Thread):
    """A forward proxy that knows CONNECT, and notes where it was asked to connect to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.asked: list[str] = []

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            self.asked.append(target.decode())
            host, _, port = target.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                other = threading.Thread(target=pump, args=(server, client), daemon=True)
                other.start()
                pump(client, server)
                other.join(5)


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def serving(service: Service) -> Iterator[Service]:
    thread = threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield service
    service.let_go.set()
    service.shutdown()
    service.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    yield from serving(Service())


@pytest.fixture
def tls_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Speaks TLS, with a certificate whose authority SSL_CERT_FILE names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    tls_context.cache_clear()
    yield from serving(Service(context))
    tls_context.cache_clear()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    running.start()
    yield running
    running.listener.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings(service: Service, **more: Any) -> ClientSettings:
    return ClientSettings(api_key="key", base_url=service.base_url, **{"tries": 1, "timeout": 5.0, **more})


def send_in_thread(given: ClientSettings, endpoint: Any) -> Any:
    client = RevoxClient(given)
    try:
        return client.send(endpoint)
    finally:
        client.close()


def send_on_loop(given: ClientSettings, endpoint: Any) -> Any:
    async def send() -> Any:
        client = AsyncRevoxClient(given)
        try:
            return await client.send(endpoint)
        finally:
            await client.aclose()

    return asyncio.run(send())


@pytest.fixture(params=["sync", *TRANSPORTS])
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Send:
    if request.param == "sync":
        return send_in_thread
    use_transport(monkeypatch, request.param)
    return send_on_loop


# --- proxies and certificates ---------------------------------------------------------------


def test_a_proxy_is_used(send: Send, tls_service: Service, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert send(settings(tls_service), LOOK).id == "c1"
    assert proxy.asked == [tls_service.base_url.removeprefix("https://").removesuffix("/api")]


def test_no_proxy_is_heeded(send: Send, tls_service: Service, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert send(settings(tls_service), LOOK).id == "c1"
    assert proxy.asked == []


def test_a_proxy_for_everything_is_used(
    send: Send, tls_service: Service, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    assert send(settings(tls_service), LOOK).id == "c1"
    assert len(proxy.asked) == 1


def test_whom_ssl_cert_file_names_is_trusted_and_nobody_else(
    send: Send, tls_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert send(settings(tls_service), LOOK).id == "c1"
    monkeypatch.delenv("SSL_CERT_FILE")
    tls_context.cache_clear()
    with pytest.raises(RevoxUnreachableError) as told:
        send(settings(tls_service), LOOK)
    assert not told.value.sent
    assert tls_service.requests == ["GET"]


# --- what goes which way --------------------------------------------------------------------


async def test_looks_go_over_aiohttp_where_it_is_installed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncRevoxClient(settings(service))
    assert type(client._quick).__name__ == "AiohttpSession"
    assert client._quick is not client._http
    await client.aclose()
    use_transport(monkeypatch, "plain")
    client = AsyncRevoxClient(settings(service))
    assert client._quick is client._http
    await client.aclose()


async def test_what_may_dial_never_goes_over_aiohttp(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = AsyncRevoxClient(settings(service))

    async def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("over aiohttp")

    monkeypatch.setattr(client._quick, "request", refuse)
    with pytest.raises(RuntimeError, match="over aiohttp"):
        await client.exchange(LOOK)
    assert (await client.exchange(ORDER)).id == "c1"
    await client.aclose()


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_what_may_dial_is_sent_once_however_its_connection_breaks(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp repeats by itself what it thinks can be repeated, on a connection that was open: nothing that dials goes there."""
    use_transport(monkeypatch, name)
    client = AsyncRevoxClient(settings(service, tries=3, backoff_seconds=0.01))
    await client.send(LOOK)
    await client.send(ORDER)
    service.drop = "POST"
    before = service.requests.count("POST")
    with pytest.raises(RevoxOutcomeUnknownError):
        await client.send(ORDER)
    assert service.requests.count("POST") == before + 1
    await client.aclose()


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_a_look_whose_connection_breaks_says_that_it_was_sent(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_transport(monkeypatch, name)
    client = AsyncRevoxClient(settings(service))
    await client.exchange(LOOK)
    service.drop = "GET"
    with pytest.raises(RevoxUnreachableError) as told:
        await client.exchange(LOOK)
    assert told.value.sent
    service.drop = None
    assert (await client.exchange(LOOK)).id == "c1"
    await client.aclose()


def test_where_nobody_listens_nothing_is_sent(send: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RevoxUnreachableError) as told:
        send(ClientSettings(api_key="key", base_url=f"http://127.0.0.1:{port}/api", tries=1), LOOK)
    assert not told.value.sent


def test_a_reply_that_does_not_come_is_given_up(send: Send, service: Service) -> None:
    service.slow.set()
    with pytest.raises(RevoxUnreachableError) as told:
        send(settings(service, timeout=0.2), LOOK)
    assert told.value.sent


def test_redirects_are_not_followed_and_cookies_not_kept(send: Send, service: Service) -> None:
    with pytest.raises(RevoxReplyError, match="redirects are not followed"):
        send(settings(service), get_call("moved"))
    assert service.requests == ["GET"]


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_cookies_are_not_sent_back(service: Service, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_transport(monkeypatch, name)
    # By a name: some keep no cookies of bare addresses anyway.
    here = service.base_url.replace("127.0.0.1", "localhost")
    client = AsyncRevoxClient(replace(settings(service), base_url=here))
    for _ in range(3):
        await client.exchange(LOOK)
    await client.aclose()
    assert service.cookies == [None] * 3
    assert len(service.sockets) == 1, "the connection is used again"


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_requests_that_are_cancelled_leave_the_client_usable(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_transport(monkeypatch, name)
    client = AsyncRevoxClient(settings(service, max_connections=4))
    service.slow.set()
    looks = [asyncio.ensure_future(client.exchange(LOOK)) for _ in range(1000)]
    while len(service.requests) < 4:
        await asyncio.sleep(0.01)
    for look in looks:
        look.cancel()
    await asyncio.gather(*looks, return_exceptions=True)
    service.slow.clear()
    service.let_go.set()
    assert len(service.requests) == 4, "the others stood at the gate"
    seen = await asyncio.gather(*(client.exchange(LOOK) for _ in range(50)))
    assert [order.id for order in seen] == ["c1"] * 50
    assert len(service.sockets) <= 8
    assert not client.worn_out
    await client.aclose()
