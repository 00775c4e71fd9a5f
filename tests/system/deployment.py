"""A real Airflow, whose components are processes that can be killed, driven over its REST API as a user would."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from demo_airflow import clean_environment, free_port, settings
from demo_processes import send_signal

from tests.system.machine import Machine
from tests.system.points import DIRECTORY
from tests.system.revox import Revox
from tests.system.services import start_postgres, stop_services

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent.parent
DAGS = Path(__file__).resolve().parent / "dags"
START_WITHIN_SECONDS = 180.0
#: Two cores run a dozen processes here; nothing takes this long unless it is wrong.
PATIENCE_SECONDS = 150.0
LOOK_EVERY_SECONDS = 0.3
#: The last two digits choose what happens in the simulator: these people answer, with data.
ANSWERS = 7

FINAL_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")

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
        port = free_port()
        self._rest = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v2", timeout=30, trust_env=False)
        self.search = Revox(self.machine, "revox-search", speed=60)
        self.plain = Revox(self.machine, "revox-plain", speed=60, extensions=False)
        self.still = Revox(self.machine, "revox-still", speed=0.01)
        own = {
            "CORE__DAGS_FOLDER": str(DAGS),
            # Workers that a test has stopped keep their places.
            "CORE__PARALLELISM": "24",
            **SHORT_LEASES,
            "DATABASE__SQL_ALCHEMY_CONN": start_postgres(self.machine, home),
            **self.settings(),
            **(extra_settings or {}),
        }
        self.environment = {
            **clean_environment(home),
            **settings(home, port),
            **{f"AIRFLOW__{name}": value for name, value in own.items()},
            **{
                f"AIRFLOW_CONN_REVOX_{name.upper()}": getattr(self, name).connection_json()
                for name in ("search", "plain", "still")
            },
            DIRECTORY: str(self.points),
            "PYTHONPATH": str(ROOT),
        }
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._seen: list[dict[str, Any]] = []
        self._seen_at = 0.0

    def settings(self) -> dict[str, str]:
        return {}

    # --- starting and stopping ----------------------------------------

    def start(self) -> None:
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
        stop_services(self.machine)
        self.machine.stop()
        for client in (self._rest, self.search, self.plain, self.still):
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


class Run:
    """One run of a DAG."""

    def __init__(self, airflow: Deployment, dag_id: str, run_id: str) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id

    def json(self, method: str, path: str = "", **request: Any) -> Any:
        return self.airflow._json(method, f"/dags/{self.dag_id}/dagRuns/{self.run_id}{path}", **request)

    def tasks(self, task_id: str = "call") -> list[dict[str, Any]]:
        return [
            ti for ti in self.airflow.task_instances() if (ti["dag_run_id"], ti["task_id"]) == (self.run_id, task_id)
        ]

    def logs(self, task_id: str = "call", map_index: int = -1) -> str:
        """Return what all tries of a task, and its triggers, have logged."""
        place = self.airflow.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            place = place / f"map_index={map_index}"
        logs = sorted(place.glob("attempt=*.log*"), key=lambda log: log.stat().st_mtime)
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def state_store(self, key: str, map_index: int = -1) -> Any:
        """Return a value of the task state store, None when there is none."""
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/call/state-store/{key}"
        reply = self.airflow._rest.get(path, params={"map_index": map_index})
        return reply.json()["value"] if reply.status_code == 200 else None

    def xcom(self, key: str, map_index: int = -1) -> Any:
        """Return an XCom of the task, None when there is none."""
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/call/xcomEntries/{key}"
        reply = self.airflow._rest.get(path, params={"map_index": map_index, "deserialize": True})
        return reply.json()["value"] if reply.status_code == 200 else None

    def xcoms(self, key: str) -> dict[int, Any]:
        """Return the XComs of all map indexes of the task."""
        path = "/taskInstances/call/xcomEntries"
        entries: list[dict[str, Any]] = []
        while True:
            page = self.json("GET", path, params={"xcom_key": key, "limit": 100, "offset": len(entries)})
            entries += page["xcom_entries"]
            if len(entries) >= page["total_entries"]:
                return {entry["map_index"]: self.xcom(key, entry["map_index"]) for entry in entries}

    @property
    def state(self) -> str:
        state: str = self.json("GET")["state"]
        return state

    def mark(self, state: str) -> None:
        self.json("PATCH", json={"state": state})
        self.airflow.look_anew()

    def delete(self) -> None:
        self.json("DELETE")
        self.airflow.look_anew()

    def begin_again(self, **params: Any) -> None:
        """Start a run of the same name, once this one is deleted."""
        body = {"dag_run_id": self.run_id, "logical_date": None, "conf": params}
        self.airflow._json("POST", f"/dags/{self.dag_id}/dagRuns", json=body)
        self.airflow.look_anew()


class Person:
    """One person who is phoned by the only task of a run: what a test does to that task, and what is known of it."""

    def __init__(self, run: Run, revox: Revox, number: str) -> None:
        self.run = run
        self.airflow = run.airflow
        self.revox = revox
        self.number = number

    # --- following ----------------------------------------

    @property
    def task(self) -> dict[str, Any]:
        found = self.run.tasks()
        return found[0] if found else {"state": None, "try_number": 0}

    @property
    def state(self) -> str | None:
        return self.task["state"]

    def wait_for(self, *states: str | None, within_seconds: float = PATIENCE_SECONDS) -> str | None:
        """Return the task's state as soon as it is one of these."""

        def look() -> tuple[str | None] | None:
            state = self.state
            return (state,) if state in states else None

        return self.until(look, f"to be {' or '.join(map(str, states))}", within_seconds)[0]

    def until(self, look: Callable[[], T], what: str, within_seconds: float = PATIENCE_SECONDS) -> T:
        """Return what a look returns as soon as that is true; if it never is, say what became of the task instead."""
        try:
            return self.airflow.until(look, f"{self}: {what}", within_seconds)
        except Exception as error:
            raise AssertionError(f"{error}; it is {self.task}\n{self.logs()[-6000:]}") from None

    def wait_for_end(self, within_seconds: float = PATIENCE_SECONDS) -> str | None:
        return self.wait_for(*FINAL_STATES, within_seconds=within_seconds)

    def wait_until_reached(self) -> tuple[int, int]:
        """Return the task process and its supervisor as soon as the task stands at its point."""
        return self._who("reached")

    @property
    def has_reached(self) -> bool:
        """Whether the task has come to its point."""
        return self.airflow.points.joinpath(f"{self.number}.reached").exists()

    def wait_until_it_runs(self, try_number: int = 1) -> tuple[int, int]:
        return self._who(f"try{try_number}")

    def _who(self, what: str) -> tuple[int, int]:
        path = self.airflow.points / f"{self.number}.{what}"
        self.until(path.exists, what)
        task, supervisor = map(int, path.read_text().split())
        return task, supervisor

    def let_go(self) -> None:
        """Let the task go on from its point."""
        self.airflow.points.joinpath(f"{self.number}.go").touch()

    def stop_at(self, point: str | None) -> None:
        """Have the task stop at another point, or at none, from now on."""
        for ending in ("reached", "go", "armed"):
            self.airflow.points.joinpath(f"{self.number}.{ending}").unlink(missing_ok=True)
        if point:
            self.airflow.points.joinpath(f"{self.number}.armed").write_text(point)

    def __str__(self) -> str:
        return f"{self.run.dag_id}/{self.run.run_id} ({self.number})"

    # --- what a person may do ----------------------------------------

    def mark(self, state: str) -> None:
        self.run.json("PATCH", "/taskInstances/call", json={"new_state": state})
        self.airflow.look_anew()

    def clear(self) -> None:
        if self.state in FINAL_STATES:
            # What is cleared a moment before Airflow ends its run stays as it is.
            self.until(lambda: self.run.state in FINAL_STATES, "the end of the run")
        body = {"dry_run": False, "dag_run_id": self.run.run_id, "task_ids": ["call"], "only_failed": False}
        self.airflow._json("POST", f"/dags/{self.run.dag_id}/clearTaskInstances", json=body)
        self.airflow.look_anew()

    def settle(self, **word: str) -> None:
        self.run.json("PUT", "/taskInstances/call/state-store/revox_settle", json={"value": word})

    # --- the three books ----------------------------------------

    @property
    def orders(self) -> list[dict[str, Any]]:
        return self.revox.orders(self.number)

    @property
    def record(self) -> dict[str, Any] | None:
        value = self.run.state_store("revox_call")
        return json.loads(value) if isinstance(value, str) else value

    def logs(self) -> str:
        return self.run.logs()


def kill(*pids: int) -> None:
    """End processes as a power cut would."""
    send_signal(list(pids), signal.SIGKILL)


def keep_home() -> bool:
    """Say whether what the tests leave behind is to be kept, to be looked at."""
    return bool(os.environ.get("REVOX_SYSTEM_KEEP"))
