"""The people who are phoned, and the runs that phone them: what a test does to them, and what is known of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.deployment import Deployment
    from tests.system.revox import Revox

T = TypeVar("T")

#: Two cores run a dozen processes here; nothing takes this long unless it is wrong.
PATIENCE_SECONDS = 150.0
FINAL_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")


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
        return self._value(path, {"map_index": map_index})

    def xcom(self, key: str, map_index: int = -1) -> Any:
        """Return an XCom of the task, None when there is none."""
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/call/xcomEntries/{key}"
        return self._value(path, {"map_index": map_index, "deserialize": True})

    def _value(self, path: str, params: dict[str, Any]) -> Any:
        reply = self.airflow._rest.get(path, params=params)
        if reply.status_code == 404:
            return None
        assert not reply.is_error, f"{path}: {reply.status_code} {reply.text}"
        return reply.json()["value"]

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

    def clear(self) -> None:
        """Clear all tasks, as one does over the UI."""
        self.json("POST", "/clear", json={"dry_run": False})
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
