"""The assistant of one call, as it is sent with the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from airflow_provider_revox.models.request_fields import (
    NOT_NULL,
    REFUSED_VALUE,
    FilledText,
    Flag,
    HttpUrl,
    Number,
    NumberAboveZero,
    NumberFromZero,
    PhoneNumber,
    RequestModel,
    Text,
    refused,
)
from airflow_provider_revox.models.windows import CallRetryConfig  # noqa: TC001  # pydantic reads it

REFUSED_LLM_TYPE = "revox_refused_llm_type"
LLM_TYPES = ("dedicated-instance", "openrouter")

VOICE_SPEEDS: dict[str, tuple[float, float]] = {"cartesia": (0.6, 1.5), "elevenlabs": (0.7, 1.2)}
"""The slowest and the fastest speed of each voice provider; 1.0 is the service's default."""


class DedicatedLlm(RequestModel):
    """Choose a language model that the service hosts itself.

    :param name: ``gpt-4.1`` or ``ministral-3-8b-instruct``.
    :param type: always ``dedicated-instance``; in a plain mapping it must be written out.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("type", "name")

    type: Literal["dedicated-instance"] = "dedicated-instance"
    name: Literal["gpt-4.1", "ministral-3-8b-instruct"]

    def model_post_init(self, _context: Any, /) -> None:
        """Send ``type`` even where the author left it to its default."""
        self.model_fields_set.add("type")


class OpenRouterLlm(RequestModel):
    """Choose a language model by way of OpenRouter.

    :param openrouter_model_id: such as ``openai/gpt-4.1``.
    :param openrouter_provider: such as ``azure``.
    :param type: always ``openrouter``; in a plain mapping it must be written out.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("type",)

    type: Literal["openrouter"] = "openrouter"
    openrouter_model_id: FilledText
    openrouter_provider: FilledText

    def model_post_init(self, _context: Any, /) -> None:
        """Send ``type`` even where the author left it to its default."""
        self.model_fields_set.add("type")


def _type_of_llm(value: Any) -> str | None:
    if not isinstance(value, (Mapping, RequestModel)):
        return LLM_TYPES[0]  # either of them refuses what is no mapping
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in LLM_TYPES else None


# A callable, since pydantic's own discriminator repeats what it was given when it refuses it.
Llm = Annotated[
    Annotated[DedicatedLlm, Tag(LLM_TYPES[0])] | Annotated[OpenRouterLlm, Tag(LLM_TYPES[1])],
    Discriminator(
        _type_of_llm,
        custom_error_type=REFUSED_LLM_TYPE,
        custom_error_message=f"must be '{LLM_TYPES[0]}' or '{LLM_TYPES[1]}'",
    ),
]


class Voice(RequestModel):
    """Choose a voice.

    :param id: the voice's id at its provider.
    :param provider: ``cartesia`` or ``elevenlabs``.
    :param speed: 0.6–1.5 on Cartesia, 0.7–1.2 on ElevenLabs. Left out, the service takes 1.0.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("id", "provider", "speed")

    id: FilledText
    provider: Literal["cartesia", "elevenlabs"]
    speed: Annotated[Number | None, NOT_NULL] = None

    @field_validator("speed")
    @classmethod
    def _within_provider_range(cls, value: float, info: ValidationInfo) -> float:
        provider = info.data.get("provider")
        if provider is None:
            return value
        slowest, fastest = VOICE_SPEEDS[provider]
        if not slowest <= value <= fastest:
            raise refused(
                f"{value} is outside {slowest}–{fastest}, the range of {provider}",
                REFUSED_VALUE,
            )
        return value


class Calendly(RequestModel):
    """Let the assistant book a meeting with Calendly.

    :param connection_id: the id of the link between the Calendly account and Revox.
    :param event_type_id: the Calendly event type to book.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("connection_id",)

    connection_id: FilledText
    event_type_id: FilledText


class FaqItem(RequestModel):
    """Give the assistant a question and its answer."""

    answer: FilledText
    question: FilledText


def _refuse_bad_options(value: list[str]) -> list[str]:
    if not value:
        raise refused("is empty; give at least one option")
    for position, option in enumerate(value):
        if not option.strip():
            raise refused(f"option {position} is empty; every option must be a non-empty string", REFUSED_VALUE)
        if option in value[:position]:
            raise refused(
                f"option {position} repeats option {value.index(option)}; every option must be there once",
                REFUSED_VALUE,
            )
    return value


EnumOptions = Annotated[list[Text], AfterValidator(_refuse_bad_options)]


class StructuredOutputField(RequestModel):
    """Describe one datum to extract from the conversation.

    :param name: its key in the structured output, unique within the assistant.
    :param type: ``string``, ``number``, ``boolean``, ``enum``, ``date`` or ``datetime``.
    :param required: whether the output must have it.
    :param description: what the language model is told about it.
    :param enum_options: the values to choose from: given exactly when ``type`` is ``enum``, each once, none
        empty.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("type", "required")

    name: FilledText
    required: Flag
    type: Literal["string", "number", "boolean", "enum", "date", "datetime"]
    description: Annotated[Text | None, NOT_NULL] = None
    enum_options: Annotated[EnumOptions | None, NOT_NULL] = None

    @model_validator(mode="after")
    def _options_exactly_for_enum(self) -> Self:
        if self.type == "enum" and self.enum_options is None:
            raise self._options_refused("missing; give the options to choose from, since type is enum")
        if self.type != "enum" and self.enum_options is not None:
            raise self._options_refused(f"only goes with type enum; leave it out, since type is {self.type}")
        return self

    def _options_refused(self, problem: str) -> ValidationError:
        """Put the problem under the field's own name; an error raised here would carry the model's."""
        return ValidationError.from_exception_data(
            type(self).__name__,
            [{"type": refused(problem, REFUSED_VALUE), "loc": ("enum_options",), "input": None}],
            hide_input=True,
        )


def _refuse_same_names(value: list[StructuredOutputField]) -> list[StructuredOutputField]:
    names: list[str] = []
    for position, field in enumerate(value):
        if field.name in names:
            raise refused(
                f"entry {position} has the same name as entry {names.index(field.name)}; each must be unique",
                REFUSED_VALUE,
            )
        names.append(field.name)
    return value


StructuredOutputFields = Annotated[list[StructuredOutputField], AfterValidator(_refuse_same_names)]


class AssistantRequest(RequestModel):
    """Describe the assistant that makes this one call.

    Only ``prompt`` is required; a field left out is not sent, and the service takes its own default. Four
    fields may be null, and null is sent as null: ``background_sound``, ``calendly``,
    ``transfer_phone_number`` and ``voicemail_message``. In every other field null is refused: leave the
    field out.

    :param prompt: what the language model is told to do.
    :param background_sound: ``audio/office.ogg``, or null for none.
    :param calendly: the calendar to book in, or null.
    :param call_retry_config: when to dial and how often.
    :param end_of_call_sentence: what to say before hanging up.
    :param faq_items: questions and answers to know.
    :param first_sentence: what to say first, or how to find it; see ``first_sentence_mode``.
    :param first_sentence_delay_ms: milliseconds of silence before it, 0 or more. The service's default is
        400.
    :param first_sentence_mode: ``generated``, ``static`` or ``none``.
    :param ivr_navigation_enabled: whether to find the way through phone menus.
    :param llm_model: the language model.
    :param max_call_duration_secs: seconds after which the call is ended, above 0.
    :param structured_output_config: what to extract from the conversation; names are unique.
    :param transfer_phone_number: E.164 number to hand a person over to, or null.
    :param voice: the voice.
    :param voicemail_message: what to say to a voicemail; null hangs up at once, which leaving it out does
        not promise.
    :param webhook_url: http or https URL that the service calls when the call has ended.
    """

    masked_fields: ClassVar[tuple[str, ...]] = ("transfer_phone_number",)

    prompt: FilledText
    background_sound: Literal["audio/office.ogg"] | None = None
    calendly: Calendly | None = None
    call_retry_config: Annotated[CallRetryConfig | None, NOT_NULL] = None
    end_of_call_sentence: Annotated[Text | None, NOT_NULL] = None
    faq_items: Annotated[list[FaqItem] | None, NOT_NULL] = None
    first_sentence: Annotated[Text | None, NOT_NULL] = None
    first_sentence_delay_ms: Annotated[NumberFromZero | None, NOT_NULL] = None
    first_sentence_mode: Annotated[Literal["generated", "static", "none"] | None, NOT_NULL] = None
    ivr_navigation_enabled: Annotated[Flag | None, NOT_NULL] = None
    llm_model: Annotated[Llm | None, NOT_NULL] = None
    max_call_duration_secs: Annotated[NumberAboveZero | None, NOT_NULL] = None
    structured_output_config: Annotated[StructuredOutputFields | None, NOT_NULL] = None
    transfer_phone_number: PhoneNumber | None = None
    voice: Annotated[Voice | None, NOT_NULL] = None
    voicemail_message: Text | None = None
    webhook_url: Annotated[HttpUrl | None, NOT_NULL] = None
