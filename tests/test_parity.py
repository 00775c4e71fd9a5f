"""
Parity: one table of cases gives the same end in every way to wait.

Time stands still, for the tasks and for the simulator alike, and passes only while somebody waits: where the worker sleeps,
where the triggerer sleeps, and between a reschedule and the next start. No order has ended at the first look, so every way
really waits, at its usual pace; and as all ways see the same minutes, they must say the same to the letter.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

from airflow_provider_revox import call_task, hooks, sensors, waiting, watcher
from airflow_provider_revox.exceptions import (
    RevoxCallCancelledError,
    RevoxCallFailedError,
    RevoxCallNotVisibleError,
    RevoxCallUnsuccessfulError,
)
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from tests.conftest import connect
from tests.harness import TaskRun

NOON = datetime(2026, 3, 3, 12, tzinfo=timezone.utc)
PACE = {"poke_interval": 60, "max_poll_interval": 600, "timeout": 300}
WINDOW = {"calling_window_start_time": "00:00", "calling_window_end_time": "23:59", "retry_delay_seconds": 60}
ASSISTANT = {
    "prompt": "Ask where they live.",
    "structured_output_config": [
        {"name": "city", "type": "string", "required": True},
        {"name": "people", "type": "number", "required": True},
    ],
    "call_retry_config": {"calling_windows": [WINDOW], "max_retry_attempts": 2},
}
ORDER = {"assistant": ASSISTANT, "force_now": True, "metadata": {"customer": "c-7"}}

# --- the table: what is to become of a task ------------------------------------------------


@dataclass(frozen=True)
class Fate:
    """
    What happens to an order, and what that means by success_when.

    :param digits: the end of the number; the last two choose what happens.
    :param call: status, attempts and result in the XCom `call`; None where there is to be no such XCom.
    :param brings: the types of the data that the call brings, None for no data.
    :param fault: what every look meets, after so many that meet nothing.
    :param reschedule: where mode="reschedule" waits: not in between starts while an order is missing or a key is tried again.
    :param sensors_end_at_once: a sensor does not get as far as the way in which it would wait; an operator, which has placed
        the call with this connection, is not concerned.
    """

    digits: str
    completed: str
    human: str
    output: str
    call: tuple[str, int, str | None] | None = None
    brings: dict[str, type] | None = None
    fault: tuple[str, int] | None = None
    reschedule: tuple[str, ...] = ("between starts",)
    sensors_end_at_once: bool = False


FITS, MISFITS = {"city": str, "people": int}, {"city": int, "people": str}
NOT_SEEN = ("not visible", "not visible", "not visible")
IN_BOTH, ON_WORKER = ("between starts", "worker"), ("worker",)
FATES = {
    # digits, then the outcome with success_when="completed", "human", "output", then the XCom `call`, and the data
    "a human, data that fits": Fate("100", "returns", "returns", "returns", ("completed", 1, "human"), FITS),
    "an unknown status, then a human": Fate("164", "returns", "returns", "returns", ("completed", 1, "human"), FITS),
    "a human, empty data": Fate("159", "returns", "returns", "unsuccessful", ("completed", 1, "human"), {}),
    "a human, no data": Fate("259", "returns", "returns", "unsuccessful", ("completed", 1, "human")),
    "a human, data that misfits": Fate("166", "returns", "returns", "unsuccessful", ("completed", 1, "human"), MISFITS),
    "voicemail": Fate("154", "returns", "unsuccessful", "unsuccessful", ("completed", 2, "voicemail")),
    "a phone menu": Fate("155", "returns", "unsuccessful", "unsuccessful", ("completed", 1, "IVR")),
    "a screening filter": Fate(
        "158", "returns", "unsuccessful", "unsuccessful", ("completed", 1, "ios-screening-filter")
    ),
    "busy every time": Fate("153", "errored", "errored", "errored", ("errored", 2, None)),
    "a number that is not attributed": Fate("156", "errored", "errored", "errored", ("errored", 1, None)),
    "errored without an attempt": Fate("157", "errored", "errored", "errored", ("errored", 0, None)),
    "cancelled from outside": Fate("165", "cancelled", "cancelled", "cancelled", ("cancelled", 0, None)),
    "queued for ever": Fate("160", "deadline", "deadline", "deadline"),
    "talking for ever": Fate("161", "deadline", "deadline", "deadline"),
    "paused for ever": Fate("162", "deadline", "deadline", "deadline"),
    "an unknown status for ever": Fate("163", "deadline", "deadline", "deadline"),
    "Revox away from the start": Fate("100", "unseen", "unseen", "unseen", fault=("unavailable", 0)),
    "Revox away after a look": Fate("100", "unseen", "unseen", "unseen", fault=("unavailable", 1)),
    "never there": Fate("100", *NOT_SEEN, fault=("not_found", 0), reschedule=ON_WORKER),
    "gone after a look": Fate("100", *NOT_SEEN, fault=("not_found", 1), reschedule=IN_BOTH),
    "key never accepted": Fate("100", *NOT_SEEN, fault=("unauthorized", 0), sensors_end_at_once=True),
    "key revoked after a look": Fate(
        "100", "unseen", "unseen", "unseen", fault=("unauthorized", 1), reschedule=IN_BOTH
    ),
}

RESULT = "the result"
FLAGS: tuple[dict[str, bool], ...] = ({}, {"soft_fail": True}, {"never_fail": True})
ENDS: dict[tuple[str, str], tuple[Any, Any, Any]] = {
    # outcome, unsuccessful: neither flag, soft_fail, never_fail
    ("returns", "fail"): (RESULT, RESULT, RESULT),
    ("returns", "skip"): (RESULT, RESULT, RESULT),
    ("returns", "return"): (RESULT, RESULT, RESULT),
    ("unsuccessful", "fail"): (RevoxCallUnsuccessfulError, RevoxCallUnsuccessfulError, AirflowSkipException),
    ("unsuccessful", "skip"): (AirflowSkipException, AirflowSkipException, AirflowSkipException),
    ("unsuccessful", "return"): (RESULT, RESULT, RESULT),
    ("errored", "fail"): (RevoxCallFailedError, RevoxCallFailedError, AirflowSkipException),
    ("errored", "skip"): (RevoxCallFailedError, RevoxCallFailedError, AirflowSkipException),
    ("errored", "return"): (RevoxCallFailedError, RevoxCallFailedError, AirflowSkipException),
    ("cancelled", "fail"): (RevoxCallCancelledError, RevoxCallCancelledError, AirflowSkipException),
    ("cancelled", "skip"): (RevoxCallCancelledError, RevoxCallCancelledError, AirflowSkipException),
    ("cancelled", "return"): (RevoxCallCancelledError, RevoxCallCancelledError, AirflowSkipException),
    ("deadline", "fail"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("deadline", "skip"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("deadline", "return"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("unseen", "fail"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("unseen", "skip"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("unseen", "return"): (AirflowSensorTimeout, AirflowSkipException, AirflowSkipException),
    ("not visible", "fail"): (RevoxCallNotVisibleError, RevoxCallNotVisibleError, AirflowSkipException),
    ("not visible", "skip"): (RevoxCallNotVisibleError, RevoxCallNotVisibleError, AirflowSkipException),
    ("not visible", "return"): (RevoxCallNotVisibleError, RevoxCallNotVisibleError, AirflowSkipException),
}
WORDS = {
    "unsuccessful": "completed without",
    "errored": "could not be carried out",
    "cancelled": "was cancelled",
    "deadline": "is .* and had not ended 300 s after the wait began. The call itself goes on",
    "unseen": "could not be seen 300 s after the wait began \\(.*Revox answered .*\\). The call may have ended",
    "not visible": "cannot be read: .* left alone",
}
WAYS: dict[str, tuple[type, dict[str, Any], tuple[str, ...]]] = {
    # class, settings, where it waits
    "poke": (RevoxCallSensor, {"deferrable": False, "mode": "poke"}, ("worker",)),
    "reschedule": (RevoxCallSensor, {"deferrable": False, "mode": "reschedule"}, ("between starts",)),
    "deferrable": (RevoxCallSensor, {"deferrable": True}, ("triggerer",)),
    "operator, deferrable": (RevoxCreateCallOperator, {"deferrable": True}, ("triggerer",)),
    "operator, on the worker": (RevoxCreateCallOperator, {"deferrable": False}, ("worker",)),
}

# --- the stage ------------------------------------------------------------------------------


class Hours:
    """The time of tasks and simulator; it passes in pauses only."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.passed = 0.0
        self.pauses: Counter[str] = Counter()

    def now(self, zone: Any = timezone.utc) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def begin(self) -> None:
        self.simulator.reset()
        self.passed = 0.0
        self.pauses.clear()

    def wait(self, place: str, seconds: float) -> None:
        self.passed += seconds
        self.pauses[place] += 1
        self.simulator.advance(seconds)


class HurryingLoop(asyncio.SelectorEventLoop):
    """The event loop of a triggerer whose time stands still, but for the pauses that its watcher makes."""

    def __init__(self, hours: Hours) -> None:
        super().__init__()
        self.hours = hours

    def time(self) -> float:
        return self.hours.passed

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if getattr(callback, "__func__", None) is watcher.Watcher._gather and when > self.time():
            self.hours.wait("triggerer", when - self.time())
        return super().call_at(when, callback, *args, context=context)


class Run(TaskRun):
    """A task instance that is started again when it asked to be."""

    hours: Hours

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return NOON if self.reschedules else None

    def _run(self, operator: Any) -> Any:
        if getattr(operator, "mode", None) != "reschedule":
            return super()._run(operator)
        while True:
            try:
                return operator.execute(self.context)
            except Exception as later:
                if type(later).__name__ != "AirflowRescheduleException":
                    raise
                self.reschedules += 1
                self.hours.wait("between starts", (later.reschedule_date - self.hours.now()).total_seconds())


@pytest.fixture(scope="module")
def still() -> Iterator[Simulator]:
    """A Revox whose time stands still."""
    with Simulator(speed=1e-9, seed=7, start_at=NOON) as simulator:
        yield simulator


@pytest.fixture
def hours(still: Simulator, monkeypatch: pytest.MonkeyPatch) -> Hours:
    hours = Hours(still)
    clock = SimpleNamespace(now=hours.now, fromtimestamp=datetime.fromtimestamp)
    for module in (call_task, sensors, waiting, watcher):
        monkeypatch.setattr(module, "datetime", clock)
    worker = SimpleNamespace(sleep=lambda seconds: hours.wait("worker", seconds), monotonic=lambda: hours.passed)
    monkeypatch.setattr(waiting, "time", worker)
    monkeypatch.setattr(waiting, "_SLEEP_PIECE_SECONDS", 3600.0)  # nobody stops these tasks
    monkeypatch.setattr(watcher, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(asyncio.events, "new_event_loop", lambda: HurryingLoop(hours))
    # The pauses between the tries of one request are real ones: short, for faults that last.
    given = hooks.settings_from_connection
    monkeypatch.setattr(hooks, "settings_from_connection", lambda found: replace(given(found), backoff_seconds=0.0005))
    connect(monkeypatch, still)
    return hours


def wait_for_end(hours: Hours, way: str, fate: Fate, settings: dict[str, Any]) -> tuple[Any, str, TaskRun]:
    """Have a number called and wait in one way, and see that it waits there; return the result or error class, its words."""
    kind, how, where = WAYS[way]
    hours.begin()
    if fate.fault is not None:
        hours.simulator.add_fault("get_call", fate.fault[0], after=fate.fault[1], probability=1)
    order = {"phone_number": f"+14155550{fate.digits}", **ORDER}
    if kind is RevoxCallSensor:
        with RevoxHook() as hook:
            operator = kind(task_id="wait", call_id=hook.create_call(order).id, **PACE, **how, **settings)
    else:
        operator = kind(task_id="wait", wait_for_completion=True, **order, **PACE, **how, **settings)
    run = Run()
    run.hours = hours
    try:
        end, words = run.run(operator), ""
    except Exception as error:
        end, words = type(error), str(error)
    where = ON_WORKER if fate.sensors_end_at_once else fate.reschedule if way == "reschedule" else where
    assert sorted(hours.pauses) == sorted(where)
    assert run.deferrals == len(run.events) == ("triggerer" in hours.pauses)
    assert run.reschedules == hours.pauses["between starts"]
    assert hours.simulator.stats()["requests"]["get_call"] >= 2
    assert hours.simulator.stats()["posts_received"] == 1
    return end, words, run


def said_in_the_call(hours: Hours, fate: Fate) -> dict[str, Any] | None:
    """Return what the simulator says that the call brought, once it is what the table says."""
    attempt = hours.simulator.orders()[0]["last_call_attempt"]
    said = attempt and attempt["structured_output"]
    assert (said if said is None else {name: type(value) for name, value in said.items()}) == fate.brings
    return said


# What has no end is never judged: there each setting is tried, but not each with each.
CASES = [
    pytest.param(fate, success_when, unsuccessful, id=f"{name}-{success_when}-{unsuccessful}")
    for name, fate in FATES.items()
    for one, success_when in enumerate(("completed", "human", "output"))
    for other, unsuccessful in enumerate(("fail", "skip", "return"))
    if fate.call is not None or one == other
]


@pytest.mark.parametrize("flag", [0, 1, 2], ids=["neither", "soft_fail", "never_fail"])
@pytest.mark.parametrize(("fate", "success_when", "unsuccessful"), CASES)
def test_all_ways_end_the_same(hours: Hours, fate: Fate, success_when: str, unsuccessful: str, flag: int) -> None:
    outcome = getattr(fate, success_when)
    expected = ENDS[outcome, unsuccessful][flag]
    settings = {"success_when": success_when, "unsuccessful": unsuccessful, **FLAGS[flag]}
    words: dict[str, str] = {}
    calls: list[dict[str, Any]] = []
    for way, (kind, _, _) in WAYS.items():
        if (FLAGS[flag] or fate.sensors_end_at_once) and kind is not RevoxCallSensor:
            continue
        end, words[way], run = wait_for_end(hours, way, fate, settings)
        call_id = hours.simulator.orders()[0]["id"]
        keys = {"call_id"} if kind is RevoxCreateCallOperator else set()
        if expected is RESULT:
            keys.add("return_value")
            assert words[way] == "", way
            assert end == run.xcoms["return_value"] == said_in_the_call(hours, fate), way
        else:
            assert end is expected, way
            assert re.search(f"{call_id}.*{WORDS[outcome]}", words[way]), way
        if fate.call is not None:
            keys.add("call")
            call = run.xcoms["call"]
            assert (call["status"], call["attempts"], call["result"]) == fate.call, way
            assert (call["metadata"].pop("airflow_call_key", None) is None) == (kind is RevoxCallSensor), way
            calls.append(call)
        assert set(run.xcoms) == keys, way
        assert run.xcoms.get("call_id", call_id) == call_id, way
    assert len(set(words.values())) == 1, words
    assert all(call == calls[0] for call in calls)


def test_airflow_refuses_both_flags_together() -> None:
    with pytest.raises(ValueError, match="mutually exclusive"):
        RevoxCallSensor(task_id="wait", call_id="c", soft_fail=True, never_fail=True)
