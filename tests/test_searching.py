"""Finding an order again: what a search must show before its silence counts as absence."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from airflow_provider_revox.client import ClientSettings, RevoxClient
from airflow_provider_revox.models import CallOrder
from airflow_provider_revox.searching import Found, Wanted, find_orders

ALICE = "+14155550100"
NAME = "/campaign/manual__1/call/3/abc"
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)

EXACT = Wanted(ALICE, NAME.__eq__, exactly=True, since=NOW)
OF_RUN = Wanted(ALICE, lambda name: name.startswith("/campaign/manual__1/call/"), exactly=False, since=NOW)


def order(**fields: Any) -> CallOrder:
    defaults = {
        "id": "c1",
        "to_phone_number": ALICE,
        "metadata": {"airflow_call_key": NAME},
        "created_at": (NOW + timedelta(seconds=5)).isoformat(),
    }
    return CallOrder.model_validate({**defaults, **fields})


BEFORE = (NOW - timedelta(hours=5)).isoformat()


@pytest.mark.parametrize(
    ("fields", "exact", "of_run"),
    [
        ({}, True, True),
        ({"metadata": {"airflow_call_key": "/campaign/manual__1/call/4/def"}}, False, True),
        ({"metadata": {"airflow_call_key": "/campaign/manual__2/call/3/abc"}}, False, False),
        ({"metadata": {}}, False, False),
        ({"metadata": {"airflow_call_key": 7}}, False, False),
        # A nonce is proof enough, however the number is written.
        ({"to_phone_number": "14155550100"}, True, True),
        ({"to_phone_number": None}, True, None),
        ({"to_phone_number": "+14155550199"}, True, False),
        # The right name, but older than the run: a clock goes wrong, or the run was deleted and made again.
        ({"created_at": BEFORE}, True, None),
        ({"created_at": None}, True, True),
        # Without metadata nobody can tell.
        ({"metadata": None}, None, None),
        ({"metadata": "{}"}, None, None),
        ({"metadata": None, "to_phone_number": None}, None, None),
        ({"metadata": None, "created_at": BEFORE}, False, False),
        ({"metadata": None, "to_phone_number": "+14155550199"}, False, False),
    ],
)
def test_which_order_is_the_one(fields: dict[str, Any], exact: bool | None, of_run: bool | None) -> None:
    assert (EXACT.fits(order(**fields)), OF_RUN.fits(order(**fields))) == (exact, of_run)


def search(answer: Callable[[int], Any], **settings: Any) -> Found:
    """Search in a Revox that answers page by page."""

    def handle(request: httpx.Request) -> httpx.Response:
        page = json.loads(request.content)["page"]
        reply = answer(page)
        return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)

    client = RevoxClient(ClientSettings(api_key="k", base_url="http://127.0.0.1:1/api", backoff_seconds=0, **settings))
    client.close()
    client._http = httpx.Client(transport=httpx.MockTransport(handle))
    try:
        return find_orders(client, EXACT)
    finally:
        client.close()


def rows(*numbers: int, name: str = "another") -> list[dict[str, Any]]:
    return [{"id": f"c{n}", "to_phone_number": ALICE, "metadata": {"airflow_call_key": name}} for n in numbers]


def test_all_pages_are_read() -> None:
    pages = {0: rows(*range(100)), 1: [*rows(100), *rows(101, name=NAME)]}
    found = search(lambda page: {"calls": pages.get(page, []), "total_count": 102})
    assert [order.id for order in found.orders] == ["c101"]


def test_a_complete_search_is_certain() -> None:
    assert search(lambda page: {"calls": rows(1, 2) if page == 0 else [], "total_count": 2}).certainly_absent
    assert search(lambda page: {"calls": [], "total_count": 0}).certainly_absent


@pytest.mark.parametrize(
    "answer",
    [
        lambda page: {"calls": rows(1) if page == 0 else [], "total_count": 2},
        lambda page: {"calls": rows(1), "total_count": 2},
        lambda page: {"calls": rows(*range(100)) if page == 0 else [], "total_count": 150 if page == 0 else 0},
        lambda page: {"calls": []},
        lambda page: {"calls": [], "total_count": None},
        lambda page: {"calls": [{"to_phone_number": ALICE}], "total_count": 1},
        lambda page: {"total_count": 0},
        lambda page: httpx.Response(200, text="<html>"),
        lambda page: httpx.Response(503),
        lambda page: httpx.Response(401),
        lambda page: httpx.Response(404),
        lambda page: httpx.Response(405),
    ],
)
def test_a_search_that_falls_short_leaves_a_doubt(answer: Callable[[int], Any]) -> None:
    found = search(answer, tries=2)
    assert found.doubt
    assert not found.certainly_absent


def test_of_several_orders_the_latest_comes_first() -> None:
    calls = [{**rows(n, name=NAME)[0], "created_at": f"2026-03-02T12:0{n}:00Z"} for n in (1, 3, 2)]
    found = search(lambda page: {"calls": calls, "total_count": 3})
    assert [order.id for order in found.orders] == ["c3", "c2", "c1"]


def test_a_search_that_is_switched_off_is_not_made() -> None:
    def never(page: int) -> Any:
        raise AssertionError

    assert search(never, api_extensions="off").doubt == "searching is switched off in the connection (api_extensions)"
