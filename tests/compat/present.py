"""
What is stored by this version: its format, and samples of it.

``python -m tests.compat.present`` writes both into a directory named by the package's version. Directories of earlier versions
stay as they are: what they hold still lies in the databases of those who upgrade.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

import airflow_provider_revox
from airflow_provider_revox import ledger
from airflow_provider_revox.ledger import CallName, Entry, Ledger, Record, Settlement, State
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.polling import End
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.triggers import RevoxCallTrigger
from tests.harness import StateStore

COMPAT = Path(__file__).parent
PARTS = ("schema", "triggers", "records", "settlements", "deferrals")

ALICE = "+14155550100"
#: The two ids for which a test puts those of its own simulator.
CALL_ID = "c0000000-0000-4000-8000-000000000002"
EARLIER_CALL_ID = "c0000000-0000-4000-8000-000000000001"
#: Of the task instance that `tests.harness.TaskRun` is.
NAME = CallName("", "campaign", "manual__1", "call", -1)
NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
#: In the year 2100: a wait that was stored goes on.
DEADLINE = 4102444800.5
#: What a trigger may say of a call: reason and status.
_ENDS = (("ended", "completed"), ("deadline", "calling"), ("not_visible", None))


# --- samples ------------------------------------------------------------------------------------


def samples() -> dict[str, Any]:
    """Return what this version stores, by the name of the file that it goes into; made by the code that stores it."""
    return {
        "triggers": {name: _stored(*trigger.serialize()) for name, trigger in _triggers().items()},
        "records": {name: record.to_json() for name, record in _records()},
        "settlements": _settlements(),
        "deferrals": {
            "operator": _deferral(
                RevoxCreateCallOperator(task_id="call", phone_number=ALICE, wait_for_completion=True)
            ),
            "sensor": _deferral(RevoxCallSensor(task_id="call", call_id=CALL_ID)),
            "events": [_event(End(*said)) for said in _ENDS],
        },
    }


def _triggers() -> dict[str, RevoxCallTrigger]:
    return {
        "typical": _deferred(RevoxCallSensor(task_id="call", call_id=CALL_ID)).trigger,
        "all fields": RevoxCallTrigger(CALL_ID, "revox_default", 1.5, 2.5, DEADLINE, True),
        "no deadline": RevoxCallTrigger(CALL_ID, "revox_default"),
    }


def _records() -> Iterator[tuple[str, Record]]:
    nonces = (f"{number:016x}" for number in range(1, 99))
    with patch.object(ledger.secrets, "token_hex", lambda _: next(nonces)):
        earlier = tuple(_entry(state, EARLIER_CALL_ID) for state in State)
        for state in State:
            yield state.value, Record(_entry(state, CALL_ID))
            yield f"{state.value}, with earlier entries", Record(_entry(state, CALL_ID, clear_number=2), earlier)


def _entry(state: State, call_id: str, clear_number: int = 0) -> Entry:
    intent = Entry.intent(NAME, ALICE, "+1415•••0100", NOW, clear_number).about_to_post(NOW + timedelta(seconds=1))
    later = NOW + timedelta(seconds=2, milliseconds=345)
    return {
        State.INTENT: intent,
        State.PLACED: intent.placed(call_id, later),
        State.REFUSED: intent.refused("creating the call: 429", later),
        State.UNKNOWN: intent.unknown("this Revox deployment cannot search", later),
    }[state]


def _settlements() -> dict[str, Any]:
    """Return what a person writes, and what becomes of it once it was used."""
    store, used = StateStore(), {}
    for name in ("redial_after", "adopt"):
        Ledger(store).mark_used(Settlement(**{name: CALL_ID}, stored=True), NOW)
        used[f"{name}, used"] = store.get(ledger.SETTLE_KEY)
    nonce = next(record.newest.nonce for name, record in _records() if name == "unknown")
    return {
        "redial_after a call": {"redial_after": CALL_ID},
        "redial_after a nonce": {"redial_after": nonce},
        "adopt": {"adopt": CALL_ID},
        "adopt, as text": json.dumps({"adopt": CALL_ID}),
        **used,
    }


def _deferred(task: Any) -> TaskDeferred:
    hook = SimpleNamespace(revox_conn_id="revox_default")
    with pytest.raises(TaskDeferred) as deferred:
        task._call_wait(hook).defer(task, CALL_ID, datetime.fromtimestamp(DEADLINE, timezone.utc))
    return deferred.value


def _deferral(task: Any) -> dict[str, Any]:
    deferred = _deferred(task)
    return {"method": deferred.method_name, "kwargs": deferred.kwargs}


def _event(end: End) -> Any:
    async def watched(*_: Any) -> End:
        return end

    async def all_events() -> list[Any]:
        return [event.payload async for event in RevoxCallTrigger(CALL_ID, "revox_default").run()]

    with patch("airflow_provider_revox.watcher.watch_call", watched):
        (only,) = asyncio.run(all_events())
    return only


def _stored(path: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"class": path, "kwargs": kwargs}


# --- the format ---------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """Return the names and types of all that is stored, derived from the code."""
    path, kwargs = RevoxCallTrigger(CALL_ID, "revox_default").serialize()
    made_from = inspect.signature(RevoxCallTrigger).parameters
    now = samples()
    return {
        "state store keys": {"record": ledger.RECORD_KEY, "settlement": ledger.SETTLE_KEY, "guard": ledger.GUARD_KEY},
        "entry": {
            each.name: f"{each.type}{'' if each.default is dataclasses.MISSING else f' = {each.default}'}"
            for each in dataclasses.fields(Entry)
        },
        "states": [state.value for state in State],
        "record": sorted({name for record in now["records"].values() for name in record}),
        "settlements": sorted({", ".join(sorted(_types(word))) for word in now["settlements"].values()} - {""}),
        "trigger": {"class": path, "kwargs": {name: str(made_from[name].annotation) for name in kwargs}},
        "event": {name: " or ".join(kinds) for name, kinds in _union(now["deferrals"]["events"]).items()},
        "deferrals": {
            name: {**deferral, "kwargs": _types(deferral["kwargs"])}
            for name, deferral in now["deferrals"].items()
            if name != "events"
        },
    }


def _types(value: Any) -> dict[str, str]:
    return {name: type(each).__name__ for name, each in value.items()} if isinstance(value, Mapping) else {}


def _union(values: list[Any]) -> dict[str, list[str]]:
    return {name: sorted({type(value[name]).__name__ for value in values}) for name in values[0]}


def write(into: Path) -> None:
    """Write the format and the samples of this version; what is there already is never overwritten."""
    into.mkdir()
    for part, content in {"schema": schema(), **samples()}.items():
        (into / f"{part}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("AIRFLOW_CONN_REVOX_DEFAULT", "revox://")
    write(COMPAT / airflow_provider_revox.__version__)
