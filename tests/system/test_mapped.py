"""
Scenario 3: a mapped run that is cleared with another list. Map indexes shift, and nobody is phoned twice for that.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``shifted``: `placing.Placing._may_have_been_dialled`: another map index of a cleared run may have dialled;
- ``any-number``: `placing.Placing.once`: a record is about one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.system.deployment import Deployment, new_number
from tests.system.people import FINAL_STATES, PATIENCE_SECONDS, Run

pytestmark = pytest.mark.timeout(400)


class Cleared(NamedTuple):
    """A mapped run before and after it was cleared with another list: person → orders, and map index → call id and answer."""

    before: dict[int, tuple[Any, Any]]
    after: dict[int, tuple[Any, Any]]
    orders: dict[str, list[dict[str, Any]]]
    states: dict[int, str]
    refusal: str


def results(run: Run) -> dict[int, tuple[Any, Any]]:
    call_ids, answers = run.xcoms("call_id"), run.xcoms("return_value")
    return {index: (call_ids[index], answers[index]) for index in call_ids}


def wait_for_end(run: Run, people: int) -> None:
    def all_have_ended() -> bool:
        states = [task["state"] for task in run.tasks()]
        return len(states) == people and set(states) <= set(FINAL_STATES) and run.state in FINAL_STATES

    run.airflow.until(all_have_ended, f"{run.run_id}: the end of {people} calls", 2 * PATIENCE_SECONDS)


def shifted(airflow: Deployment) -> Cleared:
    """Alice and Bob are called; then Carol comes first, Bob second, Alice third, and all is cleared."""
    numbers = {name: new_number() for name in ("alice", "bob", "carol")}
    run = airflow.run("many", numbers=[numbers["alice"], numbers["bob"]], conn_id="revox_search")
    wait_for_end(run, 2)
    before = results(run)
    changed = "\n".join(numbers[name] for name in ("carol", "bob", "alice"))
    airflow.points.joinpath(f"{run.run_id}.people").write_text(changed)
    run.clear()
    wait_for_end(run, 3)
    orders = {name: airflow.search.orders(number) for name, number in numbers.items()}
    states = {task["map_index"]: task["state"] for task in run.tasks()}
    return Cleared(before, results(run), orders, states, run.logs(map_index=0))


SCENARIOS = {"shifted": shifted}


def test_whoever_stands_at_another_index_is_not_phoned_again(outcome: Callable[[str], Cleared]) -> None:
    cleared = outcome("shifted")
    (alice,), (bob,) = cleared.orders["alice"], cleared.orders["bob"]
    assert [cleared.before[index][0] for index in (0, 1)] == [alice["id"], bob["id"]]
    for index, order in ((1, bob), (2, alice)):
        assert cleared.states[index] == "success", cleared
        answer = order["last_call_attempt"]["structured_output"]
        assert cleared.after[index] == (order["id"], answer)
        assert answer is not None


def test_whoever_stands_at_the_index_of_another_is_not_phoned_unless_a_person_says_so(
    outcome: Callable[[str], Cleared],
) -> None:
    cleared = outcome("shifted")
    assert cleared.states[0] == "failed", cleared
    assert cleared.orders["carol"] == []
    assert "RevoxRecordError" in cleared.refusal
    assert "Nobody was dialled now. If the new number is meant, set redial_after=" in cleared.refusal
