"""
Scenario 2, the workers: one is stopped before its request, taken for dead, replaced and then goes on; or is lost altogether.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for;
- ``unwritten``: `placing.Placing._dial`: no request without its intent;
- ``late``: `placing.Placing._dial`: no request on an intent that is out of date;
- ``early``: `placing.Placing._find_when_quiet`: the pause until no lost request can be on its way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from demo_processes import send_signal

from tests.system.acting import finish_off
from tests.system.books import Books
from tests.system.deployment import Deployment, kill, new_number

pytestmark = pytest.mark.timeout(400)


def stopped(airflow: Deployment, point: str, revox: str) -> Books:
    """Stop a worker until another one has done with its task."""
    person = airflow.call(getattr(airflow, revox), stop_at=point)
    worker = person.wait_until_reached()
    send_signal(list(worker), signal.SIGSTOP)
    person.wait_for_end()
    finish_off(person, *worker)
    return Books.of(person)


def slept_on(airflow: Deployment, *, late: bool) -> Books:
    """Stop a worker between its intent and its request, until another one has dialled, or just until that one waits."""
    person = airflow.call(airflow.search, dag_id="call_redial", stop_at="after_intent")
    worker = person.wait_until_reached()
    send_signal(list(worker), signal.SIGSTOP)
    if late:
        airflow.until(lambda: person.orders, f"{person}: the call by its successor", 250)
    else:
        airflow.until(lambda: "to be sure whether" in person.logs(), f"{person}: its successor")
    finish_off(person, *worker)
    person.wait_for_end(250)
    return Books.of(person)


def lost(airflow: Deployment, *, whole: bool) -> Books:
    """Kill a worker with its task, or leave the task alone in the world, while its request is under way."""
    number = new_number()
    held = airflow.search.fault("create_call", "hold", taken=whole, phone_number=number)
    person = airflow.call(airflow.search, number=number)
    airflow.until(lambda: airflow.search.has_struck(held), f"{person}: the request")
    task, supervisor = person.wait_until_it_runs()
    kill(*((supervisor, task) if whole else (supervisor,)))
    if not whole:
        airflow.search.release(number)
    person.wait_for_end()
    return Books.of(person)


SCENARIOS = {
    "late": partial(slept_on, late=True),
    "early": partial(slept_on, late=False),
    **{
        (point, revox): partial(stopped, point=point, revox=revox)
        for point in ("before_intent", "after_intent")
        for revox in ("search", "plain")
    },
    "lost": partial(lost, whole=True),
    "alone": partial(lost, whole=False),
}


@pytest.mark.parametrize("revox", ["search", "plain"])
def test_a_worker_replaced_before_its_intent_dials_nobody(outcome: Callable[[Any], Books], revox: str) -> None:
    outcome(("before_intent", revox)).check_answered()


@pytest.mark.parametrize("revox", ["search", "plain"])
def test_a_worker_replaced_after_its_intent_leaves_an_unknown(outcome: Callable[[Any], Books], revox: str) -> None:
    # Within a minute of its intent the worker that wakes up makes its request after all: what nobody knows is so.
    outcome(("after_intent", revox)).check_unknown(orders=None)


@pytest.mark.parametrize("case", ["lost", "alone"])
def test_a_worker_that_is_lost_with_its_request_has_its_call_adopted(
    outcome: Callable[[Any], Books], case: str
) -> None:
    outcome(case).check_answered()


@pytest.mark.parametrize("case", ["early", "late"])
def test_a_worker_that_wakes_up_does_not_dial_after_its_successor(outcome: Callable[[Any], Books], case: str) -> None:
    outcome(case).check_answered()
