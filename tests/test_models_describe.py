"""What the author of a DAG reads about a request that was refused."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from airflow_provider_revox.models import (
    AssistantRequest,
    CallRequest,
    DedicatedLlm,
    OpenRouterLlm,
    Voice,
    describe_validation_error,
)

NUMBER = "+14155550100"
SECRET = "sk-live-Tr0ub4dor"


def described(model, value):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(value)
    return describe_validation_error(refusal.value)


def of_call(**fields):
    return described(CallRequest, {"phone_number": NUMBER, "assistant_id": "a", **fields})


def of_assistant(**fields):
    return described(CallRequest, {"phone_number": NUMBER, "assistant": {"prompt": "Hi", **fields}})


def of_window(**fields):
    window = {
        "calling_window_start_time": "09:00",
        "calling_window_end_time": "6pm",
        "retry_delay_seconds": 60,
        **fields,
    }
    return of_assistant(call_retry_config={"calling_windows": [window], "max_retry_attempts": 1})


def of_retries(**fields):
    window = {
        "calling_window_start_time": "9am",
        "calling_window_end_time": "6pm",
        "retry_delay_seconds": 60,
    }
    return of_assistant(call_retry_config={"calling_windows": [window], "max_retry_attempts": 1, **fields})


def of_output(*fields):
    basic = {"name": "mood", "required": True, "type": "string"}
    return of_assistant(
        structured_output_config=[{**basic, "name": f"n{at}", **field} for at, field in enumerate(fields)]
    )


E164 = "must be a phone number in E.164, such as +14155550100"
MOMENT = "must be a date and time with its zone: an aware datetime, or ISO 8601 text such as 2026-03-01T09:00:00+01:00"
TIME = "must be a time such as '09:30' (24 hours, two digits each), '6pm' or '9:30am'"
ZONE = "must be the name of an IANA time zone, such as Europe/Paris"
MAP_VALUE = "must be a string, a number, a boolean, a date or a datetime; nested and null values are not sent"
JSON = "must be JSON: strings, finite numbers, booleans, null, and lists and mappings of these"
NULL = "must not be null; leave the field out instead (got null)"
CONFIG = "assistant.call_retry_config"
WINDOW = f"{CONFIG}.calling_windows[0]"
OUTPUT = "assistant.structured_output_config"

REFUSALS = [
    # phone numbers
    (lambda: described(CallRequest, {"assistant_id": "a"}), "phone_number: missing; it is required"),
    (lambda: of_call(phone_number=None), "phone_number: missing; it is required"),
    (lambda: of_call(phone_number="4155550100"), f"phone_number: {E164} (got a string of 10 characters)"),
    (lambda: of_call(phone_number=14155550100), f"phone_number: {E164} (got int)"),
    (
        lambda: of_call(phone_number=" +14155550100\n"),
        f"phone_number: has whitespace around it; {E164}, with nothing around it (got +1415•••0100)",
    ),
    (lambda: of_call(from_phone_number=""), f"from_phone_number: {E164} (got a string of 0 characters)"),
    (
        lambda: of_assistant(transfer_phone_number="x"),
        f"assistant.transfer_phone_number: {E164} (got a string of 1 character)",
    ),
    # which assistant
    (
        lambda: described(CallRequest, {"phone_number": NUMBER}),
        "assistant_id: missing, and so is assistant; give exactly one of the two",
    ),
    (
        lambda: of_call(assistant={"prompt": "Hi"}),
        "assistant_id: given together with assistant; give exactly one of the two",
    ),
    (
        lambda: of_call(assistant_id=" "),
        "assistant_id: is empty; it must be a string with something in it (got a string of 1 character)",
    ),
    (lambda: of_call(assistant_id=7), "assistant_id: must be a string (got int)"),
    (
        lambda: described(CallRequest, {"phone_number": NUMBER, "assistant": "Hi"}),
        "assistant: must be a mapping of fields (got a string of 2 characters)",
    ),
    (
        lambda: described(CallRequest, "x"),
        "CallRequest: must be a mapping of fields (got a string of 1 character)",
    ),
    # the other top fields
    (
        lambda: of_call(force_nwo=True),
        "force_nwo: unknown field (did you mean force_now?); leave it out, or put what this version does not "
        "know into extra_body",
    ),
    (
        lambda: of_call(later=None),
        "later: unknown field; leave it out, or put what this version does not know into extra_body",
    ),
    (lambda: of_call(force_now="yes"), "force_now: must be true or false (got a string of 3 characters)"),
    (lambda: of_call(force_now=1), "force_now: must be true or false (got int)"),
    (lambda: of_call(concurrency={"max": 1}), "concurrency.key: missing; it is required"),
    (
        lambda: of_call(concurrency={"key": "", "max": 1}),
        "concurrency.key: is empty; it must be a string with something in it (got a string of 0 characters)",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": 0}),
        "concurrency.max: 0 is too small; it must be at least 1",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": True}),
        "concurrency.max: must be a whole number (got bool)",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": 1.0}),
        "concurrency.max: must be a whole number (got float)",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": "1.5"}),
        "concurrency.max: must be a whole number (got a string of 3 characters)",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": 10**400}),
        "concurrency.max: must be a whole number of ordinary size (got int)",
    ),
    (
        lambda: of_call(concurrency={"key": "k", "max": 1, "min": 0}),
        "concurrency.min: unknown field; the fields here are key, max",
    ),
    (lambda: of_call(scheduled_at="2026-03-01"), f"scheduled_at: {MOMENT} (got a string of 10 characters)"),
    (lambda: of_call(scheduled_at=date(2026, 3, 1)), f"scheduled_at: {MOMENT} (got date)"),
    (lambda: of_call(scheduled_at=1772352000), f"scheduled_at: {MOMENT} (got int)"),
    (lambda: of_call(scheduled_at="tomorrow"), f"scheduled_at: {MOMENT} (got a string of 8 characters)"),
    (
        lambda: of_call(scheduled_at="2026-13-01T09:00:00Z"),
        f"scheduled_at: {MOMENT} (got a string of 20 characters)",
    ),
    (
        lambda: of_call(scheduled_at="2026-03-01T09:00:00"),
        f"scheduled_at: has no time zone, so its moment is unknown; it {MOMENT} (got a string of 19 characters)",
    ),
    (
        lambda: of_call(scheduled_at=datetime(2026, 3, 1)),
        f"scheduled_at: has no time zone, so its moment is unknown; it {MOMENT} (got datetime)",
    ),
    (
        lambda: of_call(scheduled_at="0001-01-01T00:00:00+14:00"),
        f"scheduled_at: is outside the calendar; it {MOMENT} (got a string of 25 characters)",
    ),
    (lambda: of_call(metadata=["x"]), "metadata: must be a mapping (got list)"),
    (lambda: of_call(metadata={"address": {"city": "x"}}), f"metadata.address: {MAP_VALUE} (got dict)"),
    (lambda: of_call(metadata={"tags": []}), f"metadata.tags: {MAP_VALUE} (got list)"),
    (lambda: of_call(metadata={"name": None}), f"metadata.name: {MAP_VALUE} (got null)"),
    (
        lambda: of_call(metadata={"ratio": float("nan")}),
        "metadata.ratio: is not a finite number; it must be a string, a number, a boolean, a date or a "
        "datetime (got float)",
    ),
    (
        lambda: of_call(prompt_variables={"size": 10**5000}),
        "prompt_variables.size: has too many digits; give a number that large as a string (got int)",
    ),
    (
        lambda: of_call(metadata={"half": "\ud83d"}),
        "metadata.half: has characters that UTF-8 cannot carry; it must be ordinary text (got a string of 1 character)",
    ),
    (
        lambda: of_call(metadata={" ": "x"}),
        "metadata: has an empty key; every key must be a non-empty string",
    ),
    (
        lambda: of_call(prompt_variables={1: "x"}),
        "prompt_variables: has a key that is not a string; every key must be a non-empty string",
    ),
    (
        lambda: of_call(metadata={NUMBER: None}),
        f"metadata.(a name of 12 characters): {MAP_VALUE} (got null)",
    ),
    (
        lambda: of_call(extra_body={"metadata": {}, "new": 1, "force_now": True}),
        "extra_body: repeats force_now, metadata; extra_body is only for fields that CallRequest does not have",
    ),
    (
        lambda: of_call(extra_body={"": 1}),
        "extra_body: has a key that is not a field name; every key must be a non-empty string",
    ),
    (
        lambda: of_call(extra_body=[1]),
        "extra_body: must be a mapping of field names to JSON values (got list)",
    ),
    (lambda: of_call(extra_body={"new": {1, 2}}), f"extra_body: {JSON} (got dict)"),
    (lambda: of_call(extra_body={"new": float("inf")}), f"extra_body: {JSON} (got dict)"),
    (lambda: of_call(extra_body={"new": "\ud83d"}), f"extra_body: {JSON} (got dict)"),
    # the assistant
    (
        lambda: described(CallRequest, {"phone_number": NUMBER, "assistant": {}}),
        "assistant.prompt: missing; it is required",
    ),
    (
        lambda: of_assistant(prompt="\n"),
        "assistant.prompt: is empty; it must be a string with something in it (got a string of 1 character)",
    ),
    (lambda: of_assistant(prompt=b"Hi"), "assistant.prompt: must be a string (got bytes)"),
    (lambda: of_assistant(prompt=None), "assistant.prompt: must be a string (got null)"),
    (
        lambda: of_assistant(prompt="\ud83d"),
        "assistant.prompt: has characters that UTF-8 cannot carry; it must be ordinary text "
        "(got a string of 1 character)",
    ),
    (
        lambda: of_assistant(background_sound="office"),
        "assistant.background_sound: must be 'audio/office.ogg' (got a string of 6 characters)",
    ),
    (
        lambda: of_assistant(calendly={"connection_id": "c"}),
        "assistant.calendly.event_type_id: missing; it is required",
    ),
    (
        lambda: of_assistant(faq_items=[{"answer": "x", "question": "y"}, {"answer": "x", "questoin": "y"}]),
        "assistant.faq_items[1].question: missing; it is required\n"
        "assistant.faq_items[1].questoin: unknown field (did you mean question?); "
        "the fields here are answer, question",
    ),
    (
        lambda: of_assistant(faq_items="x"),
        "assistant.faq_items: must be a list (got a string of 1 character)",
    ),
    (
        lambda: of_assistant(first_sentence_mode="fixed"),
        "assistant.first_sentence_mode: must be 'generated', 'static' or 'none' (got a string of 5 characters)",
    ),
    (
        lambda: of_assistant(first_sentence_delay_ms=-1),
        "assistant.first_sentence_delay_ms: -1 is too small; it must be at least 0",
    ),
    (
        lambda: of_assistant(first_sentence_delay_ms=True),
        "assistant.first_sentence_delay_ms: must be a number (got bool)",
    ),
    (
        lambda: of_assistant(max_call_duration_secs="0"),
        "assistant.max_call_duration_secs: 0 is too small; it must be above 0",
    ),
    (
        lambda: of_assistant(max_call_duration_secs="60s"),
        "assistant.max_call_duration_secs: must be a number (got a string of 3 characters)",
    ),
    (
        lambda: of_assistant(max_call_duration_secs=float("inf")),
        "assistant.max_call_duration_secs: must be a finite number of ordinary size (got float)",
    ),
    (
        lambda: of_assistant(max_call_duration_secs=float("nan")),
        "assistant.max_call_duration_secs: must be a finite number of ordinary size (got float)",
    ),
    (
        lambda: of_assistant(ivr_navigation_enabled="on"),
        "assistant.ivr_navigation_enabled: must be true or false (got a string of 2 characters)",
    ),
    *(
        (
            lambda url=url: of_assistant(webhook_url=url),
            "assistant.webhook_url: must be an http or https URL, such as https://example.com/hook "
            f"(got a string of {len(url)} characters)",
        )
        for url in (
            "example.com/hook",
            "ftp://example.com",
            "https://",
            "https://[::1/x",
            "https://a.example/a b",
        )
    ),
    *(
        (lambda name=name: of_assistant(**{name: None}), f"assistant.{name}: {NULL}")
        for name in (
            "call_retry_config",
            "end_of_call_sentence",
            "faq_items",
            "first_sentence",
            "first_sentence_delay_ms",
            "first_sentence_mode",
            "ivr_navigation_enabled",
            "llm_model",
            "max_call_duration_secs",
            "structured_output_config",
            "voice",
            "webhook_url",
        )
    ),
    # the language model
    (
        lambda: of_assistant(llm_model="gpt-4.1"),
        "assistant.llm_model: must be a mapping of fields (got a string of 7 characters)",
    ),
    (
        lambda: of_assistant(llm_model={"name": "gpt-4.1"}),
        "assistant.llm_model.type: must be 'dedicated-instance' or 'openrouter'",
    ),
    (
        lambda: of_assistant(llm_model={"type": SECRET}),
        "assistant.llm_model.type: must be 'dedicated-instance' or 'openrouter'",
    ),
    (
        lambda: of_assistant(llm_model={"type": "dedicated-instance", "name": "gpt-4.2"}),
        "assistant.llm_model.name: must be 'gpt-4.1' or 'ministral-3-8b-instruct' (did you mean gpt-4.1?) "
        "(got a string of 7 characters)",
    ),
    (
        lambda: of_assistant(llm_model={"type": "dedicated-instance", "name": "gpt-4.1", "nmae": 1}),
        "assistant.llm_model.nmae: unknown field (did you mean name?); the fields here are type, name",
    ),
    (
        lambda: of_assistant(llm_model={"type": "openrouter", "openrouter_provider": "azure"}),
        "assistant.llm_model.openrouter_model_id: missing; it is required",
    ),
    # the voice
    (
        lambda: of_assistant(voice={"id": "v", "provider": "elevenlabs", "speed": 1.4}),
        "assistant.voice.speed: 1.4 is outside 0.7–1.2, the range of elevenlabs",
    ),
    (
        lambda: of_assistant(voice={"id": "v", "provider": "cartesia", "speed": "0.5"}),
        "assistant.voice.speed: 0.5 is outside 0.6–1.5, the range of cartesia",
    ),
    (
        lambda: of_assistant(voice={"id": "v", "provider": "eleven-labs", "speed": 9}),
        "assistant.voice.provider: must be 'cartesia' or 'elevenlabs' (did you mean elevenlabs?) "
        "(got a string of 11 characters)",
    ),
    (
        lambda: of_assistant(voice={"id": "v", "provider": "cartesia", "speed": None}),
        f"assistant.voice.speed: {NULL}",
    ),
    (lambda: of_assistant(voice={"provider": "cartesia"}), "assistant.voice.id: missing; it is required"),
    # structured output
    (
        lambda: of_output({"type": "enum"}),
        f"{OUTPUT}[0].enum_options: missing; give the options to choose from, since type is enum",
    ),
    (
        lambda: of_output({}, {"enum_options": ["x"]}),
        f"{OUTPUT}[1].enum_options: only goes with type enum; leave it out, since type is string",
    ),
    (
        lambda: of_output({"type": "enum", "enum_options": []}),
        f"{OUTPUT}[0].enum_options: is empty; give at least one option (got list)",
    ),
    (
        lambda: of_output({"type": "enum", "enum_options": ["x", " "]}),
        f"{OUTPUT}[0].enum_options: option 1 is empty; every option must be a non-empty string",
    ),
    (
        lambda: of_output({"type": "enum", "enum_options": ["x", "y", "x"]}),
        f"{OUTPUT}[0].enum_options: option 2 repeats option 0; every option must be there once",
    ),
    (
        lambda: of_output({"type": "enum", "enum_options": ["x", 1]}),
        f"{OUTPUT}[0].enum_options[1]: must be a string (got int)",
    ),
    (lambda: of_output({"type": "enum", "enum_options": None}), f"{OUTPUT}[0].enum_options: {NULL}"),
    (lambda: of_output({"description": None}), f"{OUTPUT}[0].description: {NULL}"),
    (
        lambda: of_output({"name": "x"}, {}, {"name": "x"}),
        f"{OUTPUT}: entry 2 has the same name as entry 0; each must be unique",
    ),
    (
        lambda: of_output({"name": ""}),
        f"{OUTPUT}[0].name: is empty; it must be a string with something in it (got a string of 0 characters)",
    ),
    (
        lambda: of_output({"type": "text"}),
        f"{OUTPUT}[0].type: must be 'string', 'number', 'boolean', 'enum', 'date' or 'datetime' "
        "(got a string of 4 characters)",
    ),
    (
        lambda: of_output({"required": "maybe"}),
        f"{OUTPUT}[0].required: must be true or false (got a string of 5 characters)",
    ),
    # calling windows
    (
        lambda: of_window(calling_window_start_time="9:00"),
        f"{WINDOW}.calling_window_start_time: {TIME} (got a string of 4 characters)",
    ),
    (
        lambda: of_window(calling_window_end_time="noon"),
        f"{WINDOW}.calling_window_end_time: {TIME} (got a string of 4 characters)",
    ),
    (
        lambda: of_window(calling_window_end_time="9am"),
        f"{WINDOW}.calling_window_end_time: the window 09:00–9am ends before it has begun; the end must be "
        "later in the day than the start",
    ),
    (
        lambda: of_window(retry_delay_seconds=-1),
        f"{WINDOW}.retry_delay_seconds: -1 is too small; it must be at least 0",
    ),
    (
        lambda: of_retries(calling_windows=[]),
        f"{CONFIG}.calling_windows: is empty, so nobody could ever be dialled; "
        "give at least one calling window (got list)",
    ),
    (
        lambda: of_retries(max_retry_attempts=0),
        f"{CONFIG}.max_retry_attempts: 0 is too small; it must be at least 1",
    ),
    (
        lambda: of_retries(max_retry_attempts=2.5),
        f"{CONFIG}.max_retry_attempts: must be a whole number (got float)",
    ),
    (lambda: of_retries(timezone=None), f"{CONFIG}.timezone: {NULL}"),
    (lambda: of_retries(timezone=1), f"{CONFIG}.timezone: {ZONE} (got int)"),
    *(
        (
            lambda zone=zone: of_retries(timezone=zone),
            f"{CONFIG}.timezone: {ZONE} (got a string of {len(zone)} characters)",
        )
        for zone in (
            "",
            "../etc/passwd",
            "/etc/localtime",
            "posix/Europe/Paris",
            "zone.tab",
            "a\0b",
            "Europe/Paris ",
        )
    ),
    *(
        (
            lambda zone=zone: of_retries(timezone=zone),
            f"{CONFIG}.timezone: is not a time zone that exists; it {ZONE} (got a string of {len(zone)} characters)",
        )
        for zone in ("Europe", "Europe/Lyon", "CET9", "Z" * 5000)
    ),
]


@pytest.mark.parametrize(("refusal", "words"), REFUSALS, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_a_refusal_names_the_field_and_what_would_be_right(refusal, words):
    assert refusal() == words


def test_every_problem_has_its_line():
    lines = of_call(phone_number="1", force_now="x", foo=1).splitlines()
    assert [line.split(":")[0] for line in lines] == ["phone_number", "force_now", "foo"]


def test_a_part_on_its_own_is_described_too():
    assert described(Voice, {"id": "v", "provider": "cartesia", "speeed": 1}) == (
        "speeed: unknown field (did you mean speed?); the fields here are id, provider, speed"
    )
    assert described(AssistantRequest, {}) == "prompt: missing; it is required"
    assert described(DedicatedLlm, {}) == "name: missing; it is required"
    assert described(OpenRouterLlm, {"openrouter_model_id": "", "openrouter_provider": "p"}).startswith(
        "openrouter_model_id: is empty"
    )


class Other(BaseModel):
    """Stand for the author's own model, whose errors quote what they were given."""

    model_config = ConfigDict(extra="forbid")

    secret: str
    count: int = 0
    when: datetime | None = None

    @field_validator("secret")
    @classmethod
    def quote(cls, value: str) -> str:
        raise ValueError(f"{value} is bad")


def test_another_models_errors_are_described_without_what_they_quote():
    assert described(Other, {"secret": SECRET, "count": "many", "when": "soon", "more": 1}).splitlines() == [
        f"secret: is not valid (got a string of {len(SECRET)} characters)",
        "count: Input should be a valid integer, unable to parse string as an integer (got a string of 4 characters)",
        "when: Input should be a valid datetime or date, input is too short (got a string of 4 characters)",
        "more: unknown field; leave it out",
    ]
