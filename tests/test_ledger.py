"""The record: what is stored, and that it comes back."""

from __future__ import annotations

import inspect
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_revox.exceptions import RevoxRecordError
from airflow_provider_revox.ledger import CallName, Entry, Ledger, Record, Settlement, State
from tests.harness import StateStore

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
NAME = CallName("eu", "dag", "run", "task", 3)
ALICE, BOB = "+14155550100", "+14155550101"


def intent(number: str = ALICE) -> Entry:
    return Entry.intent(NAME, number, "+1415•••0100", NOW, 0)


def test_the_fake_store_has_the_signature_of_the_real_one() -> None:
    from airflow.sdk.execution_time.context import TaskStateStoreAccessor

    for method in ("get", "set"):
        real = inspect.signature(getattr(TaskStateStoreAccessor, method)).parameters
        fake = inspect.signature(getattr(StateStore, method)).parameters
        assert [(p.name, p.kind, p.default) for p in real.values()] == [
            (p.name, p.kind, p.default) for p in fake.values()
        ]


def test_a_record_comes_back_as_it_was_stored() -> None:
    placed = intent().about_to_post(NOW + timedelta(seconds=3)).placed("c1", NOW + timedelta(seconds=5))
    refused = intent().refused("429", NOW)
    record = Record.of(intent(BOB).unknown("lost", NOW), Record.of(refused, Record(placed)))
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_later_versions_may_add_keys() -> None:
    record = Record(intent())
    stored = {**record.to_json(), "colour": "green"}
    assert Record.from_json(stored) == record


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_what_is_no_record_is_said_to_be_none(value: Any) -> None:
    with pytest.raises(RevoxRecordError, match="Nobody was dialled"):
        Record.from_json(value)


@pytest.mark.parametrize("key", ["state", "nonce", "name", "number", "digest", "post_before", "created_at", "earlier"])
def test_a_record_that_lacks_something_is_not_guessed_at(key: str) -> None:
    stored = Record(intent()).to_json()
    del stored[key]
    with pytest.raises(RevoxRecordError):
        Record.from_json(stored)


def test_placed_without_an_id_is_no_record() -> None:
    with pytest.raises(RevoxRecordError):
        Record.from_json({**Record(intent()).to_json(), "state": "placed"})


def test_a_number_is_known_again_but_cannot_be_read() -> None:
    first, second = intent(), intent()
    assert first.is_for(ALICE)
    assert not first.is_for(BOB)
    assert first.nonce != second.nonce
    assert first.digest != second.digest
    assert ALICE.strip("+") not in json.dumps(Record(first).to_json())


def test_the_steps_of_an_entry() -> None:
    entry = intent()
    assert entry.post_before == NOW + timedelta(seconds=60)
    assert entry.name == f"eu/dag/run/task/3/{entry.nonce}"
    later = entry.about_to_post(NOW + timedelta(seconds=30))
    assert later.post_before == NOW + timedelta(seconds=90)
    assert (later.nonce, later.created_at, later.state) == (entry.nonce, NOW, State.INTENT)
    assert entry.unknown("lost", NOW).placed("c1", NOW).reason is None
    assert entry.refused("no", NOW).state is State.REFUSED


def test_nobody_was_dialled_only_if_all_entries_were_refused() -> None:
    refused = intent().refused("no", NOW)
    assert Record(refused, (refused,)).dialled_nobody
    for entry in (intent(), intent().unknown("?", NOW), intent().placed("c1", NOW)):
        assert not Record(refused, (entry,)).dialled_nobody
        assert not Record(entry, (refused,)).dialled_nobody


def test_without_a_store_nothing_is_kept() -> None:
    ledger = Ledger(None)
    ledger.put(intent())
    assert ledger.read() is None
    assert ledger.settlement() is None
    ledger.mark_used(Settlement(adopt="c1", stored=True), NOW)
    assert not ledger.durable
    assert Ledger(StateStore()).durable
    assert not Ledger(StateStore(), wiped_on_success=True).durable


def test_an_entry_takes_the_place_of_the_same_one_and_stands_on_top_of_others() -> None:
    ledger = Ledger(StateStore())
    first, second = intent(), intent(BOB)
    for entry in (first, first.refused("429", NOW), second, second.placed("c1", NOW)):
        ledger.put(entry)
    assert ledger.read() == Record(second.placed("c1", NOW), (first.refused("429", NOW),))
    assert ledger.record == ledger.read()


def test_an_entry_is_not_put_over_what_another_process_wrote() -> None:
    store = StateStore()
    mine, other = Ledger(store), Ledger(store)
    mine.read()
    other.put_if_untouched(intent())
    before = store.get("revox_call")
    assert not mine.is_untouched()
    with pytest.raises(RevoxRecordError, match="Nobody was dialled by this one"):
        mine.put_if_untouched(intent())
    assert store.get("revox_call") == before
    mine.read()
    mine.put_if_untouched(intent())
    assert len(mine.record.earlier) == 1


@pytest.mark.parametrize("value", [{"used_at": "2026-03-02"}, "", None, {}, '{"adopt": "c1", "used_at": "x"}'])
def test_nothing_to_settle(value: Any) -> None:
    store = StateStore()
    store.set("revox_settle", value)
    assert Ledger(store).settlement() is None


def test_a_record_without_zones_is_not_guessed_at() -> None:
    with pytest.raises(RevoxRecordError):
        Record.from_json({**Record(intent()).to_json(), "post_before": "2026-03-02T12:00:00"})


def test_a_settlement_is_used_once() -> None:
    store = StateStore()
    ledger = Ledger(store)
    assert ledger.settlement() is None
    store.set("revox_settle", {"adopt": "c1"})
    assert ledger.settlement() == Settlement(adopt="c1", stored=True)
    assert ledger.settlement().source == "revox_settle (adopt)"
    ledger.mark_used(Settlement(adopt="c1", stored=True), NOW)
    assert store.get("revox_settle") == {"adopt": "c1", "used_at": NOW.isoformat()}
    assert ledger.settlement() is None
