"""Assistants: the built-in ones, and how a response shows an assistant with all of its fields."""

from __future__ import annotations

from typing import Any

ORGANIZATION_ID = "org_simulator"
DEFAULT_FROM_PHONE_NUMBER = "+12025550100"
DEFAULT_LLM_MODEL: dict[str, Any] = {"type": "dedicated-instance", "name": "gpt-4.1"}
DEFAULT_FIRST_SENTENCE_DELAY_MS = 400
DEFAULT_MAX_CALL_DURATION_SECS = 600
# What is left on a voicemail when the request says nothing about it; null says: hang up at once.
DEFAULT_VOICEMAIL_MESSAGE = "Hello, we tried to reach you and will call again."

LIVE_API_KEY = "sk-simulator-custom-model-secret"
LIVE_AUTHORIZATION = "Bearer simulator-custom-tool-secret"
LIVE_LLM_MODEL: dict[str, Any] = {
    "type": "custom",
    "api_url": "https://models.example.com/v1",
    "api_key": LIVE_API_KEY,
    "model_name": "example-70b",
}

_BUILT_IN_SINCE = "2025-01-06T09:00:00.000Z"

_ANY_TIME: dict[str, Any] = {
    "calling_windows": [
        {
            "calling_window_start_time": "00:00",
            "calling_window_end_time": "23:59",
            "retry_delay_seconds": 600,
        }
    ],
    "max_retry_attempts": 3,
    "timezone": "UTC",
}

# Written as a request would give them.
BUILT_IN: dict[str, dict[str, Any]] = {
    "asst_survey": {
        "name": "Survey",
        "prompt": "Ask how satisfied the customer is with the last delivery and whether to call again.",
        "first_sentence": "Hello, I have two short questions about your last delivery.",
        "first_sentence_mode": "static",
        "structured_output_config": [
            {"name": "satisfaction", "required": True, "type": "number", "description": "0 to 10"},
            {"name": "would_recommend", "required": True, "type": "boolean"},
            {"name": "channel", "required": True, "type": "enum", "enum_options": ["phone", "email", "sms"]},
            {"name": "callback_at", "required": False, "type": "datetime"},
            {"name": "comment", "required": False, "type": "string"},
        ],
    },
    "asst_plain": {
        "name": "Plain",
        "prompt": "Remind the person of the appointment tomorrow at nine.",
    },
    "asst_any_time": {
        "name": "Any time",
        "prompt": "Tell the engineer on call that a pipeline has failed, and ask who takes care of it.",
        "structured_output_config": [{"name": "owner_name", "required": True, "type": "string"}],
        "voicemail_message": None,
        "call_retry_config": _ANY_TIME,
    },
}


def shown(
    given: dict[str, Any], assistant_id: str, *, created_at: str | None = None, live: bool = False
) -> dict[str, Any]:
    """Return an assistant as a response shows it: what was given, and the defaults for the rest.

    :param created_at: when it came to be, in ISO 8601; None for a built-in one
    :param live: also show what the live service has added, secrets included
    """
    moment = created_at or _BUILT_IN_SINCE
    assistant = {
        "id": assistant_id,
        "background_sound": given.get("background_sound"),
        "calendly": given.get("calendly"),
        "call_retry_config": given.get("call_retry_config"),
        "created_at": moment,
        "end_of_call_sentence": given.get("end_of_call_sentence"),
        "first_sentence": given.get("first_sentence"),
        "first_sentence_delay_ms": given.get("first_sentence_delay_ms", DEFAULT_FIRST_SENTENCE_DELAY_MS),
        "first_sentence_mode": given.get("first_sentence_mode", "generated"),
        "ivr_navigation_enabled": given.get("ivr_navigation_enabled", False),
        "llm_model": given.get("llm_model", LIVE_LLM_MODEL if live else DEFAULT_LLM_MODEL),
        "max_call_duration_secs": given.get("max_call_duration_secs", DEFAULT_MAX_CALL_DURATION_SECS),
        "name": given.get("name", "Custom assistant"),
        "organization_id": ORGANIZATION_ID,
        "prompt": given["prompt"],
        "structured_output_config": given.get("structured_output_config"),
        "transfer_phone_number": given.get("transfer_phone_number"),
        "updated_at": moment,
        "voice": given.get("voice"),
        "voicemail_message": given.get("voicemail_message", DEFAULT_VOICEMAIL_MESSAGE),
        "webhook_url": given.get("webhook_url"),
        "faq_items": [
            {**item, "id": f"faq_{index}", "needs_human_answer": False, "source": "human"}
            for index, item in enumerate(given.get("faq_items", ()))
        ],
        "pending_faq_count": 0,
    }
    return {**assistant, **_LIVE_FIELDS} if live else assistant


_LIVE_FIELDS: dict[str, Any] = {
    "background_sound_volume": 0.5,
    "custom_tools": [
        {
            "name": "check_inventory",
            "description": "Looks up whether an item is in stock.",
            "method": "GET",
            "url": "https://tools.example.com/inventory",
            "headers": [{"key": "Authorization", "value": LIVE_AUTHORIZATION}],
            "query_params": [],
            "input_schema": [{"name": "item", "required": True, "type": "string"}],
            "body_template": None,
        }
    ],
    "human_transfer_mode": None,
    "sms_enabled": False,
    "stt_model": "stt-rt-v5",
    "transfer_destinations": None,
    "type": "standalone",
}
