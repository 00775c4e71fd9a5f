"""
Scenario 4: Revox is away, or nobody can tell what an order is about to do, for a while or for ever.

Ten minutes of 503 during a wait, a rotated key, an order that disappears, a status that nobody knows, an order paused for
ever; waited for in the triggerer and on a worker, and across a restart of the triggerers.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``hopeless``: `polling.Watch.failed`, `_may_mend`: trouble and a refused key lead to another look;
- ``missing``: `polling.Watch.failed`: an order that stays away ends the try;
- ``no-deadline``: `polling.Watch._again`: the end at the deadline;
- ``begun-anew``: `watcher.watch_call`: the deadline is a point in time;
- ``old-key``: `watching.Connected.heed`, `waiting.CallWait._look`: the connection is read anew;
- ``new-status``: `models.enums.is_terminal`: a status that nobody knows is not the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.system.books import Books
from tests.system.deployment import Deployment, new_number
from tests.system.people import Person
from tests.system.revox import Revox

#: As the DAGs say: the retries of all, the timeout of `call_briefly…`, `max_poll_interval` of all.
RETRIES = 12
BRIEFLY_SECONDS = int(os.environ.get("REVOX_SYSTEM_BRIEFLY", "60"))
ONE_POLL_SECONDS = 2.0
#: A look at a Revox that answers 503 is five requests, with pauses of 0.5, 1, 2 and 4 s between them and up to 0.5 s more each.
A_LOOK_IN_VAIN_SECONDS = 10.0

#: How it is waited for → the DAG with much time, and the one with little.
WAYS = {"triggerer": ("call", "call_briefly"), "worker": ("call_on_worker", "call_briefly_on_worker")}
#: The last two digits of the number → the status that never changes.
STUCK = {60: "queued_for_calling", 62: "paused", 63: "negotiating"}
ANSWERS_AFTER_A_WHILE = 64

pytestmark = pytest.mark.timeout(500)


class Waited(NamedTuple):
    """What was known when the wait ended, and, where it goes on, in the end."""

    then: Books
    finally_: Books


# --- scenarios -------------------------------------------------------------------------------


def a_while(airflow: Deployment, way: str) -> Books:
    """Revox answers 503 for ten minutes, in which the person is phoned and tells what there is to tell."""
    revox = airflow.still
    person = looked_at(airflow, revox, WAYS[way][0])
    away = revox.fault("get_call", "unavailable", phone_number=person.number, probability=1)
    airflow.until(lambda: revox.struck(away) >= 15, f"{person}: Revox to be away for three looks")
    revox.advance(600)
    revox.clear_faults(person.number)
    return ended(person)


def for_ever(airflow: Deployment, way: str) -> Waited:
    """Revox answers 503 until the deadline; later it is well again, and a person clears the task."""
    revox, number = airflow.still, new_number()
    revox.fault("get_call", "unavailable", phone_number=number, probability=1)
    person = airflow.call(revox, dag_id=WAYS[way][1], number=number)
    return given_up_and_cleared(airflow, person)


def refused_for_ever(airflow: Deployment, way: str) -> Waited:
    """The key is refused from some time in the wait until the deadline; a person mends that too late, and clears the task."""
    person = looked_at(airflow, airflow.still, WAYS[way][1])
    airflow.still.fault("get_call", "status", status=401, phone_number=person.number, probability=1)
    return given_up_and_cleared(airflow, person)


def given_up_and_cleared(airflow: Deployment, person: Person) -> Waited:
    revox = person.revox
    then = ended(person)
    revox.clear_faults(person.number)
    revox.advance(600)
    # What is cleared a moment before Airflow ends its run stays as it is.
    airflow.until(lambda: person.run.json("GET")["state"] == "failed", f"{person}: the run to end")
    person.clear()
    person.wait_for("success")
    return Waited(then, Books.of(person))


def rotated(airflow: Deployment) -> dict[str, Books]:
    """The key is rotated during the wait, and later a person changes the connection, which lies in Airflow's database."""
    with revox_of_its_own(airflow, "revox-rotating") as revox:
        people = {way: looked_at(airflow, revox, dag_id) for way, (dag_id, _) in WAYS.items()}
        revox.rotate_key()
        airflow.until(lambda: all(KEY_REFUSED in person.logs() for person in people.values()), "both to be refused")
        # More than both take on their first day: they are refused again and again, and wait on.
        airflow.until(lambda: revox.stats()["refused_keys"] >= 12, "many looks to be refused")
        airflow.change_password("revox_rotating", "revox", revox.api_key)
        revox.advance(600)
        return {way: ended(person) for way, person in people.items()}


def disappears(airflow: Deployment, way: str) -> Waited:
    """The order is not there (404) for longer than is believed; the next try waits on, and sees it again."""
    revox = airflow.still
    person = looked_at(airflow, revox, WAYS[way][0])
    revox.fault("get_call", "not_found", phone_number=person.number, probability=1)
    airflow.until(lambda: "RevoxCallNotVisibleError" in person.logs(), f"{person}: the try to be given up")
    then = Books.of(person)
    revox.clear_faults(person.number)
    revox.advance(600)
    return Waited(then, ended(person))


def stuck(airflow: Deployment, way: str, digits: int) -> Books:
    return ended(airflow.call(airflow.search, dag_id=WAYS[way][1], number=new_number(digits)))


def after_a_while(airflow: Deployment) -> Books:
    """The order is in a status that nobody knows while somebody looks; later the person answers."""
    with revox_of_its_own(airflow, "revox-negotiating") as revox:
        person = airflow.call(revox, number=new_number(ANSWERS_AFTER_A_WHILE))
        person.until(lambda: person.orders, "the call")
        revox.advance(5)
        person.until(lambda: " is negotiating" in person.logs(), "a look at what nobody knows")
        # One might be that of a worker who takes this for the end.
        seen = revox.looks(person.number)
        person.until(lambda: revox.looks(person.number) >= seen + 3, "more looks")
        revox.advance(600)
        return ended(person)


@contextmanager
def revox_of_its_own(airflow: Deployment, name: str) -> Iterator[Revox]:
    """A Revox in which time stands until this scenario lets it pass, with a connection in Airflow's database."""
    revox = Revox(airflow.machine, name, speed=0.01)
    airflow.add_connection(name.replace("-", "_"), revox.connection())
    yield revox
    revox.close()
    airflow.machine.end(name)


def looked_at(airflow: Deployment, revox: Revox, dag_id: str) -> Person:
    """Have a person phoned, and return when the wait for the end has begun and the order was seen."""
    person = airflow.call(revox, dag_id=dag_id)

    def seen() -> bool:
        return any(revox.stats()["polls"].get(order["id"]) for order in person.orders)

    airflow.until(seen, f"{person}: the first look")
    return person


def ended(person: Person) -> Books:
    person.wait_for_end()
    return Books.of(person)


#: The longest first. On a worker two of the orders that never move are enough: it has little room for those who wait on it.
SCENARIOS: dict[Any, Callable[[Deployment], Any]] = {
    **{("disappears", way): partial(disappears, way=way) for way in WAYS},
    "rotated": rotated,
    **{("for ever", way): partial(for_ever, way=way) for way in WAYS},
    **{("refused for ever", way): partial(refused_for_ever, way=way) for way in WAYS},
    **{("a while", way): partial(a_while, way=way) for way in WAYS},
    **{("stuck", "triggerer", digits): partial(stuck, way="triggerer", digits=digits) for digits in STUCK},
    **{("stuck", "worker", digits): partial(stuck, way="worker", digits=digits) for digits in (62, 63)},
    "after a while": after_a_while,
}

Outcome = Callable[[Any], Any]

# --- what is certain -------------------------------------------------------------------------

KEY_REFUSED = "cannot be seen just now: the connection's key is refused"


def lines(books: Books) -> Iterator[tuple[datetime, str]]:
    """Yield when what was logged by the task and its triggers."""
    for line in books.logs.splitlines():
        try:
            entry = json.loads(line)
            yield datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")), str(entry["event"])
        except (ValueError, KeyError, TypeError):
            continue


def seconds_late(books: Books) -> float:
    """
    Return how long after its deadline a wait ended.

    The deadline is the one that the task names when it begins to wait; the last, if this machine was so busy that Airflow
    took a try for dead and made another. In the triggerer the wait ends when the trigger fires: when a worker is free to take
    that up is Airflow's own matter. On a worker it ends when it is given up.
    """
    logged = sorted(lines(books))
    began, told = [(time, event) for time, event in logged if event.startswith("Waiting for call ")][-1]
    deadline = datetime.fromisoformat(told.split(" until ")[1].split(" at the latest")[0])
    ends = ("Trigger fired event", "is left alone though the deadline of the wait passed")
    ended_at = next(time for time, event in logged if time > began and any(words in event for words in ends))
    return (ended_at - deadline).total_seconds()


def check_given_up(books: Books, words: str, *, within_seconds: float = ONE_POLL_SECONDS) -> None:
    """The wait ended at its deadline, in a failure that Airflow does not retry; the call was left alone."""
    books.check_once()
    assert books.state == "failed", books
    assert "AirflowSensorTimeout" in books.logs, books
    # A busy machine may have cost a try or two.
    assert books.tries <= RETRIES, books
    (order,) = books.orders
    assert f"Call {order['id']} {words}" in books.logs, books
    assert "nobody is dialled by that" in books.logs, books
    assert order["status"] != "cancelled", books
    # The clocks of processes on one machine agree, but what is logged is rounded.
    assert -0.01 <= seconds_late(books) <= within_seconds, (seconds_late(books), books)


def check_told_once(books: Books, words: str) -> None:
    """No process said at every look that it looks in vain."""
    looking = books.tries + sum(" starting" in event for _, event in lines(books))
    assert sum(words in event for _, event in lines(books)) <= looking, books


def stuck_as(digits: int) -> str:
    return f"is {STUCK[digits]} and had not ended {BRIEFLY_SECONDS} s after the wait began. The call itself goes on"


@pytest.mark.parametrize("way", WAYS)
def test_ten_minutes_of_503_are_outlived(outcome: Outcome, way: str) -> None:
    books = outcome(("a while", way))
    books.check_answered()
    check_told_once(books, "cannot be seen just now: ")
    # Not given up and begun anew by a retry.
    assert "RevoxCallNotVisibleError" not in books.logs, books


@pytest.mark.parametrize("way", WAYS)
def test_503_for_ever_ends_at_the_deadline_and_no_answer_is_lost(outcome: Outcome, way: str) -> None:
    waited = outcome(("for ever", way))
    unseen = f"could not be seen {BRIEFLY_SECONDS} s after the wait began"
    # The last look begins at the deadline at the latest. On a worker one more is taken to read the order.
    looks = 2 if way == "worker" else 1
    check_given_up(waited.then, unseen, within_seconds=ONE_POLL_SECONDS + looks * A_LOOK_IN_VAIN_SECONDS)
    assert "The call may have ended; clear the task to see what became of it" in waited.then.logs, waited.then
    assert "answered 503" in waited.then.logs, waited.then
    waited.finally_.check_answered()


@pytest.mark.parametrize("way", WAYS)
def test_a_key_refused_for_ever_ends_at_the_deadline_and_no_answer_is_lost(outcome: Outcome, way: str) -> None:
    waited = outcome(("refused for ever", way))
    check_given_up(waited.then, f"could not be seen {BRIEFLY_SECONDS} s after the wait began")
    assert KEY_REFUSED in waited.then.logs, waited.then
    waited.finally_.check_answered()


@pytest.mark.parametrize("way", WAYS)
def test_a_rotated_key_is_outlived_until_the_connection_is_changed(outcome: Outcome, way: str) -> None:
    books = outcome("rotated")[way]
    books.check_answered()
    check_told_once(books, KEY_REFUSED)
    # Not given up and begun anew by a retry.
    assert "RevoxCallNotVisibleError" not in books.logs, books
    assert "Change the connection: it is read again before every look" in books.logs, books


@pytest.mark.parametrize("way", WAYS)
def test_an_order_that_disappears_is_looked_for_by_the_next_try(outcome: Outcome, way: str) -> None:
    waited = outcome(("disappears", way))
    assert f"The state of call {waited.then.orders[0]['id']} cannot be read: " in waited.then.logs, waited.then
    assert "the next try of this task goes on waiting for it, and dials nobody" in waited.then.logs, waited.then
    waited.finally_.check_answered()
    assert waited.finally_.tries > 1, waited.finally_


@pytest.mark.parametrize(
    ("way", "digits"), [("triggerer", 60), ("triggerer", 62), ("triggerer", 63), ("worker", 62), ("worker", 63)]
)
def test_an_order_that_never_moves_is_given_up_at_the_deadline(outcome: Outcome, way: str, digits: int) -> None:
    check_given_up(outcome(("stuck", way, digits)), stuck_as(digits))


def test_a_status_nobody_knows_is_waited_for(outcome: Outcome) -> None:
    outcome("after a while").check_answered()


# --- a restart of the triggerers, which comes last ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def restarted(airflow: Deployment) -> dict[int, Books]:
    """Orders that never move, waited for by triggerers that are both killed and started again in the middle."""
    people = {
        digits: airflow.call(airflow.search, dag_id="call_briefly", number=new_number(digits)) for digits in STUCK
    }
    airflow.until(
        lambda: all(f" is {STUCK[digits]}" in person.logs() for digits, person in people.items()), "all to be seen"
    )
    for name in airflow.triggerers:
        airflow.machine.kill(name)
    for name in airflow.triggerers:
        airflow.machine.start_again(name)
    return {digits: ended(person) for digits, person in people.items()}


@pytest.mark.destructive
@pytest.mark.parametrize("digits", STUCK)
def test_the_deadline_is_kept_across_a_restart_of_the_triggerers(restarted: dict[int, Books], digits: int) -> None:
    books = restarted[digits]
    check_given_up(books, stuck_as(digits))
    # Two triggerers have looked at it, and each has told what it saw.
    assert sum(f" is {STUCK[digits]}" in event for _, event in lines(books)) >= 2, books
