"""
Scenario 5: three hundred people, mapped over one operator, while workers and triggerers are killed every few seconds.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-record``: `placing.Placing.once`: the record is heeded at all;
- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for.
"""

from __future__ import annotations

import os

import pytest

from tests.system.deployment import Deployment, new_number
from tests.system.people import Run
from tests.system.storm import Storm

PEOPLE = int(os.environ.get("REVOX_SYSTEM_PEOPLE", "300"))
#: Raised by hand to look for a storm that breaks something; the tests' own is always the same.
SEED = int(os.environ.get("REVOX_SYSTEM_SEED", "7"))
#: Seen here: 3 to 8 minutes.
WITHIN_SECONDS = 1200

pytestmark = [pytest.mark.timeout(WITHIN_SECONDS + 120), pytest.mark.destructive]


def in_states(run: Run, *states: str) -> int:
    return sum(task["state"] in states for task in run.tasks())


def test_three_hundred_people_in_a_storm(airflow: Deployment) -> None:
    numbers = [new_number() for _ in range(PEOPLE)]
    airflow.forget_runs()
    with Storm(airflow, SEED) as storm:
        run = airflow.run("many", numbers=numbers, conn_id="revox_search")
        airflow.until(lambda: in_states(run, "success", "failed") >= PEOPLE * 0.9, "most of them", WITHIN_SECONDS)
        storm.end()
        airflow.until(lambda: in_states(run, "success", "failed") == PEOPLE, "all of them", WITHIN_SECONDS)
    assert len(storm.killed) > 10, storm.killed
    assert {"worker", *airflow.triggerers, *airflow.workers} <= set(storm.killed), storm.killed

    orders = {order["to_phone_number"]: order for order in airflow.search.orders()}
    stats = airflow.search.stats()
    answers = run.xcoms("return_value")
    call_ids = run.xcoms("call_id")
    assert [stats["orders_per_number"].get(number) for number in numbers] == [1] * PEOPLE
    assert [stats["dials"].get(number) for number in numbers] == [1] * PEOPLE
    assert in_states(run, "success") == PEOPLE
    for index, number in enumerate(numbers):
        record = run.state_store("revox_call", index)
        assert record["call_id"] == call_ids[index] == orders[number]["id"]
        assert answers[index] == orders[number]["last_call_attempt"]["structured_output"] is not None
