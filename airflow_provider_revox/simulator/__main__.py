"""``python -m airflow_provider_revox.simulator``: run the simulator until it is told to stop."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from airflow_provider_revox.simulator.server import DEFAULT_API_KEY, Simulator

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator until SIGTERM or SIGINT and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        simulator = Simulator(
            speed=options.speed,
            seed=options.seed,
            extensions=not options.no_extensions,
            api_key=options.api_key,
            live_fields=options.live_fields,
            host=options.host,
            port=options.port,
        )
    except ValueError as error:
        parser.error(str(error))
    # Orders live as long as the process, so looking through all of them for garbage again and again is in vain.
    gc.set_threshold(100_000, 20, 100)
    try:
        simulator.__enter__()
    except OSError as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}")
    try:
        sys.stdout.write(_greeting(simulator, options) + "\n")
        sys.stdout.flush()
        stopped.wait()
    finally:
        simulator.__exit__(None, None, None)
    return 0


def _greeting(simulator: Simulator, options: argparse.Namespace) -> str:
    extensions = "off" if options.no_extensions else "on"
    return (
        f"Revox simulator listening on {simulator.base_url} (speed {options.speed:g}, seed {options.seed}, "
        f"extensions {extensions}, API key: {simulator.api_key})"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_revox.simulator",
        description="A local Revox that phones nobody. The last two digits of a number choose what happens.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    add("--port", type=_port, default=8099, help="0 takes a free one (default: %(default)s)")
    add("--speed", type=_speed, default=600.0, help="virtual seconds in a real second (default: 600)")
    add("--seed", type=int, default=7, help="what all outcomes derive from (default: %(default)s)")
    add("--api-key", default=DEFAULT_API_KEY, help="the key to ask for (default: %(default)s)")
    add("--no-extensions", action="store_true", help="without cancel, pause, resume and search")
    add("--live-fields", action="store_true", help="with the fields the live service has added")
    return parser


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"must be a port between 0 and 65535, got {text!r}")
    return port


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return speed


if __name__ == "__main__":
    sys.exit(main())
