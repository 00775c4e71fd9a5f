"""What the service tells of a call: orders, attempts, transcripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from airflow_provider_revox.models.assistant_reply import (  # noqa: TC001  # pydantic reads them
    Assistant,
    CallRetryConfigReply,
    LlmReply,
)
from airflow_provider_revox.models.enums import CallResult, is_terminal
from airflow_provider_revox.models.reply_fields import (
    OBJECTS,
    OBJECTS_OR_EMPTY,
    OR_NONE,
    AnyAttemptStatus,
    AnyCallResult,
    AnyCallStatus,
    AnyDialError,
    AnyDirection,
    AnyEndedBy,
    AnyFlag,
    AnyMap,
    AnyNumber,
    AnyRole,
    AnyText,
    AnyTime,
    AnyWhole,
    OrderId,
    ReplyModel,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class TranscriptEntry(ReplyModel):
    """Hold one utterance, or one use of a tool; ``repr`` tells only who spoke.

    ``tool_arguments`` is a map or a string, as it was sent.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("role",)

    content: AnyText = None
    role: AnyRole = None
    tool_arguments: Any = None
    tool_is_error: AnyFlag = None
    tool_name: AnyText = None


class CallAttempt(ReplyModel):
    """Hold one dialling of a number: 13 documented fields, and two that the live service has added.

    Every field is ``None`` when it was not sent or could not be read. Times are aware, in UTC.
    ``end_reason`` is an open string. ``post_call_transcript`` is as it was sent, null until the service has
    written it.
    """

    shown_fields: ClassVar[tuple[str, ...]] = (
        "id",
        "status",
        "result",
        "dial_error",
        "end_reason",
        "ended_by",
    )
    masked_fields: ClassVar[tuple[str, ...]] = ("phone_number",)

    id: AnyText = None
    answered_at: AnyTime = None
    dial_error: AnyDialError = None
    end_reason: AnyText = None
    ended_at: AnyTime = None
    ended_by: AnyEndedBy = None
    phone_number: AnyText = None
    recording_url: AnyText = None
    result: AnyCallResult = None
    started_at: AnyTime = None
    status: AnyAttemptStatus = None
    structured_output: AnyMap = None
    transcript: Annotated[list[TranscriptEntry] | None, OBJECTS] = None

    handled_by_human: AnyFlag = None
    post_call_transcript: Any = None


class Campaign(ReplyModel):
    """Hold the campaign that an order belongs to."""

    shown_fields: ClassVar[tuple[str, ...]] = ("id",)

    id: AnyText = None
    name: AnyText = None


class CallOrder(ReplyModel):
    """Hold a call order: 19 documented fields, and four that the live service has added.

    Only ``id`` is required. Every other field is ``None`` (``call_attempts``: empty) when it was not sent or
    could not be read. Times are aware, in UTC. A status that this version does not know is kept as a string.
    An order carries transcripts and secrets: never log or store a dump of it.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("id", "status", "calls_count", "scheduled_at")
    masked_fields: ClassVar[tuple[str, ...]] = ("to_phone_number",)

    id: OrderId
    assistant: Annotated[Assistant | None, OR_NONE] = None
    call_attempts: Annotated[list[CallAttempt], OBJECTS_OR_EMPTY] = Field(default_factory=list)
    call_retry_config: Annotated[CallRetryConfigReply | None, OR_NONE] = None
    calls_count: AnyWhole = None
    campaign: Annotated[Campaign | None, OR_NONE] = None
    created_at: AnyTime = None
    direction: AnyDirection = None
    first_sentence_delay_ms: AnyNumber = None
    from_phone_number: AnyText = None
    is_cancelled: AnyFlag = None
    is_completed: AnyFlag = None
    last_call_attempt: Annotated[CallAttempt | None, OR_NONE] = None
    llm_model: Annotated[LlmReply | None, OR_NONE] = None
    metadata: AnyMap = None
    organization_id: AnyText = None
    scheduled_at: AnyTime = None
    status: AnyCallStatus = None
    to_phone_number: AnyText = None

    outcome: AnyText = None
    outcome_summary: AnyText = None
    prompt_variables: AnyMap = None
    updated_at: AnyTime = None

    @property
    def is_terminal(self) -> bool:
        """Tell whether the order has ended; see :func:`airflow_provider_revox.models.is_terminal`."""
        return is_terminal(self.status)

    @property
    def latest_attempt(self) -> CallAttempt | None:
        """Return the most recent attempt, or ``None`` when nobody was dialled yet."""
        return next(self._attempts_latest_first(), None)

    @property
    def reached_human(self) -> bool:
        """Tell whether a person answered any of the attempts."""
        return any(attempt.result == CallResult.HUMAN for attempt in self._attempts_latest_first())

    @property
    def structured_output(self) -> dict[str, Any] | None:
        """Return what was extracted from the most recent attempt that has something, else ``None``."""
        outputs = (attempt.structured_output for attempt in self._attempts_latest_first())
        return next((output for output in outputs if output is not None), None)

    def _attempts_latest_first(self) -> Iterator[CallAttempt]:
        """Yield the attempts; the latest may come twice, since the service sends it in two places."""
        if self.last_call_attempt is not None:
            yield self.last_call_attempt
        yield from self.call_attempts


class CallSearchResult(ReplyModel):
    """Hold one page of the orders that a search found.

    :param calls: the orders, with their metadata.
    :param total_count: how many orders match on all pages, or ``None`` when the service did not say.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("total_count", "calls")

    calls: list[CallOrder]
    total_count: AnyWhole = None
