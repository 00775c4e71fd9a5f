"""From an Airflow connection to clients, in every style in which a connection can be written."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_revox.client import DEFAULT_BASE_URL, AsyncRevoxClient
from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxConnectionError,
    RevoxNotFoundError,
    RevoxRequestError,
    RevoxUnreachableError,
)
from airflow_provider_revox.hooks import RevoxHook, _shared_clients, settings_from_connection
from airflow_provider_revox.simulator import Simulator
from tests.conftest import connect

REQUEST = {"phone_number": "+14155550100", "assistant": {"prompt": "Ask."}, "force_now": True}


def made(**fields: Any) -> Any:
    extra = fields.pop("extra", None)
    text = json.dumps(extra) if isinstance(extra, dict) else extra
    return settings_from_connection(
        Connection(conn_id="c", conn_type="revox", **{"password": "key", **fields, "extra": text})
    )


# --- the styles of a connection -------------------------------------------------------------


def test_form_json_and_uri_give_the_same_client() -> None:
    extra = {
        "timeout": "12.5",
        "max_connections": "4",
        "requests_per_second": "2",
        "deployment": "prod",
        "api_extensions": "off",
    }
    form = made(host="https://revox.example/v1", extra=extra)
    numbers = made(
        host="revox.example/v1",
        extra={**extra, "timeout": 12.5, "max_connections": 4, "requests_per_second": 2.0},
    )
    text = json.dumps({"conn_type": "revox", "password": "key", "host": "https://revox.example/v1/", "extra": extra})
    from_json = settings_from_connection(Connection.from_json(text, conn_id="c"))
    query = "&".join(f"{name}={value}" for name, value in extra.items())
    uri = f"revox://:key@{quote('https://revox.example/v1', safe='')}/?{query}"
    from_uri = settings_from_connection(Connection.from_uri(uri, conn_id="c"))
    assert form == numbers == from_json == from_uri
    assert form.base_url == "https://revox.example/v1"
    assert (form.timeout, form.max_connections, form.requests_per_second) == (12.5, 4, 2.0)
    assert (form.deployment, form.api_extensions, form.api_key) == ("prod", "off", "key")


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, DEFAULT_BASE_URL),
        ({"host": ""}, DEFAULT_BASE_URL),
        ({"host": "www.getrevox.com"}, DEFAULT_BASE_URL),
        ({"host": "https://www.getrevox.com/"}, DEFAULT_BASE_URL),
        ({"host": "https://www.getrevox.com/api/"}, DEFAULT_BASE_URL),
        ({"host": "revox.example", "port": 8443}, "https://revox.example:8443/api"),
        ({"host": "revox.example", "port": 0}, "https://revox.example/api"),
        ({"host": "revox.example", "schema": "http"}, "https://revox.example/api"),
        ({"host": "http://127.0.0.1:8099/api"}, "http://127.0.0.1:8099/api"),
        ({"host": "http://localhost:8099"}, "http://localhost:8099/api"),
        ({"host": "http://[::1]:8099"}, "http://[::1]:8099/api"),
    ],
)
def test_the_host_in_its_forms(fields: dict[str, Any], base_url: str) -> None:
    assert made(**fields).base_url == base_url


@pytest.mark.parametrize(
    "uri", ["revox://http://:key@127.0.0.1:8099/api", "revox://:key@http%3A%2F%2F127.0.0.1%3A8099%2Fapi"]
)
def test_a_loopback_uri(uri: str) -> None:
    settings = settings_from_connection(Connection.from_uri(uri, conn_id="c"))
    assert (settings.base_url, settings.api_key) == ("http://127.0.0.1:8099/api", "key")


def test_an_empty_form_means_the_defaults() -> None:
    empty = {
        "timeout": "",
        "max_connections": None,
        "requests_per_second": "",
        "deployment": "",
        "api_extensions": None,
    }
    settings = made(extra=empty)
    assert settings == made()
    assert (settings.timeout, settings.max_connections, settings.requests_per_second) == (30.0, 16, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": None}, "password is empty"),
        ({"password": "  "}, "password is empty"),
        ({"password": "ke y"}, "password holds"),
        ({"password": "ke\ny"}, "password holds"),
        ({"password": "kéy"}, "password holds"),
        ({"host": "http://revox.example"}, "plain http"),
        ({"host": "http://10.0.0.1:80"}, "plain http"),
        ({"host": "ftp://revox.example"}, "https"),
        ({"host": "https://"}, "https"),
        ({"host": "https://user@revox.example"}, "without user"),
        ({"host": "https://revox.example/api?x=1"}, "query"),
        ({"host": "https://revox.example:port"}, "not an address"),
        ({"host": "https://a..b/"}, "not an address"),
        ({"host": f"https://{'é' * 70}.example"}, "not an address"),
        ({"host": "https://revox.example/a\x07b"}, "not an address"),
        ({"extra": "{"}, "JSON object"),
        ({"extra": "[1]"}, "JSON object"),
        ({"extra": {"timeout": "soon"}}, "timeout must be a number above 0"),
        ({"extra": {"timeout": 0}}, "timeout"),
        ({"extra": {"timeout": True}}, "timeout"),
        ({"extra": {"timeout": "inf"}}, "timeout"),
        ({"extra": {"requests_per_second": 0}}, "requests_per_second"),
        ({"extra": {"requests_per_second": -1}}, "requests_per_second"),
        ({"extra": {"max_connections": 1.5}}, "max_connections"),
        ({"extra": {"max_connections": []}}, "max_connections"),
        ({"extra": {"api_extensions": "maybe"}}, "auto, on or off"),
        ({"extra": {"call_url": "https://app.example.com/calls"}}, "call_url must be .* with {call_id} in it"),
        ({"extra": {"call_url": "javascript:alert('{call_id}')"}}, "call_url must be an http address"),
        ({"extra": {"call_url": "https://app.example.com/\n{call_id}"}}, "call_url"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RevoxConnectionError, match=words) as told:
        made(**fields)
    assert isinstance(told.value, ValueError)
    assert "'c'" in str(told.value)
    if key := (fields.get("password") or "").strip():
        assert key not in str(told.value)


# --- the methods ----------------------------------------------------------------------------


def test_the_methods_and_their_twins(revox: Simulator) -> None:
    async def twins(call_id: str) -> list[Any]:
        hook = RevoxHook()
        order = await hook.acreate_call(REQUEST)
        # Both calls have ended: the list stays as it is.
        revox.advance(3600)
        return [
            order.to_phone_number,
            (await hook.aget_call(call_id)).id,
            [row.id for row in await hook.alist_calls(page_size=1)],
            (await hook.asearch_calls(to_phone_number="+14155550100")).total_count,
            await hook.acancel_call(call_id),
        ]

    with RevoxHook() as hook:
        order = hook.create_call(REQUEST)
        revox.advance(3600)
        later = asyncio.run(twins(order.id))
        rows = [row.id for row in hook.list_calls(page_size=1)]
        found = hook.search_calls(to_phone_number="+14155550100", page_size=1)
        assert hook.get_call(order.id).status == "completed"
        assert hook.cancel_call(order.id) is False
        with pytest.raises(RevoxNotFoundError):
            hook.get_call("none")
        with pytest.raises(RevoxRequestError, match="phone_number"):
            hook.create_call({"assistant_id": "asst_plain"})
        with pytest.raises(RevoxRequestError, match="CallRequest or a dict"):
            hook.create_call("+14155550100")  # type: ignore[arg-type]
    assert later == ["+14155550100", order.id, rows, 2, False]
    assert (found.total_count, len(found.calls)) == (2, 1)


def test_all_attempts_are_iterated_once(revox: Simulator) -> None:
    async def collected() -> list[str]:
        return [str(row.id) async for row in RevoxHook().aiter_calls(page_size=2)]

    with RevoxHook() as hook:
        for number in range(5):
            hook.create_call({**REQUEST, "phone_number": f"+1415555010{number}"})
        revox.advance(3600)
        ids = [str(row.id) for row in hook.iter_calls(page_size=2)]
        assert len(ids) == len(set(ids)) == 5
        assert asyncio.run(collected()) == ids
        assert [str(row.id) for row in hook.iter_calls(page_size=5)] == ids
        assert list(hook.iter_calls(statuses=["cancelled"])) == []


def test_rows_that_shift_between_pages_come_once(revox: Simulator) -> None:
    with RevoxHook() as hook:
        for number in range(4):
            hook.create_call({**REQUEST, "phone_number": f"+1415555010{number}"})
        revox.advance(3600)
        rows = hook.iter_calls(page_size=2)
        ids = [str(next(rows).id), str(next(rows).id)]
        hook.create_call({**REQUEST, "phone_number": "+14155550109"})
        revox.advance(3600)
        ids += [str(row.id) for row in rows]
    assert len(ids) == len(set(ids)) == 4


def test_extensions_that_are_off_are_not_asked(revox: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, revox, api_extensions="off")
    hook = RevoxHook()
    for ask in (lambda: hook.cancel_call("x"), lambda: hook.search_calls()):
        with pytest.raises(RevoxConnectionError, match="api_extensions=off"):
            ask()
    for twin in (hook.acancel_call("x"), hook.asearch_calls()):
        with pytest.raises(RevoxConnectionError, match="api_extensions=off"):
            asyncio.run(twin)
    hook.close()
    assert revox.stats()["requests"] == {}


# --- the Test button ------------------------------------------------------------------------


def test_the_test_button_dials_nobody(revox: Simulator) -> None:
    assert RevoxHook().test_connection() == (True, "Revox accepts the API key. Nobody was phoned.")
    assert revox.stats()["requests"] == {"list_calls": 1}


def test_the_test_button_tells_a_wrong_key(revox: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    revox.api_key = "wrong-key"
    connect(monkeypatch, revox)
    good, words = RevoxHook().test_connection()
    assert not good
    assert "does not accept the API key" in words
    assert "wrong-key" not in words


def test_the_test_button_tells_an_address_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with Simulator() as gone:
        connect(monkeypatch, gone)
    good, words = RevoxHook().test_connection()
    assert not good
    assert "cannot be reached" in words


def test_the_test_button_insists_on_extensions_that_are_on(
    revox: Simulator, plain_revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for simulator, works in ((revox, True), (plain_revox, False)):
        connect(monkeypatch, simulator, api_extensions="on")
        good, words = RevoxHook().test_connection()
        assert good is works
        assert simulator.stats()["posts_received"] == 0
    assert "searching calls" in words
    connect(monkeypatch, plain_revox)
    assert RevoxHook().test_connection()[0]


def test_the_test_button_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", "revox://")
    good, words = RevoxHook().test_connection()
    assert not good
    assert "password is empty" in words


# --- the shared async client ----------------------------------------------------------------


async def test_one_client_for_all_on_a_loop(revox: Simulator) -> None:
    async with RevoxHook().aget_conn() as first, RevoxHook().aget_conn() as second:
        assert first is second
    async with RevoxHook().aget_conn() as third:
        assert third is not first
        await RevoxHook().alist_calls()
        await third.send(_list())
    with pytest.raises(RuntimeError, match="closed"):
        await third.send(_list())


def _list() -> Any:
    from airflow_provider_revox.endpoints import list_calls

    return list_calls(0, 1, [])


async def test_an_error_or_a_cancelled_borrower_gives_the_client_back(revox: Simulator) -> None:
    async def borrow_for_ever() -> None:
        async with RevoxHook().aget_conn():
            await asyncio.Event().wait()

    async with RevoxHook().aget_conn() as kept:
        for _ in range(3):
            borrower = asyncio.ensure_future(borrow_for_ever())
            await asyncio.sleep(0)
            borrower.cancel()
            await asyncio.gather(borrower, return_exceptions=True)
        with pytest.raises(KeyError):
            async with RevoxHook().aget_conn():
                raise KeyError
        await kept.send(_list())
    assert _shared_clients[asyncio.get_running_loop()] == {}


async def test_a_connection_that_cannot_be_used_is_tried_anew(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"conn_type": "revox", "host": revox.base_url, "password": revox.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({**good, "password": ""}))
    with pytest.raises(RevoxConnectionError):
        await RevoxHook().alist_calls()
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps(good))
    assert await RevoxHook().alist_calls() == []


async def test_a_refused_key_is_replaced_once_for_all(revox: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"conn_type": "revox", "host": revox.base_url, "password": revox.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({**good, "password": "old"}))
    hook = RevoxHook()
    async with hook.aget_conn() as old:
        with pytest.raises(RevoxAuthenticationError):
            await old.send(_list())
        monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps(good))
        async with hook.aget_conn(instead_of=old) as new, hook.aget_conn(instead_of=old) as same:
            assert isinstance(new, AsyncRevoxClient)
            assert new is same
            assert await new.send(_list()) == []


def test_loops_do_not_share_clients(revox: Simulator) -> None:
    for _ in range(2):
        assert asyncio.run(RevoxHook().alist_calls()) == []
    gc.collect()


def test_a_connection_that_is_not_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_REVOX_DEFAULT", raising=False)
    with pytest.raises(RevoxConnectionError, match="'nowhere' is not defined"):
        RevoxHook("nowhere").list_calls()
    with pytest.raises(RevoxConnectionError, match="'nowhere' is not defined"):
        asyncio.run(RevoxHook("nowhere").alist_calls())


def test_trouble_of_airflow_is_not_the_end_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(conn_id: str) -> None:
        raise RuntimeError("no API server, and a secret")

    monkeypatch.setattr(RevoxHook.__mro__[1], "aget_connection", away)
    with pytest.raises(RevoxUnreachableError, match="RuntimeError") as told:
        asyncio.run(RevoxHook().alist_calls())
    assert "secret" not in str(told.value)
