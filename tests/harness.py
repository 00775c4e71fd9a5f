"""
A task instance without an Airflow around it.

`TaskRun.run` does to an operator what Airflow does: execute, defer, run the trigger (made again from what would be
stored in the database), resume, reschedule; it keeps XComs and the task state store between tries.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import airflow
import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred
from packaging.version import Version

#: The installed Airflow, without what follows the number of a release: 3.3.0rc1 has all that 3.3.0 has.
AIRFLOW = Version(Version(airflow.__version__).base_version)
#: By the version, not by looking for it: a later Airflow in which it cannot be found is to turn tests red.
HAS_STATE_STORE = Version("3.3") <= AIRFLOW
#: For tests that are about the record: before Airflow 3.3 there is no store to keep one in.
needs_state_store = pytest.mark.since_airflow("3.3")


class Replaced(Exception):
    """What the store raises in a task instance that was replaced."""


class StateStore:
    """The task state store, with the signature of the real one; values go through JSON as they do there."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}
        self.history: list[tuple[str, Any]] = []
        self.replaced = False
        #: Called with key and value before each write; may raise.
        self.before_set: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        if self.replaced or key not in self.values:
            return default
        return json.loads(self.values[key])

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        if self.before_set is not None:
            self.before_set(key, value)
        if self.replaced:
            raise Replaced
        self.values[key] = json.dumps(value, allow_nan=False)
        self.retentions[key] = retention
        self.history.append((key, json.loads(self.values[key])))


@dataclass
class TaskRun:
    """
    One task instance over all its tries.

    :param store: None for an Airflow that has none; by default what the installed one has.
    """

    dag_id: str = "campaign"
    run_id: str = "manual__1"
    task_id: str = "call"
    map_index: int = -1
    try_number: int = 1
    clear_number: int = 0
    store: StateStore | None = field(default_factory=lambda: StateStore() if HAS_STATE_STORE else None)
    xcoms: dict[str, Any] = field(default_factory=dict)
    run_after: datetime = field(default_factory=lambda: datetime.now(timezone.utc) - timedelta(seconds=5))
    first_reschedule: datetime | None = None
    #: What Airflow answers when it is asked for the state; "missing" for no row, an exception to raise it.
    state: Any = "running"
    deferrals: int = 0
    reschedules: int = 0
    events: list[Any] = field(default_factory=list)
    triggers: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value, allow_nan=False))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        """Return what this task instance itself has pushed; nobody here asks for what others did."""
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_task_states(
        self,
        dag_id: str,
        map_index: int | None = None,
        task_ids: list[str] | None = None,
        task_group_id: str | None = None,
        logical_dates: list[datetime] | None = None,
        run_ids: list[str] | None = None,
    ) -> dict[str, Any]:
        assert (dag_id, map_index, task_ids, run_ids) == (self.dag_id, self.map_index, [self.task_id], [self.run_id])
        if isinstance(self.state, Exception):
            raise self.state
        return {} if self.state == "missing" else {self.run_id: {self.task_id: self.state}}

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule

    @property
    def context(self) -> dict[str, Any]:
        context: dict[str, Any] = {
            "ti": self,
            "dag_run": SimpleNamespace(run_after=self.run_after, clear_number=self.clear_number),
        }
        if self.store is not None:
            context["task_state_store"] = self.store
        return context

    def next_try(self, *, cleared: bool = False) -> TaskRun:
        """Go on as Airflow does for a retry, or after a clear: XComs are gone, the state store stays."""
        self.try_number += 1
        self.clear_number += cleared
        self.xcoms.clear()
        self.first_reschedule = None
        return self

    def later(self, hours: float = 1) -> TaskRun:
        """Let time pass for what was recorded, as it does until a person has looked."""
        assert self.store is not None
        record = self.store.get("revox_call")
        for entry in (record, *record["earlier"]):
            for name, value in entry.items():
                if name == "post_before" or name.endswith("_at"):
                    entry[name] = (datetime.fromisoformat(value) - timedelta(hours=hours)).isoformat()
        self.store.values["revox_call"] = json.dumps(record)
        return self

    @property
    def written(self) -> list[tuple[str, Any]]:
        """All that was written to the state store, nothing where there is none."""
        return self.store.history if self.store else []

    @property
    def record(self) -> dict[str, Any] | None:
        return self.store.get("revox_call") if self.store else None

    def run(self, operator: BaseOperator) -> Any:
        """Run one try to its end; return the result or raise what the task ends with."""
        result = self._run(operator)
        self.xcom_push("return_value", result)
        return result

    def _run(self, operator: BaseOperator) -> Any:
        step = lambda: operator.execute(self.context)  # noqa: E731
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                self.deferrals += 1
                event = self._fire(deferred)
                kwargs = {**json.loads(json.dumps(deferred.kwargs or {})), "event": event}
                method = deferred.method_name
                step = lambda: operator.resume_execution(method, kwargs, self.context)  # noqa: E731, B023
            except Exception as error:
                if type(error).__name__ != "AirflowRescheduleException":
                    raise
                self.reschedules += 1
                self.first_reschedule = self.first_reschedule or datetime.now(timezone.utc)

    def _fire(self, deferred: TaskDeferred) -> Any:
        path, kwargs = deferred.trigger.serialize()
        stored = json.loads(json.dumps(kwargs, allow_nan=False))
        self.triggers.append((path, stored))
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**stored)

        async def first_event() -> Any:
            async for event in trigger.run():
                return event.payload
            return None

        event = asyncio.run(first_event())
        self.events.append(event)
        return json.loads(json.dumps(event))
