"""
Random histories of one task instance: faults, crashes, retries, clears, settlements, workers that stall and wake up.

Whatever happens, nobody is ordered to be phoned more often than a person settled for, and no order is lost: it is in the
record, or the record says that something is unknown. ``REVOX_HISTORIES=2000`` runs more of them.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from airflow_provider_revox import settling as settling_module
from airflow_provider_revox.client import ClientSettings, RevoxClient
from airflow_provider_revox.endpoints import read_request
from airflow_provider_revox.exceptions import RevoxError, RevoxOutcomeUnknownError, RevoxRecordError
from airflow_provider_revox.ledger import CallName, Ledger, Settlement
from airflow_provider_revox.placing import Placing
from airflow_provider_revox.settling import Origin
from airflow_provider_revox.simulator import Simulator
from tests.harness import Replaced, StateStore

ALICE, BOB = "+14155550100", "+14155550101"

POST_FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("drop_reply", {}),
    ("reset", {}),
    ("bad_gateway_after", {}),
    ("server_error", {}),
    ("unavailable", {}),
    ("truncated_json", {}),
    ("truncated_json", {"lie": True}),
    ("wrong_content_type", {}),
    ("missing_call", {}),
    ("rate_limited", {"retry_after": 0}),
    ("rate_limited", {"retry_after": 3600}),
    ("unauthorized", {}),
    ("status", {"status": 409, "taken": True}),
    ("status", {"status": 422}),
    ("status", {"status": 302, "taken": True, "location": "/x"}),
]
SEARCH_FAULTS = ["incomplete_search", "server_error", "truncated_json", "wrong_content_type", "drop_reply", "not_found"]


class Crash(BaseException):
    """A process that dies."""


class Handle(StateStore):
    """The store as one process sees it: all share the values, but one that was replaced reads nothing and cannot write."""

    def __init__(self, shared: StateStore) -> None:
        super().__init__()
        self.values = shared.values


def run_histories(
    machine: type[RuleBasedStateMachine], simulators: dict[bool, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run random histories of a machine, which sets the clock and finds both simulators in its class."""
    monkeypatch.setattr(settling_module, "utcnow", settling_module.utcnow)
    monkeypatch.setattr(machine, "simulators", simulators, raising=False)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("REVOX_HISTORIES", "60")),
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class Histories(RuleBasedStateMachine):
    """One task instance for Alice in one run; at times somebody changes the number to Bob's."""

    simulators: dict[bool, Simulator]

    @initialize(search=st.booleans(), durable=st.sampled_from(["store", "store", "store", "wiped", "none"]))
    def begin(self, search: bool, durable: str) -> None:
        self.simulator = self.simulators[search]
        self.simulator.reset()
        self.kind = durable
        self.shared = StateStore()
        self.client = RevoxClient(
            ClientSettings(
                api_key=self.simulator.api_key, base_url=self.simulator.base_url, backoff_seconds=0, tries=3, timeout=5
            )
        )
        self.now = datetime.now(timezone.utc)
        self.clears = 0
        self.tries = 0
        self.allowed = {ALICE: 1, BOB: 0}
        settling_module.utcnow = lambda: self.now

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    # --- what a process does ---

    def ledger(self, handle: StateStore) -> Ledger:
        return Ledger(None) if self.kind == "none" else Ledger(handle, wiped_on_success=self.kind == "wiped")

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def once(self, handle: StateStore, number: str, on_unknown: str, word: Settlement | None) -> str | None:
        """Run one try; return the call id, None when it ended with an error that tells."""
        self.tries += 1
        request = read_request({"phone_number": number, "assistant": {"prompt": "Ask."}, "force_now": True})
        origin = Origin(
            CallName("", "dag", "run", "call", 3),
            first_try=self.tries == 1,
            clear_number=self.clears,
            mapped=True,
            since=datetime.now(timezone.utc) - timedelta(hours=1),
        )
        work = Placing(
            self.client,
            self.ledger(handle),
            request,
            origin,
            on_unknown=on_unknown,
            settlement=word,
            sleep=self.sleep,
        )
        try:
            call_id = work.once().call_id
        except RevoxOutcomeUnknownError as error:
            assert "+1415•••010" in str(error)  # noqa: PT017
            return None
        except (RevoxError, Crash, Replaced):
            return None
        assert call_id in {order["id"] for order in self.simulator.orders()}
        return call_id

    def record(self) -> dict[str, Any] | None:
        return self.shared.get("revox_call")

    @rule(
        number=st.sampled_from([ALICE, ALICE, ALICE, ALICE, BOB]),
        on_unknown=st.sampled_from(["fail", "redial_if_absent"]),
        fault=st.none() | st.sampled_from(POST_FAULTS),
        search_fault=st.none() | st.none() | st.sampled_from(SEARCH_FAULTS),
        crash_at_write=st.none() | st.none() | st.integers(1, 4),
        crash_written=st.booleans(),
    )
    def try_(
        self,
        number: str,
        on_unknown: str,
        fault: tuple[str, dict[str, Any]] | None,
        search_fault: str | None,
        crash_at_write: int | None,
        crash_written: bool,
    ) -> None:
        # A number that is changed while nothing was dialled is a new beginning, for one call.
        # Without a store nobody knows that it was changed: each number is then a person of its own.
        if number == BOB and (self.kind == "none" or sum(self.orders().values()) == 0):
            self.allowed[BOB] = max(1, self.allowed[BOB])
        if fault:
            self.simulator.add_fault("create_call", fault[0], **fault[1])
        if search_fault:
            self.simulator.add_fault("search_calls", search_fault, count=20)
        handle = Handle(self.shared)
        writes = 0

        def crash(key: str, value: Any) -> None:
            nonlocal writes
            writes += 1
            if writes == crash_at_write:
                handle.before_set = None
                if crash_written:
                    handle.set(key, value)
                raise Crash

        handle.before_set = crash
        self.once(handle, number, on_unknown, None)
        self.simulator.clear_faults()

    @precondition(lambda self: self.kind != "none")
    @rule(replaced=st.booleans(), fault=st.none() | st.sampled_from(POST_FAULTS))
    def a_worker_stalls_before_its_write_and_another_takes_over(
        self, replaced: bool, fault: tuple[str, dict[str, Any]] | None
    ) -> None:
        stalled, second = Handle(self.shared), Handle(self.shared)
        reading = stalled.get
        reads = 0

        def stalls(key: str, default: Any = None) -> Any:
            nonlocal reads
            value = reading(key, default)
            reads += 1
            if reads == 1:
                # Between its first look at the record and its intent, another process does the whole work.
                if fault:
                    self.simulator.add_fault("create_call", fault[0], **fault[1])
                self.once(second, ALICE, "fail", None)
                self.simulator.clear_faults()
                stalled.replaced = replaced
            return value

        stalled.get = stalls  # type: ignore[method-assign]
        self.once(stalled, ALICE, "fail", None)

    @rule()
    def retry(self) -> None:
        self.once(Handle(self.shared), ALICE, "fail", None)

    @rule()
    def clear(self) -> None:
        self.clears += 1

    @rule(hours=st.integers(1, 48))
    def time_passes(self, hours: int) -> None:
        self.simulator.advance(hours * 3600)
        self.now += timedelta(minutes=5)

    @precondition(lambda self: self.record() is not None and self.kind != "none")
    @rule(stored=st.booleans(), number=st.sampled_from([ALICE, ALICE, BOB]), again=st.integers(0, 2))
    def a_person_allows_one_more(self, stored: bool, number: str, again: int) -> None:
        record = self.record()
        target = record.get("call_id") or record["nonce"]
        self.allowed[number] += 1
        handle = Handle(self.shared)
        if stored:
            self.shared.set("revox_settle", {"redial_after": target})
        for _ in range(1 + again):
            self.once(handle, number, "fail", None if stored else Settlement(redial_after=target))
        self.shared.values.pop("revox_settle", None)

    @precondition(lambda self: bool(self.simulator.orders()))
    @rule(stored=st.booleans(), which=st.integers(0, 5))
    def a_person_adopts(self, stored: bool, which: int) -> None:
        orders = self.simulator.orders()
        call_id = orders[which % len(orders)]["id"]
        if stored and self.kind != "none":
            self.shared.set("revox_settle", {"adopt": call_id})
            self.once(Handle(self.shared), ALICE, "fail", None)
            self.shared.values.pop("revox_settle", None)
        else:
            self.once(Handle(self.shared), ALICE, "fail", Settlement(adopt=call_id))

    # --- what must hold ---

    def orders(self) -> dict[str, int]:
        return self.simulator.stats()["orders_per_number"]

    @invariant()
    def nobody_is_ordered_to_be_phoned_too_often(self) -> None:
        if hasattr(self, "simulator"):
            for number, count in self.orders().items():
                assert count <= self.allowed[number], (number, count, self.allowed)

    @invariant()
    def no_order_is_lost(self) -> None:
        if not hasattr(self, "simulator") or self.kind == "none":
            return
        taken = {order["id"] for order in self.simulator.orders()}
        record = self.record()
        entries = [record, *record["earlier"]] if record else []
        known = {entry.get("call_id") for entry in entries}
        open_ends = [entry for entry in entries if entry["state"] in ("intent", "unknown")]
        assert taken <= known or len(taken - known) <= len(open_ends), (taken - known, record)


@pytest.mark.timeout(3600)
def test_random_histories(simulators: dict[bool, Simulator], monkeypatch: pytest.MonkeyPatch) -> None:
    run_histories(Histories, simulators, monkeypatch)


def test_a_worker_that_stalls_before_its_intent_does_not_dial_after_another(simulators: dict[bool, Simulator]) -> None:
    """Both had read "no record"; the second look, right before the write, stops the first."""
    simulator = simulators[True]
    simulator.reset()
    shared = StateStore()
    client = RevoxClient(ClientSettings(api_key=simulator.api_key, base_url=simulator.base_url))
    request = read_request({"phone_number": ALICE, "assistant": {"prompt": "Ask."}, "force_now": True})
    origin = Origin(CallName("", "dag", "run", "call", -1))
    stalled = Handle(shared)
    reading = stalled.get

    def stalls(key: str, default: Any = None) -> Any:
        value = reading(key, default)
        if key == "revox_call":
            stalled.get = reading  # type: ignore[method-assign]
            Placing(client, Ledger(Handle(shared)), request, origin).once()
        return value

    stalled.get = stalls  # type: ignore[method-assign]
    with pytest.raises(RevoxRecordError, match="Another process"):
        Placing(client, Ledger(stalled), request, origin).once()
    client.close()
    assert simulator.stats()["orders_per_number"] == {ALICE: 1}
