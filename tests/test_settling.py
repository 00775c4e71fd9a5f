"""
Histories that once led to a second call, a lost one, or a person who could not get on; each found by hand.

The clock is the run's own, and only sleeping moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_revox import settling as settling_module
from airflow_provider_revox.client import ClientSettings, RevoxClient
from airflow_provider_revox.endpoints import create_call, read_request
from airflow_provider_revox.exceptions import RevoxError, RevoxOutcomeUnknownError, RevoxRecordError
from airflow_provider_revox.ledger import CallName, Ledger, Settlement
from airflow_provider_revox.placing import Placing
from airflow_provider_revox.settling import Origin
from airflow_provider_revox.simulator import Simulator
from tests.harness import StateStore

ALICE, BOB, CAROL = "+14155550100", "+14155550101", "+14155550102"
DAY = 86_400


class Crash(BaseException):
    """A process that dies."""


class Run:
    """One run: `ask(index, number)` is one try of one task instance on the clock `now`."""

    def __init__(self, simulator: Simulator, store: str = "store") -> None:
        self.simulator, self.kind = simulator, store
        self.client = self.client_of(simulator)
        self.stores: dict[int, StateStore] = {}
        self.clears = 0
        self.tries: dict[int, int] = {}
        self.now = datetime.now(timezone.utc)
        self.during_sleep: Callable[[], None] | None = None

    @staticmethod
    def client_of(simulator: Simulator) -> RevoxClient:
        key, url = simulator.api_key, simulator.base_url
        return RevoxClient(ClientSettings(api_key=key, base_url=url, backoff_seconds=0, tries=3, timeout=5))

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.simulator.advance(seconds)
        if self.during_sleep:
            act, self.during_sleep = self.during_sleep, None
            act()

    def clear(self) -> None:
        self.clears += 1

    def ended(self) -> None:
        self.simulator.advance(DAY)

    def ledger(self, index: int) -> Ledger:
        store = self.stores.setdefault(index, StateStore())
        return Ledger(None) if self.kind == "none" else Ledger(store, wiped_on_success=self.kind == "wiped")

    def ask(self, index: int, number: str, *, fault: str | None = None, status: int = 422, **how: Any) -> str:
        self.tries[index] = self.tries.get(index, 0) + 1
        if fault:
            self.simulator.add_fault("create_call", fault, **({"status": status} if fault == "status" else {}))
        origin = Origin(
            CallName("", "dag", "run", "call", index),
            first_try=self.tries[index] == 1,
            clear_number=self.clears,
            mapped=index >= 0,
            since=datetime.now(timezone.utc) - timedelta(hours=1),
        )
        request = read_request({"phone_number": number, "assistant": {"prompt": "Ask."}, "force_now": True})
        try:
            return Placing(self.client, self.ledger(index), request, origin, sleep=self.sleep, **how).once().call_id
        finally:
            self.simulator.clear_faults()

    @property
    def orders(self) -> dict[str, int]:
        return self.simulator.stats()["orders_per_number"]

    def record(self, index: int) -> list[tuple[str, str | None, str]]:
        record = self.stores[index].get("revox_call")
        return [(e["state"], e.get("call_id"), e["nonce"]) for e in (record, *record["earlier"])]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    sims: list[Simulator] = []
    runs: list[Run] = []

    def make(store: str = "store", *, search: bool = True) -> Run:
        sim = Simulator(speed=1, seed=7, extensions=search)
        sim.__enter__()
        sims.append(sim)
        runs.append(Run(sim, store))
        monkeypatch.setattr(settling_module, "utcnow", lambda: runs[0].now)
        return runs[-1]

    yield make
    for r in runs:
        r.client.close()
    for s in sims:
        s.__exit__(None, None, None)


def test_an_adopt_parameter_that_was_used_settles_no_later_unknown(run: Any) -> None:
    r = run(search=False)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="drop_reply")
    first = r.simulator.orders()[0]["id"]
    adopt = Settlement(adopt=first)  # from now on in the DAG file
    assert r.ask(-1, ALICE, settlement=adopt) == first
    r.ended()
    r.stores[-1].set("revox_settle", {"redial_after": first})
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="drop_reply", settlement=adopt)
    assert r.orders == {ALICE: 2}
    second = r.simulator.orders()[1]["id"]
    try:
        got = r.ask(-1, ALICE, settlement=adopt)
    except RevoxOutcomeUnknownError:
        return
    pytest.fail(f"second {second} is lost: got {got}, record {r.record(-1)}")


def arrives(r: Run, record: dict[str, Any], number: str = ALICE) -> str:
    """Let the request of an entry reach Revox late."""
    request = {"phone_number": number, "assistant": {"prompt": "Ask."}, "force_now": True}
    body = read_request({**request, "metadata": {"airflow_call_key": record["name"]}})
    return r.client.send(create_call(body)).id


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("search", [True, False])
def test_a_word_about_a_request_that_can_still_arrive_comes_too_early(run: Any, search: bool, stored: bool) -> None:
    r = run(search=search)
    asked_at = r.now
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="reset")
    word = Settlement(redial_after=r.record(-1)[0][2])
    how = {} if stored else {"settlement": word}
    if stored:
        r.stores[-1].set("revox_settle", {"redial_after": word.redial_after})
    # The last attempt may begin a minute after the intent, and be answered within the timeout.
    for late in (0, 60 + 5 + 29):
        r.now = asked_at + timedelta(seconds=late)
        with pytest.raises(RevoxRecordError, match=r"can still arrive until .* Nobody was dialled now"):
            r.ask(-1, ALICE, **how)
    assert r.orders == {}
    r.now = asked_at + timedelta(seconds=60 + 5 + 30 + 10)
    second = r.ask(-1, ALICE, **how)
    assert r.orders == {ALICE: 1}
    r.ended()
    # What became of a call that is known can be told at once.
    r.ask(-1, ALICE, settlement=Settlement(redial_after=second))
    assert r.orders == {ALICE: 2}


def test_a_request_that_arrives_after_the_word_is_found(run: Any) -> None:
    r = run()
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="reset")
    record = r.stores[-1].get("revox_call")
    word = Settlement(redial_after=record["nonce"])
    with pytest.raises(RevoxRecordError, match="can still arrive"):
        r.ask(-1, ALICE, settlement=word)
    late = arrives(r, record)
    assert r.ask(-1, ALICE, settlement=word) == late
    assert r.orders == {ALICE: 1}


def test_a_request_to_a_number_that_was_changed_back_is_looked_for(run: Any) -> None:
    r = run()
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="reset")
    open_end = r.stores[-1].get("revox_call")
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", settlement=Settlement(redial_after=open_end["nonce"]))
    with pytest.raises(RevoxOutcomeUnknownError) as told:
        r.ask(-1, ALICE)
    newest = r.record(-1)[0][2]
    assert f'redial_after="{newest}"' in str(told.value)
    word = Settlement(redial_after=newest)
    with pytest.raises(RevoxRecordError, match="can still arrive"):
        r.ask(-1, ALICE, settlement=word)
    late = arrives(r, open_end)
    for _ in range(2):
        assert r.ask(-1, ALICE, settlement=word) == late
        r.ended()
    assert r.ask(-1, ALICE, settlement=word) == late
    assert r.orders == {ALICE: 1}


def test_a_number_that_was_changed_back_is_dialled_again_once_its_call_has_ended(run: Any) -> None:
    r = run()
    first = r.ask(-1, ALICE)
    with pytest.raises(RevoxRecordError):
        r.ask(-1, BOB)
    r.ended()
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", settlement=Settlement(redial_after=r.record(-1)[0][2]))
    assert r.ask(-1, ALICE) == first
    word = Settlement(redial_after=r.record(-1)[0][2])
    second = r.ask(-1, ALICE, settlement=word)
    assert second != first
    assert r.orders == {ALICE: 2}


def test_nobody_is_dialled_after_a_call_to_a_number_that_was_changed_back_and_goes_on(run: Any) -> None:
    r = run()
    first = r.ask(-1, ALICE)
    r.ended()
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", settlement=Settlement(redial_after=r.record(-1)[0][2]))
    # As if it had been told late what became of the first request.
    record = r.stores[-1].get("revox_call")
    goes_on = arrives(r, record["earlier"][0])
    record["earlier"][0]["call_id"] = goes_on
    r.stores[-1].set("revox_call", record)
    with pytest.raises(RevoxRecordError, match=f"call {goes_on} has not ended"):
        r.ask(-1, ALICE, settlement=Settlement(redial_after=record["nonce"]))
    assert {order["id"] for order in r.simulator.orders()} == {first, goes_on}


def test_the_pause_before_it_is_certain_goes_by_this_machines_clock(run: Any) -> None:
    r = run()
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="reset")
    record = r.stores[-1].get("revox_call")
    ahead = (datetime.fromisoformat(record["post_before"]) + timedelta(hours=9)).isoformat()
    r.stores[-1].set("revox_call", {**record, "post_before": ahead})
    began = r.now
    r.ask(-1, ALICE, on_unknown="redial_if_absent")
    assert timedelta(seconds=60 + 5 + 30) <= r.now - began < timedelta(minutes=5)
    assert r.orders == {ALICE: 1}


def test_what_the_message_about_a_changed_number_says_fits_one_index_only(run: Any) -> None:
    r = run()
    bobs = r.ask(0, BOB)
    r.ended()
    r.clear()
    with pytest.raises(RevoxRecordError) as told:
        r.ask(0, ALICE)
    assert r.ask(1, BOB) == bobs
    word = str(told.value).split('redial_after="')[1].split('"')[0]
    r.clear()
    for index, number in enumerate((ALICE, BOB)):
        r.ask(index, number, settlement=Settlement(redial_after=word))
    assert r.orders == {ALICE: 1, BOB: 1}


def test_a_parameter_is_acted_on_at_one_index_only(run: Any) -> None:
    r = run()
    first = r.ask(0, BOB)
    r.ended()
    r.clear()
    assert r.ask(1, BOB) == first
    word = Settlement(redial_after=first)  # stays in the DAG file
    r.clear()
    second = r.ask(1, BOB, settlement=word)
    r.ended()
    assert r.orders[BOB] <= 2
    r.clear()
    with suppress(RevoxError):
        r.ask(0, BOB, settlement=word)
    assert r.orders[BOB] <= 2, second


def test_an_allowed_call_that_was_refused_is_still_allowed(run: Any) -> None:
    r = run()
    first = r.ask(0, BOB)
    r.ended()
    r.clear()
    word = Settlement(redial_after=first)
    with pytest.raises(RevoxError):
        r.ask(0, BOB, fault="status", status=401, settlement=word)
    r.clear()
    r.clear()  # other tasks of the run were cleared, then this one
    r.ask(0, BOB, settlement=word)
    r.clear()
    again = r.ask(0, BOB, settlement=Settlement(redial_after=first))
    assert again != first, "stuck: the word that the docs name is passed over for ever"


def test_a_number_that_comes_back_is_searched_for_where_the_record_is_wiped(run: Any) -> None:
    r = run("wiped")
    first = r.ask(-1, ALICE)
    r.stores[-1].values.clear()  # success
    r.clear()
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, BOB, fault="status")
    # fail by default; redial_if_absent
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", on_unknown="redial_if_absent")
    assert r.ask(-1, ALICE) == first
    assert r.orders == {ALICE: 1}


def test_the_number_may_go_back_and_forth(run: Any) -> None:
    r = run()
    first = r.ask(-1, ALICE)
    r.ended()
    told = ""
    with pytest.raises(RevoxRecordError) as changed:
        r.ask(-1, BOB)
    word = str(changed.value).split('redial_after="')[1].split('"')[0]
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", status=401, settlement=Settlement(redial_after=word))
    try:  # the number goes back to Alice's
        r.ask(-1, ALICE)
    except RevoxRecordError:
        assert r.ask(-1, ALICE, settlement=Settlement(adopt=first)) == first
    word = None
    for _ in range(4):  # and to Bob's again: a person does what the message says
        try:
            r.ask(-1, BOB, settlement=word)
            break
        except RevoxRecordError as error:
            told = str(error)
            word = Settlement(redial_after=told.split('redial_after="')[1].split('"')[0])
    assert r.orders == {ALICE: 1, BOB: 1}, told


def test_adopting_goes_before_dialling_again(run: Any) -> None:
    r = run(search=False)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="drop_reply")
    found = r.simulator.orders()[0]["id"]
    r.stores[-1].set("revox_settle", {"adopt": found})
    nonce = r.record(-1)[0][2]
    with suppress(RevoxError):
        r.ask(-1, ALICE, settlement=Settlement(redial_after=nonce))
    assert r.orders == {ALICE: 1}


@pytest.mark.parametrize("late", ["refused", "placed", "adopted"])
def test_a_worker_that_froze_does_not_write_over_what_came_after(run: Any, late: str) -> None:
    """A's answer is on its way, or A is looking, while a person settles and B dials."""
    r = run()
    r.stores.setdefault(-1, StateStore())
    send = r.client.send
    second = []

    def other_worker() -> None:
        nonce = r.record(-1)[0][2]
        client, r.client = r.client, r.client_of(r.simulator)
        try:
            r.simulator.add_fault("search_calls", "incomplete_search", count=50)
            with pytest.raises(RevoxOutcomeUnknownError):
                r.ask(-1, ALICE)
            r.now += timedelta(minutes=5)
            r.simulator.add_fault("search_calls", "not_found", count=50)
            second.append(r.ask(-1, ALICE, settlement=Settlement(redial_after=nonce)))
        finally:
            r.client.close()
            r.client = client

    def frozen(endpoint, **kwargs):
        if not endpoint.may_dial:
            return send(endpoint, **kwargs)
        try:
            return send(endpoint, **kwargs)
        finally:
            if late != "adopted":
                other_worker()

    r.client.send = frozen
    if late == "adopted":
        r.during_sleep = other_worker
        r.simulator.add_fault("create_call", "drop_reply")
    with suppress(RevoxError):
        r.ask(-1, ALICE, fault="status" if late == "refused" else None)
    assert second[0] in {call for _, call, _ in r.record(-1)}, "B's order is lost from the record"


def test_the_message_about_a_changed_number_names_what_is_open_for_the_new_one(run: Any) -> None:
    """Alice unknown; Bob called by a person's word; back to Alice: the message says nothing of her unknown call."""
    r = run(search=False)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE, fault="drop_reply")
    nonce = r.record(-1)[0][2]
    r.ask(-1, BOB, settlement=Settlement(redial_after=nonce))
    r.ended()
    with pytest.raises(RevoxRecordError) as told:
        r.ask(-1, ALICE)
    assert nonce in str(told.value), told.value


def test_a_number_is_no_word(run: Any) -> None:
    r = run()
    r.ask(-1, ALICE)
    r.stores[-1].set("revox_settle", {"redial_after": ALICE})
    with pytest.raises(RevoxRecordError) as told:
        r.ask(-1, ALICE)
    assert str(told.value).startswith("revox_settle (redial_after) must be a call id or nonce")
    assert ALICE not in str(told.value)


def test_a_parameter_that_adopts_anothers_call_stops_nobody(run: Any) -> None:
    r = run(search=False)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(0, ALICE, fault="drop_reply")
    with pytest.raises(RevoxError):
        r.ask(1, BOB, fault="status", status=401)
    word = Settlement(adopt=r.simulator.orders()[0]["id"])
    assert r.ask(0, ALICE, settlement=word)
    r.ask(1, BOB, settlement=word)


def test_two_lists_between_two_clears(run: Any) -> None:
    r = run()
    r.clear()
    with pytest.raises(RevoxError):
        r.ask(1, BOB, fault="status", status=401)
    r.ask(0, BOB)
    r.clear()
    r.ask(1, BOB)
    assert r.orders == {BOB: 1}


def test_a_redial_that_got_lost_is_not_taken_for_the_call_before(run: Any) -> None:
    r = run()
    first = r.ask(0, BOB)
    r.ended()
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(0, BOB, fault="reset", settlement=Settlement(redial_after=first))
    r.clear()
    r.clear()
    got = r.ask(0, BOB, on_unknown="redial_if_absent")
    assert got != first


def test_a_number_cannot_be_adopted(run: Any) -> None:
    r = run()
    with pytest.raises(RevoxError) as told:
        r.ask(-1, ALICE, settlement=Settlement(adopt=ALICE))
    assert ALICE not in str(told.value), told.value


def test_dialling_after_a_call_that_revox_forgot(run: Any) -> None:
    r = run()
    first = r.ask(-1, ALICE)
    r.simulator.reset()
    with pytest.raises(RevoxError) as told:
        r.ask(-1, ALICE, settlement=Settlement(redial_after=first))
    assert "Nobody was dialled" in str(told.value)


def test_without_a_store_the_message_names_no_word_that_needs_one(run: Any) -> None:
    r = run("none")
    with pytest.raises(RevoxOutcomeUnknownError, match="start a new run for this person") as told:
        r.ask(-1, ALICE, fault="reset")
    assert "redial_after" not in str(told.value)


def test_where_the_record_is_wiped_a_redial_is_passed_over_and_the_log_says_why(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    r = run("wiped")
    first = r.ask(-1, ALICE)
    r.stores[-1].values.clear()
    r.ended()
    r.clear()
    with caplog.at_level("INFO"):
        assert r.ask(-1, ALICE, settlement=Settlement(redial_after=first)) == first
    assert "is passed over: no record is kept here" in caplog.text


def test_another_index_finds_a_call_that_shows_a_little_late(run: Any) -> None:
    r = run()
    r.simulator.add_fault("create_call", "late_in_search", seconds=4)

    def dies(key: str, value: Any) -> None:
        if value["state"] == "placed":
            raise Crash

    r.stores[1] = StateStore()
    r.stores[1].before_set = dies
    with pytest.raises(Crash):
        r.ask(1, BOB)
    r.clear()
    r.ask(0, BOB)
    assert r.orders == {BOB: 1}


def test_a_refused_index_goes_on_without_search_if_the_list_cannot_have_changed_twice(run: Any) -> None:
    """All were refused for a wrong key, on a deployment that cannot search; then the run was cleared, once or twice."""
    r = run(search=False)
    for index, number in enumerate((ALICE, BOB)):
        with pytest.raises(RevoxError):
            r.ask(index, number, fault="status", status=401)
    r.clear()
    r.ask(0, ALICE)
    r.clear()
    with pytest.raises(RevoxOutcomeUnknownError, match="another map index") as told:
        r.ask(1, BOB)
    assert r.orders == {ALICE: 1}
    nonce = r.record(1)[0][2]
    assert f'redial_after="{nonce}"' in str(told.value)
    r.ask(1, BOB, settlement=Settlement(redial_after=nonce))
    assert r.orders == {ALICE: 1, BOB: 1}


def test_a_search_that_fails_is_no_search_that_cannot_be(run: Any) -> None:
    r = run()
    with pytest.raises(RevoxError):
        r.ask(0, ALICE, fault="status", status=401)
    r.clear()
    r.simulator.add_fault("search_calls", "incomplete_search", count=50)
    r.simulator.add_fault("search_calls", "server_error", count=50)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(0, ALICE)
    assert r.orders == {}
    r.ask(0, ALICE)
    assert r.orders == {ALICE: 1}


@pytest.mark.parametrize(
    "location", ["mailto:x", "https:foo", "urn:abc", "call:created", "a:b", "https://xn--a/", "/x"]
)
@pytest.mark.parametrize("status", [302, 307])
def test_a_reply_that_points_nowhere_is_no_proof_that_nothing_was_sent(run: Any, status: int, location: str) -> None:
    """httpx raises InvalidURL for the address to go to next, after the order was taken."""
    r = run(search=False)
    r.simulator.add_fault("create_call", "status", status=status, taken=True, location=location)
    with pytest.raises(RevoxOutcomeUnknownError):
        r.ask(-1, ALICE)
    assert r.orders == {ALICE: 1}
    assert r.simulator.stats()["posts_received"] == 1
    assert r.record(-1)[0][0] == "unknown"


def test_what_the_message_says_about_a_third_number_works(run: Any) -> None:
    r = run()
    r.ask(-1, ALICE)
    r.ended()
    nonce = r.record(-1)[0][2]
    with pytest.raises(RevoxError):
        r.ask(-1, BOB, fault="status", settlement=Settlement(redial_after=nonce))
    with pytest.raises(RevoxRecordError) as told:
        r.ask(-1, CAROL)
    word = str(told.value).split('redial_after="')[1].split('"')[0]
    r.ask(-1, CAROL, settlement=Settlement(redial_after=word))
    assert r.orders == {ALICE: 1, CAROL: 1}
