"""Virtual time: a clock that runs faster than the wall and can be pushed forward."""

from __future__ import annotations

import math
import time
from datetime import datetime, timezone


def iso(at: float) -> str:
    """Write a moment (seconds since the epoch, whole milliseconds) as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(seconds: float) -> float:
    """Round to whole milliseconds, so that differences of rendered times are exact."""
    return round(seconds, 3)


class VirtualClock:
    """Virtual now = ``start_at`` + real time since the start × ``speed`` + every advance.

    :param start_at: the moment the clock starts at, with a zone; the real now when None
    :param speed: virtual seconds in a real second; 1 is real time
    """

    def __init__(self, start_at: datetime | None = None, speed: float = 1.0) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a positive number, got {speed!r}")
        if start_at is not None and start_at.utcoffset() is None:
            raise ValueError("start_at must carry a time zone")
        self.speed = speed
        self._start_at = start_at
        self.restart()

    def restart(self) -> None:
        """Go back to the beginning: to ``start_at``, or to the real now."""
        start = self._start_at or datetime.now(timezone.utc)
        self._origin = start.timestamp()
        self._started = time.monotonic()

    def now(self) -> float:
        """Return the virtual now in seconds since the epoch, cut to milliseconds."""
        elapsed = (time.monotonic() - self._started) * self.speed
        return math.floor((self._origin + elapsed) * 1000) / 1000

    def advance(self, seconds: float) -> None:
        """Jump forward by this many virtual seconds; time never runs backwards."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"can only advance by a finite number of seconds, not back: {seconds!r}")
        self._origin += seconds
