"""The processes of the demo: started in sessions of their own, watched, and ended by id with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

T = TypeVar("T")

LOOK_EVERY_SECONDS = 0.2
#: Short, for nothing of what they would still write is kept.
STOP_WITHIN_SECONDS = 2.0
KILLED_WITHIN_SECONDS = 10.0


class DemoError(Exception):
    """
    Something did not go as it should.

    :param logs: what to show the end of.
    """

    def __init__(self, message: str, logs: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.logs = list(logs)


class Interruptions:
    """Ctrl-C and the signals to stop: each ends the demo by `SystemExit`, but not in the middle of what must be whole."""

    def __init__(self) -> None:
        self._held = True
        self._arrived: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrive)

    def hold(self) -> None:
        """Let those that arrive from now on wait."""
        self._held = True

    def let_through(self) -> None:
        """End the demo if one waits, and at any that arrives from now on."""
        self._held = False
        if self._arrived is not None:
            raise SystemExit(128 + self._arrived)

    def _arrive(self, number: int, _frame: FrameType | None) -> None:
        self._arrived = number
        if not self._held:
            raise SystemExit(128 + number)


class Processes:
    """
    Everything the demo starts.

    :param home: a directory for their logs.
    :param interruptions: held while a process starts, lest one is started that nobody knows of.
    """

    def __init__(self, home: Path, interruptions: Interruptions) -> None:
        self._home = home
        self._interruptions = interruptions
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def log_of(self, name: str) -> Path:
        """Return the file that a process writes to."""
        return self._home / f"{name}.log"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process; what it writes goes to its log."""
        with self.log_of(name).open("ab") as log:
            self._interruptions.hold()
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo alone, and whatever this process starts can be found by its session.
                start_new_session=True,
            )
            self._interruptions.let_through()

    def finish(self, name: str, within_seconds: float) -> None:
        """Wait until a process has done its work. :raises DemoError: when it fails."""
        process = self._running[name]
        self.until(lambda: process.poll() is not None, f"{name} to finish", within_seconds, may_end=name)
        del self._running[name]
        if process.returncode:
            raise DemoError(f"{name} failed with exit code {process.returncode}", [self.log_of(name)])

    def until(self, look: Callable[[], T], what: str, within_seconds: float, *, may_end: str = "") -> T:
        """Return what a look returns as soon as that is true. :raises DemoError: too late, or when a process has ended."""
        deadline = time.monotonic() + within_seconds
        while not (seen := look()):
            self.check(may_end=may_end)
            if time.monotonic() > deadline:
                raise DemoError(
                    f"Waited {within_seconds:g} s in vain for {what}", [self.log_of(name) for name in self._running]
                )
            time.sleep(LOOK_EVERY_SECONDS)
        return seen

    def check(self, *, may_end: str = "") -> None:
        """Raise DemoError when a process has ended that should run."""
        for name, process in self._running.items():
            if name != may_end and process.poll() is not None:
                raise DemoError(f"{name} ended by itself, exit code {process.returncode}", [self.log_of(name)])

    def stop(self) -> None:
        """End all processes and whatever they have started."""
        sessions = {process.pid for process in self._running.values()}
        send_signal(members_of(sessions), signal.SIGTERM)
        if not self.gone(sessions, STOP_WITHIN_SECONDS):
            send_signal(members_of(sessions), signal.SIGKILL)
            self.gone(sessions, KILLED_WITHIN_SECONDS)
        self._running.clear()

    def gone(self, sessions: set[int], within_seconds: float) -> bool:
        """Wait until nothing lives of these sessions; say whether that was so in time."""
        deadline = time.monotonic() + within_seconds
        while True:
            if not members_of(sessions):
                for process in self._running.values():
                    if process.pid in sessions:
                        process.wait()
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_SECONDS / 4)


def members_of(sessions: set[int]) -> list[int]:
    """Return the living processes of these sessions. Airflow gives each task a process group of its own, but no session."""
    return [pid for pid in psutil.pids() if _session_of(pid) in sessions]


def _session_of(pid: int) -> int | None:
    try:
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return None
        return os.getsid(pid)
    except (psutil.Error, OSError):
        return None


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Signal processes by id; those that are gone do not matter."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
