from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest

from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.simulator.faults import KINDS, FaultOrder, Faults

NOON_IN_NEW_YORK = datetime(2026, 3, 4, 17, 0, tzinfo=timezone.utc)
BODY = {"phone_number": "+12025550112", "assistant_id": "asst_plain", "metadata": {"key": "mine"}}
SEARCH = {
    name: []
    for name in ("assignee_ids", "assistant_ids", "campaign_ids", "directions", "from_phone_numbers", "outcomes")
} | {"results": [], "statuses": [], "page": 0, "page_size": 50}


@pytest.fixture(scope="module")
def running():
    with Simulator(speed=1e-3, start_at=NOON_IN_NEW_YORK) as simulator:
        yield simulator


@pytest.fixture
def sim(running):
    running.reset()
    return running


@pytest.fixture
def client(sim):
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers, timeout=5) as client:
        yield client


def taken(sim):
    return sim.stats()["orders_created"]


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline


def test_drop_reply_takes_the_order_and_says_nothing(sim, client):
    sim.add_fault("create_call", "drop_reply")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.post("/call", json=BODY)
    assert taken(sim) == 1
    assert client.post("/call", json=BODY).status_code == 200


def test_reset_breaks_the_connection_before_the_order_is_taken(sim, client):
    sim.add_fault("create_call", "reset")
    with pytest.raises(httpx.ReadError):
        client.post("/call", json=BODY)
    assert taken(sim) == 0
    assert sim.stats()["posts_received"] == 1


@pytest.mark.parametrize(
    ("kind", "status", "orders"),
    [
        ("bad_gateway_after", 502, 1),
        ("server_error", 500, 0),
        ("unavailable", 503, 0),
        ("unauthorized", 401, 0),
        ("not_found", 404, 0),
        ("rate_limited", 429, 0),
    ],
)
def test_error_statuses(sim, client, kind, status, orders):
    sim.add_fault("create_call", kind)
    assert client.post("/call", json=BODY).status_code == status
    assert taken(sim) == orders
    assert sim.stats()["faults_fired"] == {kind: 1}


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [(None, None), (3, "3"), ("Wed, 04 Mar 2026 17:00:30 GMT", "Wed, 04 Mar 2026 17:00:30 GMT")],
)
def test_rate_limited_says_when_to_come_back(sim, client, retry_after, header):
    sim.add_fault("get_call", "rate_limited", retry_after=retry_after)
    assert client.get("/call/x").headers.get("retry-after") == header


@pytest.mark.parametrize("was_taken", [True, False])
def test_any_status(sim, client, was_taken):
    sim.add_fault("create_call", "status", status=307, taken=was_taken, location="https://elsewhere.example.com/")
    reply = client.post("/call", json=BODY)
    assert (reply.status_code, reply.headers["location"]) == (307, "https://elsewhere.example.com/")
    assert taken(sim) == was_taken
    sim.add_fault("create_call", "status", status=204)
    assert client.post("/call", json=BODY).content == b""


def test_slow_answers_late(sim, client):
    sim.add_fault("create_call", "slow", seconds=0.2)
    before = time.monotonic()
    assert client.post("/call", json=BODY).status_code == 200
    assert time.monotonic() - before >= 0.2


def test_slow_keeps_the_order_of_a_client_that_has_left(sim, client):
    sim.add_fault("create_call", "slow", seconds=60)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/call", json=BODY, timeout=0.1)
    assert taken(sim) == 1


def test_truncated_json_with_a_length_that_fits(sim, client):
    sim.add_fault("create_call", "truncated_json")
    reply = client.post("/call", json=BODY)
    assert reply.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        reply.json()
    assert taken(sim) == 1


def test_truncated_json_with_a_length_that_lies(sim, client):
    sim.add_fault("create_call", "truncated_json", lie=True)
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        client.post("/call", json=BODY)
    assert taken(sim) == 1


def test_wrong_content_type_and_missing_call(sim, client):
    sim.add_fault("create_call", "wrong_content_type")
    sim.add_fault("create_call", "missing_call")
    page = client.post("/call", json=BODY)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert client.post("/call", json=BODY).json() == {}
    assert taken(sim) == 2


def test_late_in_search_hides_the_order_for_a_while(sim, client):
    sim.add_fault("create_call", "late_in_search", seconds=30)
    order = client.post("/call", json=BODY).json()["call"]
    assert client.post("/call/search", json=SEARCH).json() == {"calls": [], "total_count": 0}
    assert client.get(f"/call/{order['id']}").status_code == 200
    sim.advance(31)
    assert client.post("/call/search", json=SEARCH).json()["total_count"] == 1


@pytest.mark.parametrize("orders", [0, 1, 3])
def test_incomplete_search_promises_more_than_it_gives(sim, client, orders):
    for _ in range(orders):
        client.post("/call", json=BODY)
    sim.add_fault("search_calls", "incomplete_search", missing=1)
    found = client.post("/call/search", json=SEARCH).json()
    assert (found["total_count"], len(found["calls"])) == (max(orders, 1), max(orders - 1, 0))
    whole = client.post("/call/search", json=SEARCH).json()
    assert whole["total_count"] == len(whole["calls"]) == orders


@pytest.mark.parametrize("was_taken", [True, False])
async def test_hold_keeps_the_request_open_until_released(sim, was_taken):
    sim.add_fault("create_call", "hold", taken=was_taken)
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    async with httpx.AsyncClient(base_url=sim.base_url, headers=headers) as client:
        request = asyncio.create_task(client.post("/call", json=BODY))
        await asyncio.to_thread(until, lambda: sim.stats()["held"] == 1)
        assert taken(sim) == was_taken
        assert sim.release() == 1
        reply = await request
    assert reply.status_code == 200
    assert taken(sim) == 1


def test_a_held_request_is_not_taken_when_the_client_has_left(sim, client):
    sim.add_fault("create_call", "hold")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/call", json=BODY, timeout=0.1)
    until(lambda: sim.stats()["held"] == 0)
    assert sim.release() == 0
    assert taken(sim) == 0


@pytest.mark.parametrize(("kind", "arguments"), [("hold", {}), ("slow", {"seconds": 300})])
async def test_a_simulator_that_stops_breaks_open_requests(kind, arguments):
    with Simulator() as sim:
        sim.add_fault("list_calls", kind, **arguments)
        headers = {"Authorization": f"Bearer {sim.api_key}"}
        client = httpx.AsyncClient(base_url=sim.base_url, headers=headers)
        request = asyncio.create_task(client.get("/call"))
        await asyncio.to_thread(until, lambda: sim.stats()["faults_fired"])
    with pytest.raises(httpx.TransportError):
        await request
    await client.aclose()


def test_count_and_after(sim, client):
    sim.add_fault("get_call", "unavailable", count=2, after=1)
    assert [client.get("/call/x").status_code for _ in range(5)] == [404, 503, 503, 404, 404]


def test_probability_is_seeded(sim, client):
    sim.add_fault("get_call", "unavailable", probability=0.5)
    first = [client.get("/call/x").status_code for _ in range(20)]
    assert set(first) == {404, 503}
    sim.reset()
    sim.add_fault("get_call", "unavailable", probability=0.5)
    assert [client.get("/call/x").status_code for _ in range(20)] == first


def test_the_oldest_fault_strikes_first_and_refused_keys_use_none_up(sim, client):
    sim.add_fault("get_call", "unavailable")
    sim.add_fault("get_call", "server_error")
    assert httpx.get(f"{sim.base_url}/call/x").status_code == 401
    assert [client.get("/call/x").status_code for _ in range(3)] == [503, 500, 404]


def test_polls_count_even_when_they_fail(sim, client):
    order = client.post("/call", json=BODY).json()["call"]
    sim.add_fault("get_call", "server_error")
    client.get(f"/call/{order['id']}")
    client.get(f"/call/{order['id']}")
    assert sim.stats()["polls"] == {order["id"]: 2}


@pytest.mark.parametrize("endpoint", ["cancel_call", "pause_call", "resume_call"])
def test_actions_may_fail_too(sim, client, endpoint):
    order = client.post("/call", json=BODY).json()["call"]
    sim.add_fault(endpoint, "drop_reply")
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(f"/call/{order['id']}/{endpoint.removesuffix('_call')}")
    if endpoint == "cancel_call":
        assert client.get(f"/call/{order['id']}").json()["call"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"kind": "nope"}, "kind"),
        ({"endpoint": "nope"}, "endpoint"),
        ({"colour": "red"}, "colour"),
        ({"seconds": 3}, "server_error takes no seconds"),
        ({"kind": "slow"}, "slow needs seconds"),
        ({"kind": "status", "status": 99}, "status"),
        ({"kind": "late_in_search", "seconds": 1}, "create_call only"),
        ({"probability": 1.5}, "probability"),
        ({"count": 0}, "count"),
    ],
)
def test_a_wrong_fault_is_refused(sim, fault, message):
    asked = {"endpoint": "get_call", "kind": "server_error", **fault}
    reply = httpx.post(f"{sim.url}/_simulator/faults", json=asked)
    assert reply.status_code == 422
    assert message in reply.json()["error"]
    with pytest.raises(ValueError, match=message):
        sim.add_fault(**asked)


def test_faults_over_http(sim, client):
    url = f"{sim.url}/_simulator/faults"
    asked = {"endpoint": "get_call", "kind": "unavailable", "count": 2}
    assert httpx.post(url, json=asked).json() == {"id": 1, **asked, "fired": 0, "left": 2}
    client.get("/call/x")
    assert httpx.get(url).json() == {"faults": [{"id": 1, **asked, "fired": 1, "left": 1}]}
    assert httpx.delete(url).json() == httpx.get(url).json() == {"faults": []}
    assert client.get("/call/x").status_code == 404


def test_every_kind_can_be_armed():
    faults = Faults(7)
    needs = {"slow": {"seconds": 1}, "late_in_search": {"seconds": 1}, "status": {"status": 418}}
    for kind in KINDS:
        endpoint = "search_calls" if kind == "incomplete_search" else "create_call"
        faults.add(FaultOrder(endpoint=endpoint, kind=kind, **needs.get(kind, {})))
    assert [fault["kind"] for fault in faults.shown()] == list(KINDS)


def test_the_documented_faults_can_be_armed_as_they_are_written(sim):
    page = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text(encoding="utf-8")
    bodies = re.findall(r"`(\{\"endpoint\":.*?\})` \|", page)
    for body in bodies:
        reply = httpx.post(f"{sim.url}/_simulator/faults", content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code == 200, reply.text
    assert {json.loads(body)["kind"] for body in bodies} == set(KINDS)


def test_a_fault_for_one_number_spares_all_others(sim, client):
    other = {**BODY, "phone_number": "+12025550113"}
    order = client.post("/call", json=other).json()["call"]
    sim.add_fault("create_call", "unavailable", phone_number=BODY["phone_number"], probability=1)
    sim.add_fault("get_call", "not_found", phone_number=other["phone_number"])
    sim.add_fault("search_calls", "server_error", phone_number=other["phone_number"])
    assert client.post("/call", json=other).status_code == 200
    assert client.post("/call", json=BODY).status_code == 503
    assert client.get(f"/call/{order['id']}").status_code == 404
    assert client.get(f"/call/{order['id']}").status_code == 200
    assert client.post("/call/search", json={**SEARCH, "to_phone_number": BODY["phone_number"]}).status_code == 200
    assert client.post("/call/search", json={**SEARCH, "to_phone_number": other["phone_number"]}).status_code == 500
    sim.clear_faults(other["phone_number"])
    assert client.post("/call", json=BODY).status_code == 503
    sim.clear_faults(BODY["phone_number"])
    assert client.post("/call", json=BODY).status_code == 200


async def test_a_release_for_one_number_lets_others_wait(sim):
    sim.add_fault("create_call", "hold", count=2)
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    async with httpx.AsyncClient(base_url=sim.base_url, headers=headers) as client:
        one = asyncio.create_task(client.post("/call", json=BODY))
        two = asyncio.create_task(client.post("/call", json={**BODY, "phone_number": "+12025550113"}))
        await asyncio.to_thread(until, lambda: sim.stats()["held"] == 2)
        assert sim.release("+12025550113") == 1
        assert (await two).status_code == 200
        assert not one.done()
        assert sim.release() == 1
        assert (await one).status_code == 200
