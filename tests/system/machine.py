"""The processes of a system test: each in a session and a process group of its own, with its own log, and mortal."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from demo_processes import KILLED_WITHIN_SECONDS, Processes, members_of, send_signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: How much of each log a failure shows.
LOG_TAIL_LINES = 40


class _NobodyInterrupts:
    """pytest ends the tests on Ctrl-C, and its fixtures stop the processes."""

    def hold(self) -> None: ...

    def let_through(self) -> None: ...


class Machine(Processes):
    """Processes that tests stop, kill and start again by name."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, _NobodyInterrupts())  # type: ignore[arg-type]
        #: Held while something is dead that will be started again, lest somebody takes it for a failure.
        self.lock = threading.RLock()
        #: Sessions whose first process was killed alone.
        self._left_behind: set[int] = set()
        self._started_as: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._started_as[name] = command, environment
        super().start(name, command, environment)

    def start_again(self, name: str) -> None:
        """Start a process that was killed, as it was started before; its log goes on."""
        super().start(name, *self._started_as[name])

    def check(self, *, may_end: str = "") -> None:
        with self.lock:
            super().check(may_end=may_end)

    def pids(self, name: str) -> list[int]:
        """Return the living processes of a component: the one that was started, and what it started."""
        return members_of({self._running[name].pid})

    def main_pid(self, name: str) -> int:
        return self._running[name].pid

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a component and all that it has started."""
        send_signal(self.pids(name), number)

    def kill(self, name: str) -> None:
        """End a component and all that it has started as a power cut would."""
        session = {self._running[name].pid}
        # What is killed one after the other must not notice that the others are gone.
        with self.lock:
            send_signal(members_of(session), signal.SIGSTOP)
            send_signal(members_of(session), signal.SIGKILL)
            self.gone(session, KILLED_WITHIN_SECONDS)
            self._running.pop(name).wait()

    def kill_alone(self, name: str) -> None:
        """End the process of a component, and nothing that it has started: that is left until all ends."""
        with self.lock:
            process = self._running.pop(name)
            self._left_behind.add(process.pid)
            process.kill()
            process.wait()

    def stop(self) -> None:
        super().stop()
        send_signal(members_of(self._left_behind), signal.SIGKILL)
        self.gone(self._left_behind, KILLED_WITHIN_SECONDS)

    def end(self, name: str, within_seconds: float = 60) -> None:
        """Ask a component to end, as a deployment does, and wait until it has."""
        with self.lock:
            process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            # Whoever ends everything must still know of it.
            self._running[name] = process
            raise

    def is_running(self, name: str) -> bool:
        return name in self._running

    def tails(self) -> str:
        """Return the end of every log, for whoever looks at a failure."""
        parts = []
        for name in self._started_as:
            if not self.log_of(name).exists():
                continue
            lines = self.log_of(name).read_text(errors="replace").splitlines()
            parts += [f"----- {name}", *lines[-LOG_TAIL_LINES:]]
        return "\n".join(parts)
