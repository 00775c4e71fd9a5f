"""The call API in types: strict requests, lenient replies. Nothing here knows HTTP or Airflow.

What is sent is checked before it is sent, and every refusal names the field and what would be right; the
text for the author of a DAG comes from :func:`describe_validation_error`. What is received is read whatever
it holds. A ``repr`` never shows a full number, a prompt, a transcript or a key.

Importing this package is nearly free: a name brings its module when it is first used, and a model builds its
validator at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_revox.models.assistant_reply import (
        Assistant,
        CalendlyReply,
        CallingWindowReply,
        CallRetryConfigReply,
        FaqItemReply,
        LlmReply,
        StructuredOutputFieldReply,
        VoiceReply,
    )
    from airflow_provider_revox.models.assistant_request import (
        VOICE_SPEEDS,
        AssistantRequest,
        Calendly,
        DedicatedLlm,
        FaqItem,
        OpenRouterLlm,
        StructuredOutputField,
        Voice,
    )
    from airflow_provider_revox.models.describe import describe_validation_error
    from airflow_provider_revox.models.enums import (
        AttemptStatus,
        CallResult,
        CallStatus,
        DialError,
        Direction,
        EndedBy,
        TranscriptRole,
        is_terminal,
    )
    from airflow_provider_revox.models.glance import AttemptGlance, CallGlance, parse_search_glances
    from airflow_provider_revox.models.numbers import is_e164, mask_number
    from airflow_provider_revox.models.replies import (
        parse_attempts_reply,
        parse_call_reply,
        parse_search_reply,
    )
    from airflow_provider_revox.models.requests import CallRequest, Concurrency
    from airflow_provider_revox.models.responses import (
        CallAttempt,
        CallOrder,
        CallSearchResult,
        Campaign,
        TranscriptEntry,
    )
    from airflow_provider_revox.models.windows import CallingWindow, CallRetryConfig, parse_window_time

__all__ = [
    "VOICE_SPEEDS",
    "Assistant",
    "AssistantRequest",
    "AttemptGlance",
    "AttemptStatus",
    "Calendly",
    "CalendlyReply",
    "CallAttempt",
    "CallGlance",
    "CallOrder",
    "CallRequest",
    "CallResult",
    "CallRetryConfig",
    "CallRetryConfigReply",
    "CallSearchResult",
    "CallStatus",
    "CallingWindow",
    "CallingWindowReply",
    "Campaign",
    "Concurrency",
    "DedicatedLlm",
    "DialError",
    "Direction",
    "EndedBy",
    "FaqItem",
    "FaqItemReply",
    "LlmReply",
    "OpenRouterLlm",
    "StructuredOutputField",
    "StructuredOutputFieldReply",
    "TranscriptEntry",
    "TranscriptRole",
    "Voice",
    "VoiceReply",
    "describe_validation_error",
    "is_e164",
    "is_terminal",
    "mask_number",
    "parse_attempts_reply",
    "parse_call_reply",
    "parse_search_glances",
    "parse_search_reply",
    "parse_window_time",
]

_NAMES_OF_MODULE: dict[str, tuple[str, ...]] = {
    "assistant_reply": (
        "Assistant",
        "CalendlyReply",
        "CallingWindowReply",
        "CallRetryConfigReply",
        "FaqItemReply",
        "LlmReply",
        "StructuredOutputFieldReply",
        "VoiceReply",
    ),
    "assistant_request": (
        "VOICE_SPEEDS",
        "AssistantRequest",
        "Calendly",
        "DedicatedLlm",
        "FaqItem",
        "OpenRouterLlm",
        "StructuredOutputField",
        "Voice",
    ),
    "describe": ("describe_validation_error",),
    "enums": (
        "AttemptStatus",
        "CallResult",
        "CallStatus",
        "DialError",
        "Direction",
        "EndedBy",
        "TranscriptRole",
        "is_terminal",
    ),
    "glance": (
        "AttemptGlance",
        "CallGlance",
        "parse_search_glances",
    ),
    "numbers": (
        "is_e164",
        "mask_number",
    ),
    "replies": (
        "parse_attempts_reply",
        "parse_call_reply",
        "parse_search_reply",
    ),
    "requests": (
        "CallRequest",
        "Concurrency",
    ),
    "responses": (
        "CallAttempt",
        "CallOrder",
        "CallSearchResult",
        "Campaign",
        "TranscriptEntry",
    ),
    "windows": (
        "CallingWindow",
        "CallRetryConfig",
        "parse_window_time",
    ),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
