"""Calling windows: when a person may be phoned, in the zone where that person lives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as wall_time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers.timezone import time_zones_for_geographical_number

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_RETRY_CONFIG: dict[str, Any] = {
    "calling_windows": [
        {
            "calling_window_start_time": "10:00",
            "calling_window_end_time": "18:00",
            "retry_delay_seconds": 7200,
        }
    ],
    "max_retry_attempts": 3,
}

_HOUR_24 = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_HOUR_12 = re.compile(r"(0?[1-9]|1[0-2])(?::([0-5]\d))?([ap])m", re.IGNORECASE)
_DAYS_AHEAD = 8  # a week, and a day in case a clock change swallows a window


def minutes_of(text: str) -> int:
    """Return minutes after midnight of a window time, ``'17:30'`` or ``'5:30pm'``.

    :raises ValueError: when it is in neither format
    """
    if match := _HOUR_24.fullmatch(text):
        return int(match[1]) * 60 + int(match[2])
    if match := _HOUR_12.fullmatch(text):
        afternoon = match[3].lower() == "p"
        return (int(match[1]) % 12 + 12 * afternoon) * 60 + int(match[2] or 0)
    raise ValueError(f"must be 'HH:mm' or 'H:mma' such as '17:00' or '6pm', got {text!r}")


@lru_cache(maxsize=65_536)
def zone_name_of(phone_number: str) -> str:
    """Return the IANA zone of an E.164 number: the first of several, UTC where there is none."""
    try:
        # By prefix alone: made-up numbers of a demo are no valid ones, but lie in a country all the same.
        zones = time_zones_for_geographical_number(phonenumbers.parse(phone_number))
    except phonenumbers.NumberParseException:
        return "UTC"
    return _known_zone(zones[0]) if zones else "UTC"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC"
    return name


@dataclass(frozen=True)
class CallingWindow:
    """One daily window, in minutes after local midnight; the end is not part of it."""

    start: int
    end: int
    retry_delay_seconds: float


@dataclass(frozen=True)
class CallingHours:
    """The daily windows of one recipient in one zone, and how often and how soon to try again."""

    zone: ZoneInfo
    windows: tuple[CallingWindow, ...]
    max_attempts: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any], phone_number: str) -> CallingHours:
        """Read a ``call_retry_config``; without a ``timezone`` the number tells the zone."""
        windows = tuple(
            CallingWindow(
                start=minutes_of(window["calling_window_start_time"]),
                end=minutes_of(window["calling_window_end_time"]),
                retry_delay_seconds=window["retry_delay_seconds"],
            )
            for window in config["calling_windows"]
        )
        zone = ZoneInfo(config.get("timezone") or zone_name_of(phone_number))
        return cls(zone, tuple(sorted(windows, key=lambda window: window.start)), int(config["max_retry_attempts"]))

    def window_at(self, at: float) -> CallingWindow | None:
        """Return the window that is open at this moment, or None."""
        local = datetime.fromtimestamp(at, self.zone)
        minute = local.hour * 60 + local.minute
        return next((window for window in self.windows if window.start <= minute < window.end), None)

    def next_open(self, at: float) -> float:
        """Return the first moment from ``at`` on at which a window is open."""
        if self.window_at(at):
            return at
        today = datetime.fromtimestamp(at, self.zone).date()
        for ahead in range(_DAYS_AHEAD):
            day = today + timedelta(days=ahead)
            for window in self.windows:
                opening = datetime.combine(day, wall_time(*divmod(window.start, 60)), self.zone).timestamp()
                # In the night of a clock change a wall time may not exist; its window is skipped then.
                if opening > at and self.window_at(opening):
                    return opening
        raise ValueError("no calling window opens within a week")

    def retry_delay(self, dialled_at: float) -> float:
        """Return the seconds to wait after an attempt, as the window it was dialled in says."""
        return (self.window_at(dialled_at) or self.windows[0]).retry_delay_seconds
