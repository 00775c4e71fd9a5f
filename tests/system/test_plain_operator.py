"""
The same faults for the operator that people write without this provider, and for this one: whom does each phone twice?

docs/reliability.md shows the table; `test_the_docs_tell_these_figures` compares.

Guarding lines, each of which turns tests here red when scripts/guards.py takes it out:

- ``no-resolve``: `placing.Placing.once`: an intent without id is searched for;
- ``unclear``: `placing.Placing._dial`: a request without a clear answer is searched for;
- ``no-memory``: `placing.Placing.once`: the record is heeded at all;
- ``no-patience``: `client.is_worth_another_try`, `polling.Watch.failed`: a look that fails is followed by another.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from demo_processes import send_signal

from tests.system.deployment import Deployment, kill, new_number
from tests.system.people import Person

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "reliability.md"

#: What happens → how many calls the plain operator orders; this provider's orders one at the most.
FAULTS = {
    "the task is killed while its request is under way, before Revox takes it": 1,
    "the task is killed while its request is under way, after Revox took it": 2,
    "the task is killed while it waits for the end of the call": 2,
    "its worker is lost while it waits": 2,
    "its worker is stopped while it waits, is replaced, and goes on": 2,
    "Revox takes the order, and the connection closes without a reply": 2,
    "Revox takes the order, and a gateway answers 502": 2,
    "Revox takes the order, and answers after the timeout": 2,
    "Revox takes the order, and its reply is cut off": 2,
    "Revox takes the order, and a captive portal answers with a page": 2,
    "Revox refuses the order with 503": 1,
    "Revox answers 503 to one look at the call": 2,
    "one look at the call meets a reset connection": 2,
    "a person clears the task after its end": 2,
}
KILLED_BEFORE, KILLED_AFTER, KILLED_WAITING, LOST, REPLACED, *_others = FAULTS
DROPPED, GATEWAY, LATE, CUT, PORTAL, REFUSED, LOOK, RESET, CLEARED = _others
#: What Revox may have been asked for, and has no order of, this provider leaves to a person to settle.
SETTLED_BY_A_PERSON = (KILLED_BEFORE, REFUSED)

AT_THE_REQUEST: dict[str, dict[str, Any]] = {
    KILLED_BEFORE: {"kind": "hold"},
    KILLED_AFTER: {"kind": "hold", "taken": True},
    DROPPED: {"kind": "drop_reply"},
    GATEWAY: {"kind": "bad_gateway_after"},
    LATE: {"kind": "slow", "seconds": 12},
    CUT: {"kind": "truncated_json"},
    PORTAL: {"kind": "wrong_content_type"},
    REFUSED: {"kind": "unavailable"},
}
AT_A_LOOK: dict[str, dict[str, Any]] = {
    KILLED_WAITING: {"kind": "hold"},
    LOST: {"kind": "hold"},
    REPLACED: {"kind": "hold"},
    LOOK: {"kind": "unavailable"},
    RESET: {"kind": "reset"},
}

pytestmark = pytest.mark.timeout(500)


def play(airflow: Deployment, fault: str, dag_id: str) -> tuple[int, str]:
    """Let a fault happen to a person's task; return how many calls were ordered, and how the task ended."""
    revox, number = airflow.search, new_number()
    endpoint = "create_call" if fault in AT_THE_REQUEST else "get_call"
    how = AT_THE_REQUEST.get(fault) or AT_A_LOOK.get(fault)
    armed = revox.fault(endpoint, phone_number=number, **how) if how else None
    person = airflow.call(revox, dag_id=dag_id, number=number)
    if how and how["kind"] == "hold":
        airflow.until(lambda: revox.has_struck(armed), f"{person}: the request")
        strike(airflow, person, fault)
    person.wait_for_end(300)
    if fault == CLEARED:
        tries = person.task["try_number"]
        person.clear()
        airflow.until(lambda: person.task["try_number"] > tries, f"{person}: to be cleared")
        person.wait_for_end(300)
    return len(person.orders), str(person.state)


def strike(airflow: Deployment, person: Person, fault: str) -> None:
    """Do to the worker of a task, whose request is held, what the fault says."""
    worker = person.wait_until_it_runs()
    if fault == REPLACED:
        send_signal(list(worker), signal.SIGSTOP)
        airflow.until(lambda: person.task["try_number"] > 1, f"{person}: to be taken for dead")
        person.wait_for_end(300)
        person.revox.release(person.number)
        send_signal(list(worker), signal.SIGCONT)
    else:
        kill(*(worker if fault == LOST else worker[:1]))


#: On the worker, as the plain one waits there.
SCENARIOS = {
    (fault, dag_id): partial(play, fault=fault, dag_id=dag_id)
    for fault in FAULTS
    for dag_id in ("plain", "call_on_worker")
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_plain_operator_has_people_phoned_twice(outcome: Callable[[Any], tuple[int, str]], fault: str) -> None:
    orders, _ = outcome((fault, "plain"))
    assert orders == FAULTS[fault]


@pytest.mark.parametrize("fault", FAULTS)
def test_this_provider_has_nobody_phoned_twice(outcome: Callable[[Any], tuple[int, str]], fault: str) -> None:
    orders, state = outcome((fault, "call_on_worker"))
    assert (orders, state) == ((0, "failed") if fault in SETTLED_BY_A_PERSON else (1, "success"))


def test_the_docs_tell_these_figures() -> None:
    told = DOCS.read_text()
    for fault, orders in FAULTS.items():
        assert f"| {fault} | {orders} | {0 if fault in SETTLED_BY_A_PERSON else 1} |" in told
    twice = sum(orders > 1 for orders in FAULTS.values())
    assert f"Of {len(FAULTS)} people, the plain operator had {twice} phoned twice" in told
