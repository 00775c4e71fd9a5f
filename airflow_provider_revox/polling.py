"""
When to look at an order again, and when to stop. Pure: what was seen and the time go in, the next step comes out.

- While a phone rings or people talk, or an attempt may begin at any moment: every ``poke_interval``, so that is the longest the
  end of a call goes unnoticed.
- While none can begin (before ``scheduled_at``; between two attempts, until the retry delay is over and a calling window is
  open): towards the moment when one can, and just after it.
- When the order is about to end (a human was reached, the attempts are used up, the service has not said what comes next):
  closely at first, then at a quarter of the time that has passed.
- While nothing says when something will change (paused, an unknown status): ever more seldom.
- Never later than ``max_poll_interval``, for somebody may cancel the order in the Revox app; never twice within a second.

`Watch` follows one order; the loops of the worker and of the triggerer only ask it, look and sleep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_revox.calling_hours import hours_of, preload
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
    from airflow_provider_revox.calling_hours import CallingHours
    from airflow_provider_revox.models import AttemptGlance, CallGlance

__all__ = [
    "MARGIN_SECONDS",
    "MISSING_SECONDS",
    "SHORTEST_SECONDS",
    "Again",
    "End",
    "Pace",
    "Watch",
    "next_look",
    "preload",
]

#: How much earlier than announced an attempt may begin: clocks differ.
MARGIN_SECONDS = 5.0
SHORTEST_SECONDS = 1.0
#: How long an order may be missing (404) before that is believed: a new order can show a little late.
MISSING_SECONDS = 60.0

#: How long after its planned time a first attempt may still be about to begin outside the calling hours, forced.
_JUST_DUE_SECONDS = 120.0
_BACKOFF = 1.5
#: How long is waited for what is overdue, as a share of the time that it has been.
_PATIENCE = 0.25
_JITTER = 0.1
_MAY_DIAL = frozenset({"initializing", "queued_for_calling", "scheduled"})
_AT_WORK = frozenset({"calling", "post_processing"})
_LIVE_ATTEMPT = frozenset({"ringing", "ongoing"})
_ENDED_ATTEMPT = frozenset({"completed", "error"})


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often to look.

    :param poke_interval: seconds; the longest lag while an attempt is live or may begin.
    :param max_poll_interval: seconds; the longest pause of all, so the longest lag of a change that nothing foretells.
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
    longest = pace.max_poll_interval * (1 - _JITTER * jitter)
    return max(SHORTEST_SECONDS, min(_pause(seen, now, pace, unchanged, jitter), longest))


def _pause(seen: CallGlance, now: datetime, pace: Pace, unchanged: int, jitter: float) -> float:
    attempt, status = seen.last_call_attempt, str(seen.status)
    spread = 1 - _JITTER * jitter
    close, backed_off = pace.poke_interval * spread, _backed_off(pace, unchanged) * spread
    if _may_be_live(seen):
        return close
    if status not in _MAY_DIAL and (status not in _AT_WORK or attempt is None):
        return backed_off
    begins, is_certain = _next_attempt_at(seen, now)
    if begins is None:
        pause = close if is_certain else backed_off
    elif begins > now:
        pause = _towards((begins - now).total_seconds(), pace, jitter) or close
        if not is_certain:
            pause = min(pause, backed_off)
    else:
        pause = _overdue(begins, now, pace) * spread
    if attempt is None or (status in _MAY_DIAL and not _is_about_to_end(seen, attempt)):
        return pause
    settling = backed_off if attempt.ended_at is None else _overdue(attempt.ended_at, now, pace) * spread
    return min(settling, pause) if status in _MAY_DIAL or (begins and begins > now) else settling


def _backed_off(pace: Pace, looks: int) -> float:
    return min(pace.poke_interval * _BACKOFF ** min(looks, 50), pace.max_poll_interval)


def _overdue(since: datetime, now: datetime, pace: Pace) -> float:
    return min(max(_PATIENCE * (now - since).total_seconds(), pace.poke_interval), pace.max_poll_interval)


def _towards(seconds: float, pace: Pace, jitter: float) -> float | None:
    """Return the pause until shortly after a moment, None when it is too close for one: late enough to see something."""
    pause = seconds - MARGIN_SECONDS + pace.poke_interval * (1 - jitter / 3)
    return pause if pause >= SHORTEST_SECONDS else None


def _may_be_live(seen: CallGlance) -> bool:
    attempt, status = seen.last_call_attempt, str(seen.status)
    if attempt is None:
        return status == "calling"
    if str(attempt.status) in _LIVE_ATTEMPT:
        return True
    if attempt.ended_at is not None or str(attempt.status) in _ENDED_ATTEMPT:
        return False
    return status == "calling" or (status in _MAY_DIAL and str(attempt.status) == "queued")


def _is_about_to_end(seen: CallGlance, attempt: AttemptGlance) -> bool:
    most = seen.call_retry_config.max_retry_attempts if seen.call_retry_config else None
    used_up = most is not None and seen.calls_count is not None and seen.calls_count >= most
    return used_up or str(attempt.result) == "human"


def _next_attempt_at(seen: CallGlance, now: datetime) -> tuple[datetime | None, bool]:
    """
    Return when the next attempt can begin at the earliest, and whether that is certain.

    None, when it is certain: at any moment now. None, when it is not: nothing tells.
    """
    attempt, planned = seen.last_call_attempt, seen.scheduled_at
    hours = hours_of(seen.call_retry_config, seen.to_phone_number)
    if attempt is None:
        return _first_attempt_at(str(seen.status), planned, hours, now)
    ended = attempt.ended_at
    if ended is None:
        return None, False
    if planned is not None and planned > max(ended, now):
        return planned, True
    if planned is not None and planned > ended:
        earliest = planned
    else:
        delay = hours.retry_delay(attempt.started_at)
        if delay is None:
            return None, False
        earliest = _later(ended, delay)
    if not hours.are_known:
        return earliest, True
    opens = hours.opening(max(earliest, now))
    return (opens, True) if opens > now else (None, True)


def _first_attempt_at(
    status: str, planned: datetime | None, hours: CallingHours, now: datetime
) -> tuple[datetime | None, bool]:
    # What is not yet said to wait for a later time may have been forced: neither its time nor the hours count then.
    waits = status == "scheduled"
    if planned is not None and planned > now:
        return planned, waits
    if not hours.are_known:
        return (planned, True) if planned is not None else (None, False)
    opens = hours.opening(now)
    if opens <= now:
        return None, True
    just_due = planned is not None and (now - planned).total_seconds() < _JUST_DUE_SECONDS
    return (None, True) if just_due else (opens, waits)


def _later(time: datetime, seconds: float) -> datetime:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


# --- following one order ----------------------------------------


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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

    # Thousands live in one process.
    __slots__ = (
        "_is_blind",
        "_missing_since",
        "_refused",
        "_seen",
        "_unchanged",
        "deadline",
        "news",
        "pace",
        "status",
        "trusted",
    )

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
        self.news = None if state == self._seen else _describe(seen, now)
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
        pause = _backed_off(self.pace, self._unchanged)
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


def _describe(seen: CallGlance, now: datetime) -> str:
    """Tell a person on duty how far the order has come."""
    attempt = seen.last_call_attempt
    if attempt is None:
        planned = f", the first attempt at {_shown(seen.scheduled_at)} at the earliest" if seen.scheduled_at else ""
        return f"is {seen.status}{planned}"
    which = f"is {seen.status}: attempt {seen.calls_count or '?'}"
    if str(attempt.status) not in _ENDED_ATTEMPT:
        return f"{which} is {attempt.status}"
    why = mask_numbers_in(", ".join(str(part) for part in (attempt.dial_error, attempt.result) if part))
    # What follows from the service's own hours, for an order that has none, is no news of that order.
    tells = seen.call_retry_config is not None and not (seen.is_terminal or _is_about_to_end(seen, attempt))
    again = _next_attempt_at(seen, now)[0] if tells else None
    then = f"; next attempt at {_shown(again)} at the earliest" if again else ""
    return f"{which} ended{f' ({why})' if why else ''}{then}"


def _shown(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
