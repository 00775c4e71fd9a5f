"""
Scenario 1: the task process is killed (SIGKILL) at every point of a call's life.

Guarding lines, each of which turns tests here red when it is taken out:

- ``placing.Placing._dial``: ``before_try=write_intent`` (the intent before the request) and `_keep` (the id after it);
- ``placing.Placing.once``: ``if newest.call_id: return Placed(…)`` (a recorded call is the end of it) and the
  `_resolve` of an intent without id;
- ``operators.RevoxCreateCallOperator.execute_complete``: it goes on with the recorded call and dials nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.books import Books
from tests.system.deployment import Deployment, Person
from tests.system.machine import kill
from tests.system.together import Together

#: Point → what becomes of it with search, and without.
OUTCOMES = {
    "before_intent": ("answered", "answered"),
    "after_intent": ("unknown", "unknown"),
    "in_flight_not_taken": ("unknown", "unknown"),
    "in_flight_taken": ("answered", "unknown"),
    "before_record": ("answered", "unknown"),
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
    elif point == "reading_the_end":
        person = airflow.call(revox, dag_id=dag_id, stop_at="resuming")
        person.wait_until_reached()
        held = revox.fault("get_call", "hold", phone_number=person.number)
        person.let_go()
        airflow.until(lambda: revox.has_struck(held), "the last look")
        kill(person.wait_until_reached()[0])
    else:
        person = airflow.call(revox, dag_id=dag_id, stop_at=point)
        kill(person.wait_until_reached()[0])
    person.wait_for_end()
    return Books.of(person)


def in_flight(airflow: Deployment, revox_name: str, dag_id: str, *, taken: bool) -> Person:
    from tests.system.deployment import new_number

    revox, number = getattr(airflow, revox_name), new_number()
    held = revox.fault("create_call", "hold", taken=taken, phone_number=number)
    person = airflow.call(revox, dag_id=dag_id, number=number)
    airflow.until(lambda: revox.has_struck(held), f"{person}: the request")
    kill(person.wait_until_it_runs()[0])
    return person


@pytest.fixture(scope="module")
def played(airflow: Deployment) -> Iterator[Together]:
    together = Together(at_once=10)
    together.begin("redial", play, airflow, "after_intent", "search", "call_redial")
    for point, revox in CASES:
        together.begin((point, revox), play, airflow, point, revox)
    yield together
    together.close()


@pytest.mark.parametrize(("point", "revox"), CASES)
def test_a_killed_task_dials_nobody_twice(airflow: Deployment, played: Together, point: str, revox: str) -> None:
    books = played[point, revox]
    if OUTCOMES[point][revox == "plain"] == "answered":
        books.check_answered()
    else:
        books.check_unknown()
    assert books.tries > 1 or point == "in_flight", books


def test_redial_if_absent_dials_the_person_who_certainly_was_not_called(airflow: Deployment, played: Together) -> None:
    played["redial"].check_answered()
