"""
Scenario 6: Airflow without a task state store (3.1, 3.2). What it promises there, no more and no less.

The first try dials. A later try, or a cleared run, dials nobody: it adopts the call that a search finds, and fails where
there is none or Revox cannot search; only ``redial_if_absent`` dials again, after two complete searches. Run with a Python
that has such an Airflow.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-store``: `placing.Placing._may_have_been_dialled`, where no record is kept;
- ``no-store-no-doubt``: `placing.Placing._dial_unless_dialled`: nor does a search that finds nothing;
- ``no-redial-without-store``: `placing.Placing._dial_unless_dialled`: but what two searches miss may be dialled.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.acting import HAS_STORE, call_unhurried
from tests.system.books import Books
from tests.system.deployment import Deployment, kill, new_number
from tests.system.people import Person
from tests.system.together import Together

pytestmark = pytest.mark.timeout(500)

#: What happens → what becomes of it with search, and without.
OUTCOMES = {
    "nothing": ("answered", "answered"),
    "killed_in_flight_taken": ("answered", "lost"),
    "killed_in_flight_not_taken": ("not_dialled", "not_dialled"),
    "killed_while_deferring": ("answered", "lost"),
    "killed_while_resuming": ("answered", "lost"),
    "cleared": ("answered", "lost"),
}
CASES = [(what, revox) for what in OUTCOMES for revox in ("search", "plain")]
#: Both searches of `redial_if_absent` lie beyond the moment at which a request can still be on its way.
UNTIL_SURE_SECONDS = 400


def play(airflow: Deployment, what: str, revox_name: str, dag_id: str = "call") -> Books:
    revox = getattr(airflow, revox_name)
    person: Person
    if what.startswith("killed_in_flight"):
        number = new_number()
        held = revox.fault("create_call", "hold", taken=what == "killed_in_flight_taken", phone_number=number)
        person = airflow.call(revox, dag_id=dag_id, number=number)
        person.until(lambda: revox.has_struck(held), "the request")
        kill(person.wait_until_it_runs()[0])
    elif what == "killed_while_deferring":
        person = airflow.call(revox, stop_at="deferring")
        kill(person.wait_until_reached()[0])
    else:
        # A try that Airflow itself takes for failed is one more try, of which nothing is known here either.
        person = call_unhurried(airflow, revox, stop_at="resuming" if what == "killed_while_resuming" else None)
        if what == "killed_while_resuming":
            kill(person.wait_until_reached()[0])
    person.wait_for_end(UNTIL_SURE_SECONDS)
    if what == "cleared":
        Books.of(person).check_answered()
        person.clear()
        person.wait_for_end()
    return Books.of(person)


@pytest.fixture(scope="module")
def played(airflow: Deployment) -> Iterator[Together]:
    together = Together(at_once=8)
    together.begin("redial", play, airflow, "killed_in_flight_not_taken", "search", "call_redial")
    for what, revox in CASES:
        together.begin((what, revox), play, airflow, what, revox)
    yield together
    together.close()


def test_this_airflow_has_no_store(airflow: Deployment) -> None:
    assert not HAS_STORE, "to be run with Airflow 3.1 or 3.2"


@pytest.mark.parametrize(("what", "revox"), CASES)
def test_nobody_is_dialled_twice(airflow: Deployment, played: Together, what: str, revox: str) -> None:
    books = played[what, revox]
    outcome = OUTCOMES[what][revox == "plain"]
    assert books.record is None, books
    if outcome == "answered":
        books.check_answered()
    else:
        books.check_nobody_can_tell()
        assert len(books.orders) == (outcome == "lost"), books
    assert (books.tries > 1) == (what != "nothing"), books


def test_redial_if_absent_dials_the_person_who_certainly_was_not_called(airflow: Deployment, played: Together) -> None:
    played["redial"].check_answered()
