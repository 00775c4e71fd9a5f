"""
When to look at an order again, and when to stop. Pure: what was seen and the time go in, the next step comes out.

- Never before ``scheduled_at`` less a margin, as long as the order has not begun.
- Between two attempts: not before the last one's end plus the retry delay.
- While a phone rings or people talk: every ``poke_interval``, so that is the longest an end goes unnoticed.
- While nothing changes and nothing says when it will: ever more seldom, up to ``max_poll_interval``.
- Never twice within a second.

`Watch` follows one order; the loops of the worker and of the triggerer only ask it, look and sleep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxConnectionError,
    RevoxError,
    RevoxNotFoundError,
    RevoxRejectedError,
    RevoxRequestError,
)
from airflow_provider_revox.models.numbers import mask_numbers_in

if TYPE_CHECKING:
    from airflow_provider_revox.models import AttemptGlance, CallGlance

#: How long before a known time the looking begins: clocks differ, and services start early.
MARGIN_SECONDS = 5.0
SHORTEST_SECONDS = 1.0
#: How long an order may be missing (404) before that is believed: a new order can show a little late.
MISSING_SECONDS = 60.0

_BACKOFF = 1.5
_LONGEST_DELAY_SECONDS = 10 * 365 * 86_400
_JITTER = 0.1
_NOT_BEGUN = frozenset({"initializing", "queued_for_calling", "scheduled"})
_LIVE_ATTEMPT = frozenset({"ringing", "ongoing"})
_ENDED_ATTEMPT = frozenset({"completed", "error"})


@dataclass(frozen=True)
class Pace:
    """
    How often to look.

    :param poke_interval: seconds; the longest lag while an attempt is live or may begin.
    :param max_poll_interval: seconds; the longest pause when nothing says when something will change.
    :raises RevoxRequestError: for values that are not positive, or a poke_interval above max_poll_interval.
    """

    poke_interval: float = 15.0
    max_poll_interval: float = 600.0

    def __post_init__(self) -> None:
        for name in ("poke_interval", "max_poll_interval"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise RevoxRequestError(f"{name} must be a number of seconds above 0, got {value!r}")
        if self.poke_interval > self.max_poll_interval:
            raise RevoxRequestError(
                f"poke_interval ({self.poke_interval:g} s) must not be above max_poll_interval"
                f" ({self.max_poll_interval:g} s)"
            )


def next_look(seen: CallGlance, now: datetime, pace: Pace, *, unchanged: int, jitter: float) -> float:
    """
    Return the seconds to wait before the next look at an order that has not ended.

    :param seen: what the last look showed.
    :param now: the present, with a zone.
    :param unchanged: how many looks in a row showed nothing new.
    :param jitter: a random number in [0, 1): spreads looks that began together.
    """
    attempt = seen.last_call_attempt
    if attempt is not None and str(attempt.status) in _LIVE_ATTEMPT:
        return max(SHORTEST_SECONDS, pace.poke_interval * (1 - _JITTER * jitter))
    backed_off = min(pace.poke_interval * _BACKOFF ** min(unchanged, 50), pace.max_poll_interval)
    wait = backed_off * (1 - _JITTER * jitter)
    if attempt is None and str(seen.status) in _NOT_BEGUN and isinstance(seen.scheduled_at, datetime):
        until = (seen.scheduled_at - now).total_seconds() - MARGIN_SECONDS
        if until > 0:
            # The jitter only adds: never before the margin.
            return max(SHORTEST_SECONDS, until + MARGIN_SECONDS * jitter)
    elif (again := _next_attempt_at(seen)) is not None:
        until = (again - now).total_seconds() - MARGIN_SECONDS * (1 - jitter)
        wait = min(max(until, pace.poke_interval if until > 0 else wait), pace.max_poll_interval)
    return max(SHORTEST_SECONDS, wait)


def _next_attempt_at(seen: CallGlance) -> datetime | None:
    """Return when the next attempt can begin at the earliest, None where nothing tells."""
    attempt, config = seen.last_call_attempt, seen.call_retry_config
    if attempt is None or not isinstance(attempt.ended_at, datetime):
        return None
    if isinstance(seen.scheduled_at, datetime) and seen.scheduled_at > attempt.ended_at:
        return seen.scheduled_at
    delays = [
        min(window.retry_delay_seconds, _LONGEST_DELAY_SECONDS)
        for window in (config and config.calling_windows) or ()
        if isinstance(window.retry_delay_seconds, int | float) and math.isfinite(window.retry_delay_seconds)
    ]
    return attempt.ended_at + timedelta(seconds=min(delays)) if delays else None


# --- following one order ----------------------------------------


@dataclass(frozen=True)
class Again:
    """
    Look again after some seconds.

    :param reconnect: read the connection anew first: its key was refused, or it could not be used.
    :param soon: only looks in quick succession can tell what this is (the order is missing, the key was refused for the
        first time): whoever would give up the process between two looks should not.
    """

    seconds: float
    reconnect: bool = False
    soon: bool = False


@dataclass(frozen=True)
class End:
    """
    Stop looking.

    :param reason: ``ended`` (the order did), ``deadline`` (it had not), ``not_visible`` (it cannot be seen).
    :param status: the order's status when last seen, None when it never was.
    """

    reason: str
    status: str | None


class Watch:
    """
    Follow one order from look to look.

    :param deadline: when to stop at the latest; None for never.
    :param trusted: the connection is known to have worked. When it is refused later, it was changed or its key rotated, and
        somebody will mend that: the wait goes on. One that never worked ends the wait, so that a mistake shows at once.
    """

    def __init__(self, pace: Pace, deadline: datetime | None, *, trusted: bool = False) -> None:
        self.pace = pace
        self.deadline = deadline
        self.trusted = trusted
        self.status: str | None = None
        #: One line when the last look brought something new, None when it did not.
        self.news: str | None = None
        self._seen: tuple[object, ...] | None = None
        self._unchanged = 0
        self._is_blind = False
        self._missing_since: datetime | None = None
        self._refused = False

    def saw(self, seen: CallGlance, now: datetime, jitter: float) -> Again | End:
        """Take in what a look showed; return what to do next."""
        self._is_blind, self._missing_since, self._refused, self.trusted = False, None, False, True
        state = _what_is_compared(seen)
        self.news = None if state == self._seen else _describe(seen)
        self._unchanged = self._unchanged + 1 if state == self._seen else 0
        self._seen, self.status = state, str(seen.status)
        if seen.is_terminal:
            return End("ended", self.status)
        return self._again(next_look(seen, now, self.pace, unchanged=self._unchanged, jitter=jitter), now)

    def failed(self, error: RevoxError, now: datetime, jitter: float) -> Again | End:
        """Take in that a look failed; return what to do next. That the order cannot be seen says nothing about it."""
        refused = isinstance(error, RevoxAuthenticationError | RevoxConnectionError)
        first_refusal = refused and not self._refused
        self.news = None
        if first_refusal or not self._is_blind:
            self.news = f"cannot be seen just now: {_what_to_mend(error)}"
        self._is_blind = True
        self._refused = self._refused or refused
        missing = isinstance(error, RevoxNotFoundError)
        # Looks that failed otherwise do not count: they say nothing about whether the order is there.
        self._missing_since = (self._missing_since or now) if missing else None
        missed_for_good = self._missing_since and (now - self._missing_since).total_seconds() >= MISSING_SECONDS
        if (
            missed_for_good
            or isinstance(error, RevoxRejectedError)
            or (refused and not self._may_mend(error, first_refusal))
        ):
            self.news = f"cannot be seen: {error}"
            return End("not_visible", self.status)
        if first_refusal:
            # Often the new key is there already, and only this process does not know it yet.
            return self._again(SHORTEST_SECONDS, now, reconnect=True, soon=True)
        self._unchanged += 1
        pause = min(self.pace.poke_interval * _BACKOFF ** min(self._unchanged, 50), self.pace.max_poll_interval)
        if missing:
            pause = min(pause, MISSING_SECONDS / 4)
        return self._again(max(SHORTEST_SECONDS, pause * (1 - _JITTER * jitter)), now, reconnect=refused, soon=missing)

    def _may_mend(self, error: RevoxError, first_refusal: bool) -> bool:
        """Say whether to go on with a connection that was refused: one that never worked is read anew once, if at all."""
        return self.trusted or (first_refusal and isinstance(error, RevoxAuthenticationError))

    def _again(self, seconds: float, now: datetime, *, reconnect: bool = False, soon: bool = False) -> Again | End:
        left = math.inf if self.deadline is None else (self.deadline - now).total_seconds()
        # The last look falls on the deadline itself, so that an end just before it is not missed.
        return End("deadline", self.status) if left <= 0 else Again(min(seconds, left), reconnect=reconnect, soon=soon)


def _what_to_mend(error: RevoxError) -> str:
    """Return what is wrong, and what a person can do about it if anything."""
    if isinstance(error, RevoxAuthenticationError):
        return f"the connection's key is refused ({error}). Change the connection: it is read again before every look"
    if isinstance(error, RevoxConnectionError):
        return f"{error}. Change the connection: it is read again before every look"
    return str(error)


def _what_is_compared(seen: CallGlance) -> tuple[object, ...]:
    attempt = seen.last_call_attempt
    return (
        seen.status,
        seen.calls_count,
        attempt and attempt.status,
        attempt and attempt.ended_at,
        seen.scheduled_at,
    )


def _describe(seen: CallGlance) -> str:
    """Tell a person on duty how far the order has come."""
    attempt = seen.last_call_attempt
    if attempt is None:
        planned = f", the first attempt at {_shown(seen.scheduled_at)} at the earliest" if seen.scheduled_at else ""
        return f"is {seen.status}{planned}"
    which = f"is {seen.status}: attempt {seen.calls_count or '?'}"
    if str(attempt.status) not in _ENDED_ATTEMPT:
        return f"{which} is {attempt.status}"
    why = mask_numbers_in(", ".join(str(part) for part in (attempt.dial_error, attempt.result) if part))
    again = _next_attempt_at(seen) if _may_be_tried_again(seen, attempt) else None
    then = f"; next attempt at {_shown(again)} at the earliest" if again else ""
    return f"{which} ended{f' ({why})' if why else ''}{then}"


def _may_be_tried_again(seen: CallGlance, attempt: AttemptGlance) -> bool:
    most = seen.call_retry_config.max_retry_attempts if seen.call_retry_config else None
    used_up = most is not None and seen.calls_count is not None and seen.calls_count >= most
    return not (seen.is_terminal or used_up or attempt.result == "human")


def _shown(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
