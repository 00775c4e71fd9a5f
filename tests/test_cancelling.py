"""Cancelling: only when Airflow says that the task failed or was skipped, on the worker and in the triggerer."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_revox import cancelling
from airflow_provider_revox.exceptions import RevoxCallCancelledError
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.triggers import RevoxCallTrigger
from tests.harness import TaskRun

ENDLESS = "+14155550161"
REQUEST = {"phone_number": ENDLESS, "assistant": {"prompt": "Ask."}, "force_now": True}
LEFT_ALONE = [
    "scheduled",
    "queued",
    "running",
    "deferred",
    "up_for_retry",
    "up_for_reschedule",
    "restarting",
    "success",
    "upstream_failed",
    "removed",
    None,
    "missing",
    RuntimeError("no API server"),
]


def operator(**settings: Any) -> RevoxCreateCallOperator:
    defaults = {"wait_for_completion": True, "deferrable": False, "poke_interval": 1}
    return RevoxCreateCallOperator(task_id="call", **{**REQUEST, **defaults, **settings})


def place() -> str:
    with RevoxHook() as hook:
        return hook.create_call(REQUEST).id


def sensor(call_id: str, **settings: Any) -> RevoxCallSensor:
    return RevoxCallSensor(task_id="call", call_id=call_id, **{"deferrable": False, "poke_interval": 1, **settings})


@contextmanager
def killed_once_placed(task: Any, simulator: Simulator) -> Iterator[None]:
    """Call `on_kill` as Airflow's signal handler does, as soon as the task waits."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            if simulator.stats()["requests"].get("get_call"):
                task.on_kill()
                return

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    over.set()
    thread.join()


# --- on the worker --------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "skipped"])
@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_a_task_that_was_ended_takes_its_call_along(
    revox: Simulator, state: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    task = operator() if kind == "operator" else sensor(place())
    with killed_once_placed(task, revox), pytest.raises(RevoxCallCancelledError, match=f"ended as {state}"):
        TaskRun(state=state).run(task)
    assert revox.orders()[0]["status"] == "cancelled"
    assert f"is cancelled, because its task is {state}" in caplog.text


@pytest.mark.parametrize("state", LEFT_ALONE, ids=repr)
def test_in_every_other_state_the_call_is_left_alone(
    revox: Simulator, state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    task = operator(timeout=2)
    with killed_once_placed(task, revox), pytest.raises(AirflowSensorTimeout):
        TaskRun(state=state).run(task)
    assert revox.stats()["cancels"] == 0
    assert "is left alone, because its task is" in caplog.text


def test_cancelling_can_be_switched_off(revox: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    task = operator(timeout=2, cancel_on_kill=False)
    with killed_once_placed(task, revox), pytest.raises(AirflowSensorTimeout):
        TaskRun(state="failed").run(task)
    assert revox.stats()["cancels"] == 0
    assert "cancel_on_kill is off" in caplog.text


@pytest.mark.parametrize("stood_still", [False, True])
@pytest.mark.parametrize("lease", [300.0, 40.0])
def test_a_task_that_stood_still_may_have_been_ended_by_airflow_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lease: float, stood_still: bool
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(cancelling.time, "time", lambda: now)
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", f"{lease:.0f}")
    stop = cancelling.StopRequest()
    assert not stop.stood_still
    stop.goes_on()
    now += lease * (0.76 if stood_still else 0.74)
    stop.goes_on()
    assert stop.stood_still is stood_still
    for state in ("failed", "skipped"):
        caplog.clear()
        assert cancelling.is_to_be_cancelled("c1", state, stood_still=stop.stood_still) is not stood_still
        told = [f"Call c1 is left alone: its task is {state}, but stood still" in line for line in caplog.messages]
        assert told == [True] * stood_still
    assert not cancelling.is_to_be_cancelled("c1", "running", stood_still=stop.stood_still)
    # Airflow has told it by now, if it did not know better.
    while now < 1_000_000.0 + 2 * lease:
        now += 1
        stop.goes_on()
    assert not stop.stood_still


def test_a_waiting_task_that_stood_still_leaves_its_call_alone(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The process was stopped, or its machine asleep: the clock of the world went on."""
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "300")
    asleep = 0.0
    monkeypatch.setattr(cancelling, "time", SimpleNamespace(time=lambda: time.time() + asleep))
    task = operator(timeout=4)
    on_kill = task.on_kill

    def woken_and_killed() -> None:
        nonlocal asleep
        asleep = 400.0
        on_kill()

    task.on_kill = woken_and_killed
    with killed_once_placed(task, revox), pytest.raises(AirflowSensorTimeout):
        TaskRun(state="failed").run(task)
    assert revox.stats()["cancels"] == 0
    assert "is left alone: its task is failed, but stood still" in caplog.text


@pytest.mark.parametrize(("asleep_for", "cancels"), [(400.0, 0), (0.0, 1)])
def test_a_task_that_slept_beyond_its_deadline_leaves_its_call_to_the_next_try(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asleep_for: float, cancels: int
) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "300")
    asleep = 0.0
    monkeypatch.setattr(cancelling, "time", SimpleNamespace(time=lambda: time.time() + asleep))
    task = operator(timeout=2, cancel_on_timeout=True)

    def sleep() -> None:
        nonlocal asleep
        asleep = asleep_for

    task.on_kill = sleep
    words = "The call was cancelled" if cancels else "The call itself goes on"
    with killed_once_placed(task, revox), pytest.raises(AirflowSensorTimeout, match=words):
        TaskRun().run(task)
    assert revox.stats()["cancels"] == cancels
    assert ("stood still, and another try of it may wait" in caplog.text) is not bool(cancels)


def test_a_kill_before_the_wait_does_nothing(revox: Simulator) -> None:
    for task in (operator(), sensor("c1")):
        task.on_kill()


# --- in the triggerer -----------------------------------------------------------------------


def trigger(call_id: str, *, cancel_on_kill: bool = True, task: bool = True) -> RevoxCallTrigger:
    made = RevoxCallTrigger(call_id, "revox_default", cancel_on_kill=cancel_on_kill)
    if task:
        made.task_instance = SimpleNamespace(dag_id="campaign", run_id="manual__1", task_id="call", map_index=-1)
    return made


@pytest.fixture
def airflow_says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let Airflow answer with a state."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def says(state: Any) -> None:
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", TaskRun(state=state).get_task_states)

    return says


def test_the_one_inner_class_of_airflow_is_where_it_was() -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    real = inspect.signature(RuntimeTaskInstance.get_task_states)
    ours = inspect.signature(TaskRun().get_task_states)
    assert list(real.parameters) == list(ours.parameters)


@pytest.mark.parametrize("state", ["failed", "skipped"])
async def test_the_trigger_of_a_task_that_was_ended_cancels(revox: Simulator, airflow_says: Any, state: str) -> None:
    call_id = place()
    airflow_says(state)
    await trigger(call_id).on_kill()
    assert revox.orders()[0]["status"] == "cancelled"


@pytest.mark.parametrize("state", LEFT_ALONE, ids=repr)
async def test_the_trigger_leaves_the_call_alone_otherwise(
    revox: Simulator, airflow_says: Any, state: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    call_id = place()
    airflow_says(state)
    await trigger(call_id).on_kill()
    assert revox.stats()["cancels"] == 0
    assert f"Call {call_id} is left alone" in caplog.text


@pytest.mark.parametrize(("left", "cancels"), [(-1.0, 0), (60.0, 1)])
async def test_the_trigger_of_a_wait_that_is_over_leaves_the_call_alone(
    revox: Simulator, airflow_says: Any, caplog: pytest.LogCaptureFixture, left: float, cancels: int
) -> None:
    """A triggerer slept; another one has seen the deadline pass since, and the task failed by that."""
    caplog.set_level("INFO")
    killed = trigger(place())
    killed.deadline = time.time() + left
    airflow_says("failed")
    await killed.on_kill()
    assert revox.stats()["cancels"] == cancels
    assert ("because the wait for it is over" in caplog.text) is not bool(cancels)


async def test_the_trigger_does_not_cancel_without_a_task_or_when_switched_off(
    revox: Simulator, airflow_says: Any
) -> None:
    call_id = place()
    airflow_says("failed")
    await trigger(call_id, cancel_on_kill=False).on_kill()
    await trigger(call_id, task=False).on_kill()
    assert revox.stats()["cancels"] == 0


async def test_a_kill_that_is_cut_off_is_finished(
    revox: Simulator, airflow_says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow 3.3 does when it synchronises again while the first question for a state takes its time."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    call_id = place()
    asked, answer = threading.Event(), threading.Event()

    def slowly(**which: Any) -> Any:
        asked.set()
        assert answer.wait(10)
        return TaskRun(state="failed").get_task_states(**which)

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", slowly)
    kill = asyncio.ensure_future(trigger(call_id).on_kill())
    while not asked.is_set():
        await asyncio.sleep(0.01)
    kill.cancel()
    await asyncio.gather(kill, return_exceptions=True)
    assert kill.cancelled()
    answer.set()
    while cancelling._under_way:
        await asyncio.sleep(0.01)
    assert revox.orders()[0]["status"] == "cancelled"


async def test_a_kill_that_takes_too_long_is_given_up(
    revox: Simulator, airflow_says: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call_id = place()
    airflow_says("failed")
    monkeypatch.setattr(cancelling, "CANCEL_IN_TRIGGERER_WITHIN_SECONDS", 0.3)
    revox.add_fault("cancel_call", "hold")
    await trigger(call_id).on_kill()
    assert "may not be cancelled" in caplog.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [({"kind": "status", "status": 405}, "405"), ({"kind": "not_found"}, "cannot cancel")],
)
async def test_a_cancel_that_fails_is_told(
    revox: Simulator, airflow_says: Any, caplog: pytest.LogCaptureFixture, fault: dict[str, Any], words: str
) -> None:
    caplog.set_level("INFO")
    call_id = place()
    airflow_says("failed")
    revox.add_fault("cancel_call", **fault)
    await trigger(call_id).on_kill()
    assert f"Call {call_id} is not cancelled" in caplog.text
    assert words in caplog.text


async def test_a_call_that_had_ended_stays_as_it_is(
    revox: Simulator, airflow_says: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with RevoxHook() as hook:
        call_id = hook.create_call({**REQUEST, "phone_number": "+14155550100"}).id
    revox.advance(86_400)
    airflow_says("failed")
    await trigger(call_id).on_kill()
    assert "is not cancelled: it had ended" in caplog.text
    assert revox.orders()[0]["status"] == "completed"


# --- timeouts -------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
def test_the_deadline_cancels_only_if_asked_to(revox: Simulator, deferrable: bool, cancel: bool) -> None:
    words = "The call was cancelled" if cancel else "The call itself goes on"
    with pytest.raises(AirflowSensorTimeout, match=words):
        TaskRun().run(operator(timeout=1, deferrable=deferrable, cancel_on_timeout=cancel))
    assert revox.stats()["cancels"] == int(cancel)


@pytest.mark.parametrize("cancel", [False, True])
def test_the_execution_timeout_obeys_cancel_on_timeout(
    revox: Simulator, cancel: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.sdk.execution_time.timeout import timeout

    caplog.set_level("INFO")
    task = operator(cancel_on_timeout=cancel, execution_timeout=timedelta(seconds=2))
    with pytest.raises(AirflowTaskTimeout), timeout(2):
        TaskRun().run(task)
    assert revox.stats()["cancels"] == int(cancel)
    assert ("is cancelled, because" if cancel else "is left alone though") in caplog.text


def test_a_cancel_without_the_extension_lets_the_call_go_on(plain_revox: Simulator) -> None:
    with pytest.raises(AirflowSensorTimeout, match="The call itself goes on"):
        TaskRun().run(operator(timeout=1, cancel_on_timeout=True))


def test_cancelling_on_a_worker_takes_a_bounded_time(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection's own patience would be five times 30 s."""
    monkeypatch.setattr(cancelling, "CANCEL_WITHIN_SECONDS", 1.2)
    with RevoxHook() as hook:
        call_id = hook.create_call({"phone_number": "+14155550160", "assistant_id": "asst_plain"}).id
        revox.add_fault("cancel_call", "hold", count=9)
        began = time.monotonic()
        assert cancelling.cancel_on_worker(hook, call_id, "the test says so") is None
        assert time.monotonic() - began < 30
    revox.release()
    assert revox.stats()["requests"]["cancel_call"] == 3
    assert f"Call {call_id} may not be cancelled" in caplog.text
