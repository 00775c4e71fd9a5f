"""
Scenario 3: what is stopped without anybody's wish to end the call. ``cancel_on_kill`` is on, and cancels nothing.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-id``: `settling.Settling._keep`: the id after the request;
- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``anybody``: `cancelling.ENDED_BY_A_PERSON`: a call is cancelled with a task that a person ended, and with no other;
- ``stood-still``: `cancelling.is_to_be_cancelled`: who stood still may have been ended by Airflow itself;
- ``no-arguments``: `triggers.RevoxCallTrigger.serialize`: whoever takes a trigger over knows its call;
- ``not-again``: `triggers.RevoxCallTrigger.run`: a wait can begin again anywhere, from its arguments alone.
"""

from __future__ import annotations

import signal

import pytest
from demo_processes import send_signal

from tests.system.acting import (
    GOES_ON_WITH,
    LONG,
    deferred,
    finish_off,
    placing,
    wait_until_watched,
    waiting_on_worker,
)
from tests.system.books import Books
from tests.system.deployment import Deployment
from tests.system.people import Person

pytestmark = [pytest.mark.timeout(500), pytest.mark.destructive]

LEFT_ALONE = "is left alone, because its task is running"


def terminate(pid: int) -> None:
    send_signal([pid], signal.SIGTERM)


def check_answered(airflow: Deployment, people: list[Person]) -> list[Books]:
    """Let all calls come to their end: each goes on, and its answer arrives."""
    for person in people:
        (order,) = person.orders
        assert order["status"] not in ("completed", "cancelled"), order
    airflow.still.advance(LONG)
    for person in people:
        person.wait_for_end()
    found = [Books.of(person) for person in people]
    for books in found:
        books.check_answered()
        assert "is cancelled" not in books.logs, books
    return found


def test_a_terminated_task_waits_on(airflow: Deployment) -> None:
    by_task, by_supervisor, in_flight = waiting_on_worker(airflow), waiting_on_worker(airflow), placing(airflow)
    terminate(by_task.wait_until_it_runs()[0])
    terminate(by_supervisor.wait_until_it_runs()[1])
    terminate(in_flight.wait_until_it_runs()[0])
    airflow.still.release(in_flight.number)
    for person in (by_task, by_supervisor):
        person.until(lambda logs=person.logs: LEFT_ALONE in logs(), "the decision about the call")
    in_flight.wait_for("deferred")
    # The third is deferred in between, and Airflow 3.3 loses a try now and then when such a task resumes.
    for books in check_answered(airflow, [by_task, by_supervisor, in_flight])[:2]:
        assert books.tries == 1, books


def test_a_worker_that_stood_still_until_airflow_failed_its_task_leaves_the_call_alone(airflow: Deployment) -> None:
    """There is no try left, so the task *is* failed; but no person wished that, and a clear goes on with the call."""
    person = waiting_on_worker(airflow, "call_once_on_worker")
    worker = person.wait_until_it_runs()
    send_signal(list(worker), signal.SIGSTOP)
    person.wait_for("failed")
    finish_off(person, *worker)
    assert "is left alone: its task is failed, but stood still" in person.logs(), person.logs()
    person.clear()
    person.until(lambda: GOES_ON_WITH[0] in person.logs(), "the next try")
    check_answered(airflow, [person])


def test_a_shutdown_of_scheduler_and_workers_leaves_calls_alone(airflow: Deployment) -> None:
    waiting = [waiting_on_worker(airflow), waiting_on_worker(airflow)]
    beside = deferred(airflow)
    # As a machine does that is shut down. The LocalExecutor's workers are the scheduler's own.
    for name in airflow.workers or airflow.schedulers:
        airflow.machine.signal(name, signal.SIGTERM)
    for person in waiting:
        person.until(lambda logs=person.logs: LEFT_ALONE in logs(), "the decision about the call")
    # The workers would wait for their tasks, for which no deployment has the patience.
    for name in (*airflow.schedulers, *airflow.workers):
        airflow.machine.kill(name)
    airflow.heal()
    for person in waiting:
        person.until(lambda logs=person.logs: GOES_ON_WITH[0] in logs(), "the next try")
    for books in check_answered(airflow, [*waiting, beside])[:2]:
        assert books.tries > 1, books


def test_triggerers_that_are_restarted_or_die_leave_calls_alone(airflow: Deployment) -> None:
    people = [deferred(airflow) for _ in range(3)]
    first, second = airflow.triggerers
    for name in (first, second):
        airflow.machine.end(name)
    for name in (first, second):
        airflow.machine.start_again(name)
    wait_until_watched(people)
    # All are at the second afterwards, and then at the first: each changes hands at least once.
    airflow.machine.kill(first)
    wait_until_watched(people)
    airflow.machine.start_again(first)
    airflow.machine.kill(second)
    wait_until_watched(people)
    airflow.heal()
    check_answered(airflow, people)
