"""
Never dial twice, whatever breaks, wherever it breaks: every point of a call's life × every fault of the simulator.

What must happen stands in `tests/every_fault_table.py`. Each case plays one try with the fault and one more without it, and
compares all that a user could notice: orders and dials in Revox, the record, the XComs, the end of the task and its words.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, get_args

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_revox import hooks
from airflow_provider_revox.exceptions import RevoxOutcomeUnknownError
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.simulator.faults import Kind
from tests.conftest import TRANSPORTS, connect, use_transport
from tests.every_fault_table import (
    ENDS_FOR_GOOD,
    OVERTAKEN,
    POINTS,
    RESET,
    THE_WRITES,
    UNSEEN,
    WITHOUT_EXTENSIONS,
    Crash,
    End,
    Fault,
    ItsOwn,
    Point,
    Write,
)
from tests.harness import Replaced, TaskRun, needs_state_store

pytestmark = needs_state_store

ALICE = "+14155550100"
#: Of somebody whose phone never rings: the order waits for ever.
NEVER_DIALLED = "+14155550160"
A_DAY = 86_400
API_KEY = "key-that-nobody-may-read"


# --- the stage -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[bool, Simulator]]:
    """A Revox with search and cancel, and one without."""
    # Time stands nearly still: what happens when is up to the scene.
    with Simulator(speed=1, api_key=API_KEY) as whole, Simulator(speed=1, api_key=API_KEY, extensions=False) as plain:
        yield {True: whole, False: plain}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every pause; how often something is tried stays."""
    settings_from = hooks.settings_from_connection
    monkeypatch.setattr(
        "airflow_provider_revox.hooks.settings_from_connection",
        lambda connection: dataclasses.replace(settings_from(connection), backoff_seconds=0.001),
    )
    monkeypatch.setattr("airflow_provider_revox.placing.LOOK_AFTER_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.001)
    monkeypatch.setattr("airflow_provider_revox.watching.READ_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr("airflow_provider_revox.watcher.TICK_SECONDS", 0.001)
    monkeypatch.setattr("airflow_provider_revox.polling.MISSING_SECONDS", 0.6)


class Stage:
    """One task instance, its Revox, and what the case armed."""

    def __init__(self, simulator: Simulator) -> None:
        simulator.reset()
        self.simulator = simulator
        self.task = TaskRun()
        self.number = ALICE

    def operator(self, **settings: Any) -> RevoxCreateCallOperator:
        return RevoxCreateCallOperator(
            task_id="call",
            phone_number=self.number,
            assistant={"prompt": "Ask how it went."},
            force_now=True,
            poke_interval=0.01,
            max_poll_interval=0.02,
            **settings,
        )

    def only_call_id(self) -> str:
        (order,) = self.simulator.orders()
        return str(order["id"])

    def call_ends_when_placed(self) -> None:
        def write(key: str, value: dict[str, Any]) -> None:
            if value["state"] == "placed":
                self.simulator.advance(A_DAY)

        self.task.store.before_set = write

    def an_earlier_try(self, *, fails: bool = False) -> None:
        """Play a try that went before; its faults are over."""
        if fails:
            with pytest.raises(Exception, match="whether it dialled is not known"):
                self.task.run(self.operator())
        else:
            self.task.run(self.operator())
        self.simulator.clear_faults()
        self.simulator.advance(A_DAY)
        self.task.next_try()


Scene = Callable[[Stage, End], RevoxCreateCallOperator]


def _place(stage: Stage, end: End) -> RevoxCreateCallOperator:
    return stage.operator()


def _lose(stage: Stage, end: End, *, kind: str) -> RevoxCreateCallOperator:
    stage.simulator.add_fault("create_call", kind)
    return stage.operator()


def _wait(stage: Stage, end: End, *, deferrable: bool, placed_before: bool = False) -> RevoxCreateCallOperator:
    stage.call_ends_when_placed()
    if placed_before:
        stage.an_earlier_try()
    # The deadline is near only where the wait is to end by it.
    timeout = (0.4 if placed_before else 0.1) if end.error is UNSEEN.error else 10
    return stage.operator(wait_for_completion=True, deferrable=deferrable, timeout=timeout)


def _pass_the_deadline(stage: Stage, end: End, *, deferrable: bool) -> RevoxCreateCallOperator:
    stage.number = NEVER_DIALLED
    return stage.operator(wait_for_completion=True, deferrable=deferrable, timeout=0.02, cancel_on_timeout=True)


def _redial_after_a_call(stage: Stage, end: End) -> RevoxCreateCallOperator:
    stage.an_earlier_try()
    return stage.operator(redial_after=stage.only_call_id())


def _lost_before(stage: Stage, kind: str) -> None:
    stage.simulator.add_fault("create_call", kind)
    stage.simulator.add_fault("search_calls", "incomplete_search")
    stage.an_earlier_try(fails=True)
    stage.task.later()


def _redial_after_a_loss(stage: Stage, end: End, *, kind: str) -> RevoxCreateCallOperator:
    _lost_before(stage, kind)
    return stage.operator(redial_after=stage.task.record["nonce"])


def _adopt(stage: Stage, end: End) -> RevoxCreateCallOperator:
    _lost_before(stage, "drop_reply")
    return stage.operator(adopt=stage.only_call_id())


SCENES: dict[str, Scene] = {
    "post": _place,
    "reply lost": partial(_lose, kind="drop_reply"),
    "request lost": partial(_lose, kind="reset"),
    "worker": partial(_wait, deferrable=False),
    "triggerer": partial(_wait, deferrable=True),
    "ended": partial(_wait, deferrable=False, placed_before=True),
    "ended, deferrable": partial(_wait, deferrable=True, placed_before=True),
    "deadline": partial(_pass_the_deadline, deferrable=False),
    "deadline, triggerer": partial(_pass_the_deadline, deferrable=True),
    "redial after a call": _redial_after_a_call,
    "redial, the reply was lost": partial(_redial_after_a_loss, kind="drop_reply"),
    "redial, the request was lost": partial(_redial_after_a_loss, kind="reset"),
    "adopt": _adopt,
}
#: Those that send from an event loop, where the transport can make a difference.
ON_A_LOOP = [SCENES[name] for name in ("triggerer", "ended, deferrable", "deadline, triggerer")]


# --- what is compared ------------------------------------------------------------------------


def _run(stage: Stage, operator: RevoxCreateCallOperator) -> tuple[Any, BaseException | None]:
    try:
        return stage.task.run(operator), None
    except BaseException as error:
        return None, error


def _check_orders(stage: Stage, orders: int, dials: int) -> None:
    stage.simulator.advance(A_DAY)
    stats = stage.simulator.stats()
    assert stats["orders_per_number"].get(stage.number, 0) == stats["orders_created"] == orders
    assert stats["dials"].get(stage.number, 0) == dials


def _check_record(stage: Stage, state: str | None, earlier: tuple[str, ...]) -> None:
    record = stage.task.record
    if state is None:
        assert record is None
        return
    assert (record["state"], tuple(entry["state"] for entry in record["earlier"])) == (state, earlier)
    # Whatever Revox took, the record names it in its place; the newest is this task's call.
    known = record.get("call_id")
    assert (known is not None) == (state == "placed")
    assert known is None or known == stage.simulator.orders()[-1]["id"]


def _check_result(stage: Stage, operator: RevoxCreateCallOperator, result: Any) -> None:
    (*_, order) = stage.simulator.orders()
    assert stage.task.xcoms["call_id"] == order["id"]
    if not operator.wait_for_completion:
        assert result == order["id"]
        return
    assert stage.task.xcoms["call"]["id"] == order["id"]
    assert result == order["last_call_attempt"]["structured_output"]


def _check_words(stage: Stage, told: BaseException, end: End, fault: Fault) -> None:
    record, orders = stage.task.record or {}, stage.simulator.orders()
    known = {"nonce": record.get("nonce"), "call_id": orders[-1]["id"] if orders else None, "says": fault.says}
    for part in end.words:
        assert part.format(**known) in str(told)
    for part in end.never:
        assert part not in str(told)


def _check_secrets(stage: Stage, told: BaseException | None, log: str) -> None:
    shown = "".join(traceback.format_exception(told)) if told else ""
    for place in (shown, log, str(stage.task.store.values)):
        assert stage.number.strip("+") not in place
        assert API_KEY not in place


def _play(stage: Stage, operator: RevoxCreateCallOperator, end: End, fault: Fault, log: Callable[[], str]) -> None:
    """Play one try with what was armed and one more without, and compare both with the table."""
    result, told = _run(stage, operator)
    error = fault.error if end.error is ItsOwn else end.error
    assert type(told) is (type(None) if error is None else error), told
    _check_orders(stage, end.orders, end.orders if end.dials is None else end.dials)
    stats = stage.simulator.stats()
    assert (stats["posts_received"], stats["cancels"]) == (end.posts, end.cancels)
    _check_record(stage, end.state, end.earlier)
    assert set(stage.task.xcoms) == set(end.xcoms.split())
    if told is None:
        _check_result(stage, operator, result)
    else:
        assert isinstance(told, AirflowFailException) is (type(told) in ENDS_FOR_GOOD)
        _check_words(stage, told, end, fault)
    known = (stage.task.record or {}).get("call_id")
    _check_secrets(stage, told, log())

    _let_go(stage.simulator)
    stage.task.store.before_set = None
    result, told = _run(stage, operator := _again(stage, operator))
    assert type(told) is (type(None) if end.then.error is None else end.then.error), told
    _check_orders(stage, end.then.orders, 0 if stage.number == NEVER_DIALLED else end.then.orders)
    _check_record(stage, end.then.state, end.then.earlier)
    if told is None:
        _check_result(stage, operator, result)
    if known and end.then.orders == end.orders:
        assert stage.task.record["call_id"] == known
    _check_secrets(stage, told, log())


def _let_go(simulator: Simulator) -> None:
    """End the faults; a request that is still held has no client any more, and leaves no order behind."""
    simulator.clear_faults()
    give_up = time.monotonic() + 10
    while simulator.stats()["held"]:
        assert time.monotonic() < give_up
    simulator.release()


def _again(stage: Stage, operator: RevoxCreateCallOperator) -> RevoxCreateCallOperator:
    stage.task.next_try()
    names = ("wait_for_completion", "deferrable", "redial_after", "adopt", "cancel_on_timeout")
    timeout = operator.timeout if operator.cancel_on_timeout else 10
    return stage.operator(timeout=timeout, **{name: getattr(operator, name) for name in names})


# --- the table -------------------------------------------------------------------------------


class Case(NamedTuple):
    point: Point
    scene: str
    fault: Fault
    count: int
    search: bool
    end: End
    transport: str


def _cases() -> Iterator[Any]:
    for name, point in POINTS.items():
        for faults, ends in point.rows.items():
            for column, end in zip(point.columns, ends, strict=True):
                for fault in faults if end else ():
                    for search in column.search:
                        words = f"{name}-{column.scene}-{fault}-x{column.count}-{'search' if search else 'no search'}"
                        for transport in TRANSPORTS if SCENES[column.scene] in ON_A_LOOP else TRANSPORTS[:1]:
                            case = Case(point, column.scene, fault, column.count, search, end, transport)
                            yield pytest.param(case, id=f"{words}-{transport}")


@pytest.mark.parametrize("case", list(_cases()))
def test_every_fault(
    simulators: dict[bool, Simulator], case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    use_transport(monkeypatch, case.transport)
    stage = Stage(simulators[case.search])
    connect(monkeypatch, stage.simulator, **({"timeout": case.fault.timeout} if case.fault.timeout else {}))
    operator = SCENES[case.scene](stage, case.end)
    stage.simulator.add_fault(
        case.point.strikes, case.fault.kind, count=case.count, after=case.point.after, **case.fault.arguments
    )
    fired = stage.simulator.stats()["faults_fired"].get(case.fault.kind, 0)
    _play(stage, operator, case.end, case.fault, lambda: caplog.text)
    assert stage.simulator.stats()["faults_fired"][case.fault.kind] > fired


@pytest.mark.parametrize("scene", WITHOUT_EXTENSIONS)
def test_a_revox_that_can_neither_search_nor_cancel(
    simulators: dict[bool, Simulator], scene: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(simulators[False])
    connect(monkeypatch, stage.simulator)
    end = WITHOUT_EXTENSIONS[scene]
    _play(stage, SCENES[scene](stage, end), end, RESET, lambda: caplog.text)


@pytest.mark.parametrize("name", POINTS)
def test_every_kind_of_fault_is_in_the_table(name: str) -> None:
    point = POINTS[name]
    played = {fault.kind for faults in point.rows for fault in faults}
    assert played | set(point.not_here) == set(get_args(Kind))
    assert not played & set(point.not_here)
    listed = [fault for faults in point.rows for fault in faults]
    assert len(listed) == len({str(fault) for fault in listed})


@pytest.mark.parametrize("search", [True, False], ids=["search", "no search"])
@pytest.mark.parametrize("raised", [Crash, Replaced])
@pytest.mark.parametrize("write", THE_WRITES, ids=lambda write: f"{write.state}-{write.kept}-{write.fault}")
def test_a_write_that_fails(
    simulators: dict[bool, Simulator],
    write: Write,
    raised: type[BaseException],
    search: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    stage = Stage(simulators[search])
    connect(monkeypatch, stage.simulator)
    seen: list[str] = []

    def fail(key: str, value: dict[str, Any]) -> None:
        seen.append(value["state"])
        if seen.count(write.state) == write.which:
            stage.task.store.before_set = None
            if write.kept:
                stage.task.store.set(key, value)
            raise raised

    stage.task.store.before_set = fail
    if write.fault:
        stage.simulator.add_fault("create_call", write.fault.kind, **write.fault.arguments)
    end = write.ends[not search]
    told = RevoxOutcomeUnknownError if write.passed_over and raised is Replaced else raised
    _play(stage, stage.operator(), end, Fault("", told), lambda: caplog.text)


@pytest.mark.parametrize("search", [True, False], ids=["search", "no search"])
def test_another_process_that_was_faster(
    simulators: dict[bool, Simulator], search: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(simulators[search])
    connect(monkeypatch, stage.simulator)
    store = stage.task.store
    reading = store.get

    def overtaken(key: str, default: Any = None) -> Any:
        value = reading(key, default)
        store.get = reading
        TaskRun(store=store).run(stage.operator())
        return value

    store.get = overtaken
    _play(stage, stage.operator(), OVERTAKEN, RESET, lambda: caplog.text)
