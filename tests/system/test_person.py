"""
Scenario 3: a person acts on a task, at every moment of its life; the table of docs/reliability.md, cell by cell.

What is marked and leaves a call behind is cleared once more in the end: nobody is dialled again, and no answer is lost.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for;
- ``any-state``: `cancelling.is_to_be_cancelled`: success, and a clear, leave the call alone;
- ``no-cancel``: `triggers.RevoxCallTrigger.on_kill`, `call_task.CallTask.on_kill`: failure takes it along;
- ``no-store``: `placing.Placing._may_have_been_dialled`, where no record is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import actions
from tests.system.acting import (
    HAS_STORE,
    LONG,
    Acted,
    act,
    act_and_settle,
    bring,
    expected,
    follow,
    settle,
    warm_up,
    workers_stopped,
)
from tests.system.actions import CELLS
from tests.system.books import Books
from tests.system.deployment import Deployment
from tests.system.together import Together

#: Of the workers some are kept by tasks that wait on them.
AT_ONCE = 12

pytestmark = [pytest.mark.timeout(500), pytest.mark.destructive]


@pytest.fixture(scope="module")
def played(airflow: Deployment, request: pytest.FixtureRequest) -> Iterator[Together]:
    wanted = {
        (item.callspec.params["moment"], item.callspec.params["action"])
        for item in request.session.items
        if item.path == request.path and isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    acting, following = Together(AT_ONCE), Together(AT_ONCE)
    # Its clock stands, and an order that looks older than its run is nobody's.
    airflow.still.advance(LONG)
    warm_up(airflow)
    with workers_stopped(airflow):
        queued = {action: bring(airflow, moment) for moment, action in wanted if moment == "queued"}
        for action, person in queued.items():
            act(person, "queued", action)
    for cell in wanted:
        if cell[0] != "queued":
            acting.begin(cell, act_and_settle, airflow, *cell)
    acting.wait()
    airflow.still.advance(LONG)

    def play(moment: str, action: str) -> Acted:
        if moment == "queued":
            settle(queued[action], moment, action)
            return follow(queued[action], moment, action)
        return follow(acting[moment, action], moment, action)

    for cell in wanted:
        following.begin(cell, play, *cell)
    yield following
    acting.close()
    following.close()


@pytest.mark.parametrize(("moment", "action"), CELLS)
def test_what_becomes_of_call_and_task(airflow: Deployment, played: Together, moment: str, action: str) -> None:
    acted: Acted = played[moment, action]
    then, outcome = acted.then, expected(moment, action)
    assert then is not None
    then.check_once()
    check_call(then, outcome.call)
    check_task(then, outcome.task)
    if acted.cleared is not None:
        check_cleared(acted, acted.cleared)


def check_call(books: Books, call: str) -> None:
    became = [order["status"] for order in books.orders]
    if call == actions.NOT_PLACED:
        assert became == [], books
    elif call == actions.CANCELLED:
        assert became == ["cancelled"], books
        assert "is cancelled, because its task is failed" in books.logs, books
        assert books.dials == 0, books
    elif call == actions.MAYBE_CANCELLED:
        assert became in (["cancelled"], ["completed"]), books
        why = "its task is failed" if became == ["cancelled"] else "its task is not to be found"
        assert f"because {why}" in books.logs, books
    else:
        assert became == (["errored"] if books.number.endswith("57") else ["completed"]), books
        assert "is cancelled" not in books.logs, books


def check_task(books: Books, task: str) -> None:
    if task == actions.GONE:
        assert (books.state, books.record, books.call_id) == (None, None, None), books
    elif task in (actions.ANSWERED, actions.SUCCESS_AS_IT_WAS):
        books.check_answered()
    elif task == actions.EMPTY:
        assert (books.state, books.answer) == ("success", None), books
    elif task == actions.UNKNOWN:
        books.check_nobody_can_tell()
    else:
        assert books.state == "failed", books
    if task in (actions.FAILED_AGAIN, actions.FAILED_AS_IT_WAS):
        assert "RevoxCallFailedError" in books.logs, books
        assert books.call_id == books.call["id"] == books.orders[0]["id"], books


def check_cleared(acted: Acted, books: Books) -> None:
    """Clearing afterwards goes on with the call that there is, and dials only where certainly nobody was dialled."""
    books.check_once()
    assert acted.then is not None
    if acted.outcome.call == actions.NOT_PLACED:
        if HAS_STORE:
            books.check_answered()
        else:
            books.check_nobody_can_tell()
            assert books.orders == [], books
        return
    assert [order["id"] for order in books.orders] == [order["id"] for order in acted.then.orders], books
    assert books.tries > acted.then.tries, books
    if acted.outcome.call == actions.CANCELLED:
        assert books.state == "failed", books
        assert "RevoxCallCancelledError" in books.logs, books
    elif acted.moment == "failed":
        check_task(books, actions.FAILED_AGAIN)
    else:
        books.check_answered()
