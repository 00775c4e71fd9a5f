"""The wire in detail: what an error says, what is tried again, how long a client pauses, and what it is made of."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from airflow_provider_revox import client as wire
from airflow_provider_revox import endpoints
from airflow_provider_revox.client import AsyncRevoxClient, ClientSettings, RevoxClient
from airflow_provider_revox.exceptions import (
    RevoxAPIError,
    RevoxAuthenticationError,
    RevoxError,
    RevoxOutcomeUnknownError,
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxReplyError,
    RevoxServerError,
    RevoxUnreachableError,
)
from airflow_provider_revox.simulator import Simulator

READING = endpoints.get_call("abc")
DIALLING = endpoints.create_call(
    endpoints.read_request({"phone_number": "+14155550100", "assistant": {"prompt": "Ask."}, "force_now": True})
)
PLAIN = ClientSettings(api_key="k")


@pytest.fixture
def client_to(simulator: Simulator) -> Iterator[Callable[..., RevoxClient]]:
    """Make clients of the simulator."""
    clients: list[RevoxClient] = []

    def make(**changes: Any) -> RevoxClient:
        defaults = {"api_key": simulator.api_key, "base_url": simulator.base_url}
        clients.append(RevoxClient(ClientSettings(**{**defaults, **changes})))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the pauses between tries instead of making them."""
    noted: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=noted.append))
    return noted


def error_of(endpoint: endpoints.Endpoint[Any], status: int, **reply: Any) -> RevoxAPIError:
    with pytest.raises(RevoxAPIError) as told:
        wire.read_response(endpoint, httpx.Response(status, **reply), "key-1")
    return told.value


# --- what an error says -----------------------------------------------------------------------


def test_an_unreadable_reply_says_of_what_and_why() -> None:
    error = error_of(READING, 201, text="{}")
    assert str(error) == "reading call abc: the reply cannot be read: the reply lacks `call`"
    assert error.status_code == 201


def test_an_error_says_what_to_check() -> None:
    redirect = error_of(READING, 307, headers={"location": "/"})
    assert (type(redirect), redirect.status_code) == (RevoxReplyError, 307)
    assert str(redirect) == (
        "reading call abc: Revox answered 307; redirects are not followed, check the connection's host"
    )
    refused = error_of(READING, 401)
    assert isinstance(refused, RevoxAuthenticationError)
    assert str(refused) == "reading call abc: Revox answered 401; check the API key in the connection's password"


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_trouble_of_the_server_tells_its_status_and_when_to_come_back(status: int) -> None:
    error = error_of(READING, status, headers={"retry-after": "7"})
    assert isinstance(error, RevoxServerError)
    assert (error.status_code, error.retry_after) == (status, 7)


@pytest.mark.parametrize("status", [400, 405, 406, 407, 409, 424, 426, 499])
def test_what_is_refused_is_no_trouble_of_the_server(status: int) -> None:
    error = error_of(READING, status)
    assert type(error) is RevoxRejectedError
    assert error.status_code == status


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("x" * 300, ": " + "x" * 300),
        ("x" * 301, ": " + "x" * 300 + "…"),
        ('[{"msg": "bad"}, {"other": 1}, "worse"]', ": bad; worse"),
        ('{"detail": [{"loc": ["body", 0, "voice"], "msg": "unknown"}]}', ": body.0.voice: unknown"),
        ('{"loc": "voice", "input": "a secret"}', ""),
        ('{"field": 7, "error": "bad"}', ": bad"),
        ('{"error": {"code": 7}, "message": "bad"}', ": bad"),
        ("7", ""),
        ("null", ""),
        ("true", ""),
    ],
)
def test_whatever_form_an_explanation_has_it_is_told(body: str, said: str) -> None:
    assert str(error_of(READING, 422, text=body)) == f"reading call abc: Revox answered 422{said}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("123456789", 123456789),
        ("1234567890", None),
        ("7.", None),
        ("7x5", None),
        ("7 or so", None),
        ("about 7", None),
        ("7.25\t", 7.25),
    ],
)
def test_only_a_number_of_seconds_is_read_as_one(value: str, seconds: float | None) -> None:
    assert error_of(READING, 429, headers={"retry-after": value}).retry_after == seconds


def test_a_date_to_come_back_keeps_its_zone() -> None:
    soon = datetime.now(timezone(timedelta(hours=2))) + timedelta(seconds=60)
    error = error_of(READING, 429, headers={"retry-after": format_datetime(soon)})
    assert error.retry_after == pytest.approx(60, abs=3)


def test_nobody_there_is_told_from_no_reply(simulator: Simulator, client_to: Callable[..., RevoxClient]) -> None:
    with pytest.raises(RevoxUnreachableError) as nobody:
        client_to(base_url="http://127.0.0.1:1/api", tries=1).send(READING)
    assert str(nobody.value) == "reading call abc: nothing was sent (ConnectError)"
    assert nobody.value.sent is False
    simulator.add_fault("get_call", "hold")
    with pytest.raises(RevoxUnreachableError) as silence:
        client_to(timeout=0.2, tries=1).send(READING)
    simulator.release()
    assert str(silence.value) == "reading call abc: no whole reply came (ReadTimeout)"
    assert silence.value.sent is True


def test_an_unknown_outcome_says_so(simulator: Simulator, client_to: Callable[..., RevoxClient]) -> None:
    simulator.add_fault("create_call", "unavailable")
    with pytest.raises(
        RevoxOutcomeUnknownError,
        match=r"^placing a call: Revox answered 503.*; whether Revox took the order, and so dials, is not known$",
    ):
        client_to().send(DIALLING)


# --- what is tried again ----------------------------------------------------------------------


@pytest.mark.parametrize(("status", "transient"), [(200, True), (299, True), (300, False), (399, False)])
def test_no_redirect_is_followed_by_trying_again(status: int, transient: bool) -> None:
    assert wire.is_transient(error_of(READING, status)) is transient


@pytest.mark.parametrize(
    ("error", "reading", "dialling"),
    [
        (RevoxUnreachableError("x", sent=False), True, True),
        (RevoxUnreachableError("x", sent=True), True, False),
        (RevoxRateLimitError("x"), True, True),
        (RevoxRateLimitError("x", retry_after=60.0), True, True),
        (RevoxRateLimitError("x", retry_after=60.1), False, False),
        (RevoxServerError("x"), True, False),
        (RevoxServerError("x", retry_after=60.1), False, False),
        (RevoxReplyError("x", status_code=200), True, False),
        (RevoxRejectedError("x", status_code=400), False, False),
        (RevoxError("x"), False, False),
        (KeyError("x"), False, False),
    ],
)
def test_what_is_tried_again(error: Exception, reading: bool, dialling: bool) -> None:
    assert wire.is_worth_another_try(READING, error, PLAIN) is reading
    assert wire.is_worth_another_try(DIALLING, error, PLAIN) is dialling


def test_an_error_that_names_no_pause_is_tried_again_however_short_the_longest_one() -> None:
    settings = dataclasses.replace(PLAIN, longest_pause_seconds=0.5)
    assert wire.is_worth_another_try(READING, RevoxServerError("x"), settings)


@pytest.mark.parametrize("error", [KeyError("x"), RevoxError("x"), RevoxUnreachableError("x")])
def test_what_revox_did_not_answer_is_no_refusal(error: Exception) -> None:
    assert wire.is_certainly_not_taken(error) is False


# --- pauses -----------------------------------------------------------------------------------


def test_pauses_double_with_jitter_up_to_the_longest(
    simulator: Simulator, client_to: Callable[..., RevoxClient], pauses: list[float]
) -> None:
    simulator.add_fault("get_call", "unavailable", count=99)
    client = client_to(tries=5, backoff_seconds=0.25, longest_pause_seconds=1.5)
    jitters: list[float] = []
    for _ in range(10):
        pauses.clear()
        with pytest.raises(RevoxServerError):
            client.send(READING)
        jitters += [pause - least for pause, least in zip(pauses, (0.25, 0.5, 1.0, 1.5), strict=True)]
    assert all(0 <= jitter <= 0.25 for jitter in jitters)
    assert min(jitters) < 0.12 < max(jitters)


def test_the_longer_of_pause_and_retry_after_counts(
    simulator: Simulator, client_to: Callable[..., RevoxClient], pauses: list[float]
) -> None:
    for retry_after in (7, 1):
        simulator.add_fault("get_call", "rate_limited", retry_after=retry_after, count=3)
        with pytest.raises(RevoxRateLimitError):
            client_to(tries=3, backoff_seconds=2.0).send(READING)
        simulator.clear_faults()
    assert pauses[:2] == [7, 7]
    assert 2 <= pauses[2] <= 4 <= pauses[3] <= 6


def test_without_a_rate_no_request_waits() -> None:
    for rate in (None, 0):
        pace = wire._Pace(rate)
        assert [pace.delay() for _ in range(5)] == [0.0] * 5


def test_each_request_takes_the_next_free_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(wire, "time", SimpleNamespace(monotonic=lambda: clock.now))
    pace = wire._Pace(4)
    assert [pace.delay() for _ in range(3)] == [0.0, 0.25, 0.5]
    clock.now += 0.5
    assert [pace.delay() for _ in range(2)] == [0.25, 0.5]
    clock.now += 60
    assert [pace.delay() for _ in range(2)] == [0.0, 0.25]


def test_the_rate_holds_for_both_senders(simulator: Simulator, transport: str) -> None:
    settings = ClientSettings(api_key=simulator.api_key, base_url=simulator.base_url, requests_per_second=20)
    look = endpoints.list_calls(0, 1, [])

    def one_after_another() -> None:
        client = RevoxClient(settings)
        for _ in range(6):
            client.send(look)
        client.close()

    async def all_at_once() -> None:
        client = AsyncRevoxClient(settings)
        await asyncio.gather(*(client.send(look) for _ in range(3)), *(client.exchange(look) for _ in range(3)))
        await client.aclose()

    for run in (one_after_another, lambda: asyncio.run(all_at_once())):
        began = datetime.now(timezone.utc)
        run()
        assert (datetime.now(timezone.utc) - began).total_seconds() >= 5 / 20


async def test_the_queue_stands_in_front_of_the_pool(
    simulator: Simulator, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = AsyncRevoxClient(ClientSettings(api_key=simulator.api_key, base_url=simulator.base_url, max_connections=3))
    under_way, request = [0], type(client._quick).request

    async def counted(http: Any, *args: Any, **kwargs: Any) -> httpx.Response:
        under_way.append(under_way[-1] + 1)
        try:
            return await request(http, *args, **kwargs)
        finally:
            under_way.append(under_way[-1] - 1)

    monkeypatch.setattr(type(client._quick), "request", counted)
    pages = await asyncio.gather(*(client.send(endpoints.list_calls(0, 1, [])) for _ in range(20)))
    await client.aclose()
    assert pages == [[]] * 20
    assert max(under_way) == 3


# --- what a client is made of -----------------------------------------------------------------


def test_what_is_set_when_nothing_is_said() -> None:
    assert dataclasses.astuple(PLAIN) == (
        *("k", "https://www.getrevox.com/api", 30.0, 16, None, "", "auto", "", 5, 0.5, 60.0),
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.tries = 1  # type: ignore[misc]


def test_what_the_http_clients_are_given() -> None:
    given = wire._httpx_arguments(ClientSettings(api_key="key-1", timeout=7, max_connections=3))
    assert given == {
        "headers": {
            "Authorization": "Bearer key-1",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "airflow-provider-revox",
        },
        "timeout": httpx.Timeout(connect=5, read=7, write=7, pool=7),
        "limits": httpx.Limits(max_connections=3, max_keepalive_connections=3, keepalive_expiry=120),
        "verify": wire.tls_context(),
        "follow_redirects": False,
    }


def test_only_where_no_tls_is_spoken_nobody_is_trusted() -> None:
    assert wire.tls_context().get_ca_certs()
    bare = wire._httpx_arguments(ClientSettings(api_key="k", base_url="http://127.0.0.1:1/api"))["verify"]
    assert bare is not wire.tls_context()
    assert bare.get_ca_certs() == []


def test_a_closed_client_sends_nothing(
    simulator: Simulator, client_to: Callable[..., RevoxClient], transport: str
) -> None:
    client = client_to()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.send(READING)

    async def close_and_send() -> None:
        twin = AsyncRevoxClient(client.settings)
        await twin.aclose()
        await twin.send(READING)

    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(close_and_send())
    assert simulator.stats()["requests"] == {}
