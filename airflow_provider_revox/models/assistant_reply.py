"""The assistant as the service sends it back, and its parts.

Each part is named after the request model with ``Reply`` behind it: same fields, read leniently.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from airflow_provider_revox.models.reply_fields import (
    OBJECTS,
    OR_NONE,
    AnyFlag,
    AnyNumber,
    AnyText,
    AnyTexts,
    AnyTime,
    AnyWhole,
    ReplyModel,
)


class CallingWindowReply(ReplyModel):
    """Hold a calling window; the times are text as the service wrote it (see ``parse_window_time``)."""

    shown_fields: ClassVar[tuple[str, ...]] = (
        "calling_window_start_time",
        "calling_window_end_time",
        "retry_delay_seconds",
    )

    calling_window_start_time: AnyText = None
    calling_window_end_time: AnyText = None
    retry_delay_seconds: AnyNumber = None


class CallRetryConfigReply(ReplyModel):
    """Hold when the service dials and how often it tries again."""

    shown_fields: ClassVar[tuple[str, ...]] = ("calling_windows", "max_retry_attempts", "timezone")

    calling_windows: Annotated[list[CallingWindowReply] | None, OBJECTS] = None
    max_retry_attempts: AnyWhole = None
    timezone: AnyText = None


class LlmReply(ReplyModel):
    """Hold the language model. Some kinds carry secrets such as ``api_key``, which ``repr`` never shows."""

    shown_fields: ClassVar[tuple[str, ...]] = ("type",)

    type: AnyText = None
    name: AnyText = None
    openrouter_model_id: AnyText = None
    openrouter_provider: AnyText = None


class VoiceReply(ReplyModel):
    """Hold a voice; the provider is open, since the service adds some."""

    shown_fields: ClassVar[tuple[str, ...]] = ("id", "provider", "speed")

    id: AnyText = None
    provider: AnyText = None
    speed: AnyNumber = None


class CalendlyReply(ReplyModel):
    """Hold the calendar that the assistant books in."""

    connection_id: AnyText = None
    event_type_id: AnyText = None


class FaqItemReply(ReplyModel):
    """Hold a question that the assistant knows, or that waits for a person's answer."""

    shown_fields: ClassVar[tuple[str, ...]] = ("id",)

    answer: AnyText = None
    question: AnyText = None
    id: AnyText = None
    needs_human_answer: AnyFlag = None
    source: AnyText = None


class StructuredOutputFieldReply(ReplyModel):
    """Hold the description of one datum that is extracted from the conversation."""

    shown_fields: ClassVar[tuple[str, ...]] = ("type", "required")

    name: AnyText = None
    required: AnyFlag = None
    type: AnyText = None
    description: AnyText = None
    enum_options: AnyTexts = None


class Assistant(ReplyModel):
    """Hold the assistant of a call order: its 23 documented fields.

    Each is ``None`` when it was not sent or could not be read.
    Fields that the service has added since are kept beside them, tools with their secrets included: never
    log or store a dump of it.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("id",)

    id: AnyText = None
    background_sound: AnyText = None
    calendly: Annotated[CalendlyReply | None, OR_NONE] = None
    call_retry_config: Annotated[CallRetryConfigReply | None, OR_NONE] = None
    created_at: AnyTime = None
    end_of_call_sentence: AnyText = None
    faq_items: Annotated[list[FaqItemReply] | None, OBJECTS] = None
    first_sentence: AnyText = None
    first_sentence_delay_ms: AnyNumber = None
    first_sentence_mode: AnyText = None
    ivr_navigation_enabled: AnyFlag = None
    llm_model: Annotated[LlmReply | None, OR_NONE] = None
    max_call_duration_secs: AnyNumber = None
    name: AnyText = None
    organization_id: AnyText = None
    pending_faq_count: AnyWhole = None
    prompt: AnyText = None
    structured_output_config: Annotated[list[StructuredOutputFieldReply] | None, OBJECTS] = None
    transfer_phone_number: AnyText = None
    updated_at: AnyTime = None
    voice: Annotated[VoiceReply | None, OR_NONE] = None
    voicemail_message: AnyText = None
    webhook_url: AnyText = None
