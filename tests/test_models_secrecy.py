"""What a refusal never repeats: numbers, texts, keys."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from airflow_provider_revox.models import CallRequest, describe_validation_error

NUMBER = "+14155550100"
SECRET = "sk-live-Tr0ub4dor"

FULL = {
    "phone_number": NUMBER,
    "assistant": {
        "prompt": "x",
        "background_sound": "audio/office.ogg",
        "calendly": {"connection_id": "x", "event_type_id": "x"},
        "call_retry_config": {
            "calling_windows": [
                {
                    "calling_window_start_time": "9am",
                    "calling_window_end_time": "6pm",
                    "retry_delay_seconds": 60,
                }
            ],
            "max_retry_attempts": 1,
            "timezone": "Europe/Paris",
        },
        "end_of_call_sentence": "x",
        "faq_items": [{"answer": "x", "question": "x"}],
        "first_sentence": "x",
        "first_sentence_delay_ms": 1,
        "first_sentence_mode": "static",
        "ivr_navigation_enabled": True,
        "llm_model": {
            "type": "openrouter",
            "openrouter_model_id": "x",
            "openrouter_provider": "x",
        },
        "max_call_duration_secs": 1,
        "structured_output_config": [
            {
                "name": "x",
                "required": True,
                "type": "enum",
                "description": "x",
                "enum_options": ["x"],
            }
        ],
        "transfer_phone_number": NUMBER,
        "voice": {"id": "x", "provider": "cartesia", "speed": 1},
        "voicemail_message": "x",
        "webhook_url": "https://example.com",
    },
    "assistant_id": "x",
    "concurrency": {"key": "x", "max": 1},
    "force_now": True,
    "from_phone_number": NUMBER,
    "metadata": {"k": "x"},
    "prompt_variables": {"k": "x"},
    "scheduled_at": "2026-03-01T09:00:00Z",
    "extra_body": {"k": "x"},
}


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from leaves(inner, (*path, at))
    else:
        yield path


def with_value(path, value):
    body = copy.deepcopy(FULL)
    place = body
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return body


@pytest.mark.parametrize("path", list(leaves(FULL)), ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: {text: text},
        lambda text: [text],
        lambda text: text.encode(),
        lambda text: f"https:// {text}",
        lambda text: f"+{text}",
    ],
    ids=["text", "dict", "list", "bytes", "url", "plus"],
)
def test_no_message_repeats_a_string_whatever_field_it_is_in(path, wrap):
    # Both assistants are given and the request is refused for that alone, so every case has a message.
    secret = f"{SECRET}/4155550100"
    with pytest.raises(ValidationError) as refusal:
        CallRequest.model_validate(with_value(path, wrap(secret)))
    for text in (describe_validation_error(refusal.value), str(refusal.value), repr(refusal.value)):
        assert SECRET not in text
        assert "4155550100" not in text.replace("such as +14155550100", "")


@pytest.mark.parametrize("field", ["phone_number", "from_phone_number"])
@pytest.mark.parametrize("given", [" +33612345678", "+33612345678 ", "0612345678", "+33 6 12 34 56 78", 33612345678])
def test_no_message_repeats_a_number(field, given):
    with pytest.raises(ValidationError) as refusal:
        CallRequest.model_validate({"phone_number": NUMBER, "assistant_id": "a", field: given})
    for text in (describe_validation_error(refusal.value), str(refusal.value)):
        assert field in text
        assert "12345" not in text
        assert "12 34" not in text


def test_no_message_has_a_link_to_pydantic():
    with pytest.raises(ValidationError) as refusal:
        CallRequest.model_validate({"phone_number": 1, "assistant": {"prompt": 1, "voice": {}, "x": 1}})
    assert "pydantic" not in describe_validation_error(refusal.value)
