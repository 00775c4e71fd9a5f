"""What a request accepts, and what goes on the wire."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_provider_revox.models import (
    AssistantRequest,
    Calendly,
    CallingWindow,
    CallRequest,
    CallRetryConfig,
    Concurrency,
    DedicatedLlm,
    FaqItem,
    OpenRouterLlm,
    StructuredOutputField,
    Voice,
    is_e164,
    parse_window_time,
)

NUMBER = "+14155550100"


def call(**fields):
    return CallRequest.model_validate({"phone_number": NUMBER, "assistant_id": "a1", **fields})


def assistant(**fields):
    return AssistantRequest.model_validate({"prompt": "Say hello", **fields})


EVERY_FIELD = {
    "phone_number": NUMBER,
    "assistant": {
        "prompt": "Say hello",
        "background_sound": "audio/office.ogg",
        "calendly": {"connection_id": "c1", "event_type_id": "e1"},
        "call_retry_config": {
            "calling_windows": [
                {
                    "calling_window_start_time": "09:00",
                    "calling_window_end_time": "6pm",
                    "retry_delay_seconds": 600,
                }
            ],
            "max_retry_attempts": 2,
            "timezone": "Europe/Paris",
        },
        "end_of_call_sentence": "Goodbye",
        "faq_items": [{"answer": "At nine", "question": "When do you open?"}],
        "first_sentence": "Hello",
        "first_sentence_delay_ms": 0,
        "first_sentence_mode": "static",
        "ivr_navigation_enabled": False,
        "llm_model": {
            "type": "openrouter",
            "openrouter_model_id": "openai/gpt-4.1",
            "openrouter_provider": "azure",
        },
        "max_call_duration_secs": 90.5,
        "structured_output_config": [
            {"name": "mood", "required": True, "type": "enum", "enum_options": ["good", "bad"]},
            {"name": "age", "required": False, "type": "number", "description": "In years"},
        ],
        "transfer_phone_number": "+33155550100",
        "voice": {"id": "v1", "provider": "elevenlabs", "speed": 0.7},
        "voicemail_message": "Call us back",
        "webhook_url": "https://example.com/hook?token=1",
    },
    "concurrency": {"key": "team", "max": 3},
    "force_now": True,
    "from_phone_number": "+14155550199",
    "metadata": {"customer": "7"},
    "prompt_variables": {"name": "Ada"},
    "scheduled_at": "2026-03-01T08:00:00Z",
}


def test_every_documented_field_goes_on_the_wire_as_it_was_given():
    assert CallRequest.model_validate(EVERY_FIELD).to_wire() == EVERY_FIELD
    assert set(AssistantRequest.model_fields) == set(EVERY_FIELD["assistant"])
    assert set(CallRequest.model_fields) == {*EVERY_FIELD, "assistant_id", "extra_body"}


def test_the_same_request_can_be_built_from_models():
    request = CallRequest(
        phone_number=NUMBER,
        assistant=AssistantRequest(
            prompt="Say hello",
            calendly=Calendly(connection_id="c", event_type_id="e"),
            call_retry_config=CallRetryConfig(
                calling_windows=[
                    CallingWindow(
                        calling_window_start_time="10am",
                        calling_window_end_time="18:00",
                        retry_delay_seconds=0,
                    )
                ],
                max_retry_attempts=1,
            ),
            faq_items=[FaqItem(answer="Yes", question="Really?")],
            llm_model=DedicatedLlm(name="gpt-4.1"),
            structured_output_config=[StructuredOutputField(name="ok", required=True, type="boolean")],
            voice=Voice(id="v", provider="cartesia"),
        ),
        concurrency=Concurrency(key="k", max=1),
    )
    wire = request.to_wire()
    assert wire["assistant"]["llm_model"] == {"type": "dedicated-instance", "name": "gpt-4.1"}
    assert wire["assistant"]["voice"] == {"id": "v", "provider": "cartesia"}
    assert wire["assistant"]["call_retry_config"] == {
        "calling_windows": [
            {
                "calling_window_start_time": "10am",
                "calling_window_end_time": "18:00",
                "retry_delay_seconds": 0,
            }
        ],
        "max_retry_attempts": 1,
    }
    assert CallRequest.model_validate(wire) == request


def test_the_type_of_a_language_model_is_sent_though_it_has_a_default():
    llm = OpenRouterLlm(openrouter_model_id="m", openrouter_provider="p")
    assert assistant(llm_model=llm).model_dump(exclude_unset=True)["llm_model"]["type"] == "openrouter"


def test_mappings_that_are_no_dicts_are_accepted():
    voice = MappingProxyType({"id": "v", "provider": "cartesia"})
    llm = MappingProxyType({"type": "dedicated-instance", "name": "gpt-4.1"})
    request = CallRequest.model_validate(
        MappingProxyType(
            {
                "phone_number": NUMBER,
                "assistant": MappingProxyType({"prompt": "Hi", "voice": voice, "llm_model": llm}),
                "metadata": MappingProxyType({"k": 1}),
                "extra_body": MappingProxyType({"new": 1}),
            }
        )
    )
    assert request.to_wire()["metadata"] == {"k": "1"}
    assert request.to_wire()["new"] == 1
    assert request.to_wire()["assistant"]["voice"]["provider"] == "cartesia"


def test_a_request_is_accepted_as_it_is():
    request = call()
    assert CallRequest.model_validate(request) is request


def test_a_request_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        call().phone_number = "+14155550199"


# Null and absent


@pytest.mark.parametrize("field", ["background_sound", "calendly", "transfer_phone_number", "voicemail_message"])
def test_null_and_absent_stay_apart_where_null_has_a_meaning(field):
    with_null = CallRequest(phone_number=NUMBER, assistant={"prompt": "Hi", field: None})
    without = CallRequest(phone_number=NUMBER, assistant={"prompt": "Hi"})
    assert json.loads(with_null.wire_json())["assistant"] == {"prompt": "Hi", field: None}
    assert json.loads(without.wire_json())["assistant"] == {"prompt": "Hi"}


def test_none_at_the_top_counts_as_not_given():
    nothing = {name: None for name in CallRequest.model_fields if name not in ("phone_number", "assistant_id")}
    assert call(**nothing).to_wire() == {"phone_number": NUMBER, "assistant_id": "a1"}
    assert call(**nothing).model_fields_set == {"phone_number", "assistant_id"}


def test_none_put_in_by_a_copy_is_not_sent():
    copied = call(force_now=True).model_copy(update={"force_now": None})
    assert copied.to_wire() == {"phone_number": NUMBER, "assistant_id": "a1"}


def test_false_and_zero_are_sent():
    wire = CallRequest(
        phone_number=NUMBER, assistant={"prompt": "Hi", "first_sentence_delay_ms": 0}, force_now=False
    ).to_wire()
    assert wire["force_now"] is False
    assert wire["assistant"]["first_sentence_delay_ms"] == 0


def test_wire_json_is_compact_utf8():
    body = call(metadata={"name": "Zoë"}).wire_json()
    assert body == '{"phone_number":"+14155550100","assistant_id":"a1","metadata":{"name":"Zoë"}}'.encode()


# extra_body


def test_extra_body_is_merged_into_the_body_and_not_sent_itself():
    given_values = {"skip_calling_window": True, "new": {"nested": [1, None, "x"]}}
    wire = call(extra_body=given_values).to_wire()
    assert wire == {"phone_number": NUMBER, "assistant_id": "a1", **given_values}


def test_extra_body_is_a_copy():
    values = {"new": ["a"]}
    request = call(extra_body=values)
    values["new"].append("b")
    assert request.to_wire()["new"] == ["a"]


@pytest.mark.parametrize("name", sorted(CallRequest.model_fields))
def test_extra_body_cannot_replace_a_known_field(name):
    with pytest.raises(ValidationError, match=rf"repeats {name};"):
        call(extra_body={name: "x"})


# Text from templates


@pytest.mark.parametrize(
    ("text", "value"),
    [("True", True), ("true", True), ("FALSE", False), ("False", False), (True, True), (False, False)],
)
def test_a_flag_may_be_rendered_text(text, value):
    assert call(force_now=text).to_wire()["force_now"] is value


@pytest.mark.parametrize(("text", "value"), [("600", 600), ("0.5", 0.5), (1.25, 1.25), (7, 7)])
def test_a_number_may_be_rendered_text(text, value):
    sent = assistant(max_call_duration_secs=text).model_dump()["max_call_duration_secs"]
    assert (sent, type(sent)) == (value, type(value))


def test_a_whole_number_may_be_rendered_text():
    assert Concurrency(key="k", max="12").max == 12


# Phone numbers


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_every_e164_number_is_accepted_as_it_is(number):
    assert call(phone_number=number).to_wire()["phone_number"] == number


@given(st.one_of(st.text(), st.integers(), st.from_regex(r"\+?[0-9 ]{1,20}\n?", fullmatch=True)))
def test_a_number_is_accepted_exactly_when_it_is_e164(value):
    good = isinstance(value, str) and re.fullmatch(r"\+[1-9]\d{6,14}", value, re.ASCII) is not None
    assert is_e164(value) is good
    if good:
        assert call(phone_number=value, from_phone_number=value).phone_number == value
    else:
        with pytest.raises(ValidationError) as refusal:
            call(phone_number=value, from_phone_number=value)
        assert [error["loc"] for error in refusal.value.errors()] == [("phone_number",), ("from_phone_number",)]


@pytest.mark.parametrize("number", ["+14155550100\n", "+١٤١٥٥٥٥٠١٠٠", "14155550100", "+0155550100", "+123456"])
def test_what_only_looks_like_e164_is_refused(number):
    with pytest.raises(ValidationError):
        call(phone_number=number)


# Times


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01T09:00:00+01:00",
        "2026-03-01 09:00:00+01:00",
        "2026-03-01T08:00:00Z",
        "2026-03-01T08:00Z",
        "2026-03-01T08:00:00.000Z",
        "2026-03-01T09:00:00+0100",
        datetime(2026, 3, 1, 8, tzinfo=timezone.utc),
        datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("Europe/Paris")),
        pendulum.datetime(2026, 3, 1, 9, tz="Europe/Paris"),
    ],
)
def test_a_moment_goes_on_the_wire_in_utc(value):
    request = call(scheduled_at=value)
    assert request.to_wire()["scheduled_at"] == "2026-03-01T08:00:00Z"
    assert type(request.scheduled_at) is datetime


def test_the_second_of_two_equal_hours_keeps_its_moment():
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert call(scheduled_at=twice).to_wire()["scheduled_at"] == "2026-10-25T00:30:00Z"
    assert call(scheduled_at=twice.replace(fold=1)).to_wire()["scheduled_at"] == "2026-10-25T01:30:00Z"


@given(st.datetimes(timezones=st.timezones()))
def test_every_aware_datetime_keeps_its_moment(moment):
    try:
        in_utc = moment.astimezone(timezone.utc)
    except OverflowError:
        return
    assert call(scheduled_at=moment).scheduled_at == in_utc


@pytest.mark.parametrize(
    ("text", "hour", "minute"),
    [
        ("00:00", 0, 0),
        ("09:30", 9, 30),
        ("23:59", 23, 59),
        ("6pm", 18, 0),
        ("10am", 10, 0),
        ("9:30am", 9, 30),
        ("12am", 0, 0),
        ("12pm", 12, 0),
        ("12:15am", 0, 15),
    ],
)
def test_window_times_are_read_in_both_forms(text, hour, minute):
    moment = parse_window_time(text)
    assert (moment.hour, moment.minute) == (hour, minute)


@pytest.mark.parametrize(
    "text", ["8:45", "24:00", "09:60", "13pm", "0pm", "6 pm", "6PM", "", "noon", "09:00\n", "٠٩:٠٠"]
)
def test_other_window_times_are_refused_without_being_repeated(text):
    with pytest.raises(ValueError, match="such as '09:30'") as refusal:
        parse_window_time(text)
    assert not text or text not in str(refusal.value)


# Voices


@pytest.mark.parametrize(
    ("provider", "speed", "good"),
    [
        ("cartesia", 0.6, True),
        ("cartesia", 1.5, True),
        ("cartesia", 0.59, False),
        ("cartesia", 1.51, False),
        ("elevenlabs", 0.7, True),
        ("elevenlabs", "1.2", True),
        ("elevenlabs", 0.69, False),
        ("elevenlabs", 1.21, False),
    ],
)
def test_the_range_of_speeds_is_the_providers(provider, speed, good):
    if good:
        assert Voice(id="v", provider=provider, speed=speed).speed == float(speed)
    else:
        with pytest.raises(ValidationError, match=f"the range of {provider}"):
            Voice(id="v", provider=provider, speed=speed)


# Text maps


class Colour(str, Enum):
    RED = "red"


@pytest.mark.parametrize("field", ["metadata", "prompt_variables"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("x", "x"),
        (Colour.RED, "red"),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (-1.5, "-1.5"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime(2026, 3, 1, 8, tzinfo=timezone(timedelta(hours=1))), "2026-03-01T08:00:00+01:00"),
        (pendulum.datetime(2026, 3, 1, 8), "2026-03-01T08:00:00+00:00"),
    ],
)
def test_values_of_a_text_map_become_text(field, value, text):
    sent = call(**{field: {"key": value}}).to_wire()[field]["key"]
    assert (sent, type(sent)) == (text, str)


texts = st.text(st.characters(exclude_categories=("Cs",)))
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(),
)


@given(st.dictionaries(texts.filter(str.strip), scalars))
def test_every_map_of_scalars_is_sent_as_text(metadata):
    sent = json.loads(call(metadata=metadata).wire_json()).get("metadata")
    assert sent.keys() == metadata.keys()
    for key, value in metadata.items():
        assert type(sent[key]) is str
        if isinstance(value, str):
            assert sent[key] == value
        elif isinstance(value, float):
            assert float(sent[key]) == value


@given(
    st.one_of(
        st.none(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.integers()),
        st.binary(),
        st.sampled_from([float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), 10**5000]),
    )
)
def test_nothing_else_is_made_into_text(value):
    with pytest.raises(ValidationError) as refusal:
        call(metadata={"address": value})
    assert refusal.value.errors()[0]["loc"] == ("metadata", "address")
