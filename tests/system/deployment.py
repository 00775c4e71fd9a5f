"""A real Airflow, whose components are processes that can be killed, driven over its REST API as a user would."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from demo_airflow import clean_environment, free_port, settings
from demo_processes import send_signal

from tests.system.machine import Machine
from tests.system.people import PATIENCE_SECONDS, Person, Run
from tests.system.points import DIRECTORY
from tests.system.revox import Revox
from tests.system.services import start_postgres, stop_services

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent.parent
DAGS = Path(__file__).resolve().parent / "dags"
START_WITHIN_SECONDS = 180.0
LOOK_EVERY_SECONDS = 0.3
#: The last two digits choose what happens in the simulator: these people answer, with data.
ANSWERS = 7

#: A dead worker's task is taken up after this many seconds, a dead triggerer's triggers after the second.
TASK_LEASE_SECONDS = 15
TRIGGER_LEASE_SECONDS = 10

SHORT_LEASES = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(TASK_LEASE_SECONDS),
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "12",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "6",
    # Airflow 3.3 overlooks that a try could not begin when it hears of an earlier one at the same moment; then it stays queued.
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(TRIGGER_LEASE_SECONDS),
}

_numbers = itertools.count()
_runs = itertools.count(1)


def new_number(ends: int = ANSWERS) -> str:
    """Return a number that nobody else uses here; its last two digits choose what happens when it is called."""
    return f"+1415{2_000_000 + 100 * next(_numbers) + ends}"


class Deployment:
    """
    Airflow on PostgreSQL with the LocalExecutor and two triggerers, and three simulators.

    ``search`` and ``plain`` run sixty times faster than life; ``plain`` has no extensions. In ``still`` time stands, until a
    test lets it pass.

    :param home: a directory that nobody else uses.
    :param extra_settings: settings of Airflow, as ``SECTION__NAME``.
    """

    triggerers = ("triggerer-1", "triggerer-2")
    schedulers: tuple[str, ...] = ("scheduler",)

    def __init__(self, home: Path, extra_settings: dict[str, str] | None = None) -> None:
        self.home = home
        self.machine = Machine(home)
        self.points = home / "points"
        self.points.mkdir()
        self._port = free_port()
        self._rest = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v2", timeout=30, trust_env=False)
        self._clients: list[Any] = [self._rest]
        self._extra_settings = extra_settings or {}
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._seen: list[dict[str, Any]] = []
        self._seen_at = 0.0

    def _prepare(self) -> None:
        """Start what Airflow needs, and say how it is set up."""
        self.search = Revox(self.machine, "revox-search", speed=60)
        self.plain = Revox(self.machine, "revox-plain", speed=60, extensions=False)
        self.still = Revox(self.machine, "revox-still", speed=0.01)
        self._clients += [self.search, self.plain, self.still]
        own = {
            "CORE__DAGS_FOLDER": str(DAGS),
            # Workers that a test has stopped keep their places.
            "CORE__PARALLELISM": "24",
            **SHORT_LEASES,
            "DATABASE__SQL_ALCHEMY_CONN": start_postgres(self.machine, self.home),
            **self.settings(),
            **self._extra_settings,
        }
        self.environment = {
            **clean_environment(self.home),
            **settings(self.home, self._port),
            **{f"AIRFLOW__{name}": value for name, value in own.items()},
            **{
                f"AIRFLOW_CONN_REVOX_{name.upper()}": getattr(self, name).connection_json()
                for name in ("search", "plain", "still")
            },
            DIRECTORY: str(self.points),
            "PYTHONPATH": str(ROOT),
        }

    def settings(self) -> dict[str, str]:
        return {}

    # --- starting and stopping ----------------------------------------

    def start(self) -> None:
        self._prepare()
        self._start(
            "api-server", AIRFLOW__DATABASE__CHECK_MIGRATIONS="False", AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING"
        )
        self._start("db-migrate", "db", "migrate")
        self.machine.finish("db-migrate", START_WITHIN_SECONDS)
        self._start("dag-processor", "dag-processor")
        self._start_working()
        self.until(lambda: self._answers("/execution/health"), "the API server", START_WITHIN_SECONDS)
        self.until(self.is_healthy, "Airflow to be healthy", START_WITHIN_SECONDS)
        self._log_in()
        self.until(self._has_dags, "the DAGs", START_WITHIN_SECONDS)

    def _log_in(self) -> None:
        """Airflow 3.1 takes everybody for an admin, but wants to see the token that it gives to everybody."""
        token = (self._answers("/auth/token") or {}).get("access_token")
        if token:
            self._rest.headers["Authorization"] = f"Bearer {token}"

    def _start_working(self) -> None:
        for name in self.schedulers:
            self._start(name, "scheduler", "--skip-serve-logs")
        for name in self.triggerers:
            self._start(name, "triggerer", "--skip-serve-logs")

    def _start(self, name: str, *command: str, **extra: str) -> None:
        arguments = [sys.executable, "-m", "airflow", *(command or (name,))]
        self.machine.start(name, arguments, {**self.environment, **extra})

    def stop(self) -> None:
        # First, though Airflow still runs: it is not asked how it ends, and PostgreSQL cleans up after itself only if it may end.
        try:
            stop_services(self.machine)
        finally:
            self.machine.stop()
            for client in self._clients:
                client.close()

    def heal(self) -> None:
        """Start again what a test left dead, and wait until all is well."""
        with self.machine.lock:
            for name in ("api-server", "dag-processor", *self.workers, *self.schedulers, *self.triggerers):
                if not self.machine.is_running(name):
                    self.machine.start_again(name)
        self.until(lambda: self._answers("/execution/health"), "the API server", START_WITHIN_SECONDS)
        self.until(self.is_healthy, "Airflow to be healthy", START_WITHIN_SECONDS)

    @property
    def workers(self) -> tuple[str, ...]:
        return ()

    def wait_for_the_scheduler(self) -> None:
        """Wait until the scheduler has done what it is at: it tells that it lives only once it is through with it."""
        since = datetime.now(timezone.utc)

        def is_through() -> bool:
            health = self._answers("/api/v2/monitor/health") or {}
            heard = (health.get("scheduler") or {}).get("latest_scheduler_heartbeat")
            return bool(heard) and datetime.fromisoformat(heard.replace("Z", "+00:00")) > since

        self.until(is_through, "a heartbeat of the scheduler")

    def is_healthy(self) -> bool:
        health = self._answers("/api/v2/monitor/health") or {}
        components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health.get(component, {}).get("status") == "healthy" for component in components)

    def _answers(self, path: str) -> Any:
        try:
            return self._rest.get(str(self._rest.base_url.join(path))).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None

    def _has_dags(self) -> bool:
        for error in self._json("GET", "/importErrors")["import_errors"]:
            raise AssertionError(f"{error['filename']} cannot be imported:\n{error['stack_trace']}")
        return "many_plain" in {dag["dag_id"] for dag in self._json("GET", "/dags")["dags"]}

    # --- waiting ----------------------------------------

    def until(self, look: Callable[[], T], what: str, within_seconds: float = PATIENCE_SECONDS) -> T:
        """Return what a look returns as soon as that is true; fail when it takes too long, or a component died by itself."""
        return self.machine.until(look, what, within_seconds)

    # --- the REST API ----------------------------------------

    def _json(self, method: str, path: str, **request: Any) -> Any:
        reply = self._rest.request(method, path, **request)
        assert not reply.is_error, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def run(self, dag_id: str, **params: Any) -> Run:
        """Start a run of a DAG."""
        run_id = f"run{next(_runs)}"
        self._json("POST", f"/dags/{dag_id}/dagRuns", json={"dag_run_id": run_id, "logical_date": None, "conf": params})
        with self._lock:
            self._watched.add(run_id)
        return Run(self, dag_id, run_id)

    def call(
        self, revox: Revox, *, dag_id: str = "call", number: str | None = None, stop_at: str | None = None
    ) -> Person:
        """Start a run that phones one person, and stops at a point if one is named."""
        number = number or new_number()
        if stop_at:
            self.points.joinpath(f"{number}.armed").write_text(stop_at)
        run = self.run(dag_id, number=number, conn_id=revox.name.replace("-", "_"))
        return Person(run, revox, number)

    def task_instances(self) -> list[dict[str, Any]]:
        """Return the task instances of all runs of this test session; asked for once for all that wait at a time."""
        with self._lock:
            if time.monotonic() - self._seen_at > LOOK_EVERY_SECONDS:
                found: list[dict[str, Any]] = []
                while self._watched:
                    body = {"dag_run_ids": sorted(self._watched), "page_limit": 100, "page_offset": len(found)}
                    page = self._json("POST", "/dags/~/dagRuns/~/taskInstances/list", json=body)
                    found += page["task_instances"]
                    if len(found) >= page["total_entries"]:
                        break
                self._seen, self._seen_at = found, time.monotonic()
            return self._seen

    def look_anew(self) -> None:
        """Let nobody take for the present what was seen before a person acted."""
        with self._lock:
            self._seen_at = 0.0

    def forget_runs(self) -> None:
        """Watch no run any more that was started so far."""
        with self._lock:
            self._watched.clear()

    def add_connection(self, conn_id: str, connection: dict[str, Any]) -> None:
        body = {**connection, "connection_id": conn_id, "extra": json.dumps(connection["extra"])}
        self._json("POST", "/connections", json=body)

    def change_password(self, conn_id: str, conn_type: str, password: str) -> None:
        body = {"connection_id": conn_id, "conn_type": conn_type, "password": password}
        self._json("PATCH", f"/connections/{conn_id}", params={"update_mask": "password"}, json=body)


def kill(*pids: int) -> None:
    """End processes as a power cut would."""
    send_signal(list(pids), signal.SIGKILL)


def keep_home() -> bool:
    """Say whether what the tests leave behind is to be kept, to be looked at."""
    return bool(os.environ.get("REVOX_SYSTEM_KEEP"))
