"""Running the simulator: uvicorn in a thread of this process, on a loopback address."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn

from airflow_provider_revox.simulator.app import Control, build_app
from airflow_provider_revox.simulator.clock import VirtualClock
from airflow_provider_revox.simulator.faults import FaultOrder

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
except ImportError:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from typing_extensions import Self

DEFAULT_API_KEY = "simulator-key"
_PATIENCE_SECONDS = 10

_T = TypeVar("_T")


class _ReachableProtocol(_Protocol):
    """Puts its transport into the scope of its requests, where a fault can break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Server(uvicorn.Server):
    """Says when it listens, and lets go of held requests before it waits for them to end."""

    def __init__(self, config: uvicorn.Config, control: Control) -> None:
        super().__init__(config)
        self._control = control
        self.listening = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._control.holding.closing.set()
        await super().shutdown(sockets)


def _serve(server: _Server, listener: socket.socket) -> None:
    # Not Server.run(): in some versions it changes the event loop policy of the whole process.
    loop = _new_event_loop()
    try:
        loop.run_until_complete(server.serve(sockets=[listener]))
    finally:
        loop.close()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Simulator:
    """A local Revox on a loopback port, as a context manager.

    :param speed: virtual seconds in a real second
    :param seed: what all outcomes, answers and durations are derived from
    :param extensions: whether cancel, pause, resume and search exist
    :param api_key: the key that requests must carry
    :param start_at: the moment the virtual clock starts at, with a zone; the real now when None
    :param live_fields: whether responses carry the fields the live service has added, secrets included
    :param host: a loopback address
    :param port: 0 for a free one
    """

    def __init__(
        self,
        *,
        speed: float = 600,
        seed: int = 7,
        extensions: bool = True,
        api_key: str = DEFAULT_API_KEY,
        start_at: datetime | None = None,
        live_fields: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or api_key != api_key.strip():
            raise ValueError("the API key must be printable ASCII without spaces around it")
        self.api_key = api_key
        self._host = loopback(host)
        self._port = port
        self._extensions = extensions
        self._clock = VirtualClock(start_at, speed)
        self._seed = seed
        self._live_fields = live_fields
        self._control: Control | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The root of the server, without ``/api``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The base URL of the API."""
        return f"{self.url}/api"

    def __enter__(self) -> Self:
        listener = self._listen()
        self._port = listener.getsockname()[1]
        self._clock.restart()
        control = self._control = Control(self._clock, self._seed, live_fields=self._live_fields)
        control.state.recording_root = f"{self.url}/_simulator/recordings"
        config = uvicorn.Config(
            build_app(control, self.api_key, extensions=self._extensions),
            http=_ReachableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
        server = self._server = _Server(config, control)
        self._thread = threading.Thread(target=_serve, args=(server, listener), name="revox-simulator", daemon=True)
        self._thread.start()
        if not server.listening.wait(_PATIENCE_SECONDS):
            raise RuntimeError("the simulator did not start; see the traceback of its thread")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()

    def stats(self) -> dict[str, Any]:
        """Return requests, orders, polls and dials so far, as of the virtual now."""
        return self._call(lambda control: control.stats())

    def orders(self) -> list[dict[str, Any]]:
        """Return all orders as responses show them, oldest first."""
        return self._call(lambda control: control.orders())

    def add_fault(self, endpoint: str, kind: str, **arguments: Any) -> dict[str, Any]:
        """Arm a fault, such as ``add_fault("create_call", "drop_reply", count=2)``.

        :param arguments: ``count`` or ``probability``, ``after``, and what the kind takes
        :raises ValueError: when the endpoint, the kind or an argument is not known
        """
        order = FaultOrder.model_validate({"endpoint": endpoint, "kind": kind, **arguments})
        return self._call(lambda control: control.add_fault(order))

    def clear_faults(self, phone_number: str | None = None) -> None:
        """Disarm every fault, or those for one number."""
        self._call(lambda control: control.faults.clear(phone_number))

    def release(self, phone_number: str | None = None) -> int:
        """Let every held request go on, or those about one number, and return how many there were."""
        return self._call(lambda control: control.holding.release(phone_number))

    def advance(self, seconds: float) -> None:
        """Jump the virtual clock forward; everything that was due by then has happened on return."""
        self._call(lambda control: control.advance(seconds))

    def reset(self) -> None:
        """Forget orders, counts and faults, and start the clock anew."""
        self._call(lambda control: control.reset())

    def _call(self, function: Callable[[Control], _T]) -> _T:
        # The state belongs to the server's loop; anything else would race with requests.
        control, server = self._control, self._server
        if control is None or server is None or server.loop is None:
            raise RuntimeError("the simulator has not been started: use it in a with statement")
        if self._thread is None or not self._thread.is_alive():
            return function(control)

        async def on_the_loop() -> _T:
            return function(control)

        return asyncio.run_coroutine_threadsafe(on_the_loop(), server.loop).result(_PATIENCE_SECONDS)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except OSError:
            listener.close()
            raise
        return listener


def loopback(host: str) -> str:
    """Return the address of a loopback host.

    :raises ValueError: when others could reach it: the simulator guards nothing
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"the simulator listens on loopback addresses only, such as 127.0.0.1, not on {host!r}")
    return address
