"""The record: what is stored, and that it comes back."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_revox.exceptions import RevoxRecordError
from airflow_provider_revox.ledger import CallName, Entry, Ledger, Record, Settlement, State, utcnow
from tests.harness import Replaced, StateStore, needs_state_store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
NAME = CallName("eu", "dag", "run", "task", 3)
ALICE, BOB = "+14155550100", "+14155550101"


def intent(number: str = ALICE) -> Entry:
    return Entry.intent(NAME, number, "+1415•••0100", NOW, 0)


@needs_state_store
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
    with pytest.raises(RevoxRecordError, match=r"^Another process .* Nobody was dialled by this one"):
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


# --- what stands in the store of tasks that run today -----------------------------------------

#: A record as version 1 wrote it, and what it says: whom a deployed task has called must not be forgotten by an upgrade.
STORED = {
    "version": 1,
    "state": "placed",
    "nonce": "00112233445566aa",
    "name": "eu/dag/run/task/3/00112233445566aa",
    "number": "+1415•••0101",
    "digest": "a5dec096d783ce125d2dad25712b71c7",
    "post_before": "2026-03-02T12:01:00Z",
    "created_at": "2026-03-02T12:00:00Z",
    "updated_at": "2026-03-02T12:00:05Z",
    "clear_number": 2,
    "call_id": "c1",
    "earlier": [
        {
            "state": state,
            "nonce": "ffeeddccbbaa9988",
            "name": "eu/dag/run/task/3/ffeeddccbbaa9988",
            "number": "+1415•••0100",
            "digest": "6716ff9767b1268235bd8b94ccee816e",
            "post_before": "2026-03-02T11:01:00Z",
            "created_at": "2026-03-02T11:00:00Z",
            "updated_at": "2026-03-02T11:00:00Z",
            "clear_number": 0,
            **reason,
        }
        for state, reason in (("intent", {}), ("refused", {"reason": "429"}), ("unknown", {"reason": "lost"}))
    ],
}


def test_the_form_of_the_stored_record_stays() -> None:
    store = StateStore()
    store.set("revox_call", STORED)
    record = Ledger(store).read()
    assert {"version": 1, **record.to_json()} == STORED
    assert record.newest.is_for(BOB)
    assert [entry.state.name for entry in record.earlier] == ["INTENT", "REFUSED", "UNKNOWN"]
    assert all(entry.is_for(ALICE) for entry in record.earlier)
    assert len(intent().digest) == len(STORED["digest"])


def test_a_record_that_was_never_cleared_may_leave_that_out() -> None:
    stored = {key: value for key, value in STORED.items() if key != "clear_number"}
    assert Record.from_json(stored).newest.clear_number == 0


@pytest.mark.parametrize("value", ["", None, 0, [], {}])
def test_an_empty_value_is_not_taken_for_a_record_that_was_never_written(value: Any) -> None:
    store = StateStore()
    store.set("revox_call", value)
    with pytest.raises(RevoxRecordError):
        Ledger(store).read()


def test_what_cannot_be_read_is_named_but_not_repeated() -> None:
    with pytest.raises(RevoxRecordError) as told:
        Record.from_json({**STORED, "state": "+14155550100"})
    assert "(state store key revox_call) cannot be read (ValidationError), so" in str(told.value)
    assert "14155550100" not in str(told.value)


# --- entries ----------------------------------------------------------------------------------


def test_parts_of_a_name_cannot_run_into_each_other() -> None:
    name = CallName("e/u", "d%2F", "r", "t", -1)
    assert name.task_prefix == "e%2Fu/d%252F/r/t/"
    assert name.instance_prefix == "e%2Fu/d%252F/r/t/-1/"


def test_a_new_entry_has_a_long_nonce_and_knows_how_often_the_run_was_cleared() -> None:
    assert re.fullmatch("[0-9a-f]{16}", intent().nonce)
    assert intent().clear_number == 0
    assert Entry.intent(NAME, ALICE, "+1415•••0100", NOW, 2).clear_number == 2


def test_each_step_tells_its_time_and_its_reason() -> None:
    entry, later = intent(), NOW + timedelta(seconds=7)
    placed = entry.refused("no", NOW).placed("c1", later)
    assert (placed.state, placed.call_id, placed.reason, placed.updated_at) == (State.PLACED, "c1", None, later)
    refused = entry.refused("no", later)
    assert (refused.state, refused.reason, refused.updated_at) == (State.REFUSED, "no", later)
    unknown = entry.unknown("lost", later)
    assert (unknown.state, unknown.reason, unknown.updated_at) == (State.UNKNOWN, "lost", later)
    assert entry.about_to_post(later).updated_at == later
    assert {step.created_at for step in (placed, refused, unknown)} == {NOW}


def test_an_entry_knows_when_its_last_attempt_to_post_began() -> None:
    assert intent().posted_at == NOW
    assert intent().about_to_post(NOW + timedelta(seconds=7)).posted_at == NOW + timedelta(seconds=7)


def test_an_entry_goes_by_its_call_id_and_its_nonce() -> None:
    placed = intent().placed("c1", NOW)
    assert placed.is_called("c1") is True
    assert placed.is_called(placed.nonce) is True
    assert placed.is_called("c2") is False


def test_placed_takes_an_id() -> None:
    with pytest.raises(ValueError, match=r"^placed without call_id$"):
        intent().placed("", NOW)


@pytest.mark.parametrize("nonces", list(itertools.permutations("abc")))
def test_every_replaced_entry_is_kept_whatever_its_nonce(nonces: tuple[str, ...]) -> None:
    store = StateStore()
    entries = [dataclasses.replace(intent(), nonce=nonce) for nonce in nonces]
    for entry in entries:
        ledger = Ledger(store)
        ledger.read()
        ledger.put(entry)
        ledger.put(entry.refused("429", NOW))
    assert [entry.nonce for entry in (ledger.record.newest, *ledger.record.earlier)] == list(reversed(nonces))


def test_a_nonce_is_known_again_after_reading() -> None:
    store, entry = StateStore(), intent()
    Ledger(store).put(entry)
    again = Ledger(store)
    again.read()
    again.put(entry.refused("429", NOW))
    assert again.record == Record(entry.refused("429", NOW))


@pytest.mark.parametrize(
    "value", [NAME, intent(), Record(intent()), Settlement(adopt="c1")], ids=lambda v: type(v).__name__
)
def test_what_is_known_is_replaced_and_never_changed(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "another")


def test_the_present_has_a_zone() -> None:
    before = datetime.now(timezone.utc)
    now = utcnow()
    assert before <= now <= datetime.now(timezone.utc)
    assert now.utcoffset() == timedelta(0)


# --- how it is written ------------------------------------------------------------------------


def test_what_is_written_never_expires_if_the_store_can_do_that() -> None:
    store, forever = StateStore(), object()
    for kept, retention in ((Ledger(store), None), (Ledger(store, forever=forever), forever)):
        kept.put(intent())
        kept.mark_used(Settlement(adopt="c1", stored=True), NOW)
        assert store.retentions == {"revox_call": retention, "revox_settle": retention}


def test_only_before_a_backend_goes_a_guard() -> None:
    plain, backed, entry = StateStore(), StateStore(), intent()
    Ledger(plain).put(entry)
    assert plain.history == [("revox_call", Record(entry).to_json())]
    Ledger(backed, has_backend=True).put(entry)
    assert backed.history == [("revox_guard", entry.nonce), *plain.history]


def test_a_replaced_task_instance_leaves_a_backend_as_it_was() -> None:
    store, written = StateStore(), []

    def kept_before_the_check(key: str, value: Any) -> None:
        written.append(key)

    store.before_set, store.replaced = kept_before_the_check, True
    ledger = Ledger(store, has_backend=True)
    with pytest.raises(Replaced):
        ledger.put(intent())
    assert written == ["revox_guard"]
    assert ledger.record is None


def test_without_a_store_nobody_else_writes() -> None:
    ledger = Ledger(None)
    ledger.put_if_untouched(intent())
    assert ledger.is_untouched()
    ledger.put_if_untouched(intent(BOB))
    assert ledger.record.newest.is_for(BOB)


# --- what a person decided --------------------------------------------------------------------


def test_another_call_is_allowed_once() -> None:
    store = StateStore()
    ledger = Ledger(store)
    store.set("revox_settle", {"redial_after": "c1"})
    word = ledger.settlement()
    assert word == Settlement(redial_after="c1", stored=True)
    ledger.mark_used(word, NOW)
    assert store.get("revox_settle") == {"redial_after": "c1", "used_at": NOW.isoformat()}
    assert ledger.settlement() is None


@pytest.mark.parametrize(
    "value",
    [
        {"redial_after": ""},
        {"adopt": ""},
        {"redial_after": 7},
        {"adopt": None},
        {"redial_after": "c1", "adopt": "c2"},
        {"adopt": "c1", "note": "as agreed"},
        {"redial_after": "c1", "used_at": None},
        {"note": "as agreed"},
        ["adopt"],
        "c1",
        True,
    ],
)
def test_a_word_that_is_not_understood_stops_the_task(value: Any) -> None:
    store = StateStore()
    store.set("revox_settle", value)
    form = 'State store key revox_settle must be {"redial_after": "<call id or nonce>"} or {"adopt": "<call id>"}.'
    with pytest.raises(RevoxRecordError, match="^" + re.escape(f"{form} Nobody was dialled.")):
        Ledger(store).settlement()


def test_the_authors_own_setting_is_not_written_to_the_store() -> None:
    store = StateStore()
    for word in (Settlement(redial_after="c1"), Settlement(adopt="c1")):
        Ledger(store).mark_used(word, NOW)
    assert store.history == []


def test_a_word_names_where_it_came_from() -> None:
    assert Settlement(redial_after="c1").source == "redial_after"
    assert Settlement(adopt="c1").source == "adopt"
    assert Settlement(redial_after="c1", stored=True).source == "revox_settle (redial_after)"
    assert Settlement(redial_after="c1") == Settlement("c1", None, False)
    assert Settlement(adopt="c1") == Settlement(None, "c1", False)
