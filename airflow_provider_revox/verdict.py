"""
What the state of an order means for the task that waits for it, and what the task returns. Pure.

Operator, sensor and batch call the same functions, in every mode.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.exceptions import (
    RevoxCallCancelledError,
    RevoxCallFailedError,
    RevoxCallUnsuccessfulError,
    RevoxError,
    RevoxRequestError,
)
from airflow_provider_revox.models.numbers import mask_numbers_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_revox.models import CallAttempt, CallOrder
    from airflow_provider_revox.models.assistant_reply import StructuredOutputFieldReply

SUCCESS_WHEN = ("completed", "human", "output")
UNSUCCESSFUL = ("fail", "skip", "return")


class Outcome(Enum):
    """What an order's state means."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    UNSUCCESSFUL = "unsuccessful"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Verdict:
    """
    What the state of one order means.

    :param reason: one sentence for people, naming the call id; holds nothing that was said in the call.
    """

    outcome: Outcome
    reason: str

    def error(self) -> RevoxError | None:
        """Return the error that a task ends with, None for an order that is pending or succeeded."""
        kinds: Mapping[Outcome, type[RevoxError]] = {
            Outcome.FAILED: RevoxCallFailedError,
            Outcome.CANCELLED: RevoxCallCancelledError,
            Outcome.UNSUCCESSFUL: RevoxCallUnsuccessfulError,
        }
        kind = kinds.get(self.outcome)
        return kind(self.reason) if kind else None


def judge(order: CallOrder, success_when: str = "completed") -> Verdict:
    """
    Say what an order's state means.

    :param success_when: what a completed order must have brought: ``completed`` (nothing more), ``human`` (an attempt reached
        a human), ``output`` (a structured output that fits the order's own structured_output_config).
    :raises RevoxRequestError: for another value of success_when.
    """
    from airflow_provider_revox.models import CallStatus, is_terminal

    check_choice("success_when", success_when, SUCCESS_WHEN)
    status = str(order.status or "unknown")
    tried = f"after {_count(order.calls_count, 'attempt')}{_last_attempt(order)}"
    if not is_terminal(status):
        return Verdict(Outcome.PENDING, f"call {order.id} is {status}")
    if status == CallStatus.ERRORED.value:
        return Verdict(Outcome.FAILED, f"call {order.id} could not be carried out (errored) {tried}")
    if status == CallStatus.CANCELLED.value:
        return Verdict(Outcome.CANCELLED, f"call {order.id} was cancelled {tried}")
    if success_when == "human" and not order.reached_human:
        return Verdict(Outcome.UNSUCCESSFUL, f"call {order.id} completed without reaching a human {tried}")
    if success_when == "output" and (problems := output_problems(order)):
        said = "; ".join(problems)
        return Verdict(Outcome.UNSUCCESSFUL, f"call {order.id} completed without the output it asks for: {said}")
    return Verdict(Outcome.SUCCEEDED, f"call {order.id} completed {tried}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of its choices. :raises RevoxRequestError: naming the field and what would be right."""
    if value not in choices:
        raise RevoxRequestError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _count(number: int | None, noun: str) -> str:
    return f"{number or 0} {noun}{'' if number == 1 else 's'}"


def _last_attempt(order: CallOrder) -> str:
    attempt = order.latest_attempt
    if attempt is None:
        return ""
    parts = [part for part in (attempt.dial_error, attempt.result, attempt.end_reason) if part]
    # Open texts: the service may put a number into them.
    return f" (last: {mask_numbers_in(', '.join(parts))})" if parts else ""


# --- the structured output against the order's own config ----------------------------------------


def output_problems(order: CallOrder) -> list[str]:
    """
    List what is wrong with an order's structured output, by the config it was placed with; empty when all is right.

    The texts name fields, never values: what people said stays out of logs.
    """
    config = order.assistant.structured_output_config if order.assistant else None
    if not config:
        return ["the order has no structured_output_config to check against"]
    output = order.structured_output
    if output is None:
        return ["there is no structured output"]
    problems = (_field_problem(entry, output) for entry in config)
    return [problem for problem in problems if problem]


def _field_problem(entry: StructuredOutputFieldReply, output: Mapping[str, Any]) -> str | None:
    name, kind = entry.name, entry.type or ""
    if name is None:
        return None
    value = output.get(name)
    if value is None:
        return f"{name} is required and missing" if entry.required else None
    if kind == "enum":
        return None if value in (entry.enum_options or ()) else f"{name} is none of its options"
    fits = _TYPES.get(kind)
    # A type that this version does not know cannot be judged, and is not.
    return None if fits is None or fits(value) else f"{name} is not a {kind}"


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_datetime(value: Any) -> bool:
    # From Python 3.11 on the standard library reads dates without hyphens and weeks as well.
    if not isinstance(value, str) or not re.match(r"\d{4}-\d{2}-\d{2}[T t]\d{2}:", value):
        return False
    try:
        # Python 3.10 reads no Z.
        datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value))
    except ValueError:
        return False
    return True


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "date": _is_date,
    "datetime": _is_datetime,
}


# --- what a task returns ----------------------------------------


def structured_output(order: CallOrder) -> dict[str, Any] | None:
    """Return the answer as plain JSON: the structured output of the latest attempt that has one."""
    output = order.structured_output
    return None if output is None else dict(output)


def summarise(order: CallOrder) -> dict[str, Any]:
    """
    Return the small record of an order that goes to XCom: an allow-list, without prompt, transcript, number or secrets.

    Keys: id, status, attempts, created_at, scheduled_at, metadata; of the latest attempt: result, dial_error, end_reason,
    ended_by, started_at, answered_at, ended_at (all times in ISO 8601), duration_seconds (of talking), recording_url.
    """
    attempt = order.latest_attempt
    return {
        "id": order.id,
        "status": _plain(order.status),
        "attempts": order.calls_count or 0,
        "created_at": _plain(order.created_at),
        "scheduled_at": _plain(order.scheduled_at),
        **{name: _plain(getattr(attempt, name, None)) for name in _TOLD_OF_ATTEMPT},
        **{name: _masked(getattr(attempt, name, None)) for name in ("dial_error", "end_reason")},
        "duration_seconds": _talked_seconds(attempt),
        "metadata": dict(order.metadata or {}),
    }


_TOLD_OF_ATTEMPT = (
    "result", "ended_by", "started_at", "answered_at", "ended_at", "recording_url",
)  # fmt: skip


def _plain(value: Any) -> str | None:
    """Return text for XCom: a pydantic object or an enum in an XCom cannot be read back by default."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _masked(value: Any) -> str | None:
    text = _plain(value)
    return None if text is None else mask_numbers_in(text)


def _talked_seconds(attempt: CallAttempt | None) -> float | None:
    if attempt is None or attempt.answered_at is None or attempt.ended_at is None:
        return None
    return round((attempt.ended_at - attempt.answered_at).total_seconds(), 3)
