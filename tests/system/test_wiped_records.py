"""
Scenario 3: ``[state_store] clear_on_success``. The record is gone once the task succeeded, and nobody is dialled on that.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``wiped``: `operators._ledger`: a record that is wiped by success is none to rely on;
- ``no-doubt``: `placing.Placing._dial_unless_dialled`: what cannot be told dials nobody.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.acting import GOES_ON_WITH
from tests.system.books import Books
from tests.system.deployment import Deployment, keep_home, kill
from tests.system.together import Together

pytestmark = [pytest.mark.timeout(500), pytest.mark.destructive]


@pytest.fixture(scope="module")
def airflow() -> Iterator[Deployment]:
    """An Airflow that forgets what a task stored once it succeeded."""
    home = Path(tempfile.mkdtemp(prefix="revox-system-"))
    deployment = None
    try:
        deployment = Deployment(home, {"STATE_STORE__CLEAR_ON_SUCCESS": "True"})
        deployment.start()
        yield deployment
    finally:
        if deployment is not None:
            deployment.stop()
        if not keep_home():
            shutil.rmtree(home, ignore_errors=True)


def clear_after_success(airflow: Deployment, revox_name: str) -> tuple[Books, Books]:
    person = airflow.call(getattr(airflow, revox_name))
    person.wait_for_end()
    before = Books.of(person)
    person.clear()
    person.wait_for_end()
    return before, Books.of(person)


def kill_before_the_end(airflow: Deployment, revox_name: str) -> Books:
    person = airflow.call(getattr(airflow, revox_name), stop_at="after_record")
    kill(person.wait_until_reached()[0])
    person.wait_for_end()
    return Books.of(person)


@pytest.fixture(scope="module")
def played(airflow: Deployment) -> Iterator[Together]:
    together = Together(at_once=4)
    for play in (clear_after_success, kill_before_the_end):
        for revox_name in ("search", "plain"):
            together.begin((play, revox_name), play, airflow, revox_name)
    yield together
    together.close()


def test_a_cleared_success_is_found_again(airflow: Deployment, played: Together) -> None:
    before, after = played[clear_after_success, "search"]
    before.check_answered(record=False)
    after.check_answered(record=False)
    assert GOES_ON_WITH[1] in after.logs, after
    assert after.call_id == before.call_id, after


def test_a_cleared_success_that_cannot_be_found_again_dials_nobody(airflow: Deployment, played: Together) -> None:
    before, after = played[clear_after_success, "plain"]
    before.check_answered(record=False)
    after.check_nobody_can_tell()
    assert after.orders == before.orders, after


@pytest.mark.parametrize("revox_name", ["search", "plain"])
def test_until_the_success_the_record_guards_the_call(airflow: Deployment, played: Together, revox_name: str) -> None:
    books = played[kill_before_the_end, revox_name]
    books.check_answered(record=False)
    assert GOES_ON_WITH[0] in books.logs, books
    assert books.tries > 1, books
