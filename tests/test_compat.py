"""
What released versions have stored is still understood: triggers, records, settlements and deferrals, version by version.

An upgrade finds tasks that wait in the triggerer and records of people who were phoned. A format that changes gets a directory of
its own in `tests/compat`; those that are there stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from packaging.version import Version

from airflow_provider_revox.exceptions import RevoxCallNotVisibleError, RevoxOutcomeUnknownError, RevoxRecordError
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.ledger import CallName, Ledger, State
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from tests.compat import present
from tests.compat.present import ALICE, CALL_ID, COMPAT, EARLIER_CALL_ID, PARTS
from tests.harness import StateStore, TaskRun, needs_state_store

VERSIONS = sorted((path.name for path in COMPAT.iterdir() if (path / "schema.json").exists()), key=Version)
BOB = "+14155550101"
#: A number whose order never ends.
ENDLESS = "+14155550161"
LATER = {"colour": "green", "more": {"of": ["it"]}}


def fixture(version: str, part: str) -> Any:
    return json.loads(Path(COMPAT, version, f"{part}.json").read_text())


def each(part: str, *, only: Callable[[str], bool] = lambda name: True) -> pytest.MarkDecorator:
    """Run a test with each sample of each version."""
    samples = [
        pytest.param(sample, id=f"{version}-{name}")
        for version in VERSIONS
        for name, sample in fixture(version, part).items()
        if only(name)
    ]
    return pytest.mark.parametrize("stored", samples)


def with_ids(stored: Any, call_id: str, earlier: str = EARLIER_CALL_ID) -> Any:
    """Put ids of this test's simulator for those in a sample."""
    return json.loads(json.dumps(stored).replace(CALL_ID, call_id).replace(EARLIER_CALL_ID, earlier))


def place(revox: Simulator, *, number: str = ALICE, name: str | None = None, ended: bool = True) -> str:
    request = {"phone_number": number, "assistant_id": "asst_survey", "force_now": True}
    with RevoxHook() as hook:
        call_id = hook.create_call({**request, "metadata": {"airflow_call_key": name} if name else {}}).id
    if ended:
        revox.advance(86_400)
    return call_id


def operator(**settings: Any) -> RevoxCreateCallOperator:
    given = {"phone_number": ALICE, "assistant_id": "asst_survey", "force_now": True, **settings}
    return RevoxCreateCallOperator(task_id="call", **given)


def task_with(record: Any, word: Any = None) -> TaskRun:
    store = StateStore()
    store.set("revox_call", record)
    if word is not None:
        store.set("revox_settle", word)
    return TaskRun(store=store, try_number=2)


def posts(revox: Simulator) -> int:
    return revox.stats()["posts_received"]


# --- the format ---------------------------------------------------------------------------------


def test_a_format_that_changes_leaves_samples_of_itself() -> None:
    stored = fixture(VERSIONS[-1], "schema")
    now = json.loads(json.dumps(present.schema()))
    assert now == stored, (
        f"The format of what is stored is no longer that of {VERSIONS[-1]}. Tasks that wait, and records of people who were"
        " phoned, outlive an upgrade: keep reading the old format, keep its directory in tests/compat as it is, raise"
        " __version__ if it is a released one, and add samples of the new format: python -m tests.compat.present"
    )


#: Of the samples of each version; what is out in the world does not change any more.
DIGESTS = {"0.1.0": "92115741a892f06c"}


def test_samples_stay_as_they_are() -> None:
    found = {}
    for version in VERSIONS:
        digest = hashlib.sha256()
        for path in sorted((COMPAT / version).glob("*.json")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        found[version] = digest.hexdigest()[:16]
    assert found == DIGESTS


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_are_looked_for_under_the_names_that_were_given_to_them(version: str) -> None:
    """The names stand in Revox, in the metadata of calls that a search is to find."""
    prefix = CallName("", "campaign", "manual__1", "call", -1).instance_prefix
    entries = [
        entry for record in fixture(version, "records").values() for entry in (record, *record.get("earlier", ()))
    ]
    assert {entry["name"] for entry in entries} == {prefix + entry["nonce"] for entry in entries}
    assert CallName("a/b", "50%", "run", "call", 3).instance_prefix == "a%2Fb/50%25/run/call/3/"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_samples_show_all_of_their_format(version: str) -> None:
    form = fixture(version, "schema")
    entries = [
        entry for record in fixture(version, "records").values() for entry in (record, *record.get("earlier", ()))
    ]
    assert {name for entry in entries for name in entry} - {"earlier"} == set(form["entry"])
    assert {entry["state"] for entry in entries} == set(form["states"])
    assert {record["state"] for record in fixture(version, "records").values() if record["earlier"]} == set(
        form["states"]
    )
    for trigger in fixture(version, "triggers").values():
        assert trigger["class"] == form["trigger"]["class"]
        assert set(trigger["kwargs"]) == set(form["trigger"]["kwargs"])
    for name, deferral in form["deferrals"].items():
        stored = fixture(version, "deferrals")[name]
        assert (stored["method"], set(stored["kwargs"])) == (deferral["method"], set(deferral["kwargs"]))
    for event in fixture(version, "deferrals")["events"]:
        assert set(event) == set(form["event"])


def test_samples_are_written_but_never_overwritten(tmp_path: Path) -> None:
    present.write(tmp_path / "new")
    assert {path.stem for path in (tmp_path / "new").iterdir()} == set(PARTS)
    assert json.loads((tmp_path / "new" / "schema.json").read_text()) == fixture(VERSIONS[-1], "schema")
    with pytest.raises(FileExistsError):
        present.write(tmp_path / "new")


# --- triggers -----------------------------------------------------------------------------------


def made_again(stored: dict[str, Any], **more: Any) -> Any:
    module, _, name = stored["class"].rpartition(".")
    return getattr(import_module(module), name)(**stored["kwargs"], **more)


@each("triggers")
@pytest.mark.parametrize("later", [{}, LATER])
def test_a_stored_trigger_is_made_again_and_nothing_is_lost(stored: dict[str, Any], later: dict[str, Any]) -> None:
    """What a later version added is carried along: that version may take the trigger up again."""
    _, kwargs = made_again(stored, **later).serialize()
    assert {**kwargs, **stored["kwargs"], **later} == kwargs


@each("triggers")
@pytest.mark.parametrize("later", [{}, LATER])
async def test_a_stored_trigger_runs(revox: Simulator, stored: dict[str, Any], later: dict[str, Any]) -> None:
    call_id = place(revox)
    trigger = made_again(with_ids(stored, call_id), **later)
    events = [event.payload async for event in trigger.run()]
    assert events == [{"call_id": call_id, "status": "completed", "reason": "ended"}]


# --- records ------------------------------------------------------------------------------------


def with_later_keys(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, **LATER, "earlier": [{**entry, **LATER} for entry in record["earlier"]]}


@each("records")
def test_a_stored_record_is_read_and_nothing_is_lost(stored: dict[str, Any]) -> None:
    for kept in (stored, with_later_keys(stored)):
        record = Ledger(task_with(kept).store).read()
        assert record is not None
        written = json.loads(json.dumps(record.to_json()))
        assert {**written, **stored, "earlier": 0} == {**written, "earlier": 0}
        assert [{**new, **old} for new, old in zip(written["earlier"], stored["earlier"], strict=True)] == written[
            "earlier"
        ]
        assert all(entry.is_for(ALICE) and not entry.is_for(BOB) for entry in record.entries)
        assert all(entry.is_called(entry.nonce) and entry.name.endswith(entry.nonce) for entry in record.entries)


@needs_state_store
@each("records", only=lambda name: name.startswith("placed"))
def test_a_stored_call_is_gone_on_with(revox: Simulator, stored: dict[str, Any]) -> None:
    call_id = place(revox)
    for kept in (stored, with_later_keys(stored)):
        task = task_with(with_ids(kept, call_id))
        assert task.run(operator()) == call_id
        assert task.next_try(cleared=True).run(operator(wait_for_completion=True))["satisfaction"]
    assert posts(revox) == 1


@needs_state_store
@pytest.mark.usefixtures("no_pauses")
@each("records", only=lambda name: name.startswith(("intent", "unknown")))
def test_a_stored_request_of_unknown_outcome_is_looked_for(revox: Simulator, stored: dict[str, Any]) -> None:
    for kept in (stored, with_later_keys(stored)):
        task = task_with(kept)
        with pytest.raises(RevoxOutcomeUnknownError, match=stored["nonce"]):
            task.run(operator())
        assert posts(revox) == 0
    call_id = place(revox, name=stored["name"])
    assert task.next_try().run(operator()) == call_id
    assert (task.record["state"], task.record["nonce"]) == ("placed", stored["nonce"])
    assert len(task.record["earlier"]) == len(stored["earlier"])
    assert posts(revox) == 1


@needs_state_store
@each("records", only=lambda name: name.startswith("refused"))
def test_after_a_stored_refusal_a_later_try_dials_once(revox: Simulator, stored: dict[str, Any]) -> None:
    task = task_with(stored)
    call_id = task.run(operator())
    assert task.next_try().run(operator()) == call_id
    assert posts(revox) == 1
    nonces = [entry["nonce"] for entry in task.record["earlier"]]
    assert nonces == [stored["nonce"], *(entry["nonce"] for entry in stored["earlier"])]


@needs_state_store
@each("records", only=lambda name: name != "refused")
def test_a_stored_record_is_not_taken_for_one_of_another_number(revox: Simulator, stored: dict[str, Any]) -> None:
    with pytest.raises(RevoxRecordError, match="is about"):
        task_with(stored).run(operator(phone_number=BOB))
    assert posts(revox) == 0


# --- what a person settled ----------------------------------------------------------------------


def record_for(version: str, state: State, call_id: str = CALL_ID) -> Any:
    return with_ids(fixture(version, "records")[state.value], call_id)


@needs_state_store
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stored_word_allows_one_more_call(revox: Simulator, version: str) -> None:
    words = fixture(version, "settlements")
    first = place(revox)
    word = with_ids(words["redial_after a call"], first)
    after_a_call = task_with(record_for(version, State.PLACED, first), word)
    second = after_a_call.run(operator())
    assert second != first
    assert after_a_call.next_try().run(operator()) == second
    after_a_loss = task_with(record_for(version, State.UNKNOWN), words["redial_after a nonce"])
    third = after_a_loss.run(operator())
    assert after_a_loss.next_try().run(operator()) == third
    assert posts(revox) == 3
    for task in (after_a_call, after_a_loss):
        assert task.store.get("revox_settle")["used_at"]


@needs_state_store
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["adopt", "adopt, as text"])
def test_a_stored_word_names_the_call(revox: Simulator, version: str, name: str) -> None:
    record = record_for(version, State.UNKNOWN)
    # Under another name than the record's, so that no search finds it.
    call_id = place(revox, name=record["name"] + "x")
    task = task_with(record, with_ids(fixture(version, "settlements")[name], call_id))
    assert task.run(operator()) == call_id
    assert task.store.get("revox_settle")["used_at"]
    assert posts(revox) == 1


@needs_state_store
@each("settlements", only=lambda name: name.endswith("used"))
@pytest.mark.parametrize("later", [{}, LATER])
def test_a_word_that_was_used_says_nothing_more(
    revox: Simulator, stored: dict[str, Any], later: dict[str, Any]
) -> None:
    call_id = place(revox)
    for version in VERSIONS:
        task = task_with(record_for(version, State.PLACED, call_id), with_ids({**stored, **later}, call_id))
        assert task.run(operator()) == call_id
    assert posts(revox) == 1


@each("settlements", only=lambda name: not name.endswith("used"))
def test_a_word_with_more_to_it_than_is_understood_is_refused(stored: Any) -> None:
    """Unlike a record: what a later version added to a person's word may limit it."""
    word = json.loads(stored) if isinstance(stored, str) else stored
    with pytest.raises(RevoxRecordError, match="revox_settle must be"):
        Ledger(task_with(None, {**word, **LATER}).store).settlement()


# --- deferrals ----------------------------------------------------------------------------------


def resumed(task: TaskRun, kind: str, deferral: dict[str, Any], event: Any, **settings: Any) -> Any:
    """Go on after a deferral as Airflow does, with what it stored."""
    deferral = with_ids(deferral, event["call_id"])
    waiting: Any = (
        operator(wait_for_completion=True, **settings)
        if kind == "operator"
        else RevoxCallSensor(task_id="call", call_id=event["call_id"])
    )
    kwargs = {**deferral["kwargs"], "event": event}
    return waiting.resume_execution(deferral["method"], kwargs, task.context)


def deferrals() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("version", "kind", "event"),
        [
            pytest.param(version, kind, event, id=f"{version}-{kind}-{event['reason']}")
            for version in VERSIONS
            for kind in ("operator", "sensor")
            for event in fixture(version, "deferrals")["events"]
        ],
    )


@deferrals()
@pytest.mark.parametrize("store", [pytest.param(True, marks=needs_state_store), False], ids=["store", "no store"])
@pytest.mark.parametrize("later", [{}, LATER])
def test_a_stored_deferral_brings_the_answer_of_a_call_that_ended(
    revox: Simulator, version: str, kind: str, event: Any, store: bool, later: dict[str, Any]
) -> None:
    call_id = place(revox)
    deferral = fixture(version, "deferrals")[kind]
    deferral["kwargs"] |= later
    task = task_with(record_for(version, State.PLACED, call_id)) if store else TaskRun(store=None)
    assert resumed(task, kind, deferral, {**with_ids(event, call_id), **later})["satisfaction"]
    assert task.xcoms["call"]["id"] == call_id
    assert posts(revox) == 1


@deferrals()
def test_a_stored_event_is_believed_as_far_as_it_goes(revox: Simulator, version: str, kind: str, event: Any) -> None:
    """The call has not ended: what the event says of it decides."""
    call_id = place(revox, number=ENDLESS, ended=False)
    deferral = fixture(version, "deferrals")[kind]
    ends = {"ended": TaskDeferred, "deadline": AirflowSensorTimeout, "not_visible": RevoxCallNotVisibleError}
    with pytest.raises(ends[event["reason"]]) as end:
        resumed(TaskRun(store=None), kind, deferral, with_ids(event, call_id), phone_number=ENDLESS)
    if isinstance(end.value, TaskDeferred):
        assert end.value.kwargs == with_ids(deferral["kwargs"], call_id)
    assert posts(revox) == 1
