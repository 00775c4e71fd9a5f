"""
Scenario 3: what a person settles over Airflow's REST API (``revox_settle``), and what a deleted run forgets.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``too-soon``: `settling.Settling._is_found_after_all`: no call while a lost request can still arrive;
- ``no-end``: `placing.Placing.once`: a recorded call is the end of it;
- ``any-word``: `settling.Settling._heed_words`, `_allows_one_more`: a word means the call that it names;
- ``no-word``: `settling.Settling._heed_words`: a word is heard.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from demo_processes import send_signal

from airflow_provider_revox.settling import QUIET_SECONDS
from tests.system.acting import ERRORED, deferred, finish_off, succeeded
from tests.system.books import Books
from tests.system.deployment import Deployment, kill, new_number
from tests.system.people import Person
from tests.system.revox import REVOX_TIMEOUT
from tests.system.together import Together

pytestmark = [pytest.mark.timeout(500), pytest.mark.destructive]


@dataclass
class Played:
    """What the books said after each clear."""

    after: list[Books] = field(default_factory=list)

    def clear(self, person: Person) -> None:
        person.clear()
        person.wait_for_end()
        self.after.append(Books.of(person))


def redial_after_an_answer(airflow: Deployment) -> Played:
    played, person = Played(), succeeded(airflow)
    person.settle(redial_after=person.orders[0]["id"])
    played.clear(person)
    played.clear(person)
    return played


def redial_after_a_failure(airflow: Deployment) -> Played:
    played, person = Played(), airflow.call(airflow.plain, number=new_number(ERRORED))
    person.wait_for_end()
    person.settle(redial_after=person.orders[0]["id"])
    played.clear(person)
    played.clear(person)
    return played


def redial_while_the_call_goes_on(airflow: Deployment) -> Played:
    played, person = Played(), deferred(airflow)
    person.settle(redial_after=person.orders[0]["id"])
    played.clear(person)
    return played


def adopt(airflow: Deployment) -> Played:
    played, number = Played(), new_number()
    held = airflow.plain.fault("create_call", "hold", taken=True, phone_number=number)
    person = airflow.call(airflow.plain, number=number)
    person.until(lambda: airflow.plain.has_struck(held), "the request")
    kill(person.wait_until_it_runs()[0])
    person.wait_for_end()
    played.after.append(Books.of(person))
    person.settle(adopt=person.orders[0]["id"])
    played.clear(person)
    return played


def redial_what_was_never_sent(airflow: Deployment) -> Played:
    """A person, who sees no call, allows another: too early at first, for what was asked for may still arrive."""
    played, person = Played(), airflow.call(airflow.plain, stop_at="after_intent")
    kill(person.wait_until_reached()[0])
    person.wait_for_end()
    played.after.append(Books.of(person))
    assert person.record is not None
    person.settle(redial_after=person.record["nonce"])
    played.clear(person)
    quiet_at = datetime.fromisoformat(person.record["post_before"]) + timedelta(seconds=REVOX_TIMEOUT + QUIET_SECONDS)
    person.until(lambda: datetime.now(timezone.utc) > quiet_at, "no request to be able to arrive any more")
    played.clear(person)
    return played


def redial_what_is_sent_later(airflow: Deployment) -> Played:
    """
    A worker stands still before its request; a person, who sees no call, allows another; then the worker goes on.

    If a busy machine wakes it later than a minute after its intent, it makes no request any more. Such a person is passed over.
    """
    for _ in range(5):
        played, person = Played(), airflow.call(airflow.search, stop_at="after_intent")
        worker = person.wait_until_reached()
        send_signal(list(worker), signal.SIGSTOP)
        person.wait_for_end()
        played.after.append(Books.of(person))
        assert person.record is not None
        person.settle(redial_after=person.record["nonce"])
        played.clear(person)
        finish_off(person, *worker)
        if person.orders:
            played.clear(person)
            return played
    raise AssertionError("no worker went on within its minute")


def delete_and_begin_again(airflow: Deployment) -> Played:
    played, person = Played(), succeeded(airflow)
    person.run.delete()
    person.wait_for(None)
    person.run.begin_again(number=person.number, conn_id="revox_search")
    person.wait_for_end()
    played.after.append(Books.of(person))
    return played


PLAYS: tuple[Callable[[Deployment], Played], ...] = (
    redial_after_an_answer,
    redial_after_a_failure,
    redial_while_the_call_goes_on,
    adopt,
    redial_what_was_never_sent,
    redial_what_is_sent_later,
    delete_and_begin_again,
)


@pytest.fixture(scope="module")
def played(airflow: Deployment) -> Iterator[Together]:
    together = Together(at_once=len(PLAYS))
    for play in PLAYS:
        together.begin(play, play, airflow)
    yield together
    together.close()


@pytest.mark.parametrize("play", [redial_after_an_answer, redial_after_a_failure])
def test_a_word_allows_exactly_one_more_call(airflow: Deployment, played: Together, play: object) -> None:
    once, twice = played[play].after
    for books in (once, twice):
        assert len(books.orders) == 2, books
        assert books.record is not None
        assert books.record["call_id"] == books.call_id == books.call["id"] == books.orders[1]["id"], books
        assert [entry["call_id"] for entry in books.record["earlier"]] == [books.orders[0]["id"]], books
        assert books.state == ("success" if play is redial_after_an_answer else "failed"), books
        if books.state == "success":
            assert books.answer == books.orders[1]["last_call_attempt"]["structured_output"], books
    assert twice.tries > once.tries, twice


def test_nobody_is_dialled_after_a_call_that_goes_on(airflow: Deployment, played: Together) -> None:
    (books,) = played[redial_while_the_call_goes_on].after
    books.check_once()
    assert books.state == "failed", books
    assert "has not ended" in books.logs, books
    assert books.orders[0]["status"] not in ("completed", "cancelled"), books


def test_an_unknown_call_is_adopted(airflow: Deployment, played: Together) -> None:
    before, after = played[adopt].after
    before.check_unknown(orders=1)
    after.check_answered()


def check_too_early(books: Books) -> None:
    assert (books.state, books.orders) == ("failed", []), books
    assert "can still arrive until" in books.logs, books


def test_what_was_never_sent_is_sent_on_a_persons_word(airflow: Deployment, played: Together) -> None:
    before, too_early, after = played[redial_what_was_never_sent].after
    before.check_unknown(orders=0)
    check_too_early(too_early)
    after.check_answered()


def test_what_is_sent_after_a_persons_word_is_not_sent_again(airflow: Deployment, played: Together) -> None:
    before, too_early, after = played[redial_what_is_sent_later].after
    before.check_unknown(orders=0)
    check_too_early(too_early)
    after.check_answered()
    assert "there is a call for it after all" in after.logs, after


def test_a_deleted_run_forgets_its_call(airflow: Deployment, played: Together) -> None:
    (books,) = played[delete_and_begin_again].after
    # Not a promise, but what docs/reliability.md warns of.
    assert len(books.orders) == 2, books
    assert books.state == "success", books
    assert books.call_id == books.orders[1]["id"], books
