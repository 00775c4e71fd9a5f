"""A person who acts: bring a task to a moment, act, and follow what becomes of its call."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import pytest
from demo_processes import send_signal

from tests.system import actions
from tests.system.actions import CELLS, Outcome
from tests.system.books import HAS_STORE, Books
from tests.system.deployment import Deployment, new_number
from tests.system.people import Person
from tests.system.revox import Revox

ENDED = ("completed", "errored", "cancelled")
#: Errored by Revox without any attempt.
ERRORED = 57
#: Longer than any call takes.
LONG = 3600.0

#: More looks than a trigger has made before the scheduler knows of it; each is held for ten seconds at the most.
HELD_LOOKS = 20

#: What the log says when a task goes on with a call that it, or an earlier try, placed.
GOES_ON_WITH = ("was placed before; going on with it", "under this task's name; adopting it")


@dataclass
class Acted:
    """
    A person's act and what came of it.

    :param then: once the call had ended.
    :param cleared: after the task was cleared once more; None where there is nothing left to clear.
    """

    person: Person
    moment: str
    action: str
    then: Books | None = None
    cleared: Books | None = None

    @property
    def outcome(self) -> Outcome:
        return expected(self.moment, self.action)


def expected(moment: str, action: str) -> Outcome:
    return CELLS[moment, action].on(has_store=HAS_STORE)


# --- bringing a task to a moment ----------------------------------------


def bring(airflow: Deployment, moment: str) -> Person:
    """Return a person whose task stands at a moment."""
    return {
        "queued": _queued,
        "placing": placing,
        "deferred": deferred,
        "resuming": _resuming,
        "waiting": waiting_on_worker,
        "succeeded": succeeded,
        "failed": _failed,
    }[moment](airflow)


def _queued(airflow: Deployment) -> Person:
    """The caller has stopped all workers."""
    person = airflow.call(airflow.search)
    person.wait_for("queued")
    return person


def placing(airflow: Deployment) -> Person:
    """Revox has taken the order and keeps its reply back."""
    number = new_number()
    held = airflow.still.fault("create_call", "hold", taken=True, phone_number=number)
    person = airflow.call(airflow.still, number=number)
    person.until(lambda: airflow.still.has_struck(held), "the request")
    return person


def deferred(airflow: Deployment) -> Person:
    person = airflow.call(airflow.still)
    person.wait_for("deferred")
    # Airflow tells a trigger nothing before it has started.
    person.until(lambda: airflow.still.looks(person.number), "a look from the triggerer")
    return person


def _resuming(airflow: Deployment) -> Person:
    person = call_unhurried(airflow, airflow.search, stop_at="resuming")
    person.wait_until_reached()
    return person


def call_unhurried(airflow: Deployment, revox: Revox, *, stop_at: str | None = None) -> Person:
    """
    Start a run that phones one person, and let its call be seen to end only when the scheduler knows that it is deferred.

    A scheduler that hears of the deferred process's end only when the next one is queued takes that one for failed.
    """
    number = new_number()
    revox.fault("get_call", "hold", count=HELD_LOOKS, phone_number=number)
    person = airflow.call(revox, number=number, stop_at=stop_at)
    person.wait_for("deferred")
    person.until(lambda: _has_heard_of(person), "the scheduler to hear that its process ended")
    airflow.wait_for_the_scheduler()
    revox.clear_faults(number)
    revox.release(number)
    return person


def _has_heard_of(person: Person) -> bool:
    log = person.airflow.machine.log_of("scheduler").read_text(errors="replace")
    heard = (line for line in log.splitlines() if "Received executor event with state success" in line)
    return any(f"run_id='{person.run.run_id}'" in line for line in heard)


def waiting_on_worker(airflow: Deployment, dag_id: str = "call_on_worker") -> Person:
    person = airflow.call(airflow.still, dag_id=dag_id)
    person.until(lambda: airflow.still.looks(person.number), "a look from the worker")
    return person


def succeeded(airflow: Deployment) -> Person:
    person = airflow.call(airflow.search)
    assert person.wait_for_end() == "success"
    person.until(lambda: person.run.state == "success", "the end of the run")
    return person


def _failed(airflow: Deployment) -> Person:
    person = airflow.call(airflow.search, number=new_number(ERRORED))
    assert person.wait_for_end() == "failed"
    person.until(lambda: person.run.state == "failed", "the end of the run")
    return person


@contextmanager
def workers_stopped(airflow: Deployment) -> Iterator[None]:
    """Let no task begin meanwhile. The LocalExecutor starts all its workers with the scheduler, as its children."""
    workers = [child.pid for child in psutil.Process(airflow.machine.main_pid("scheduler")).children()]
    send_signal(workers, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(workers, signal.SIGCONT)


def warm_up(airflow: Deployment) -> None:
    """
    Have each triggerer say once what state a task has.

    At the first question a triggerer of Airflow 3.3 builds an API of its own, on a machine at work for longer than a lease lasts.
    """
    asked: set[int] = set()
    while HAS_STORE and len(asked) < len(airflow.triggerers):
        person = deferred(airflow)
        if (job := person.task["triggerer_job"]) and job["id"] not in asked:
            asked.add(job["id"])
            act(person, "deferred", "mark_success")
            _wait_for_the_answer(person)


def _wait_for_the_answer(person: Person) -> None:
    said = ("is left alone, because", "may not be cancelled: that took", "is cancelled, because")
    # Whether the trigger says the right thing, or anything, is for the tests to find out.
    with suppress(AssertionError):
        person.until(lambda: any(each in person.logs() for each in said), "the trigger's end", 60)


def wait_until_watched(people: list[Person]) -> None:
    """Wait until each call is looked at anew."""
    for person in people:
        seen = person.revox.looks(person.number)
        person.until(lambda who=person, seen=seen: who.revox.looks(who.number) > seen, "a look from a triggerer")


# --- acting ----------------------------------------


def act(person: Person, moment: str, action: str) -> None:
    marked = {"mark_failed": "failed", "mark_success": "success"}.get(action)
    if marked and expected(moment, action).task in (actions.SUCCESS_AS_IT_WAS, actions.FAILED_AS_IT_WAS):
        with pytest.raises(AssertionError, match=f"409 .*already in {marked} state"):
            person.mark(marked)
    elif marked:
        person.mark(marked)
    elif action == "delete":
        if moment not in ("succeeded", "failed"):
            reply = person.airflow._rest.delete(f"/dags/{person.run.dag_id}/dagRuns/{person.run.run_id}")
            assert reply.status_code == 409, f"Airflow deletes a run that is at work: {reply.status_code} {reply.text}"
            person.run.mark("failed")
        person.run.delete()
    else:
        person.clear()
        if action == "clear_twice":
            person.clear()


def act_and_settle(airflow: Deployment, moment: str, action: str) -> Person:
    """Act at a moment, and return once Airflow has done with it all that it does before the call ends."""
    person = bring(airflow, moment)
    process = _process(person)
    act(person, moment, action)
    if process is not None:
        # Gone: what it might still have done to the call is done.
        person.until(lambda: not _lives(process), "the end of the first process")
    settle(person, moment, action)
    return person


def settle(person: Person, moment: str, action: str) -> None:
    """Wait for the sign that nothing more is done to the call until it ends by itself."""
    airflow, outcome = person.airflow, expected(moment, action)
    if outcome.call == actions.CANCELLED:
        person.until(lambda: person.orders[0]["status"] == "cancelled", "the cancelling")
    elif moment == "deferred":
        if HAS_STORE:
            person.until(
                lambda: "is left alone, because" in person.logs() or person.orders[0]["status"] == "cancelled",
                "the trigger's end",
            )
        else:
            # No trigger says that it ends. The triggerer that has begun a later one has ended it.
            deferred(airflow)
    if outcome.task == actions.ANSWERED and moment in ("placing", "deferred", "waiting"):
        person.until(lambda: any(said in person.logs() for said in GOES_ON_WITH), "the next try")


def _process(person: Person) -> psutil.Process | None:
    path = person.airflow.points / f"{person.number}.try1"
    try:
        return psutil.Process(int(path.read_text().split()[0]))
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def finish_off(person: Person, task: int, supervisor: int) -> None:
    """Let a worker that was stopped go on, and wait until its task has ended, whatever it does."""
    process = psutil.Process(task)
    person.let_go()
    send_signal([task, supervisor], signal.SIGCONT)
    person.until(lambda: not _lives(process), "the end of the worker that was replaced")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- what becomes of it ----------------------------------------


def follow(person: Person, moment: str, action: str) -> Acted:
    """Wait for the end of the call and of the task, then clear the task once more: nobody's answer may be lost."""
    acted = Acted(person, moment, action)
    outcome = acted.outcome
    if outcome.call not in (actions.NOT_PLACED, actions.PLACED):
        person.until(lambda: person.orders[0]["status"] in ENDED, "the end of the call")
    if outcome.task != actions.GONE:
        person.wait_for_end()
    acted.then = Books.of(person)
    if outcome.task != actions.GONE:
        person.clear()
        person.wait_for_end()
        acted.cleared = Books.of(person)
    return acted
