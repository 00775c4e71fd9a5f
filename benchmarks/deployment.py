"""An Airflow home of its own with a database, and the triggerers that run on it, one after another."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.deferred import NEXT_METHOD
from benchmarks.machine import surroundings
from benchmarks.subjects import call_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.serving import RunningServer

#: How many triggers a triggerer takes on at once; Airflow's 50 would be what starting is measured by.
_TAKEN_ON_AT_ONCE = 500
_BLOCKED = "async thread was blocked for"
_LOOK_SECONDS = 0.25


def raise_file_limit() -> int:
    """Let this process and those it starts open as many files as they may: the triggerer keeps a log file a trigger."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def environment(home: Path, subject: str, waits: int, server: RunningServer) -> dict[str, str]:
    """Return the triggerer's environment, the same for all subjects but for the connection."""
    connection: dict[str, Any] = {
        "conn_type": "revox",
        "host": f"https://127.0.0.1:{server.https_port}",
        "password": "a-key-of-the-benchmark",
        "extra": {"api_extensions": "auto" if subject == "ours-bulk" else "off"},
    }
    return surroundings(home) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__TRIGGERER__CAPACITY": str(waits + 1000),
        "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": str(_TAKEN_ON_AT_ONCE),
        # All logs in one directory: counting them is how it is known what runs.
        "AIRFLOW__LOGGING__LOG_FILENAME_TEMPLATE": "{{ ti.map_index }}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW_CONN_REVOX_DEFAULT": json.dumps(connection),
        "SSL_CERT_FILE": str(server.authorities),
    }


class Database:
    """Airflow's database, read without Airflow."""

    def __init__(self, home: Path) -> None:
        self._path = home / "airflow.db"

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def deferred(self) -> int:
        """Return how many task instances still wait."""
        count: int = self._rows("SELECT count(*) FROM task_instance WHERE state = 'deferred'")[0][0]
        return count

    def delivered(self) -> int:
        """Return how many go on with the end of their own order."""
        rows = self._rows("SELECT map_index, state, next_method, next_kwargs FROM task_instance")
        return sum(
            state == "scheduled"
            and method == NEXT_METHOD
            and all(word in str(arguments) for word in (call_id(number), '"completed"', '"ended"'))
            for number, state, method, arguments in rows
        )

    def latest_job(self) -> int:
        """Return the id of the triggerer that started last, 0 if none did."""
        latest: int | None = self._rows("SELECT max(id) FROM job WHERE job_type = 'TriggererJob'")[0][0]
        return latest or 0


class Triggerer:
    """
    One `airflow triggerer` with its processes.

    :param home: the Airflow home.
    :param surroundings: see `environment`.
    """

    def __init__(self, home: Path, surroundings: dict[str, str]) -> None:
        self._home = home
        self._database = Database(home)
        self._job_before = self._database.latest_job()
        self._job = 0
        self.output = home / f"triggerer-after-{self._job_before}.log"
        self.began = time.monotonic()
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"],
                env=surroundings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """Return its processes; where there is none any more, its output is in the error."""
        try:
            first = psutil.Process(self._process.pid)
            if self._process.poll() is None:
                return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            pass
        raise RuntimeError("the triggerer ended:\n" + self.output.read_text(encoding="utf-8")[-3000:])

    def started(self) -> int:
        """Return how many triggers have begun to run: each writes into a log file of its own then."""
        if not self._job:
            latest = self._database.latest_job()
            self._job = latest if latest != self._job_before else 0
            if not self._job:
                return 0
        ending = f".trigger.{self._job}.log"
        with suppress(FileNotFoundError), os.scandir(self._home / "logs") as entries:
            return sum(entry.name.endswith(ending) for entry in entries)
        return 0

    def until_all_run(self, waits: int, within: float) -> dict[str, float]:
        """Wait until so many triggers run; return the seconds to the first and to the last, from its start."""
        first = 0.0

        def all_run() -> bool:
            nonlocal first
            started = self.started()
            if started and not first:
                first = time.monotonic() - self.began
            self.processes()
            return started >= waits

        until(all_run, f"{waits} triggers to run", within)
        return {"first_runs_seconds": first, "all_run_seconds": time.monotonic() - self.began}

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        times = [process.cpu_times() for process in self.processes()]
        return float(sum(each.user + each.system for each in times))

    def resident_bytes(self) -> list[int]:
        """Return the resident memory of each of its processes."""
        return [process.memory_info().rss for process in self.processes()]

    def blocked(self) -> list[str]:
        """Return what it wrote about its event loop having been blocked."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line[line.index(_BLOCKED) :][:60] for line in lines if _BLOCKED in line]

    def kill(self) -> None:
        """End all its processes as a power cut would."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            for process in [first, *first.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        self._process.wait()


def until(condition: Callable[[], bool], what: str, within: float) -> None:
    """Look again and again. :raises TimeoutError: after so many seconds."""
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {within:g} s for {what}")
        time.sleep(_LOOK_SECONDS)
