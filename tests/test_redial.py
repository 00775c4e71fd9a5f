"""`redial_if_absent`: dialling again only when it is sure that the lost request dialled nobody. On a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_revox.client import ClientSettings, RevoxClient
from airflow_provider_revox.endpoints import create_call, read_request
from airflow_provider_revox.exceptions import RevoxOutcomeUnknownError
from airflow_provider_revox.ledger import CallName, Ledger
from airflow_provider_revox.placing import Placing
from airflow_provider_revox.settling import Origin
from airflow_provider_revox.simulator import Simulator
from tests.harness import StateStore

ALICE = "+14155550100"
NAME = CallName("", "campaign", "manual__1", "call", -1)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
        self.during_sleep: Callable[[], None] | None = None
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        if seconds and self.during_sleep is not None:
            action, self.during_sleep = self.during_sleep, None
            action()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("airflow_provider_revox.settling.utcnow", clock)
    return clock


@pytest.fixture
def client(simulator: Simulator) -> Iterator[RevoxClient]:
    client = RevoxClient(
        ClientSettings(api_key=simulator.api_key, base_url=simulator.base_url, backoff_seconds=0.01, timeout=5)
    )
    yield client
    client.close()


def placing(client: RevoxClient, clock: Clock, store: StateStore | None, **changes: Any) -> Placing:
    request = read_request({"phone_number": ALICE, "assistant": {"prompt": "Ask."}, "force_now": True})
    origin = changes.pop("origin", Origin(NAME))
    return Placing(client, Ledger(store), request, origin, on_unknown="redial_if_absent", sleep=clock.sleep, **changes)


def test_it_dials_again_when_two_late_searches_find_nothing(
    simulator: Simulator, client: RevoxClient, clock: Clock
) -> None:
    simulator.add_fault("create_call", "reset")
    store = StateStore()
    began = clock.now
    searches: list[datetime] = []
    send = client.send

    def noting(endpoint: Any, **kwargs: Any) -> Any:
        if endpoint.path == "/call/search":
            searches.append(clock.now)
        return send(endpoint, **kwargs)

    client.send = noting  # type: ignore[method-assign]
    placed = placing(client, clock, store).once()
    assert placed.how == "placed"
    assert simulator.stats()["orders_per_number"] == {ALICE: 1}
    assert searches[-2] >= began + timedelta(seconds=60 + 5 + 30)
    assert searches[-1] >= searches[-2] + timedelta(seconds=30)
    record = store.get("revox_call")
    assert record["state"] == "placed"
    assert record["earlier"][0]["state"] == "unknown"
    assert record["earlier"][0]["nonce"] != record["nonce"]


def test_an_order_that_shows_while_waiting_is_adopted(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    simulator.add_fault("create_call", "reset")
    store = StateStore()

    def shows() -> None:
        request = {"phone_number": ALICE, "assistant": {"prompt": "Ask."}, "force_now": True}
        metadata = {"airflow_call_key": store.get("revox_call")["name"]}
        client.send(create_call(read_request({**request, "metadata": metadata})))

    clock.during_sleep = shows
    placed = placing(client, clock, store).once()
    assert placed.how == "adopted"
    assert placed.call_id == simulator.orders()[0]["id"]
    assert simulator.stats()["orders_per_number"] == {ALICE: 1}


@pytest.mark.parametrize("search", [1, 2])
def test_an_order_that_shows_in_either_of_the_two_searches_is_adopted(
    simulator: Simulator, client: RevoxClient, clock: Clock, monkeypatch: pytest.MonkeyPatch, search: int
) -> None:
    monkeypatch.setattr("airflow_provider_revox.placing.LOOK_AFTER_SECONDS", (0.0,))
    simulator.add_fault("create_call", "reset")
    store = StateStore()

    def shows() -> None:
        if len(clock.slept) < 1 + search:
            clock.during_sleep = shows
            return
        request = {"phone_number": ALICE, "assistant": {"prompt": "Ask."}, "force_now": True}
        metadata = {"airflow_call_key": store.get("revox_call")["name"]}
        client.send(create_call(read_request({**request, "metadata": metadata})))

    clock.during_sleep = shows
    assert placing(client, clock, store).once().how == "adopted"
    assert simulator.stats()["requests"]["search_calls"] == 1 + search
    assert simulator.stats()["orders_per_number"] == {ALICE: 1}


def test_it_redials_once_and_then_gives_up(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    simulator.add_fault("create_call", "reset", count=9)
    with pytest.raises(RevoxOutcomeUnknownError):
        placing(client, clock, StateStore()).once()
    assert simulator.stats()["requests"]["create_call"] == 2


def test_another_process_that_posts_meanwhile_stops_it(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    simulator.add_fault("create_call", "reset")
    store = StateStore()

    def another() -> None:
        record = store.get("revox_call")
        late = datetime.fromisoformat(record["post_before"]) + timedelta(seconds=90)
        store.set("revox_call", {**record, "post_before": late.isoformat()})

    clock.during_sleep = another
    with pytest.raises(RevoxOutcomeUnknownError, match="another process"):
        placing(client, clock, store).once()
    assert simulator.stats()["requests"]["create_call"] == 1


def test_another_process_that_finds_the_call_meanwhile_stops_it(
    simulator: Simulator, client: RevoxClient, clock: Clock
) -> None:
    simulator.add_fault("create_call", "reset")
    store = StateStore()

    def another() -> None:
        store.set("revox_call", {**store.get("revox_call"), "state": "placed", "call_id": "c1"})

    clock.during_sleep = another
    with pytest.raises(RevoxOutcomeUnknownError, match="another process"):
        placing(client, clock, store).once()
    assert (store.get("revox_call")["state"], store.get("revox_call")["call_id"]) == ("placed", "c1")
    assert simulator.stats()["requests"]["create_call"] == 1


def test_the_time_that_is_told_is_that_of_the_request(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    simulator.add_fault("create_call", "reset")
    simulator.add_fault("search_calls", "incomplete_search", count=50)
    store, began = StateStore(), clock.now
    for _ in range(3):
        with pytest.raises(RevoxOutcomeUnknownError, match=began.isoformat(timespec="seconds").replace("+", r"\+")):
            placing(client, clock, store).once()
        clock.now += timedelta(hours=1)


def test_a_later_try_without_a_store_waits_and_dials(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    placed = placing(client, clock, None, origin=Origin(NAME, first_try=False)).once()
    assert placed.how == "placed"
    assert sum(clock.slept) >= 60 + 5 + 30 + 30


def test_an_intent_that_took_too_long_to_write_is_written_again(
    simulator: Simulator, client: RevoxClient, clock: Clock
) -> None:
    store = StateStore()
    writes: list[str] = []

    def slow_once(key: str, value: dict[str, Any]) -> None:
        writes.append(value["state"])
        if len(writes) == 1:
            clock.now += timedelta(seconds=61)

    store.before_set = slow_once
    placing(client, clock, store).once()
    assert writes == ["intent", "intent", "placed"]
    assert simulator.stats()["posts_received"] == 1


# --- mapped tasks of a run that was cleared -------------------------------------------------


def mapped(index: int, *, cleared: bool) -> Origin:
    return Origin(
        CallName("", "campaign", "manual__1", "call", index),
        first_try=not cleared,
        clear_number=int(cleared),
        mapped=True,
    )


def test_map_indexes_that_shifted_find_the_persons_call(
    simulator: Simulator, client: RevoxClient, clock: Clock
) -> None:
    first = placing(client, clock, StateStore(), origin=mapped(3, cleared=False)).once()
    # A contact was inserted before: the same person now has index 4, which has no record.
    again = placing(client, clock, StateStore(), origin=mapped(4, cleared=True)).once()
    assert (again.call_id, again.how) == (first.call_id, "adopted")
    assert simulator.stats()["posts_received"] == 1


def test_somebody_new_in_a_cleared_run_is_called(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    assert placing(client, clock, StateStore(), origin=mapped(4, cleared=True)).once().how == "placed"


def test_a_call_that_is_older_than_its_run_leaves_a_doubt(
    simulator: Simulator, client: RevoxClient, clock: Clock
) -> None:
    """Of a deleted run with the same id, or of this one by a clock that goes wrong: nobody is dialled on a guess."""
    placing(client, clock, StateStore(), origin=mapped(3, cleared=False)).once()
    later = datetime.now(timezone.utc) + timedelta(days=30)
    origin = Origin(CallName("", "campaign", "manual__1", "call", 3), clear_number=1, mapped=True, since=later)
    with pytest.raises(RevoxOutcomeUnknownError, match=simulator.orders()[0]["id"]):
        placing(client, clock, StateStore(), origin=origin).once()
    assert simulator.stats()["posts_received"] == 1


@pytest.mark.parametrize("wiped", [False, True])
def test_shifted_indexes_without_a_durable_record_find_the_call_too(
    simulator: Simulator, client: RevoxClient, clock: Clock, wiped: bool
) -> None:
    first = placing(client, clock, None, origin=mapped(0, cleared=False)).once()
    request = read_request({"phone_number": ALICE, "assistant": {"prompt": "Ask."}, "force_now": True})
    ledger = Ledger(StateStore(), wiped_on_success=True) if wiped else Ledger(None)
    name = CallName("", "campaign", "manual__1", "call", 5)
    origin = Origin(name, first_try=True, clear_number=1, mapped=True)
    again = Placing(client, ledger, request, origin, sleep=clock.sleep).once()
    assert (again.call_id, again.how) == (first.call_id, "adopted")
    assert simulator.stats()["posts_received"] == 1


def test_two_workers_with_the_same_task_instance(simulator: Simulator, client: RevoxClient, clock: Clock) -> None:
    """The second finds the first one's intent while its request is held, and does not post."""
    simulator.add_fault("create_call", "hold", taken=True)
    store = StateStore()
    first: list[Any] = []
    worker = threading.Thread(target=lambda: first.append(placing(client, clock, store).once()))
    worker.start()
    give_up = datetime.now(timezone.utc) + timedelta(seconds=10)
    while not simulator.stats()["held"] and datetime.now(timezone.utc) < give_up:
        pass
    second = placing(client, clock, store).once()
    simulator.release()
    worker.join(timeout=20)
    assert second.how == "adopted"
    assert first[0].call_id == second.call_id
    assert simulator.stats()["orders_per_number"] == {ALICE: 1}
