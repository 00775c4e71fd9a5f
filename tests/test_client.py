"""The wire: what is sent, how replies are read, and what is sent again; sync and async alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
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
    RevoxNotFoundError,
    RevoxOutcomeUnknownError,
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxReplyError,
    RevoxRequestError,
    RevoxServerError,
    RevoxUnreachableError,
)
from airflow_provider_revox.simulator import Simulator
from tests.conftest import TRANSPORTS, use_transport

Send = Callable[..., Any]
REQUEST = {"phone_number": "+14155550100", "assistant": {"prompt": "Ask."}, "force_now": True}


def settings(simulator: Simulator, **changes: Any) -> ClientSettings:
    defaults = {"api_key": simulator.api_key, "base_url": simulator.base_url, "backoff_seconds": 0.01, "tries": 3}
    return ClientSettings(**{**defaults, **changes})


@pytest.fixture(params=["sync", *TRANSPORTS])
def send(request: pytest.FixtureRequest, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Send an endpoint with either sender, the async one over each transport: all must behave the same."""
    if request.param in TRANSPORTS:
        use_transport(monkeypatch, request.param)

    def sync_send(endpoint: Any, **changes: Any) -> Any:
        client = RevoxClient(settings(simulator, **changes))
        try:
            return client.send(endpoint)
        finally:
            client.close()

    def async_send(endpoint: Any, **changes: Any) -> Any:
        async def run() -> Any:
            client = AsyncRevoxClient(settings(simulator, **changes))
            try:
                return await client.send(endpoint)
            finally:
                await client.aclose()

        return asyncio.run(run())

    return sync_send if request.param == "sync" else async_send


def create() -> endpoints.Endpoint[Any]:
    return endpoints.create_call(endpoints.read_request(REQUEST))


def requests_of(simulator: Simulator, endpoint: str) -> int:
    return simulator.stats()["requests"].get(endpoint, 0)


# --- the endpoints --------------------------------------------------------------------------


def test_every_endpoint_answers(send: Send, simulator: Simulator) -> None:
    order = send(create())
    assert send(endpoints.get_call(order.id)).id == order.id
    assert send(endpoints.glance_at_call(order.id)).id == order.id
    assert send(endpoints.search_calls(0, 10, {"to_phone_number": "+14155550100"})).total_count == 1
    assert send(endpoints.search_calls(0, 10, {"call_ids": ["none"]})).calls == []
    simulator.advance(3600)
    (attempt,) = send(endpoints.list_calls(0, 50, ["completed", "errored"]))
    assert attempt.phone_number == "+14155550100"
    assert send(endpoints.list_calls(0, 50, ["scheduled"])) == []
    assert send(endpoints.cancel_call(order.id)) is False
    assert send(endpoints.cancel_call(send(create()).id)) is True


@pytest.mark.parametrize("call_id", ["", "  ", ".", "..", None, 7])
def test_an_id_that_is_none_is_refused(call_id: Any) -> None:
    for endpoint in (endpoints.get_call, endpoints.glance_at_call, endpoints.cancel_call):
        with pytest.raises(RevoxRequestError, match="call_id"):
            endpoint(call_id)


def test_an_id_stays_one_path_segment(send: Send, simulator: Simulator) -> None:
    assert endpoints.get_call("a/b?c#d é").path == "/call/a%2Fb%3Fc%23d%20%C3%A9"
    with pytest.raises(RevoxNotFoundError):
        send(endpoints.get_call("../call?page=0"))
    assert requests_of(simulator, "list_calls") == 0


@pytest.mark.parametrize(("page", "page_size", "statuses"), [(-1, 50, []), (0, 0, []), (0, 50, "completed")])
def test_a_page_that_makes_no_sense_is_refused(page: int, page_size: int, statuses: Any) -> None:
    with pytest.raises(RevoxRequestError):
        endpoints.list_calls(page, page_size, statuses)


def test_a_filter_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RevoxRequestError, match="phone_number"):
        endpoints.search_calls(0, 50, {"phone_number": "+14155550100"})


# --- replies --------------------------------------------------------------------------------

STATUSES = [
    (400, RevoxRejectedError),
    (401, RevoxAuthenticationError),
    (402, RevoxRejectedError),
    (403, RevoxAuthenticationError),
    (404, RevoxNotFoundError),
    (405, RevoxRejectedError),
    (408, RevoxServerError),
    (409, RevoxRejectedError),
    (413, RevoxRejectedError),
    (415, RevoxRejectedError),
    (422, RevoxRejectedError),
    (429, RevoxRateLimitError),
    (500, RevoxServerError),
    (502, RevoxServerError),
    (503, RevoxServerError),
    (599, RevoxServerError),
    (302, RevoxReplyError),
    (204, RevoxReplyError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_each_status_has_its_error(send: Send, simulator: Simulator, status: int, kind: type[RevoxAPIError]) -> None:
    extra = {"location": "/elsewhere"} if status == 302 else {}
    simulator.add_fault("get_call", "status", status=status, count=9, **extra)
    with pytest.raises(kind) as told:
        send(endpoints.get_call("abc"), tries=1)
    assert type(told.value) is kind
    assert told.value.status_code == status
    assert "abc" in str(told.value)


@pytest.mark.parametrize("kind", ["truncated_json", "wrong_content_type", "missing_call"])
def test_a_reply_that_cannot_be_read_has_a_name(send: Send, simulator: Simulator, kind: str) -> None:
    call_id = send(create()).id
    simulator.add_fault("get_call", kind, count=3)
    with pytest.raises(RevoxReplyError, match="cannot be read"):
        send(endpoints.get_call(call_id))
    assert send(endpoints.get_call(call_id)).id == call_id


def test_a_reply_cut_short_on_the_way_has_a_name(send: Send, simulator: Simulator) -> None:
    call_id = send(create()).id
    simulator.add_fault("get_call", "truncated_json", lie=True, count=3)
    with pytest.raises(RevoxUnreachableError, match="no whole reply"):
        send(endpoints.get_call(call_id))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": "no such voice"}', ": no such voice"),
        ('{"message": "no such voice"}', ": no such voice"),
        (
            '{"detail": [{"loc": ["body", "voice"], "msg": "unknown", "input": "a secret prompt"}, {"msg": "bad"}]}',
            ": body.voice: unknown; bad",
        ),
        ('{"error": {"message": "no such voice", "field": "voice"}}', ": voice: no such voice"),
        ('{"other": "x"}', ""),
        ('"plain"', ": plain"),
        ("[" * 100_000, ": " + "[" * 300 + "…"),
        ("<html>gone\n wrong</html>", ": <html>gone wrong</html>"),
        ("", ""),
        ("[1]", ""),
        ("x" * 500, ": " + "x" * 300 + "…"),
        ('{"error": "+14155550100 with key-1 is bad"}', ": +1415•••0100 with ••• is bad"),
        (
            '{"error": "00336123456789, 0612345678, +1 415-555-0100 or (415) 555-0100"}',
            ": •••6789, •••5678, +1415•••0100 or +4155•••100",
        ),
    ],
)
def test_what_revox_says_is_told_without_secrets(body: str, said: str) -> None:
    response = httpx.Response(422, text=body)
    with pytest.raises(RevoxRejectedError) as told:
        wire.read_response(endpoints.get_call("abc"), response, "key-1")
    assert str(told.value) == f"reading call abc: Revox answered 422{said}"


# --- what is sent again ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["drop_reply", "reset", "server_error", "unavailable", "truncated_json", "wrong_content_type", "rate_limited"],
)
def test_reading_is_tried_again(send: Send, simulator: Simulator, kind: str) -> None:
    call_id = send(create()).id
    arguments = {"retry_after": 0} if kind == "rate_limited" else {}
    simulator.add_fault("get_call", kind, count=2, **arguments)
    assert send(endpoints.get_call(call_id)).id == call_id
    assert requests_of(simulator, "get_call") == 3


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422])
def test_what_no_try_can_mend_is_not_tried_again(send: Send, simulator: Simulator, status: int) -> None:
    simulator.add_fault("get_call", "status", status=status, count=9)
    with pytest.raises(RevoxAPIError):
        send(endpoints.get_call("abc"))
    assert requests_of(simulator, "get_call") == 1


def test_tries_end(send: Send, simulator: Simulator) -> None:
    simulator.add_fault("get_call", "unavailable", count=9)
    with pytest.raises(RevoxServerError):
        send(endpoints.get_call("abc"))
    assert requests_of(simulator, "get_call") == 3


@pytest.mark.parametrize(
    "kind",
    ["drop_reply", "reset", "bad_gateway_after", "server_error", "unavailable", "truncated_json", "missing_call"],
)
def test_dialling_is_never_sent_again_when_it_may_have_been_taken(send: Send, simulator: Simulator, kind: str) -> None:
    simulator.add_fault("create_call", kind)
    with pytest.raises(RevoxOutcomeUnknownError, match="not known"):
        send(create())
    assert simulator.stats()["posts_received"] == 1


def test_dialling_that_takes_too_long_is_unknown(send: Send, simulator: Simulator) -> None:
    simulator.add_fault("create_call", "hold", taken=True)
    with pytest.raises(RevoxOutcomeUnknownError, match="ReadTimeout"):
        send(create(), timeout=0.2)
    simulator.release()
    assert simulator.stats()["posts_received"] == 1


def test_dialling_is_sent_again_after_too_many_requests(send: Send, simulator: Simulator) -> None:
    simulator.add_fault("create_call", "rate_limited", count=2, retry_after=0)
    send(create())
    assert simulator.stats()["orders_created"] == 1
    assert simulator.stats()["posts_received"] == 3


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ConnectTimeout("x"), True),
        (httpx.PoolTimeout("x"), True),
        (httpx.ProxyError("x"), True),
        (httpx.InvalidURL("x"), False),
        (UnicodeError("x"), False),
        (httpx.ReadTimeout("x"), False),
        (httpx.WriteTimeout("x"), False),
        (httpx.ReadError("x"), False),
        (httpx.WriteError("x"), False),
        (httpx.RemoteProtocolError("x"), False),
        (httpx.LocalProtocolError("x"), False),
        (httpx.DecodingError("x"), False),
    ],
)
def test_only_what_never_connected_is_certain(monkeypatch: pytest.MonkeyPatch, error: Exception, certain: bool) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(httpx.Client, "request", fails)
    client = RevoxClient(ClientSettings(api_key="k", base_url="http://127.0.0.1:1/api", tries=2, backoff_seconds=0))
    kind = RevoxUnreachableError if certain else RevoxOutcomeUnknownError
    tried = []
    with pytest.raises(kind) as told:
        client.send(create(), before_try=lambda: tried.append(1))
    client.close()
    assert len(tried) == (2 if certain else 1)
    assert type(error).__name__ in str(told.value)


@pytest.mark.parametrize("status", sorted({*range(300, 309), *range(400, 432), 451, *range(500, 512)}))
def test_the_certain_refusals_are_the_ones_agreed_on(status: int) -> None:
    with pytest.raises(RevoxError) as told:
        wire.read_response(create(), httpx.Response(status), "k")
    agreed = {400, 401, 403, 404, 405, 413, 415, 422, 429}
    assert wire.is_certainly_not_taken(told.value) is (status in agreed)


def test_a_failing_step_before_a_try_stops_the_sending(simulator: Simulator) -> None:
    client = RevoxClient(settings(simulator))

    def fails() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        client.send(create(), before_try=fails)
    client.close()
    assert simulator.stats()["posts_received"] == 0


# --- Retry-After ----------------------------------------------------------------------------


def test_both_forms_of_retry_after_are_read() -> None:
    def seconds(value: str | None) -> float | None:
        response = httpx.Response(429, headers={"retry-after": value} if value is not None else {})
        with pytest.raises(RevoxRateLimitError) as told:
            wire.read_response(endpoints.get_call("a"), response, "k")
        return told.value.retry_after

    assert seconds("7") == 7
    assert seconds(" 1.5 ") == 1.5
    assert seconds(None) is None
    assert seconds("soon") is None
    assert seconds("-3") is None
    assert seconds("Mon, 01 Jan 2024 00:00:00 +999999999999999") is None
    in_a_minute = datetime.now(timezone.utc) + timedelta(seconds=60)
    assert seconds(format_datetime(in_a_minute, usegmt=True)) == pytest.approx(60, abs=3)
    assert seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert seconds("Sun, 06 Nov 1994 08:49:37") == 0


def test_retry_after_is_waited_for(send: Send, simulator: Simulator) -> None:
    simulator.add_fault("get_call", "rate_limited", retry_after=1)
    call_id = send(create()).id
    began = datetime.now(timezone.utc)
    send(endpoints.get_call(call_id))
    assert (datetime.now(timezone.utc) - began).total_seconds() >= 1


def test_a_long_retry_after_ends_the_tries(send: Send, simulator: Simulator) -> None:
    simulator.add_fault("get_call", "rate_limited", retry_after=61, count=9)
    with pytest.raises(RevoxRateLimitError) as told:
        send(endpoints.get_call("abc"))
    assert told.value.retry_after == 61
    assert requests_of(simulator, "get_call") == 1


# --- limits and secrets ---------------------------------------------------------------------


async def test_no_more_requests_at_once_than_allowed(simulator: Simulator, transport: str) -> None:
    simulator.add_fault("get_call", "hold", count=20)
    client = AsyncRevoxClient(settings(simulator, max_connections=3, tries=1))
    looks = [asyncio.ensure_future(client.send(endpoints.get_call(f"call-{n}"))) for n in range(20)]
    deadline = asyncio.get_running_loop().time() + 10
    while simulator.stats()["held"] < 3 and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    assert simulator.stats()["held"] == 3
    assert simulator.stats()["requests"]["get_call"] == 3
    while not all(look.done() for look in looks):
        simulator.release()
        await asyncio.sleep(0.01)
    results = await asyncio.gather(*looks, return_exceptions=True)
    assert all(isinstance(result, RevoxNotFoundError) for result in results)
    await client.aclose()


def test_requests_per_second_are_kept(send: Send, simulator: Simulator) -> None:
    client = RevoxClient(settings(simulator, requests_per_second=20))
    began = datetime.now(timezone.utc)
    for _ in range(6):
        client.send(endpoints.list_calls(0, 1, []))
    client.close()
    assert (datetime.now(timezone.utc) - began).total_seconds() >= 5 / 20


def test_the_key_is_nowhere_to_be_read(send: Send, simulator: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    secret = "s3cr3t-key-of-the-account"
    caplog.set_level("DEBUG")
    with pytest.raises(RevoxAuthenticationError) as told:
        send(create(), api_key=secret)
    error: BaseException | None = told.value
    texts = [caplog.text, repr(ClientSettings(api_key=secret)), repr(create())]
    while error is not None:
        texts.append(repr(error) + str(error.__dict__))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any(secret in text for text in texts)
    assert not any("14155550100" in text for text in texts)


def test_errors_survive_pickling() -> None:
    import pickle

    for error in (
        RevoxServerError("x", status_code=503, retry_after=7.0),
        RevoxRateLimitError("x", retry_after=7.0),
        RevoxNotFoundError("x", status_code=404),
        RevoxUnreachableError("x", sent=False),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)
