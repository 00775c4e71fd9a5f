from __future__ import annotations

import io
import wave
from datetime import datetime, timezone

import httpx
import pytest

from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.simulator.assistants import DEFAULT_VOICEMAIL_MESSAGE, LIVE_API_KEY, LIVE_AUTHORIZATION

NOON_IN_NEW_YORK = datetime(2026, 3, 4, 17, 0, tzinfo=timezone.utc)
NUMBER = "+12025550112"
SEARCH = {
    "assignee_ids": [],
    "assistant_ids": [],
    "campaign_ids": [],
    "directions": [],
    "from_phone_numbers": [],
    "outcomes": [],
    "results": [],
    "statuses": [],
    "page": 0,
    "page_size": 50,
}

# Next to real time, so that only advance() moves the clock.
SLOW = 1e-3


@pytest.fixture(scope="module")
def running():
    with Simulator(speed=SLOW, start_at=NOON_IN_NEW_YORK) as simulator:
        yield simulator


@pytest.fixture
def sim(running):
    running.reset()
    return running


def client_of(simulator):
    return httpx.Client(base_url=simulator.base_url, headers={"Authorization": f"Bearer {simulator.api_key}"})


@pytest.fixture
def client(sim):
    with client_of(sim) as client:
        yield client


def place(client, number=NUMBER, **fields):
    body = {"phone_number": number, "assistant_id": "asst_survey", **fields}
    reply = client.post("/call", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()["call"]


def read(client, order):
    reply = client.get(f"/call/{order['id']}")
    assert reply.status_code == 200, reply.text
    return reply.json()["call"]


def search(client, **fields):
    reply = client.post("/call/search", json={**SEARCH, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_an_order_lives_from_initializing_to_completed(sim, client):
    order = place(client, metadata={"run": "r1"})
    assert order["status"] == "initializing"
    assert (order["call_attempts"], order["last_call_attempt"], order["calls_count"]) == ([], None, 0)
    seen = {"initializing"}
    while order["status"] != "completed":
        sim.advance(0.5)
        order = read(client, order)
        seen.add(order["status"])
        seen |= {attempt["status"] for attempt in order["call_attempts"]}
    assert seen == {
        "initializing",
        "queued_for_calling",
        "calling",
        "queued",
        "ringing",
        "ongoing",
        "completed",
    }
    assert order["last_call_attempt"] == order["call_attempts"][0]
    assert (order["is_completed"], order["is_cancelled"], order["calls_count"]) == (True, False, 1)
    assert order["metadata"] == {"run": "r1"}
    attempt = order["last_call_attempt"]
    assert order["created_at"] < attempt["started_at"] < attempt["answered_at"] < attempt["ended_at"]
    assert {"satisfaction", "would_recommend", "channel"} <= set(attempt["structured_output"])
    assert attempt["phone_number"] == order["to_phone_number"] == NUMBER


def test_the_documented_fields_are_all_there(sim, client):
    body = {"phone_number": NUMBER, "assistant": {"prompt": "Say hello"}}
    order = client.post("/call", json=body).json()["call"]
    sim.advance(600)
    order = read(client, order)
    assert len(order) == 19
    assert len(order["assistant"]) == 23
    assert len(order["last_call_attempt"]) == 13
    assert order["last_call_attempt"]["structured_output"] is None
    assert order["assistant"]["voicemail_message"] == DEFAULT_VOICEMAIL_MESSAGE
    assert order["first_sentence_delay_ms"] == 400
    assert order["llm_model"] == {"type": "dedicated-instance", "name": "gpt-4.1"}
    assert order["call_retry_config"]["max_retry_attempts"] == 3


def test_an_order_echoes_what_was_asked_for(client):
    assistant = {
        "prompt": "Ask {{name}}",
        "background_sound": None,
        "first_sentence_delay_ms": 900,
        "llm_model": {"type": "openrouter", "openrouter_model_id": "openai/gpt-4.1", "openrouter_provider": "azure"},
        "voicemail_message": None,
        "voice": {"id": "v1", "provider": "cartesia", "speed": 1.4},
        "faq_items": [{"question": "Who?", "answer": "We."}],
        "unheard_of": {"a": 1},
    }
    order = client.post(
        "/call",
        json={
            "phone_number": NUMBER,
            "assistant": assistant,
            "from_phone_number": "+12025550199",
            "scheduled_at": "2026-03-04T14:00:00-05:00",
            "another_unknown": True,
        },
    ).json()["call"]
    shown = order["assistant"]
    assert shown["voicemail_message"] is None
    assert shown["voice"] == assistant["voice"]
    assert shown["faq_items"][0]["question"] == "Who?"
    assert order["llm_model"] == shown["llm_model"] == assistant["llm_model"]
    assert order["first_sentence_delay_ms"] == 900
    assert order["from_phone_number"] == "+12025550199"
    assert order["scheduled_at"] == "2026-03-04T19:00:00.000Z"
    assert "unheard_of" not in shown
    assert "another_unknown" not in order


def test_the_first_sentence_and_the_variables_are_spoken(sim, client):
    order = client.post(
        "/call",
        json={
            "phone_number": NUMBER,
            "assistant": {"prompt": "p", "first_sentence": "Hello {{name}} from {{nowhere}}"},
            "prompt_variables": {"name": "Ada"},
        },
    ).json()["call"]
    sim.advance(600)
    first = read(client, order)["last_call_attempt"]["transcript"][0]
    assert first == {"content": "Hello Ada from {{nowhere}}", "role": "assistant"}


def test_the_same_seed_tells_the_same_story():
    stories = []
    for _ in range(2):
        with Simulator(speed=SLOW, start_at=NOON_IN_NEW_YORK, seed=3) as sim, client_of(sim) as client:
            orders = [place(client, f"+120255501{digits}") for digits in (12, 12, 51, 54)]
            sim.advance(10 * 3600)
            stories.append([read(client, order)["call_attempts"] for order in orders])
    outputs = [[[a["structured_output"] for a in attempts] for attempts in story] for story in stories]
    transcripts = [[[a["transcript"] for a in attempts] for attempts in story] for story in stories]
    assert outputs[0] == outputs[1]
    assert transcripts[0] == transcripts[1]
    assert outputs[0][0] != outputs[0][1]
    assert [[a["id"] for a in attempts] for attempts in stories[0]] == [
        [a["id"] for a in attempts] for attempts in stories[1]
    ]


def test_most_recent_attempts_come_first(sim, client):
    order = place(client, "+12025550151")
    sim.advance(12 * 3600)
    order = read(client, order)
    assert [attempt["dial_error"] for attempt in order["call_attempts"]] == [None, "no_answer"]
    assert order["last_call_attempt"]["result"] == "human"
    assert sim.stats()["dials"] == {"+12025550151": 2}
    assert sim.stats()["orders_per_number"] == {"+12025550151": 1}


def test_a_recording_is_served_once_there_is_one(sim, client):
    order = place(client)
    sim.advance(600)
    attempt = read(client, order)["last_call_attempt"]
    assert attempt["recording_url"].startswith(sim.url)
    reply = httpx.get(attempt["recording_url"])
    assert reply.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(reply.content)) as sound:
        assert sound.getnframes() == 4000
    assert httpx.get(f"{sim.url}/_simulator/recordings/none.wav").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "simulator-key"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/call/x"), ("POST", "/call"), ("GET", "/nowhere")])
def test_without_the_key_everything_is_refused(sim, headers, method, path):
    reply = httpx.request(method, sim.base_url + path, headers=headers, json={} if method == "POST" else None)
    assert reply.status_code == 401
    assert reply.json() == {"error": "missing or invalid API key"}
    assert sim.stats()["orders_created"] == 0


def test_unknown_calls_routes_and_methods(client):
    assert client.get("/call/nobody").json() == {"error": "no call has this id"}
    assert client.get("/call/a%2Fb%20c").json() == {"error": "no call has this id"}
    for path in ("/calls", "/call/", "/call/a/b", "/call/a/b/c", "/"):
        assert client.get(path).status_code == 404
    refused = client.delete("/call/x")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


def test_an_id_may_be_percent_encoded(client):
    order = place(client)
    encoded = "".join(f"%{byte:02X}" for byte in order["id"].encode())
    assert client.get(f"/call/{encoded}").json()["call"]["id"] == order["id"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"phone_number": "0123"}, "phone_number"),
        ({"phone_number": 12}, "phone_number"),
        ({"phone_number": None}, ""),
        ({"assistant_id": "asst_nobody"}, "assistant_id"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"force_now": "yes"}, "force_now"),
        ({"scheduled_at": "tomorrow"}, "scheduled_at"),
        ({"scheduled_at": "2026-03-04T12:00:00"}, "scheduled_at"),
        ({"scheduled_at": 1772625600}, "scheduled_at"),
        ({"scheduled_at": "9999-12-31T23:59:59Z"}, "scheduled_at"),
        ({"scheduled_at": "0001-01-01T00:00:00+05:00"}, "scheduled_at"),
        ({"concurrency": {"key": "k", "max": 0}}, "concurrency.max"),
        ({"assistant": {}}, "assistant.prompt"),
        ({"assistant": {"prompt": "p", "background_sound": "x.ogg"}}, "assistant.background_sound"),
        (
            {"assistant": {"prompt": "p", "voice": {"id": "v", "provider": "elevenlabs", "speed": 1.4}}},
            "assistant.voice",
        ),
        ({"assistant": {"prompt": "p", "first_sentence": None}}, "assistant"),
        ({"assistant": {"prompt": "p", "llm_model": {"type": "other"}}}, "assistant.llm_model"),
        (
            {"assistant": {"prompt": "p", "call_retry_config": {"calling_windows": [], "max_retry_attempts": 1}}},
            "assistant.call_retry_config.calling_windows",
        ),
    ],
)
def test_a_wrong_field_is_named(sim, client, change, field):
    reply = client.post("/call", json={"phone_number": NUMBER, "assistant_id": "asst_plain", **change})
    assert reply.status_code == 422
    body = reply.json()
    assert [one["field"] for one in body["details"]] == [field]
    assert body["error"].startswith(field)
    assert sim.stats()["orders_created"] == 0


def test_neither_assistant_nor_id_nor_json(client):
    assert "assistant_id is required" in client.post("/call", json={"phone_number": NUMBER}).json()["error"]
    for broken in (b"{", b"", b"\xff", b'{"phone_number": Infinity}', b"[" * 100_000):
        assert client.post("/call", content=broken).status_code == 400
    surrogate = b'{"phone_number":"+12025550112","assistant_id":"asst_plain","metadata":{"k":"\\ud800"}}'
    assert client.post("/call", content=surrogate).json()["call"]["metadata"] == {"k": "?"}
    assert client.post("/call", json=[1]).status_code == 422


@pytest.mark.parametrize("window", [{"calling_window_end_time": "9am"}, {"calling_window_start_time": "25:00"}])
def test_a_wrong_window_is_refused(client, window):
    times = {"calling_window_start_time": "10:00", "calling_window_end_time": "6pm", "retry_delay_seconds": 1}
    config = {"calling_windows": [{**times, **window}], "max_retry_attempts": 1, "timezone": None}
    body = {"phone_number": NUMBER, "assistant": {"prompt": "p", "call_retry_config": config}}
    assert client.post("/call", json=body).status_code == 422
    config["calling_windows"] = [times]
    assert client.post("/call", json=body).status_code == 200
    config["timezone"] = "Mars/Olympus"
    assert "IANA" in client.post("/call", json=body).json()["error"]


@pytest.mark.parametrize(
    ("number", "started"),
    [("+33612345612", "2026-03-05T09:00"), ("+14155550112", "2026-03-04T18:00"), (NUMBER, "2026-03-04T17:00")],
)
def test_people_are_called_in_the_hours_of_their_zone(sim, client, number, started):
    order = place(client, number)
    sim.advance(3)
    in_hours = started == "2026-03-04T17:00"
    assert (read(client, order)["status"] == "scheduled") is not in_hours
    sim.advance(24 * 3600)
    assert read(client, order)["last_call_attempt"]["started_at"].startswith(started)


def test_concurrency_holds_orders_back_until_a_slot_is_free(sim, client):
    lane = {"concurrency": {"key": "k", "max": 2}}
    orders = [place(client, f"+12025550{number}", **lane) for number in (101, 102, 103, 104, 105)]
    free = place(client, "+12025550106")
    most = 0
    while True:
        sim.advance(2)
        shown = [read(client, order) for order in orders]
        on_the_phone = sum(
            attempt["status"] in {"queued", "ringing", "ongoing"}
            for order in shown
            for attempt in order["call_attempts"]
        )
        most = max(most, on_the_phone)
        if all(order["status"] == "completed" for order in shown):
            break
    assert most == 2
    starts = sorted(order["last_call_attempt"]["started_at"] for order in shown)
    assert read(client, free)["last_call_attempt"]["started_at"] < starts[2]


def test_slots_are_given_at_the_same_moments_however_rarely_anybody_looks():
    starts = []
    for step in (1, 4000):
        with Simulator(speed=1e-9, start_at=NOON_IN_NEW_YORK) as sim, client_of(sim) as client:
            lane = {"concurrency": {"key": "k", "max": 1}}
            for number in (101, 102, 103):
                place(client, f"+12025550{number}", **lane)
            for _ in range(4000 // step):
                sim.advance(step)
            starts.append([order["last_call_attempt"]["started_at"] for order in sim.orders()])
    assert starts[0] == starts[1]
    assert len(set(starts[0])) == 3


def test_a_cancelled_order_frees_its_slot(sim, client):
    lane = {"concurrency": {"key": "k", "max": 1}}
    endless = place(client, "+12025550161", **lane)
    sim.advance(10)
    waiting = place(client, **lane)
    leaving = place(client, "+12025550113", **lane)
    sim.advance(3600)
    assert read(client, endless)["last_call_attempt"]["status"] == "ongoing"
    assert [read(client, one)["status"] for one in (waiting, leaving)] == ["queued_for_calling"] * 2
    assert client.post(f"/call/{leaving['id']}/cancel").json() == {"success": True}
    assert client.post(f"/call/{endless['id']}/cancel").json() == {"success": True}
    sim.advance(600)
    ended = read(client, endless)
    assert (ended["status"], ended["is_cancelled"]) == ("cancelled", True)
    assert (ended["last_call_attempt"]["status"], ended["last_call_attempt"]["ended_by"]) == ("completed", "system")
    assert read(client, waiting)["status"] == "completed"
    assert read(client, leaving)["call_attempts"] == []
    assert client.post(f"/call/{endless['id']}/cancel").json() == {"success": False}
    assert client.post("/call/nobody/cancel").status_code == 404
    assert sim.stats()["cancels"] == 2


def test_a_slot_that_comes_after_hours_waits_for_the_morning(sim, client):
    lane = {"concurrency": {"key": "k", "max": 1}}
    endless = place(client, "+12025550161", **lane)
    sim.advance(10)
    waiting = place(client, **lane)
    sim.advance(9 * 3600)
    client.post(f"/call/{endless['id']}/cancel")
    assert read(client, waiting)["status"] == "scheduled"
    sim.advance(24 * 3600)
    assert read(client, waiting)["last_call_attempt"]["started_at"].startswith("2026-03-05T15:00")


def test_pause_and_resume(sim, client):
    order = place(client, "+12025550151")
    sim.advance(600)  # between the two attempts
    assert read(client, order)["status"] == "scheduled"
    assert client.post(f"/call/{order['id']}/resume").json() == {"success": False}
    assert client.post(f"/call/{order['id']}/pause").json() == {"success": True}
    assert client.post(f"/call/{order['id']}/pause").json() == {"success": False}
    sim.advance(24 * 3600)
    assert read(client, order)["status"] == "paused"
    assert client.post(f"/call/{order['id']}/resume").json() == {"success": True}
    sim.advance(600)
    order = read(client, order)
    assert (order["status"], order["calls_count"]) == ("completed", 2)


def test_a_paused_number_goes_on_when_resumed(sim, client):
    order = place(client, "+12025550162")
    sim.advance(600)
    assert read(client, order)["status"] == "paused"
    client.post(f"/call/{order['id']}/resume")
    assert read(client, order)["status"] == "queued_for_calling"
    sim.advance(600)
    assert read(client, order)["status"] == "completed"


def test_a_stuck_order_stays_stuck_after_a_pause(sim, client):
    order = place(client, "+12025550160")
    client.post(f"/call/{order['id']}/pause")
    client.post(f"/call/{order['id']}/resume")
    sim.advance(24 * 3600)
    assert read(client, order)["status"] == "queued_for_calling"


def test_attempts_are_listed_newest_first_in_pages(sim, client):
    for last in range(10, 15):
        place(client, f"+120255501{last}")
        sim.advance(300)
    place(client, "+12025550161")
    sim.advance(300)
    everything = client.get("/call").json()["calls"]
    assert [attempt["phone_number"][-2:] for attempt in everything] == ["61", "14", "13", "12", "11", "10"]
    assert len(everything[0]) == 13
    pages = [client.get("/call", params={"page": page, "page_size": 4}).json()["calls"] for page in range(3)]
    assert pages == [everything[:4], everything[4:], []]
    done = client.get("/call", params={"statuses": "completed,errored"}).json()["calls"]
    assert done == everything[1:]
    both = client.get("/call", params={"statuses": "calling,completed"}).json()["calls"]
    assert both == everything


@pytest.mark.parametrize("query", ["statuses=nope", "statuses=", "page=-1", "page_size=0", "page=x"])
def test_a_wrong_query_is_refused(client, query):
    assert client.get(f"/call?{query}").status_code == 422


def test_search_finds_orders(sim, client):
    first = place(client, metadata={"key": "Alpha-1"})
    sim.advance(600)
    second = place(client, metadata={"key": "beta-2"})
    third = place(client, "+12025550155", assistant_id="asst_plain", from_phone_number="+12025550199")
    sim.advance(0.01)

    def ids(**fields):
        found = search(client, **fields)
        assert found["total_count"] == len(found["calls"])
        return [order["id"] for order in found["calls"]]

    assert ids() == [third["id"], second["id"], first["id"]]
    assert ids(sort_direction="asc") == [first["id"], second["id"], third["id"]]
    assert ids(statuses=["completed"]) == [first["id"]]
    assert ids(to_phone_number=NUMBER) == [second["id"], first["id"]]
    assert ids(call_ids=[first["id"], "nobody"]) == [first["id"]]
    assert ids(call_ids=[]) == []
    assert ids(query="alpha") == [first["id"]]
    assert ids(assistant_ids=["asst_plain"]) == ids(from_phone_numbers=["+12025550199"]) == [third["id"]]
    assert ids(results=["human"]) == ids(outcomes=["completed"]) == [first["id"]]
    assert ids(results=["none"]) == [third["id"], second["id"]]
    assert ids(directions=["inbound"]) == ids(assignee_ids=["a"]) == ids(campaign_ids=["c"]) == []
    assert ids(sort_by="to_phone_number")[0] == third["id"]
    page = search(client, page=1, page_size=2)
    assert (page["total_count"], [order["id"] for order in page["calls"]]) == (3, [first["id"]])
    assert search(client, query="beta")["calls"][0] == read(client, second)


@pytest.mark.parametrize("field", sorted(SEARCH))
def test_every_required_field_of_a_search_is_checked(client, field):
    body = {name: value for name, value in SEARCH.items() if name != field}
    reply = client.post("/call/search", json=body)
    assert (reply.status_code, reply.json()["details"][0]["field"]) == (422, field)
    assert client.post("/call/search", json={**SEARCH, field: None}).status_code == 422


def test_without_extensions_their_routes_are_unknown():
    with Simulator(speed=SLOW, extensions=False) as sim, client_of(sim) as client:
        order = place(client)
        unknown = client.post("/nowhere")
        for action in ("cancel", "pause", "resume"):
            reply = client.post(f"/call/{order['id']}/{action}")
            assert (reply.status_code, reply.content) == (404, unknown.content)
        reply = client.post("/call/search", json=SEARCH)
        assert (reply.status_code, reply.content) == (404, unknown.content)
        assert read(client, order)["status"] == "initializing"


def test_live_fields_carry_what_the_service_has_added():
    with Simulator(speed=SLOW, start_at=NOON_IN_NEW_YORK, live_fields=True) as sim, client_of(sim) as client:
        order = place(client, prompt_variables={"a": "b"})
        seen = set()
        while order["status"] != "completed":
            sim.advance(0.4)
            order = read(client, order)
            seen.add(order["status"])
        assert "post_processing" in seen
        assert order["prompt_variables"] == {"a": "b"}
        assert order["outcome"] == "completed"
        assert order["updated_at"] > order["last_call_attempt"]["ended_at"]
        assert order["llm_model"]["api_key"] == LIVE_API_KEY
        assert order["assistant"]["custom_tools"][0]["headers"][0]["value"] == LIVE_AUTHORIZATION
        assert order["last_call_attempt"]["handled_by_human"] is False
        assert order["last_call_attempt"]["post_call_transcript"]
        night = place(client, "+33612345612", skip_calling_window=True)
        sim.advance(600)
        assert read(client, night)["status"] == "completed"


def test_built_in_assistants(sim, client):
    order = place(client, "+33612345612", assistant_id="asst_any_time")
    sim.advance(600)
    order = read(client, order)
    assert order["status"] == "completed"
    assert order["assistant"]["voicemail_message"] is None
    assert order["call_retry_config"]["timezone"] == "UTC"
    assert set(order["last_call_attempt"]["structured_output"]) == {"owner_name"}
