"""What a request body must look like: this simulator's own reading of the API contract."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from airflow_provider_revox.simulator.windows import minutes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")

Status = Literal[
    "initializing",
    "queued_for_calling",
    "calling",
    "post_processing",
    "not_launched",
    "scheduled",
    "paused",
    "completed",
    "cancelled",
    "errored",
]

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_LONGEST_DELAY_SECONDS = 366 * 24 * 3600
_ISO_8601 = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*")


class Refusal(Exception):  # noqa: N818 - an answer to the client, not an error of the simulator
    """A request that the API does not accept, with the answer it gets."""

    def __init__(self, status: int, message: str, details: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []


def _e164(text: str) -> str:
    if not _E164.fullmatch(text):
        raise ValueError(f"must be E.164 such as +12025550100, got {text!r}")
    return text


def _window_time(text: str) -> str:
    minutes_of(text)
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"must be an IANA time zone such as Europe/Paris, got {text!r}") from None
    return text


def _looks_like_iso(value: object) -> object:
    # Pydantic would also take a number, or digits in a string, for a moment since the epoch.
    if not isinstance(value, str) or not _ISO_8601.fullmatch(value):
        raise ValueError("must be a date and time in ISO 8601 with a zone, such as 2030-01-31T09:00:00Z")
    return value


def _within_reach(moment: datetime) -> datetime:
    # Beyond, there is no room left for time zones and calling windows.
    if not 1970 < moment.year < 2200:
        raise ValueError("must lie in the years 1971 to 2199")
    return moment


PhoneNumber = Annotated[StrictStr, AfterValidator(_e164)]
WindowTime = Annotated[StrictStr, AfterValidator(_window_time)]
ZoneName = Annotated[StrictStr, AfterValidator(_zone)]
Moment = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_looks_like_iso), AfterValidator(_within_reach)]
NonEmpty = Annotated[StrictStr, Field(min_length=1)]
Number = StrictInt | StrictFloat


class _Body(BaseModel):
    """Unknown fields are let through and ignored: what the service does with them is not known."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, given in value.items():
                if given is None and name in cls.model_fields and name not in _NULLABLE:
                    raise ValueError(f"{name} must not be null; leave it out instead")
        return value


_NULLABLE = frozenset(
    {"background_sound", "calendly", "transfer_phone_number", "voicemail_message", "timezone"},
)


class CallingWindowBody(_Body):
    """One calling window."""

    calling_window_start_time: WindowTime
    calling_window_end_time: WindowTime
    retry_delay_seconds: Annotated[Number, Field(ge=0, le=_LONGEST_DELAY_SECONDS)]

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> CallingWindowBody:
        if minutes_of(self.calling_window_start_time) >= minutes_of(self.calling_window_end_time):
            raise ValueError("calling_window_start_time must be earlier than calling_window_end_time")
        return self


class RetryConfigBody(_Body):
    """When and how often to dial."""

    calling_windows: Annotated[list[CallingWindowBody], Field(min_length=1)]
    max_retry_attempts: Annotated[StrictInt, Field(ge=1)]
    timezone: ZoneName | None = None


class DedicatedModelBody(_Body):
    """A model on the service's own instance."""

    type: Literal["dedicated-instance"]
    name: Literal["gpt-4.1", "ministral-3-8b-instruct"]


class OpenRouterModelBody(_Body):
    """A model from OpenRouter."""

    type: Literal["openrouter"]
    openrouter_model_id: NonEmpty
    openrouter_provider: NonEmpty


class CustomModelBody(_Body):
    """A model at an endpoint of one's own."""

    type: Literal["custom"]
    api_url: NonEmpty
    api_key: NonEmpty
    model_name: NonEmpty


class RealtimeModelBody(_Body):
    """A speech-to-speech model."""

    type: Literal["realtime"]
    provider: Literal["openai", "google"]
    realtime_model_id: NonEmpty


class VoiceBody(_Body):
    """A voice and its speed."""

    id: NonEmpty
    provider: Literal["cartesia", "elevenlabs", "gradium"]
    speed: Number | None = None

    @model_validator(mode="after")
    def _speed_in_range(self) -> VoiceBody:
        slowest, fastest = (0.7, 1.2) if self.provider == "elevenlabs" else (0.6, 1.5)
        if self.speed is not None and not slowest <= self.speed <= fastest:
            raise ValueError(f"speed must be between {slowest} and {fastest} for {self.provider}, got {self.speed}")
        return self


class OutputFieldBody(_Body):
    """One field of the structured output."""

    name: NonEmpty
    required: StrictBool
    type: Literal["string", "number", "boolean", "enum", "date", "datetime"]
    description: StrictStr | None = None
    enum_options: list[StrictStr] | None = None


class CalendlyBody(_Body):
    """A Calendly connection."""

    connection_id: NonEmpty
    event_type_id: NonEmpty


class FaqItemBody(_Body):
    """A question and its answer."""

    question: StrictStr
    answer: StrictStr


class AssistantBody(_Body):
    """An assistant given with the call."""

    prompt: NonEmpty
    background_sound: Literal["audio/office.ogg"] | None = None
    calendly: CalendlyBody | None = None
    call_retry_config: RetryConfigBody | None = None
    end_of_call_sentence: StrictStr | None = None
    faq_items: list[FaqItemBody] | None = None
    first_sentence: StrictStr | None = None
    first_sentence_delay_ms: Annotated[StrictInt, Field(ge=0)] | None = None
    first_sentence_mode: Literal["generated", "static", "none"] | None = None
    ivr_navigation_enabled: StrictBool | None = None
    llm_model: (
        Annotated[
            DedicatedModelBody | OpenRouterModelBody | CustomModelBody | RealtimeModelBody,
            Field(discriminator="type"),
        ]
        | None
    ) = None
    max_call_duration_secs: Annotated[Number, Field(gt=0)] | None = None
    structured_output_config: list[OutputFieldBody] | None = None
    transfer_phone_number: PhoneNumber | None = None
    voice: VoiceBody | None = None
    voicemail_message: StrictStr | None = None
    webhook_url: StrictStr | None = None


class ConcurrencyBody(_Body):
    """How many orders of one key may be on the phone at a time."""

    key: NonEmpty
    max: Annotated[Number, Field(ge=1)]


class CallBody(_Body):
    """A new call order."""

    phone_number: PhoneNumber
    assistant: AssistantBody | None = None
    assistant_id: NonEmpty | None = None
    concurrency: ConcurrencyBody | None = None
    force_now: StrictBool = False
    from_phone_number: PhoneNumber | None = None
    metadata: dict[StrictStr, StrictStr] | None = None
    prompt_variables: dict[StrictStr, StrictStr] | None = None
    scheduled_at: Moment | None = None
    skip_calling_window: StrictBool = False

    @model_validator(mode="after")
    def _names_an_assistant(self) -> CallBody:
        if self.assistant is None and self.assistant_id is None:
            raise ValueError("either assistant or assistant_id is required")
        return self

    @property
    def scheduled_for(self) -> float | None:
        """The moment asked for, in seconds since the epoch."""
        return None if self.scheduled_at is None else datetime.timestamp(self.scheduled_at)


class SearchBody(_Body):
    """A search for orders; the lists are required and may be empty."""

    assignee_ids: list[StrictStr]
    assistant_ids: list[StrictStr]
    campaign_ids: list[StrictStr]
    directions: list[Literal["inbound", "outbound"]]
    from_phone_numbers: list[StrictStr]
    outcomes: list[Literal["not_interested", "interested", "completed", "requested_callback_later", "none"]]
    results: list[Literal["IVR", "voicemail", "human", "unknown", "ios-screening-filter", "none"]]
    statuses: list[Status]
    page: Annotated[StrictInt, Field(ge=0)]
    page_size: Annotated[StrictInt, Field(ge=1, le=1000)]
    call_ids: list[StrictStr] | None = None
    query: StrictStr | None = None
    sort_by: Literal["created_at", "updated_at", "scheduled_at", "status", "to_phone_number"] = "created_at"
    sort_direction: Literal["asc", "desc"] = "desc"
    to_phone_number: StrictStr | None = None


class ListQuery(BaseModel):
    """The query of the list of attempts."""

    page: Annotated[int, Field(ge=0)] = 0
    page_size: Annotated[int, Field(ge=1, le=1000)] = 50
    statuses: frozenset[Status] = frozenset()


_call = TypeAdapter(CallBody)
_search = TypeAdapter(SearchBody)
_list_query = TypeAdapter(ListQuery)


def call_request(body: bytes) -> CallBody:
    """Read the body of a new call.

    :raises Refusal: 400 when it is no JSON, 422 when a field is wrong
    """
    return _checked(_call, _json(body))


def search_request(body: bytes) -> SearchBody:
    """Read the body of a search.

    :raises Refusal: 400 when it is no JSON, 422 when a field is wrong
    """
    return _checked(_search, _json(body))


def list_query(parameters: dict[str, str]) -> ListQuery:
    """Read the query of the list of attempts; ``statuses`` is one comma-joined parameter.

    :raises Refusal: 422 when a parameter is wrong
    """
    given: dict[str, Any] = {name: parameters[name] for name in ("page", "page_size") if name in parameters}
    if "statuses" in parameters:
        given["statuses"] = parameters["statuses"].split(",")
    return _checked(_list_query, given)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not valid JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _checked(adapter: TypeAdapter[_T], value: Any) -> _T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
    raise unprocessable((problem["loc"], problem["msg"]) for problem in problems)


def unprocessable(problems: Iterable[tuple[tuple[int | str, ...], str]]) -> Refusal:
    """Return the 422 for these problems, each a place in the request and a message."""
    details = [
        {"field": ".".join(map(str, place)), "message": message.removeprefix("Value error, ")}
        for place, message in problems
    ]
    told = (f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in details)
    return Refusal(422, "; ".join(told), details)
