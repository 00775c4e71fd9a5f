"""Random kills, every few seconds, of whatever works at that moment."""

from __future__ import annotations

import itertools
import random
import signal
import threading
from typing import TYPE_CHECKING

import psutil
from demo_processes import send_signal

from tests.system.deployment import kill

if TYPE_CHECKING:
    from typing_extensions import Self

    from tests.system.deployment import Deployment

EVERY_SECONDS = 3.0


class Storm:
    """
    Kill workers in the middle of a task, and components once all are at work, until it is over; as a context manager.

    :param seed: what is killed when.
    """

    def __init__(self, airflow: Deployment, seed: int) -> None:
        self._airflow = airflow
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._rage, name="storm")
        self.killed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Let it be over, and start again what it killed last."""
        self._over.set()
        self._thread.join()
        self._airflow.heal()

    def _rage(self) -> None:
        machine = self._airflow.machine
        components = [*self._airflow.triggerers, *self._airflow.workers]
        self._random.shuffle(components)
        # In turn, so that none is spared.
        victims = itertools.cycle(components)
        while not self._over.wait(EVERY_SECONDS * self._random.uniform(0.5, 1.5)):
            # Of a slow machine's components, which take long to start, some would always be dead, and nobody would be called.
            if self._random.random() < 0.75 or not self._airflow.is_healthy():
                if self._kill_a_worker():
                    self.killed.append("worker")
                continue
            victim = next(victims)
            with machine.lock:
                if machine.is_running(victim):
                    machine.kill(victim)
                machine.start_again(victim)
            self.killed.append(victim)

    def _kill_a_worker(self) -> bool:
        """Kill a task with its worker; of those that tell who they are, at random."""
        known = list(self._airflow.points.glob("*.try*"))
        self._random.shuffle(known)
        for path in known:
            task, supervisor = map(int, path.read_text().split())
            try:
                if psutil.Process(task).ppid() != supervisor or psutil.Process(task).status() == psutil.STATUS_ZOMBIE:
                    continue
            except psutil.NoSuchProcess:
                continue
            # Stopped first: a worker that is killed while it waits for work would take the queue's lock with it.
            send_signal([supervisor], signal.SIGSTOP)
            if psutil.pid_exists(task):
                kill(task, supervisor)
                return True
            send_signal([supervisor], signal.SIGCONT)
        return False
