"""The closed lists of the call API, and what ends a call order.

The service adds values as it moves, so replies keep a value that is not listed here as the plain string it
is.
"""

from __future__ import annotations

import logging
from enum import Enum

log = logging.getLogger(__name__)

_LONGEST_STATUS_LOGGED = 64
_MOST_STATUSES_REMEMBERED = 256
_unknown_statuses_warned: set[str] = set()


class _PlainStrEnum(str, Enum):
    """Show a member as its plain value, on every Python version and in every kind of formatting."""

    def __str__(self) -> str:
        return str.__str__(self.value)

    def __format__(self, spec: str) -> str:
        return str.__format__(self.value, spec)


class CallStatus(_PlainStrEnum):
    """Name the state of a call order.

    The first seven are documented; the last three are sent by the live service. ``paused`` may last forever.
    """

    INITIALIZING = "initializing"
    QUEUED_FOR_CALLING = "queued_for_calling"
    CALLING = "calling"
    SCHEDULED = "scheduled"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ERRORED = "errored"
    POST_PROCESSING = "post_processing"
    NOT_LAUNCHED = "not_launched"
    PAUSED = "paused"

    @property
    def is_terminal(self) -> bool:
        """Tell whether the order has ended and will dial nobody any more."""
        return self in _TERMINAL_STATUSES


_TERMINAL_STATUSES = frozenset({CallStatus.COMPLETED, CallStatus.CANCELLED, CallStatus.ERRORED})


class AttemptStatus(_PlainStrEnum):
    """Name the state of one call attempt."""

    QUEUED = "queued"
    RINGING = "ringing"
    ONGOING = "ongoing"
    COMPLETED = "completed"
    ERROR = "error"


class CallResult(_PlainStrEnum):
    """Name who or what answered a call attempt."""

    IVR = "IVR"
    VOICEMAIL = "voicemail"
    HUMAN = "human"
    UNKNOWN = "unknown"
    IOS_SCREENING_FILTER = "ios-screening-filter"


class DialError(_PlainStrEnum):
    """Name why a call attempt could not be connected."""

    NUMBER_NON_ATTRIBUTED = "number_non_attributed"
    TOO_MANY_CALLS = "too_many_calls"
    BUSY = "busy"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    NO_ANSWER = "no_answer"
    NO_INTERNATIONAL_PERMISSION = "no_international_permission"
    PRECONDITION_FAILED = "precondition_failed"
    NON_CLASSIFIED_ERROR = "non_classified_error"


class EndedBy(_PlainStrEnum):
    """Name who ended a call attempt: the agent, the person, or the service."""

    AGENT = "agent"
    USER = "user"
    SYSTEM = "system"


class Direction(_PlainStrEnum):
    """Name which side placed the call."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class TranscriptRole(_PlainStrEnum):
    """Name who speaks in a transcript entry."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


def is_terminal(status: str | None) -> bool:
    """Tell whether a call order with this status has ended.

    A status that this version does not know is not terminal: waiting on is safer than calling an order done
    while it may still dial. It is logged as a warning, once per process and value.

    :param status: what the service sent; ``None`` (nothing sent) is not terminal and is not warned about.
    """
    if status is None:
        return False
    try:
        return CallStatus(status).is_terminal
    except ValueError:
        _warn_once(str(status))
        return False


def _warn_once(status: str) -> None:
    if status in _unknown_statuses_warned or len(_unknown_statuses_warned) >= _MOST_STATUSES_REMEMBERED:
        return
    _unknown_statuses_warned.add(status)
    log.warning(
        "Revox sent the call status %r, which this version of the provider does not know; "
        "the call order is treated as still running",
        status[:_LONGEST_STATUS_LOGGED],
    )
