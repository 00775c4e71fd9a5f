"""
Random histories of a mapped task whose list changes: people move to other map indexes, come and go, and the run is cleared.

Each person is ordered to be phoned at most once, whichever index asks. ``REVOX_HISTORIES=2000`` runs more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_provider_revox import settling as settling_module
from airflow_provider_revox.client import ClientSettings, RevoxClient
from airflow_provider_revox.endpoints import read_request
from airflow_provider_revox.exceptions import RevoxError
from airflow_provider_revox.ledger import CallName, Ledger
from airflow_provider_revox.placing import Placing
from airflow_provider_revox.settling import Origin
from airflow_provider_revox.simulator import Simulator
from tests.harness import Replaced, StateStore
from tests.test_histories import POST_FAULTS, SEARCH_FAULTS, Crash, run_histories

PEOPLE = ["+14155550100", "+14155550101", "+14155550102", "+14155550103"]


class Run:
    """One run of a mapped task: the list as it is now, and a store for each map index."""

    def __init__(self, simulator: Simulator, people: list[str]) -> None:
        self.simulator = simulator
        self.client = RevoxClient(
            ClientSettings(
                api_key=simulator.api_key, base_url=simulator.base_url, backoff_seconds=0, tries=3, timeout=5
            )
        )
        self.people = people
        self.stores: dict[int, StateStore] = {}
        self.clears = 0
        self.now = datetime.now(timezone.utc)

    def clear(self, people: list[str]) -> None:
        self.people, self.clears = people, self.clears + 1

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def once(self, index: int, *, on_unknown: str = "fail", crash_at_write: int | None = None) -> str | None:
        """Run one try of one map index; return the call id, None when it ended with an error that tells."""
        number = self.people[index]
        store = self.stores.setdefault(index, StateStore())
        writes = 0

        def crash(key: str, value: Any) -> None:
            nonlocal writes
            writes += 1
            if writes == crash_at_write:
                raise Crash

        store.before_set = crash
        origin = Origin(
            CallName("", "dag", "run", "call", index),
            first_try=False,
            clear_number=self.clears,
            mapped=True,
            since=datetime.now(timezone.utc) - timedelta(hours=1),
        )
        request = read_request({"phone_number": number, "assistant": {"prompt": "Ask."}, "force_now": True})
        try:
            work = Placing(self.client, Ledger(store), request, origin, on_unknown=on_unknown, sleep=self.sleep)
            call_id = work.once().call_id
        except (RevoxError, Crash, Replaced):
            return None
        # The answer that is handed on is this person's.
        (order,) = [order for order in self.simulator.orders() if order["id"] == call_id]
        assert order["to_phone_number"] == number
        return call_id


class MappedHistories(RuleBasedStateMachine):
    """A list of up to four people, in one run."""

    simulators: dict[bool, Simulator]

    @initialize(search=st.sampled_from([True, True, False]), people=st.permutations(PEOPLE), count=st.integers(1, 3))
    def begin(self, search: bool, people: list[str], count: int) -> None:
        simulator = self.simulators[search]
        simulator.reset()
        self.history = Run(simulator, people[:count])
        settling_module.utcnow = lambda: self.history.now

    def teardown(self) -> None:
        if hasattr(self, "history"):
            self.history.client.close()

    @rule(
        which=st.integers(0, 3),
        on_unknown=st.sampled_from(["fail", "fail", "redial_if_absent"]),
        fault=st.none() | st.sampled_from(POST_FAULTS),
        search_fault=st.none() | st.none() | st.sampled_from(SEARCH_FAULTS),
        crash_at_write=st.none() | st.none() | st.integers(1, 3),
    )
    def try_(
        self,
        which: int,
        on_unknown: str,
        fault: tuple[str, dict[str, Any]] | None,
        search_fault: str | None,
        crash_at_write: int | None,
    ) -> None:
        simulator = self.history.simulator
        if fault:
            simulator.add_fault("create_call", fault[0], **fault[1])
        if search_fault:
            simulator.add_fault("search_calls", search_fault, count=20)
        index = which % len(self.history.people)
        self.history.once(index, on_unknown=on_unknown, crash_at_write=crash_at_write)
        simulator.clear_faults()

    @rule(refused=st.sets(st.integers(0, 3)))
    def all_are_tried_and_some_refused(self, refused: set[int]) -> None:
        for index in range(len(self.history.people)):
            if index in refused:
                self.history.simulator.add_fault("create_call", "status", status=401)
            self.history.once(index)
            self.history.simulator.clear_faults()

    @rule(people=st.permutations(PEOPLE), count=st.integers(1, 4))
    def the_list_changes_and_the_run_is_cleared(self, people: list[str], count: int) -> None:
        self.history.clear(people[:count])

    @invariant()
    def nobody_is_ordered_to_be_phoned_twice(self) -> None:
        if hasattr(self, "history"):
            orders = self.history.simulator.stats()["orders_per_number"]
            assert all(count <= 1 for count in orders.values()), orders


@pytest.mark.timeout(3600)
def test_random_histories(simulators: dict[bool, Simulator], monkeypatch: pytest.MonkeyPatch) -> None:
    run_histories(MappedHistories, simulators, monkeypatch)


ALICE, BOB = PEOPLE[0], PEOPLE[1]


@pytest.fixture
def history(simulators: dict[bool, Simulator]) -> Iterator[Run]:
    simulator = simulators[True]
    simulator.reset()
    run = Run(simulator, [ALICE, BOB])
    yield run
    run.client.close()


def test_an_index_that_was_refused_does_not_dial_whom_another_index_has_dialled(history: Run) -> None:
    """Alice was refused, Bob called; then Alice left the list, and Bob came to her index."""
    history.simulator.add_fault("create_call", "status", status=422)
    assert history.once(0) is None
    call_id = history.once(1)
    history.clear([BOB])
    assert history.once(0) == call_id
    assert history.simulator.stats()["orders_per_number"] == {BOB: 1}


def test_nor_does_one_that_was_refused_for_the_same_person_at_another_time(history: Run) -> None:
    """Bob was refused at index 1, called from index 0, and came back to index 1."""
    history.simulator.add_fault("create_call", "status", status=422)
    assert history.once(1) is None
    history.clear([BOB])
    call_id = history.once(0)
    history.clear([ALICE, BOB])
    assert history.once(1) == call_id
    assert history.simulator.stats()["orders_per_number"] == {BOB: 1}


def test_nor_does_one_that_is_sure_that_its_own_request_was_lost(history: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alice's request from index 0 got lost, she was called from index 1, and came back to index 0."""
    monkeypatch.setattr(settling_module, "utcnow", lambda: history.now)
    history.people = [ALICE]
    history.simulator.add_fault("create_call", "reset")
    assert history.once(0) is None
    history.clear([BOB, ALICE])
    call_id = history.once(1)
    history.clear([ALICE])
    assert history.once(0, on_unknown="redial_if_absent") == call_id
    assert history.simulator.stats()["orders_per_number"] == {ALICE: 1}
    record = history.stores[0].get("revox_call")
    assert [entry["state"] for entry in (record, *record["earlier"])] == ["placed", "unknown"]
