"""
When an order may be dialled: its calling windows, in every zone its number may lie in. Pure.

Wherever the zone, a clock change or the data leave a choice, the widest reading is taken: a poll that comes too early costs one
request, one that comes too late misses the end of a call. What cannot be read is as good as not sent.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import datetime, time, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from airflow_provider_revox.importing import no_collections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date

    from airflow_provider_revox.models.assistant_reply import CallingWindowReply, CallRetryConfigReply

_LONGEST_DELAY_SECONDS = 10 * 365 * 86_400
#: How long before it starts to ring an attempt may have been dialled: the window it was dialled in may have closed meanwhile.
_DIALLING = timedelta(minutes=1)
#: Clocks that a country keeps to; enough for every number, and a bound on what one order can cost.
_MOST_ZONES = 64


class Window(NamedTuple):
    """A part of the day, in minutes after local midnight, the end not included; None where it cannot be read."""

    start: int | None
    end: int | None
    retry_delay_seconds: float | None


class CallingHours(NamedTuple):
    """
    The windows of one order.

    :param zones: names of the zones that the windows may be meant in; none when nothing tells.
    """

    windows: tuple[Window, ...]
    zones: tuple[str, ...]

    @property
    def are_known(self) -> bool:
        """Tell whether the hours can be said at all: every window can be read, and a zone is known."""
        return bool(self.windows and self.zones) and all(window.start is not None for window in self.windows)

    def opening(self, at: datetime) -> datetime:
        """Return the first moment from ``at`` on at which a window is open; ``at`` itself where the hours are not known."""
        if not self.are_known:
            return at
        try:
            spans = _spans(self.windows, self.zones, at.astimezone(timezone.utc).date())
        except (OverflowError, ValueError):  # at the ends of the calendar
            return at
        moment = at.timestamp()
        index = bisect_right(spans, (moment, math.inf)) - 1
        if index >= 0 and moment < spans[index][1]:
            return at
        return datetime.fromtimestamp(spans[index + 1][0], timezone.utc) if index + 1 < len(spans) else at

    def retry_delay(self, dialled_at: datetime | None) -> float | None:
        """
        Return the seconds from the end of an attempt to the next one, at the least; None when nothing tells.

        That of the window the attempt was dialled in; the shortest of those it can have been, of all when that is not known.

        :param dialled_at: when it began, None when that is not known.
        """
        # One delay in all windows is the usual case, and needs no zones.
        if dialled_at is None or len({window.retry_delay_seconds for window in self.windows}) < 2 or not self.are_known:
            return _shortest(self.windows)
        minutes = set()
        for name in self.zones:
            zone = _zone(name)
            try:
                locally = [moment.astimezone(zone) for moment in (dialled_at, dialled_at - _DIALLING)]
            except (OverflowError, ValueError):
                return _shortest(self.windows)
            minutes |= {moment.hour * 60 + moment.minute for moment in locally}
        possible = [
            window
            for window in self.windows
            if any((window.start or 0) <= minute < (window.end or 0) for minute in minutes)
        ]
        return _shortest(possible or self.windows)


def hours_of(config: CallRetryConfigReply | None, phone_number: str | None) -> CallingHours:
    """
    Return the calling hours of an order.

    :param config: the order's own; None where there is none: the service's own hours are in force then.
    :param phone_number: whom it calls, in E.164; tells the zones unless the config names one.
    """
    if config is None:
        return CallingHours(_SERVICES_OWN, zones_of(phone_number or ""))
    windows = tuple(_window(window) for window in config.calling_windows or ())
    if config.timezone:
        return CallingHours(windows, _known((config.timezone,)))
    return CallingHours(windows, zones_of(phone_number or ""))


def preload() -> None:
    """Import what the zone of a number is told from, some 10 MB and 0.1 to 0.3 s: best done in a thread, once."""
    with no_collections():
        zones_of("+12025550123")


@lru_cache(maxsize=16_384)
def zones_of(phone_number: str) -> tuple[str, ...]:
    """Return the names of all zones that a number in E.164 may lie in: of its area, else of its country; none when unknown."""
    if not phone_number.startswith("+"):
        return ()
    from phonenumbers import NumberParseException, parse
    from phonenumbers.timezone import time_zones_for_geographical_number, time_zones_for_number

    try:
        number = parse(phone_number)
    except NumberParseException:
        return ()
    # The first goes by prefix alone, the second knows that a mobile is bound to no area.
    return _known((*time_zones_for_geographical_number(number), *time_zones_for_number(number)))


@lru_cache(maxsize=1024)
def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if _zone(name)})[:_MOST_ZONES])


# ZoneInfo's own cache keeps eight, and a country can have forty.
@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # no such zone, a folder, or no name of a file at all
        return None


def _window(sent: CallingWindowReply) -> Window:
    start, end = _minutes(sent.calling_window_start_time), _minutes(sent.calling_window_end_time)
    if start is None or end is None or start >= end:
        start = end = None
    delay = sent.retry_delay_seconds
    # Compared before it becomes a float, which a very large whole number cannot.
    is_sane = delay is not None and delay >= 0
    return Window(start, end, float(min(delay, _LONGEST_DELAY_SECONDS)) if is_sane and delay is not None else None)


@lru_cache(maxsize=1024)
def _minutes(text: str | None) -> int | None:
    from airflow_provider_revox.models.windows import parse_window_time

    text = "".join((text or "").lower().split())
    try:
        read = parse_window_time(f"0{text}" if text[1:2] == ":" and text[-1:] != "m" else text)
    except ValueError:
        return None
    return read.hour * 60 + read.minute


_SERVICES_OWN = (Window(600, 1080, 7200.0),)


def _shortest(windows: Iterable[Window]) -> float | None:
    delays = [window.retry_delay_seconds for window in windows if window.retry_delay_seconds is not None]
    return min(delays) if delays else None


@lru_cache(maxsize=1024)
def _spans(windows: tuple[Window, ...], zones: tuple[str, ...], day: date) -> tuple[tuple[float, float], ...]:
    """Return when a window is open in any of the zones, around one day: seconds since the epoch, in order, not touching."""
    opened = sorted(
        {
            (_utc(day, ahead, start, zone, min), _utc(day, ahead, end, zone, max))
            for zone in map(_zone, zones)
            if zone
            for start, end, _ in windows
            for ahead in range(-1, 4)
            if start is not None and end is not None
        }
    )
    merged: list[tuple[float, float]] = []
    for begin, end in opened:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _utc(day: date, ahead: int, minute: int, zone: ZoneInfo, choose: Callable[[float, float], float]) -> float:
    """Return the moment of a wall time; one that a clock change drops or repeats has two, of which one is chosen."""
    wall = datetime.combine(day + timedelta(days=ahead), time(*divmod(minute, 60)), zone)
    return choose(wall.timestamp(), wall.replace(fold=1).timestamp())
