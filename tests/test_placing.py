"""Never dial twice: the operator's path from the intent to the call id, against a Revox that fails in every way."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_revox.exceptions import (
    RevoxOutcomeUnknownError,
    RevoxRateLimitError,
    RevoxRecordError,
    RevoxRejectedError,
    RevoxUnreachableError,
)
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.simulator import Simulator
from tests.conftest import connect
from tests.harness import Replaced, TaskRun, needs_state_store

ALICE = "+14155550100"
BOB = "+14155550101"


def operator(**parameters: Any) -> RevoxCreateCallOperator:
    defaults = {"phone_number": ALICE, "assistant": {"prompt": "Ask how it went."}, "force_now": True}
    return RevoxCreateCallOperator(task_id="call", **{**defaults, **parameters})


def orders(simulator: Simulator) -> dict[str, int]:
    return simulator.stats()["orders_per_number"]


def posts(simulator: Simulator) -> int:
    return simulator.stats()["posts_received"]


class Crash(BaseException):
    """A process that dies."""


# --- one call -------------------------------------------------------------------------------


@needs_state_store
def test_a_call_is_placed_recorded_and_named(revox: Simulator) -> None:
    task = TaskRun()
    call_id = task.run(operator(metadata={"lead": 7}))
    assert orders(revox) == {ALICE: 1}
    (order,) = revox.orders()
    assert order["id"] == call_id == task.xcoms["call_id"]
    name = order["metadata"]["airflow_call_key"]
    assert name == f"/campaign/manual__1/call/-1/{task.record['nonce']}"
    assert order["metadata"]["lead"] == "7"
    assert task.record["state"] == "placed"
    assert task.record["call_id"] == call_id


@needs_state_store
def test_the_intent_is_written_before_the_request_leaves(revox: Simulator) -> None:
    task = TaskRun()
    seen_at_intent = []
    task.store.before_set = lambda key, value: seen_at_intent.append((value["state"], posts(revox)))
    task.run(operator())
    assert seen_at_intent == [("intent", 0), ("placed", 1)]


@needs_state_store
def test_the_record_never_expires_and_holds_no_full_number(revox: Simulator) -> None:
    from airflow.sdk import NEVER_EXPIRE

    task = TaskRun()
    task.run(operator())
    assert task.store.retentions["revox_call"] is NEVER_EXPIRE
    assert ALICE.strip("+") not in task.store.values["revox_call"]
    assert task.record["number"] == "+1415•••0100"


def test_the_deployment_and_slashes_go_into_the_name(revox: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, revox, deployment="prod/eu")
    TaskRun(run_id="a/b%c").run(operator())
    (order,) = revox.orders()
    assert order["metadata"]["airflow_call_key"].startswith("prod%2Feu/campaign/a%2Fb%25c/call/-1/")


def test_a_retry_and_a_clear_go_on_with_the_same_call(revox: Simulator) -> None:
    task = TaskRun()
    first = task.run(operator())
    assert task.next_try().run(operator()) == first
    assert task.next_try(cleared=True).run(operator()) == first
    assert task.xcoms["call_id"] == first
    assert orders(revox) == {ALICE: 1}


def test_a_call_that_failed_is_not_placed_again(revox: Simulator) -> None:
    failing = {"phone_number": "+14155550157", "wait_for_completion": True, "poke_interval": 1}
    task = TaskRun()
    for _ in range(3):
        with pytest.raises(Exception, match="could not be carried out"):
            task.run(operator(**failing))
        task.next_try(cleared=True)
    assert orders(revox) == {"+14155550157": 1}


# --- certain refusals -----------------------------------------------------------------------


@needs_state_store
def test_too_many_requests_then_success_is_one_order(revox: Simulator) -> None:
    revox.add_fault("create_call", "rate_limited", count=2, retry_after=0)
    task = TaskRun()
    task.run(operator())
    assert posts(revox) == 3
    assert orders(revox) == {ALICE: 1}
    states = [value["state"] for _, value in task.store.history]
    assert states == ["intent", "intent", "intent", "placed"]
    assert len({value["nonce"] for _, value in task.store.history}) == 1


@needs_state_store
def test_a_refusal_is_kept_and_a_later_try_may_dial(revox: Simulator) -> None:
    revox.add_fault("create_call", "rate_limited", retry_after=3600)
    task = TaskRun()
    with pytest.raises(RevoxRateLimitError):
        task.run(operator())
    assert task.record["state"] == "refused"
    assert orders(revox) == {}
    task.next_try().run(operator())
    assert orders(revox) == {ALICE: 1}
    assert [entry["state"] for entry in task.record["earlier"]] == ["refused"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
def test_a_refusing_status_is_certain(revox: Simulator, status: int) -> None:
    revox.add_fault("create_call", "status", status=status)
    task = TaskRun()
    with pytest.raises(Exception, match=str(status)):
        task.run(operator())
    assert not task.store or task.record["state"] == "refused"
    assert posts(revox) == 1


@needs_state_store
def test_a_refused_number_may_be_corrected(revox: Simulator) -> None:
    revox.add_fault("create_call", "status", status=422)
    task = TaskRun()
    with pytest.raises(RevoxRejectedError):
        task.run(operator(phone_number=BOB))
    task.next_try(cleared=True).run(operator())
    assert orders(revox) == {ALICE: 1}


@needs_state_store
def test_nobody_there_is_certain_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator() as gone:
        connect(monkeypatch, gone)
    task = TaskRun()
    with pytest.raises(RevoxUnreachableError, match="nothing was sent"):
        task.run(operator())
    assert task.record["state"] == "refused"
    assert [value["state"] for _, value in task.store.history].count("intent") > 1


# --- lost answers ---------------------------------------------------------------------------

TAKEN = [
    ("drop_reply", {}),
    ("bad_gateway_after", {}),
    ("truncated_json", {}),
    ("truncated_json", {"lie": True}),
    ("wrong_content_type", {}),
    ("missing_call", {}),
    ("status", {"status": 409, "taken": True}),
    ("status", {"status": 302, "taken": True, "location": "/elsewhere"}),
    ("status", {"status": 408, "taken": True}),
]
NOT_TAKEN = [("reset", {}), ("server_error", {}), ("unavailable", {}), ("status", {"status": 504})]


@pytest.mark.parametrize(("kind", "arguments"), TAKEN)
def test_a_lost_answer_is_found_and_adopted(revox: Simulator, kind: str, arguments: dict[str, Any]) -> None:
    revox.add_fault("create_call", kind, **arguments)
    task = TaskRun()
    call_id = task.run(operator())
    assert posts(revox) == 1
    assert call_id == revox.orders()[0]["id"] == task.xcoms["call_id"]
    assert not task.store or task.record["call_id"] == call_id


@needs_state_store
@pytest.mark.parametrize(("kind", "arguments"), TAKEN + NOT_TAKEN)
def test_without_search_a_lost_answer_ends_the_task_and_says_how_to_settle_it(
    plain_revox: Simulator, kind: str, arguments: dict[str, Any]
) -> None:
    plain_revox.add_fault("create_call", kind, **arguments)
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError) as told:
        task.run(operator())
    words = str(told.value)
    assert task.record["state"] == "unknown"
    for part in ("+1415•••0100", "cannot search", task.record["nonce"], "adopt", "redial_after", "revox_settle"):
        assert part in words
    assert ALICE not in words
    for cleared in (False, True):
        with pytest.raises(RevoxOutcomeUnknownError):
            task.next_try(cleared=cleared).run(operator())
    assert posts(plain_revox) == 1


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(("kind", "arguments"), NOT_TAKEN)
def test_absence_is_not_enough_to_dial_again(revox: Simulator, kind: str, arguments: dict[str, Any]) -> None:
    revox.add_fault("create_call", kind, **arguments)
    with pytest.raises(RevoxOutcomeUnknownError, match="found no such order"):
        TaskRun().run(operator())
    assert posts(revox) == 1


@pytest.mark.usefixtures("no_pauses")
def test_an_order_that_shows_late_is_adopted_by_the_next_try(revox: Simulator) -> None:
    revox.add_fault("create_call", "drop_reply")
    revox.add_fault("search_calls", "incomplete_search", count=50)
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError, match="incomplete"):
        task.run(operator())
    revox.clear_faults()
    call_id = task.next_try(cleared=True).run(operator())
    assert call_id == revox.orders()[0]["id"]
    assert orders(revox) == {ALICE: 1}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("kind", ["incomplete_search", "server_error", "truncated_json", "wrong_content_type"])
def test_a_search_that_cannot_be_trusted_never_leads_to_a_dial(revox: Simulator, kind: str) -> None:
    revox.add_fault("create_call", "reset")
    revox.add_fault("search_calls", kind, count=50)
    with pytest.raises(RevoxOutcomeUnknownError):
        TaskRun().run(operator(on_unknown="redial_if_absent"))
    assert posts(revox) == 1


# --- crashes --------------------------------------------------------------------------------


@needs_state_store
@pytest.mark.parametrize("crash_at", ["intent", "placed"])
@pytest.mark.parametrize("written", [False, True])
def test_a_crash_around_a_write_never_dials_twice(revox: Simulator, crash_at: str, written: bool) -> None:
    task = TaskRun()

    def crash(key: str, value: dict[str, Any]) -> None:
        if value["state"] == crash_at:
            task.store.before_set = None
            if written:
                task.store.set(key, value)
            raise Crash

    task.store.before_set = crash
    with pytest.raises(Crash):
        task.run(operator())
    task.next_try()
    if crash_at == "intent" and written:
        # Nothing was sent, but nobody can know that.
        with pytest.raises(RevoxOutcomeUnknownError):
            task.run(operator())
        assert posts(revox) == 0
    else:
        assert task.run(operator()) == revox.orders()[0]["id"]
        assert orders(revox) == {ALICE: 1}


def test_a_crash_during_the_request_never_dials_twice(revox: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    task = TaskRun()
    request = httpx.Client.request

    def dies_after_sending(self: httpx.Client, *args: Any, **kwargs: Any) -> None:
        request(self, *args, **kwargs)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(httpx.Client, "request", dies_after_sending)
        with pytest.raises(Crash):
            task.run(operator())
    assert not task.store or task.record["state"] == "intent"
    assert task.next_try().run(operator()) == revox.orders()[0]["id"]
    assert orders(revox) == {ALICE: 1}


@needs_state_store
def test_a_task_instance_that_was_replaced_does_not_dial(revox: Simulator) -> None:
    task = TaskRun()
    task.run(operator())
    task.store.replaced = True
    with pytest.raises(Replaced):
        task.run(operator())
    assert posts(revox) == 1


@needs_state_store
def test_an_id_that_cannot_be_recorded_is_in_the_log(revox: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    task = TaskRun()

    def away(key: str, value: dict[str, Any]) -> None:
        if value["state"] == "placed":
            raise Replaced

    task.store.before_set = away
    with pytest.raises(Replaced):
        task.run(operator())
    assert revox.orders()[0]["id"] in caplog.text


# --- another number -------------------------------------------------------------------------


@needs_state_store
def test_another_number_is_refused(revox: Simulator) -> None:
    task = TaskRun()
    call_id = task.run(operator())
    with pytest.raises(RevoxRecordError) as told:
        task.next_try(cleared=True).run(operator(phone_number=BOB))
    assert call_id in str(told.value)
    assert "+1415•••0101" in str(told.value)
    assert orders(revox) == {ALICE: 1}


@needs_state_store
def test_another_number_is_called_when_a_person_says_so(revox: Simulator) -> None:
    task = TaskRun()
    task.run(operator())
    revox.advance(86_400)
    task.next_try(cleared=True).run(operator(phone_number=BOB, redial_after=task.record["nonce"]))
    assert orders(revox) == {ALICE: 1, BOB: 1}


@needs_state_store
def test_a_record_that_cannot_be_read_dials_nobody(revox: Simulator) -> None:
    task = TaskRun()
    task.store.set("revox_call", {"state": "placed"})
    with pytest.raises(RevoxRecordError, match="cannot be read"):
        task.run(operator())
    assert posts(revox) == 0


# --- a person's word ------------------------------------------------------------------------


@needs_state_store
def test_redial_after_works_once(revox: Simulator) -> None:
    task = TaskRun()
    first = task.run(operator())
    revox.advance(86_400)
    second = task.next_try(cleared=True).run(operator(redial_after=first))
    assert second != first
    # The parameter stays in the DAG file.
    for _ in range(2):
        revox.advance(86_400)
        assert task.next_try(cleared=True).run(operator(redial_after=first)) == second
    assert orders(revox) == {ALICE: 2}
    assert task.record["earlier"][0]["call_id"] == first


@needs_state_store
def test_redial_after_waits_for_the_end(revox: Simulator) -> None:
    task = TaskRun()
    call_id = task.run(operator(phone_number="+14155550161"))
    with pytest.raises(RevoxRecordError, match="has not ended"):
        task.next_try(cleared=True).run(operator(phone_number="+14155550161", redial_after=call_id))
    assert posts(revox) == 1


def test_redial_after_another_call_is_passed_over(revox: Simulator) -> None:
    task = TaskRun()
    call_id = task.run(operator())
    assert task.next_try(cleared=True).run(operator(redial_after="another")) == call_id
    assert posts(revox) == 1


@needs_state_store
@pytest.mark.usefixtures("no_pauses")
def test_an_unknown_is_settled_by_its_nonce(revox: Simulator) -> None:
    revox.add_fault("create_call", "reset")
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError):
        task.run(operator())
    nonce = task.record["nonce"]
    call_id = task.later().next_try(cleared=True).run(operator(redial_after=nonce))
    assert task.next_try(cleared=True).run(operator(redial_after=nonce)) == call_id
    assert orders(revox) == {ALICE: 1}


@needs_state_store
def test_the_stored_word_works_once_and_is_marked(revox: Simulator) -> None:
    task = TaskRun()
    first = task.run(operator())
    revox.advance(86_400)
    task.store.set("revox_settle", {"redial_after": first})
    second = task.next_try(cleared=True).run(operator())
    assert second != first
    assert task.store.get("revox_settle")["used_at"]
    assert task.next_try(cleared=True).run(operator()) == second
    assert orders(revox) == {ALICE: 2}


@needs_state_store
def test_the_stored_word_is_not_used_twice_after_a_crash(revox: Simulator) -> None:
    task = TaskRun()
    first = task.run(operator())
    revox.advance(86_400)
    task.store.set("revox_settle", {"redial_after": first})

    def crash(key: str, value: dict[str, Any]) -> None:
        if key == "revox_settle":
            raise Crash

    task.store.before_set = crash
    with pytest.raises(Crash):
        task.next_try(cleared=True).run(operator())
    task.store.before_set = None
    task.next_try().run(operator())
    assert orders(revox) == {ALICE: 2}
    assert task.store.get("revox_settle")["used_at"]


@needs_state_store
@pytest.mark.parametrize("word", [{"redial_after": "another"}, {"adopt": "another"}])
def test_a_stored_word_for_another_entry_is_refused(revox: Simulator, word: dict[str, str]) -> None:
    task = TaskRun()
    call_id = task.run(operator())
    task.store.set("revox_settle", word)
    with pytest.raises(RevoxRecordError, match="another") as told:
        task.next_try(cleared=True).run(operator())
    assert call_id in str(told.value)
    assert posts(revox) == 1


@needs_state_store
@pytest.mark.parametrize(
    "word", ["call", {"redial": "x"}, {"redial_after": 7}, {"redial_after": "a", "adopt": "b"}, [1]]
)
def test_a_stored_word_that_makes_no_sense_is_refused(revox: Simulator, word: Any) -> None:
    task = TaskRun()
    task.store.set("revox_settle", word)
    with pytest.raises(RevoxRecordError, match="revox_settle must be"):
        task.run(operator())
    assert posts(revox) == 0


@needs_state_store
def test_a_stored_word_may_be_json_text(revox: Simulator) -> None:
    task = TaskRun()
    first = task.run(operator())
    revox.advance(86_400)
    task.store.set("revox_settle", f'{{"redial_after": "{first}"}}')
    assert task.next_try(cleared=True).run(operator()) != first


@needs_state_store
@pytest.mark.parametrize("stored", [False, True])
def test_an_unknown_is_settled_by_adopting(plain_revox: Simulator, stored: bool) -> None:
    plain_revox.add_fault("create_call", "drop_reply")
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError):
        task.run(operator())
    real = plain_revox.orders()[0]["id"]
    task.next_try(cleared=True)
    if stored:
        task.store.set("revox_settle", {"adopt": real})
    assert task.run(operator(adopt=None if stored else real)) == real
    assert task.next_try(cleared=True).run(operator(adopt=None if stored else real)) == real
    assert posts(plain_revox) == 1


@needs_state_store
def test_a_call_to_someone_else_is_not_adopted(plain_revox: Simulator) -> None:
    bobs = TaskRun(task_id="bob").run(operator(phone_number=BOB))
    plain_revox.add_fault("create_call", "drop_reply")
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError):
        task.run(operator())
    with pytest.raises(RevoxRecordError, match=r"\+1415•••0101"):
        task.next_try(cleared=True).run(operator(adopt=bobs))
    assert task.record["state"] == "unknown"


def test_adopt_and_redial_exclude_each_other(revox: Simulator) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        TaskRun().run(operator(adopt="a", redial_after="b"))


def test_empty_settlements_are_none(revox: Simulator) -> None:
    TaskRun().run(operator(adopt="", redial_after=""))
    assert posts(revox) == 1


@needs_state_store
@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("stored", [False, True])
def test_a_nonce_does_not_redial_a_call_that_was_found_meanwhile(revox: Simulator, stored: bool) -> None:
    revox.add_fault("create_call", "drop_reply")
    revox.add_fault("search_calls", "incomplete_search", count=50)
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError):
        task.run(operator())
    nonce = task.record["nonce"]
    revox.clear_faults()
    found = task.next_try(cleared=True).run(operator())
    revox.advance(86_400)
    task.next_try(cleared=True)
    if stored:
        task.store.set("revox_settle", {"redial_after": nonce})
        with pytest.raises(RevoxRecordError, match=found):
            task.run(operator())
    else:
        assert task.run(operator(redial_after=nonce)) == found
    assert orders(revox) == {ALICE: 1}


@needs_state_store
@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("stored", [False, True])
def test_a_nonce_given_too_early_finds_the_call_first(revox: Simulator, stored: bool) -> None:
    revox.add_fault("create_call", "drop_reply")
    revox.add_fault("search_calls", "incomplete_search", count=50)
    task = TaskRun()
    with pytest.raises(RevoxOutcomeUnknownError):
        task.run(operator())
    nonce = task.record["nonce"]
    revox.clear_faults()
    if stored:
        task.store.set("revox_settle", {"redial_after": nonce})
    word = {} if stored else {"redial_after": nonce}
    found = task.later().next_try(cleared=True).run(operator(**word))
    assert found == revox.orders()[0]["id"]
    assert task.next_try(cleared=True).run(operator(**word)) == found
    assert orders(revox) == {ALICE: 1}


@needs_state_store
def test_a_call_to_adopt_that_stays_in_the_dag_file_is_not_every_runs_answer(revox: Simulator) -> None:
    old = TaskRun(run_id="last_week").run(operator())
    revox.advance(86_400)
    new = TaskRun(run_id="today").run(operator(adopt=old))
    assert new != old
    other = TaskRun(run_id="tomorrow")
    other.store.set("revox_settle", {"adopt": old})
    with pytest.raises(RevoxRecordError, match="another task or run"):
        other.run(operator())
    assert orders(revox) == {ALICE: 2}


def test_without_a_store_a_call_of_this_run_is_adopted(plain_revox: Simulator) -> None:
    task = TaskRun(store=None)
    call_id = task.run(operator())
    with pytest.raises(RevoxOutcomeUnknownError):
        task.next_try().run(operator())
    assert task.next_try(cleared=True).run(operator(adopt=call_id)) == call_id
    assert posts(plain_revox) == 1


@pytest.mark.parametrize("word", ["", "None"])
def test_words_that_a_template_renders_to_nothing_say_nothing(revox: Simulator, word: str) -> None:
    TaskRun().run(operator(adopt=word, redial_after=word))
    assert posts(revox) == 1


@needs_state_store
def test_a_value_that_the_store_lost_is_not_an_empty_record(revox: Simulator) -> None:
    task = TaskRun()
    task.store.values["revox_call"] = "null"
    with pytest.raises(RevoxRecordError, match="cannot be read"):
        task.run(operator())
    assert posts(revox) == 0


@needs_state_store
def test_a_replaced_worker_does_not_overwrite_the_record_in_a_backend(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend keeps a value before Airflow refuses it: the guard is refused first, and the record stays whole."""
    monkeypatch.setenv("AIRFLOW__WORKERS__STATE_STORE_BACKEND", "somewhere.Backend")
    task = TaskRun()
    call_id = task.run(operator())
    assert [key for key, _ in task.store.history] == ["revox_guard", "revox_call"] * 2
    kept = task.store.values["revox_call"]
    task.store.get = lambda key, default=None: default  # type: ignore[method-assign]

    def backend(key: str, value: Any) -> None:
        task.store.values[key] = str(value)
        raise Replaced

    task.store.before_set = backend
    with pytest.raises(Replaced):
        task.run(operator())
    assert task.store.values["revox_call"] == kept
    assert call_id in kept
    assert posts(revox) == 1
