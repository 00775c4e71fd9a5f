"""The watcher: many waits, one client; looks at many orders with one request; nothing it does depends on who waits first."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_revox import hooks, watcher, watching
from airflow_provider_revox.client import AsyncRevoxClient
from airflow_provider_revox.exceptions import (
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxRequestError,
    RevoxServerError,
)
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.polling import End
from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.watching import FEWEST_TOGETHER, MOST_TOGETHER, BulkLooks
from tests.conftest import connect

MANY = 40


def place(count: int, digits: int = 100) -> list[str]:
    with RevoxHook() as hook:
        return [
            hook.create_call(
                {"phone_number": f"+1415{index:04}{digits:03}", "assistant": {"prompt": "Ask."}, "force_now": True}
            ).id
            for index in range(count)
        ]


def watch(call_id: str, deadline: float | None = None) -> Coroutine[Any, Any, End]:
    return watcher.watch_call(call_id, "revox_default", 0.3, 0.3, deadline)


def begin(call_ids: list[str]) -> list[asyncio.Task[End]]:
    return [asyncio.ensure_future(watch(call_id)) for call_id in call_ids]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.fixture
def still() -> Iterator[Simulator]:
    """A Revox whose time passes only when it is told so."""
    with Simulator(speed=1e-9, seed=7) as running:
        yield running


@pytest.fixture
def quick(still: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The same, for waits that look several times a second."""
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.05)
    monkeypatch.setattr("airflow_provider_revox.watcher.BETWEEN_FIRST_LOOKS_SECONDS", 0.0)
    connect(monkeypatch, still)
    return still


def requests(simulator: Simulator, endpoint: str) -> int:
    count: int = simulator.stats()["requests"].get(endpoint, 0)
    return count


def change_key(simulator: Simulator, key: str) -> None:
    httpx.post(f"{simulator.url}/_simulator/api-key", json={"api_key": key}, trust_env=False).raise_for_status()


def left_nothing() -> bool:
    loop = asyncio.get_running_loop()
    return not watcher._watchers.get(loop) and not hooks._shared_clients.get(loop)


# --- looking at many orders with one request ------------------------------------------------


async def test_many_orders_are_looked_at_together_and_each_end_is_confirmed(quick: Simulator) -> None:
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "search_calls") >= 5)
    before = requests(quick, "get_call")
    quick.advance(3600)
    assert await asyncio.gather(*waits) == [End("ended", "completed")] * MANY
    assert requests(quick, "get_call") - before == MANY
    # The first look of all tells whether the connection allows it.
    assert before <= 16
    assert set(quick.stats()["polls"].values()) - {0, 1, 2, 3}, "looks at many count as looks at each"
    assert left_nothing()


async def test_a_few_orders_are_looked_at_one_by_one(quick: Simulator) -> None:
    waits = begin(place(FEWEST_TOGETHER - 1))
    await until(lambda: requests(quick, "get_call") >= 12)
    quick.advance(3600)
    await asyncio.gather(*waits)
    assert requests(quick, "search_calls") == 0


async def test_switched_off_nothing_is_searched(quick: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, quick, api_extensions="off")
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "get_call") >= 3 * MANY)
    quick.advance(3600)
    await asyncio.gather(*waits)
    assert requests(quick, "search_calls") == 0


async def test_a_deployment_that_cannot_search_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.05)
    with Simulator(speed=1e-9, seed=7, extensions=False) as plain:
        connect(monkeypatch, plain)
        searched: list[int] = []
        failed = BulkLooks.failed

        def count(bulk: BulkLooks, error: Any, now: float, *, asked: int) -> None:
            searched.append(error.status_code)
            failed(bulk, error, now, asked=asked)

        monkeypatch.setattr(BulkLooks, "failed", count)
        waits = begin(place(MANY))
        await until(lambda: requests(plain, "get_call") >= 3 * MANY)
        plain.advance(3600)
        assert await asyncio.gather(*waits) == [End("ended", "completed")] * MANY
    assert searched in ([404], [405])


@pytest.mark.parametrize(
    "fault", ["unavailable", "server_error", "truncated_json", "missing_call", "rate_limited", "reset"]
)
async def test_a_search_that_goes_wrong_is_replaced_by_looks_at_each(
    quick: Simulator, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LIMITED_SECONDS", 0.5)
    quick.add_fault("search_calls", fault, probability=1)
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "get_call") >= 3 * MANY)
    quick.advance(3600)
    assert await asyncio.gather(*waits) == [End("ended", "completed")] * MANY
    assert 1 <= requests(quick, "search_calls") <= 8


async def test_an_order_that_the_search_leaves_out_is_looked_at_by_itself(quick: Simulator) -> None:
    quick.add_fault("search_calls", "incomplete_search", missing=3, probability=1)
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "search_calls") >= 3)
    quick.advance(3600)
    assert await asyncio.gather(*waits) == [End("ended", "completed")] * MANY


async def test_an_end_that_only_the_search_shows_is_not_believed(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = watcher.glance_at_calls

    def lie(call_ids: list[str]) -> Any:
        endpoint = ask(call_ids)
        told = endpoint.read
        object.__setattr__(
            endpoint, "read", lambda body: [glance.model_copy(update={"status": "completed"}) for glance in told(body)]
        )
        return endpoint

    monkeypatch.setattr(watcher, "glance_at_calls", lie)
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "search_calls") >= 2 and requests(quick, "get_call") >= 3 * MANY)
    assert not any(wait.done() for wait in waits)
    monkeypatch.undo()
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


AWAY, TOO_MANY = RevoxServerError("away", status_code=503), RevoxRejectedError("too many", status_code=422)


def allowed() -> BulkLooks:
    bulk = BulkLooks()
    assert bulk.most_for(1000, 0) == 1, "not before the connection allows it"
    bulk.allowed = True
    assert bulk.most_for(FEWEST_TOGETHER - 1, 0) == 1
    assert bulk.most_for(1000, 0) == MOST_TOGETHER
    return bulk


def test_a_server_with_shorter_pages_is_asked_for_less_and_for_more_again() -> None:
    bulk = allowed()
    bulk.worked(0, asked=100, told=60)
    assert bulk.most_for(1000, 0) == 100
    bulk.worked(0, asked=100, told=20)
    assert bulk.most_for(1000, 0) == 20
    for _ in range(3):
        bulk.failed(TOO_MANY, 0, asked=20)
    assert bulk.most_for(1000, 0) == 10, "what was under way together is one refusal"
    bulk.worked(0, asked=7, told=7)
    assert bulk.most_for(1000, 0) == 10
    for most in (20, 40, 80, 100, 100):
        bulk.worked(0, asked=bulk.most_for(1000, 0), told=bulk.most_for(1000, 0))
        assert bulk.most_for(1000, 0) == most


def test_after_trouble_there_are_single_looks_for_a_while_that_grows() -> None:
    bulk = allowed()
    for _ in range(16):
        bulk.failed(AWAY, 0, asked=100)
    assert (bulk.most_for(1000, 59), bulk.most_for(1000, 60)) == (1, 100), "what was under way together is one failure"
    bulk.failed(AWAY, 60, asked=100)
    assert (bulk.most_for(1000, 179), bulk.most_for(1000, 180)) == (1, 100)
    now = 200.0
    for _ in range(20):
        bulk.failed(AWAY, now, asked=100)
        now += 3600
    assert (bulk.most_for(1000, now - 1), bulk.most_for(1000, now)) == (1, 100)
    bulk.worked(now, asked=10, told=10)
    bulk.failed(AWAY, now, asked=100)
    assert bulk.most_for(1000, now + 60) == 100
    bulk.worked(now + 60, asked=100, told=0)
    assert (bulk.most_for(1000, now + 61), bulk.most_for(1000, now + 200)) == (1, 100)


def test_a_limit_of_requests_is_no_reason_for_more_of_them() -> None:
    bulk, limit = allowed(), RevoxRateLimitError("slow down", retry_after=1)
    for second in range(60):
        bulk.failed(limit, second, asked=100)
        assert bulk.most_for(1000, second) == 100
    bulk.failed(limit, 60, asked=100)
    assert bulk.most_for(1000, 61) == 1, "only searching is limited"


# --- one client for all ---------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[AsyncRevoxClient]:
    """All clients that were built."""
    clients: list[AsyncRevoxClient] = []
    build = hooks._build_client

    async def count(conn_id: str) -> AsyncRevoxClient:
        clients.append(await build(conn_id))
        return clients[-1]

    monkeypatch.setattr(hooks, "_build_client", count)
    return clients


async def test_a_key_refused_for_all_at_once_is_read_anew_once(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, quick, api_extensions="off")
    waits = begin(place(1000))
    await until(lambda: requests(quick, "get_call") >= 1500)
    assert len(built) == 1
    connection = json.loads(os.environ["AIRFLOW_CONN_REVOX_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({**connection, "password": "rotated"}))
    change_key(quick, "rotated")
    refused_before = requests(quick, "get_call")
    await until(lambda: requests(quick, "get_call") >= refused_before + 2000)
    quick.advance(3600)
    assert await asyncio.gather(*waits) == [End("ended", "completed")] * 1000
    assert len(built) == 2
    # Only what was under way was refused.
    assert quick.stats()["refused_keys"] <= built[0].settings.max_connections
    assert left_nothing()


async def test_a_key_that_stays_refused_is_tried_seldom_for_all_together(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READ_AGAIN_SECONDS", 0.5)
    waits = begin(place(MANY))
    await until(lambda: requests(quick, "search_calls") >= 2)
    change_key(quick, "another")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await until(lambda: quick.stats()["refused_keys"] >= 4)
    assert len(built) <= 2 + (loop.time() - begun) / 0.5
    connection = json.loads(os.environ["AIRFLOW_CONN_REVOX_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({**connection, "password": "another"}))
    quick.advance(3600)
    assert await asyncio.gather(*waits) == [End("ended", "completed")] * MANY


async def test_a_storm_of_cancellations_leaves_the_client_usable(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, quick, api_extensions="off", max_connections=4)
    waits = begin(call_ids := place(1000))
    await until(lambda: requests(quick, "get_call") >= 500)
    stay = asyncio.ensure_future(watch(call_ids[0]))
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    before = requests(quick, "get_call")
    await until(lambda: requests(quick, "get_call") >= before + 6)
    quick.advance(3600)
    assert await stay == End("ended", "completed")
    assert len(built) == 1
    assert left_nothing()


async def test_all_waits_cancelled_in_the_midst_of_requests_leave_nothing(quick: Simulator) -> None:
    quick.add_fault("get_call", "hold", probability=1)
    waits = begin(call_ids := place(100))
    await until(lambda: requests(quick, "get_call") >= 1)
    for _ in range(3):
        for wait in waits:
            wait.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waits, return_exceptions=True)
    await until(left_nothing)
    quick.clear_faults()
    quick.release()
    quick.advance(3600)
    assert await watch(call_ids[0]) == End("ended", "completed")


async def test_nothing_is_asked_for_those_who_were_cancelled(quick: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, quick, api_extensions="off", max_connections=2)
    quick.add_fault("get_call", "hold", count=2)
    waits = begin(call_ids := place(100))
    await until(lambda: requests(quick, "get_call") == 2)
    for wait in waits[2:]:
        wait.cancel()
    await asyncio.gather(*waits[2:], return_exceptions=True)
    quick.advance(3600)
    quick.release()
    assert await asyncio.gather(*waits[:2]) == [End("ended", "completed")] * 2
    assert requests(quick, "get_call") == 2, call_ids


async def test_a_connection_that_cannot_be_read_does_not_hold_a_wait_for_ever(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READ_WITHIN_SECONDS", 0.2)

    async def never(conn_id: str) -> AsyncRevoxClient:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(hooks, "_build_client", never)
    assert await watch("c1", watcher._now().timestamp() + 1) == End("deadline", None)
    assert left_nothing()


async def test_a_reading_of_the_connection_that_was_cut_off_is_begun_again(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "READ_AGAIN_SECONDS", 0.1)
    build, cut_off = hooks._build_client, [True]

    async def cut(conn_id: str) -> AsyncRevoxClient:
        if cut_off.pop() if cut_off else False:
            raise asyncio.CancelledError
        return await build(conn_id)

    monkeypatch.setattr(hooks, "_build_client", cut)
    call_ids = place(MANY)
    quick.advance(3600)
    assert await asyncio.gather(*begin(call_ids)) == [End("ended", "completed")] * MANY


async def test_what_goes_wrong_at_the_close_is_nothing_to_those_who_wait(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = AsyncRevoxClient.aclose

    async def close_badly(client: AsyncRevoxClient) -> None:
        await close(client)
        raise OSError

    monkeypatch.setattr(AsyncRevoxClient, "aclose", close_badly)
    (call_id,) = place(1)
    quick.advance(3600)
    assert await watch(call_id) == End("ended", "completed")
    assert left_nothing()


async def test_a_close_that_takes_for_ever_holds_no_answer(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "CLOSE_WITHIN_SECONDS", 0.1)
    close, go = AsyncRevoxClient.aclose, asyncio.Event()

    async def close_late(client: AsyncRevoxClient) -> None:
        await go.wait()
        await close(client)

    monkeypatch.setattr(AsyncRevoxClient, "aclose", close_late)
    (call_id,) = place(1)
    quick.advance(3600)
    assert await watch(call_id) == End("ended", "completed")
    go.set()
    await until(lambda: not watcher._closing)
    assert left_nothing()


@pytest.mark.parametrize("count", [1, MANY])
async def test_a_look_that_is_cut_off_is_made_again(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """As by a library that cancels its caller: the waits that a looker had taken are not forgotten."""
    monkeypatch.setattr(watcher, "SHORTEST_SECONDS", 0.05)
    exchange, cut_off = AsyncRevoxClient.exchange, [True] * 3

    async def cut(client: AsyncRevoxClient, endpoint: Any) -> Any:
        if cut_off:
            cut_off.pop()
            raise asyncio.CancelledError
        return await exchange(client, endpoint)

    monkeypatch.setattr(AsyncRevoxClient, "exchange", cut)
    call_ids = place(count)
    quick.advance(3600)
    assert await asyncio.gather(*begin(call_ids)) == [End("ended", "completed")] * count
    assert left_nothing()


def test_two_event_loops_one_after_another(quick: Simulator) -> None:
    call_ids = place(MANY)
    quick.advance(3600)

    async def all_ends() -> list[End]:
        return await asyncio.gather(*begin(call_ids))

    for _ in range(2):
        assert asyncio.run(all_ends()) == [End("ended", "completed")] * MANY
    gc.collect()
    assert not any(watcher._watchers.values())


async def test_a_client_that_has_lost_connections_is_replaced(
    quick: Simulator, built: list[AsyncRevoxClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    (call_id,) = place(1)
    wait = asyncio.ensure_future(watch(call_id))
    await until(lambda: requests(quick, "get_call") >= 2)
    built[0].worn_out = True
    quick.add_fault("get_call", "unavailable", count=1)
    await until(lambda: len(built) == 2)
    quick.advance(3600)
    assert await wait == End("ended", "completed")


# --- when -----------------------------------------------------------------------------------


async def test_a_herd_does_not_begin_at_once(quick: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_revox.watcher.BETWEEN_FIRST_LOOKS_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    herd = watcher.Watcher("revox_default")
    pace = watcher._pace(1.0, 60.0)
    now = loop.time()
    dues = [herd._first_look(pace) - now for _ in range(1000)]
    assert dues[0] < 0.05, "one wait alone begins at once"
    assert max(dues) <= 1.1
    assert dues[:90] == sorted(dues[:90])
    late = sorted(dues[100:])
    assert late[0] < 0.1 < 0.4 < late[len(late) // 2] < 0.6


async def test_requests_per_second_hold_for_all_waits_together(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, quick, requests_per_second=10, api_extensions="off")
    call_ids = place(1)
    begun = asyncio.get_running_loop().time()
    waits = begin(call_ids * 50)
    await until(lambda: requests(quick, "get_call") >= 20)
    assert asyncio.get_running_loop().time() - begun >= 1.8
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_a_hanging_service_does_not_hold_a_wait_beyond_its_deadline(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By more than one timeout, that is: there is no second try after the deadline."""
    connect(monkeypatch, quick, timeout=0.5)
    (call_id,) = place(1)
    quick.add_fault("get_call", "hold", probability=1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await watch(call_id, watcher._now().timestamp() + 0.2) == End("deadline", None)
    assert loop.time() - begun < 1.5


async def test_a_look_that_hangs_holds_nobody_else(quick: Simulator) -> None:
    stuck, other = place(2)
    number = next(order["to_phone_number"] for order in quick.orders() if order["id"] == stuck)
    quick.add_fault("get_call", "hold", probability=1, phone_number=number)
    hangs = asyncio.ensure_future(watch(stuck))
    await until(lambda: requests(quick, "get_call") == 1)
    goes_on = asyncio.ensure_future(watch(other))
    await until(lambda: requests(quick, "get_call") >= 4)
    quick.advance(3600)
    assert await goes_on == End("ended", "completed")
    assert not hangs.done()
    quick.clear_faults()
    quick.release()
    assert await hangs == End("ended", "completed")


async def test_settings_that_make_no_sense_are_refused_by_name(quick: Simulator) -> None:
    with pytest.raises(RevoxRequestError, match=r"poke_interval \(60 s\) must not be above max_poll_interval \(5 s\)"):
        await watcher.watch_call("c1", "revox_default", 60, 5, None)


# --- who is told ----------------------------------------------------------------------------

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def test_each_wait_is_told_in_its_own_context(quick: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow finds the log of a trigger by the context in which a line is written."""
    told: list[tuple[str, str]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append((WHO.get(), str(record.args[0] if isinstance(record.args, tuple) else "")))

    monkeypatch.setattr(watcher.log, "level", logging.INFO)
    monkeypatch.setattr(watcher.log, "handlers", [Listener()])

    async def wait_as(call_id: str) -> End:
        WHO.set(call_id)
        return await watch(call_id)

    waits = [asyncio.ensure_future(wait_as(call_id)) for call_id in place(MANY)]
    await until(lambda: requests(quick, "search_calls") >= 2)
    quick.advance(3600)
    await asyncio.gather(*waits)
    assert len(told) >= 2 * MANY
    assert {who == call_id for who, call_id in told} == {True}


async def test_a_mistake_of_ours_ends_the_wait_rather_than_hanging_it(
    quick: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(call_id: str) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(watcher, "glance_at_call", mistake)
    for outcome in await asyncio.gather(*begin(["c1", "c2"]), return_exceptions=True):
        assert isinstance(outcome, ZeroDivisionError)
    assert left_nothing()
