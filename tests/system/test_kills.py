"""
Scenario 1: the task process is killed (SIGKILL) at every point of a call's life.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-intent``: `placing.Placing._dial`: the intent before the request;
- ``no-id``: `settling.Settling._keep`: the id after the request;
- ``no-end``: `placing.Placing.once`: a recorded call is the end of it;
- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for;
- ``over-careful``: `placing.Placing._may_have_been_dialled`: where a record is kept, none means that nobody was dialled;
- ``no-redial``: `placing.Placing._resolve`: what two searches miss may be dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.system.books import Books
from tests.system.deployment import Deployment, kill, new_number
from tests.system.people import FINAL_STATES, Person

#: Point → what becomes of it with search, and without; of what ends as unknown, how many orders there are.
OUTCOMES: dict[str, tuple[str | int, str | int]] = {
    "before_intent": ("answered", "answered"),
    "after_intent": (0, 0),
    "in_flight_not_taken": (0, 0),
    "in_flight_taken": ("answered", 1),
    "before_record": ("answered", 1),
    "after_record": ("answered", "answered"),
    "deferring": ("answered", "answered"),
    "resuming": ("answered", "answered"),
    "reading_the_end": ("answered", "answered"),
}
CASES = [(point, revox) for point in OUTCOMES for revox in ("search", "plain")]

pytestmark = pytest.mark.timeout(400)


def play(airflow: Deployment, point: str, revox_name: str, dag_id: str = "call") -> Books:
    revox = getattr(airflow, revox_name)
    if point.startswith("in_flight"):
        person = in_flight(airflow, revox_name, dag_id, taken=point == "in_flight_taken")
    elif point in ("resuming", "reading_the_end"):
        person = resuming(airflow, revox_name)
        task, _ = person.wait_until_reached()
        if point == "reading_the_end":
            held = revox.fault("get_call", "hold", phone_number=person.number)
            person.let_go()
            airflow.until(lambda: revox.has_struck(held), "the last look")
        kill(task)
    else:
        person = airflow.call(revox, dag_id=dag_id, stop_at=point)
        kill(person.wait_until_reached()[0])
    person.wait_for_end(250)
    return Books.of(person)


def in_flight(airflow: Deployment, revox_name: str, dag_id: str, *, taken: bool) -> Person:
    revox, number = getattr(airflow, revox_name), new_number()
    held = revox.fault("create_call", "hold", taken=taken, phone_number=number)
    person = airflow.call(revox, dag_id=dag_id, number=number)
    airflow.until(lambda: revox.has_struck(held), f"{person}: the request")
    kill(person.wait_until_it_runs()[0])
    return person


def resuming(airflow: Deployment, revox_name: str) -> Person:
    """
    Return a person whose task stands where it resumes after its wait.

    Airflow 3.3 loses a try now and then when a task resumes within moments of its deferral, as the calls here let it; the next
    try has no wait to resume from. Such a person is passed over.
    """
    for _ in range(10):
        person = airflow.call(getattr(airflow, revox_name), stop_at="resuming")
        airflow.until(lambda: person.has_reached or person.state in FINAL_STATES, f"{person}: its resuming")  # noqa: B023
        if person.has_reached:
            return person
    raise AssertionError("no task resumed in its first try")


#: The longest first.
SCENARIOS = {
    "redial": partial(play, point="after_intent", revox_name="search", dag_id="call_redial"),
    **{(point, revox): partial(play, point=point, revox_name=revox) for point, revox in CASES},
}


@pytest.mark.parametrize(("point", "revox"), CASES)
def test_a_killed_task_dials_nobody_twice(outcome: Callable[[Any], Books], point: str, revox: str) -> None:
    books = outcome((point, revox))
    outcome_of_it = OUTCOMES[point][revox == "plain"]
    if isinstance(outcome_of_it, int):
        books.check_unknown(orders=outcome_of_it)
    else:
        books.check_answered()
    assert books.tries > 1, books


def test_redial_if_absent_dials_the_person_who_certainly_was_not_called(outcome: Callable[[Any], Books]) -> None:
    outcome("redial").check_answered()
