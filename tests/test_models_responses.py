"""What a reply is read as, whatever it holds."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_revox.models import (
    Assistant,
    AttemptStatus,
    CallAttempt,
    CallGlance,
    CallOrder,
    CallResult,
    CallStatus,
    DialError,
    Direction,
    EndedBy,
    LlmReply,
    TranscriptEntry,
    TranscriptRole,
    parse_call_reply,
    parse_search_glances,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SECRET = "sk-live-Tr0ub4dor"

RETRIES = {
    "calling_windows": [
        {
            "calling_window_start_time": "10:00",
            "calling_window_end_time": "6pm",
            "retry_delay_seconds": 7200,
        }
    ],
    "max_retry_attempts": 3,
    "timezone": "Europe/Paris",
}
ATTEMPT = {
    "id": "at2",
    "answered_at": "2026-03-01T12:00:00Z",
    "dial_error": None,
    "end_reason": "tool_end_call",
    "ended_at": "2026-03-01T12:00:00Z",
    "ended_by": "agent",
    "phone_number": "+14155550100",
    "recording_url": "https://example.com/r.mp3",
    "result": "human",
    "started_at": "2026-03-01T12:00:00Z",
    "status": "completed",
    "structured_output": {"mood": "good"},
    "transcript": [
        {"content": "Hello", "role": "assistant"},
        {
            "content": "",
            "role": "tool",
            "tool_arguments": {"a": 1},
            "tool_is_error": False,
            "tool_name": "end",
        },
    ],
}
ASSISTANT = {
    "id": "as1",
    "background_sound": "audio/office.ogg",
    "calendly": {"connection_id": "c", "event_type_id": "e"},
    "call_retry_config": RETRIES,
    "created_at": "2026-03-01T12:00:00Z",
    "end_of_call_sentence": "Bye",
    "faq_items": [{"answer": "a", "question": "q", "id": "f1", "needs_human_answer": False, "source": "ai"}],
    "first_sentence": "Hello",
    "first_sentence_delay_ms": 400,
    "first_sentence_mode": "static",
    "ivr_navigation_enabled": True,
    "llm_model": {"type": "dedicated-instance", "name": "gpt-4.1"},
    "max_call_duration_secs": 600,
    "name": "Reminder",
    "organization_id": "o1",
    "pending_faq_count": 0,
    "prompt": "Say hello",
    "structured_output_config": [
        {
            "name": "mood",
            "required": True,
            "type": "enum",
            "description": None,
            "enum_options": ["good", "bad"],
        }
    ],
    "transfer_phone_number": "+14155550199",
    "updated_at": "2026-03-01T12:00:00Z",
    "voice": {"id": "v", "provider": "cartesia", "speed": 1.1},
    "voicemail_message": None,
    "webhook_url": "https://example.com",
}
ORDER = {
    "id": "co1",
    "assistant": ASSISTANT,
    "call_attempts": [ATTEMPT, {**ATTEMPT, "id": "at1", "result": "voicemail", "structured_output": None}],
    "call_retry_config": RETRIES,
    "calls_count": 2,
    "campaign": {"id": "ca1", "name": "Spring"},
    "created_at": "2026-03-01T12:00:00Z",
    "direction": "outbound",
    "first_sentence_delay_ms": 400,
    "from_phone_number": "+14155550199",
    "is_cancelled": False,
    "is_completed": True,
    "last_call_attempt": ATTEMPT,
    "llm_model": {"type": "openrouter", "openrouter_model_id": "m", "openrouter_provider": "p"},
    "metadata": {"customer": "7"},
    "organization_id": "o1",
    "scheduled_at": "2026-03-01T12:00:00Z",
    "status": "completed",
    "to_phone_number": "+14155550100",
}


def order(**fields):
    return CallOrder.model_validate({"id": "co1", **fields})


def reply_to(value):
    return json.dumps(value).encode()


def test_the_documented_fields_are_all_there():
    assert (len(ORDER), len(ATTEMPT), len(ASSISTANT)) == (19, 13, 23)
    assert set(ORDER) <= set(CallOrder.model_fields)
    assert set(ATTEMPT) <= set(CallAttempt.model_fields)
    assert set(ASSISTANT) == set(Assistant.model_fields)


def test_a_full_reply_is_read_and_nothing_of_it_is_lost():
    read = parse_call_reply(reply_to({"call": ORDER}))
    assert json.loads(read.model_dump_json(exclude_unset=True)) == ORDER
    assert read.created_at == read.call_attempts[0].started_at == read.assistant.updated_at == NOON
    assert read.status is CallStatus.COMPLETED
    assert read.direction is Direction.OUTBOUND
    first = read.call_attempts[0]
    assert (first.status, first.result, first.ended_by) == (
        AttemptStatus.COMPLETED,
        CallResult.HUMAN,
        EndedBy.AGENT,
    )
    assert first.transcript[1].role is TranscriptRole.TOOL
    assert first.transcript[1].tool_arguments == {"a": 1}
    assert read.assistant.call_retry_config.calling_windows[0].calling_window_end_time == "6pm"
    assert read.assistant.structured_output_config[0].enum_options == ["good", "bad"]
    assert read.assistant.voice.speed == 1.1
    assert read.campaign.name == "Spring"


def test_only_the_id_is_required():
    read = order()
    assert read.call_attempts == []
    assert {name: value for name, value in read if value not in (None, [])} == {"id": "co1"}


@pytest.mark.parametrize("field", sorted(set(CallOrder.model_fields) - {"id"}))
def test_every_other_field_may_be_null(field):
    assert getattr(order(**{field: None}), field) == ([] if field == "call_attempts" else None)


@pytest.mark.parametrize(("sent", "read"), [(12, "12"), (12.0, "12"), ("x", "x"), (2**70, str(2**70))])
def test_an_id_is_a_string_whatever_it_was_sent_as(sent, read):
    assert order(id=sent).id == read
    assert CallGlance.from_reply(reply_to({"call": {"id": sent}})).id == read


# What the live service has added


def test_the_extended_replies_are_read():
    read = order(
        status="post_processing",
        outcome="interested",
        outcome_summary="They will come",
        prompt_variables={"name": "Ada"},
        updated_at="2026-03-01T12:00:00Z",
        llm_model={"type": "custom", "api_url": "https://x", "api_key": SECRET, "model_name": "m"},
        assistant={
            "llm_model": {"type": "realtime", "voice": "v", "api_key": SECRET},
            "voice": {"id": "v", "provider": "gradium"},
            "tools": [{"type": "api", "headers": {"authorization": f"Bearer {SECRET}"}}],
        },
        call_attempts=[{"handled_by_human": True, "post_call_transcript": [{"text": "Hi"}]}],
    )
    assert read.status is CallStatus.POST_PROCESSING
    assert read.updated_at == NOON
    assert (read.outcome, read.outcome_summary) == ("interested", "They will come")
    assert read.prompt_variables == {"name": "Ada"}
    assert read.llm_model.type == "custom"
    assert read.llm_model.model_extra["api_key"] == SECRET
    assert read.assistant.voice.provider == "gradium"
    assert read.assistant.model_extra["tools"][0]["headers"]["authorization"].endswith(SECRET)
    assert read.call_attempts[0].handled_by_human is True
    assert read.call_attempts[0].post_call_transcript == [{"text": "Hi"}]


@pytest.mark.parametrize("status", ["not_launched", "paused"])
def test_the_added_statuses_are_known_and_not_terminal(status):
    assert order(status=status).status is CallStatus(status)
    assert not order(status=status).is_terminal


def test_an_unknown_value_is_kept_as_it_is():
    read = order(
        status="teleported",
        direction="sideways",
        last_call_attempt={"status": "s", "result": "r", "dial_error": "d", "ended_by": "e"},
    )
    assert (read.status, read.direction) == ("teleported", "sideways")
    last = read.last_call_attempt
    assert (last.status, last.result, last.dial_error, last.ended_by) == ("s", "r", "d", "e")


def test_an_unknown_field_is_kept():
    assert order(newest={"a": [1]}).model_extra == {"newest": {"a": [1]}}


def test_known_values_are_members():
    assert CallAttempt(dial_error="busy").dial_error is DialError.BUSY


# Times


@pytest.mark.parametrize(
    "sent",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01T13:00:00+01:00",
        "2026-03-01T12:00:00",
        "2026-03-01 12:00:00.000",
        "2026-03-01T12:00:00.000000Z",
        1772366400,
        1772366400.0,
        1772366400000,
        "1772366400",
    ],
)
def test_times_are_read_to_utc(sent):
    for read in (
        order(scheduled_at=sent),
        CallGlance.from_reply(reply_to({"call": {"id": "x", "scheduled_at": sent}})),
    ):
        assert read.scheduled_at == NOON
        assert read.scheduled_at.utcoffset().total_seconds() == 0


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert order(created_at="2026-03-01T12:00:00").created_at == NOON
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "sent", ["soon", "", "2026-13-01T00:00:00Z", True, [], {}, 1e300, -1e300, "0001-01-01T00:00:00+14:00"]
)
def test_a_time_that_cannot_be_read_is_none(sent):
    assert order(scheduled_at=sent).scheduled_at is None


# Whatever it holds

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def bodies(model, **nested):
    """Draw objects in which any documented field may hold any JSON value, or be built deeper in the same way."""
    fields = {name: json_values | nested.get(name, json_values) for name in model.model_fields}
    return st.fixed_dictionaries({}, optional=fields)


attempts = bodies(CallAttempt, transcript=st.lists(bodies(TranscriptEntry) | json_values, max_size=2))
retries = st.fixed_dictionaries(
    {}, optional={"calling_windows": st.lists(json_values, max_size=2), "max_retry_attempts": json_values}
)
assistants = bodies(Assistant, call_retry_config=retries, llm_model=bodies(LlmReply))
orders = bodies(
    CallOrder,
    assistant=assistants,
    call_attempts=st.lists(attempts | json_values, max_size=2),
    call_retry_config=retries,
    last_call_attempt=attempts,
    llm_model=bodies(LlmReply),
)


@settings(max_examples=300, deadline=None)
@given(orders)
def test_nothing_in_a_reply_but_its_id_can_fail_it(body):
    body = {**body, "id": "co1"}
    body_bytes = reply_to({"call": body})
    glance = CallGlance.from_reply(body_bytes)
    for read in (CallOrder.model_validate(body), parse_call_reply(body_bytes)):
        assert read.id == "co1"
        assert read.status is None or isinstance(read.status, str)
        assert all(isinstance(attempt, CallAttempt) for attempt in read.call_attempts)
        for moment in (read.created_at, read.scheduled_at, read.updated_at):
            assert moment is None or moment.utcoffset().total_seconds() == 0
        assert read.calls_count is None or type(read.calls_count) is int
        assert read.structured_output is None or isinstance(read.structured_output, dict)
        assert read.reached_human in (True, False)
        assert read.latest_attempt is None or isinstance(read.latest_attempt, CallAttempt)
        repr(read)
    assert (glance.status, glance.calls_count) == (read.status, read.calls_count)
    assert glance.scheduled_at == read.scheduled_at
    repr(glance)


@pytest.mark.parametrize(
    ("field", "sent", "read"),
    [
        ("calls_count", "2", 2),
        ("calls_count", 2.0, 2),
        ("calls_count", 2.5, None),
        ("calls_count", True, None),
        ("first_sentence_delay_ms", "1.5", 1.5),
        ("first_sentence_delay_ms", float("nan"), None),
        ("organization_id", 7, "7"),
        ("organization_id", ["x"], None),
        ("is_completed", "TRUE", True),
        ("is_completed", 1, None),
        ("metadata", [1], None),
        ("assistant", "as1", None),
        ("call_attempts", "x", []),
        ("status", 7, "7"),
        ("status", {}, None),
    ],
)
def test_a_value_of_another_type_is_converted_or_none(field, sent, read):
    got = getattr(order(**{field: sent}), field)
    assert (got, type(got)) == (read, type(read))


def test_a_number_too_long_to_write_is_none():
    assert order(status=10**5000).status is None
    with pytest.raises(ValidationError, match="non-empty string"):
        order(id=10**5000)


def test_options_that_are_no_list_are_none():
    config = Assistant(structured_output_config=[{"enum_options": "x"}, {"enum_options": [1, None, "y"]}])
    assert [field.enum_options for field in config.structured_output_config] == [None, ["1", "y"]]


def test_what_is_no_object_is_left_out_of_a_list():
    assert [attempt.id for attempt in order(call_attempts=[None, {"id": "a"}, 3]).call_attempts] == ["a"]


def test_half_a_character_does_not_cost_the_reply():
    body = b'{"call": {"id": "x", "status": "completed", "outcome_summary": "cut \\ud83d", "metadata": {"k": "v"}}}'
    read = parse_call_reply(body)
    assert (read.status, read.metadata, read.outcome_summary) == ("completed", {"k": "v"}, "cut ?")
    assert CallGlance.from_reply(body).status == "completed"


def test_bytes_that_are_not_utf8_do_not_cost_the_reply():
    assert parse_call_reply(b'\xef\xbb\xbf{"call": {"id": "x", "outcome": "\xff"}}').outcome == "�"


# Conveniences


def test_the_latest_attempt_is_the_one_named_so_else_the_first():
    first, second = {"id": "new"}, {"id": "old"}
    assert order(last_call_attempt={"id": "last"}, call_attempts=[first]).latest_attempt.id == "last"
    assert order(call_attempts=[first, second]).latest_attempt.id == "new"
    assert order().latest_attempt is None


@pytest.mark.parametrize(
    ("fields", "reached"),
    [
        ({}, False),
        ({"call_attempts": [{"result": "voicemail"}, {"result": "human"}]}, True),
        ({"call_attempts": [{"result": "voicemail"}, {"result": None}]}, False),
        ({"last_call_attempt": {"result": "human"}}, True),
    ],
)
def test_a_human_was_reached_when_any_attempt_says_so(fields, reached):
    assert order(**fields).reached_human is reached


def test_the_structured_output_is_that_of_the_latest_attempt_with_one():
    none, old, new = {"structured_output": None}, {"structured_output": {"a": 1}}, {"structured_output": {"a": 2}}
    assert order(call_attempts=[none, new, old]).structured_output == {"a": 2}
    assert order(last_call_attempt=none, call_attempts=[none, old]).structured_output == {"a": 1}
    assert order(last_call_attempt=new, call_attempts=[old]).structured_output == {"a": 2}
    assert order(call_attempts=[none]).structured_output is None


# Glances


def test_a_glance_has_what_a_poll_needs_and_no_more():
    glance = CallGlance.from_reply(reply_to({"call": ORDER}))
    assert (glance.id, glance.status, glance.scheduled_at, glance.calls_count) == (
        "co1",
        CallStatus.COMPLETED,
        NOON,
        2,
    )
    assert glance.to_phone_number == ORDER["to_phone_number"]
    assert ORDER["to_phone_number"] not in repr(glance)
    assert glance.is_terminal
    attempt = glance.latest_attempt
    assert (attempt.status, attempt.result, attempt.dial_error) == ("completed", "human", None)
    assert attempt.started_at == attempt.ended_at == NOON
    assert glance.call_retry_config.calling_windows[0].retry_delay_seconds == 7200
    assert glance.model_extra is None
    assert attempt.model_extra is None


def test_glances_come_out_of_a_search():
    glances = parse_search_glances(reply_to({"calls": [ORDER, {"id": 2}], "total_count": 2}))
    assert [(glance.id, glance.is_terminal) for glance in glances] == [("co1", True), ("2", False)]
