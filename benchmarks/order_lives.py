"""
Ten thousand order lives for the polling study: what a poll would be shown, and when, from placing to end.

The service behaves as its documentation and the simulator say: an attempt only begins inside a calling window of the
callee's zone, except a first one that was forced; after an attempt that nobody took, or that voicemail took, the next
begins ``retry_delay_seconds`` after its end, or when a window opens after that, until ``max_retry_attempts`` are used
up. The zone is the one that the service keeps to, which a poll has to guess when the config does not name it.

The weights are assumptions, not measurements: nobody publishes such figures. `CLASSES` says why each class is there and
what its share stands for; the study reports each class alone as well, so that anybody can weigh them anew. All
randomness derives from the seed. Times are seconds since the epoch, durations seconds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator.windows import CallingHours

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400.0
#: Orders are placed over one year, so that the nights of the clock changes are among them.
_YEAR_BEGINS = datetime(2026, 1, 1, tzinfo=timezone.utc).timestamp()

#: name: (share in percent, what it stands for)
CLASSES: dict[str, tuple[float, str]] = {
    "answered at once": (40.0, "a human takes the first attempt: the usual call to somebody who expects it"),
    "after some attempts": (24.0, "nobody or voicemail, one or more times, then a human: minutes to days"),
    "voicemail": (8.0, "voicemail at every attempt; completed when they are used up"),
    "never reached": (7.0, "no answer or busy at every attempt; errored when they are used up"),
    "bad number": (3.0, "not attributed (errored after seconds), or errored without any attempt"),
    "menu or filter": (3.0, "a phone menu or a screening filter answers; completed after the first attempt"),
    "planned ahead": (8.0, "scheduled_at an hour to four days ahead, then a human at the first to third attempt"),
    "queued for a slot": (2.0, "waits in the queue, for minutes to hours, until the concurrency lets it dial"),
    "long post-processing": (1.5, "answered, then a minute to half an hour of post_processing"),
    "cancelled outside": (2.0, "somebody cancels it in the Revox app, at any moment of its first two days"),
    "parked": (1.5, "paused, queued without end, or in a status nobody knows; cancelled after hours or days"),
}

#: (share, digits before the last four, the zone the service keeps to)
_NUMBERS = (
    (18, "+1212555", "America/New_York"),
    (8, "+1312555", "America/Chicago"),
    (10, "+1415555", "America/Los_Angeles"),
    (2, "+1800555", "America/New_York"),  # free of charge: lies in every zone of its plan
    (20, "+3314268", "Europe/Paris"),
    (8, "+3361234", "Europe/Paris"),
    (12, "+44207946", "Europe/London"),
    (8, "+49302345", "Europe/Berlin"),
    (4, "+6141234", "Australia/Perth"),  # a mobile: lies in every zone of its country
    (6, "+8133224", "Asia/Tokyo"),
    (4, "+55113456", "America/Sao_Paulo"),
)


def _config(windows: list[tuple[str, str, int]], attempts: int) -> dict[str, Any]:
    names = ("calling_window_start_time", "calling_window_end_time", "retry_delay_seconds")
    return {
        "calling_windows": [dict(zip(names, window, strict=True)) for window in windows],
        "max_retry_attempts": attempts,
    }


#: (share, config). The first is the service's own.
_CONFIGS = (
    (70, _config([("10:00", "18:00", 7200)], 3)),
    (10, _config([("09:00", "12:00", 3600), ("14:00", "18:00", 5400)], 3)),
    (10, _config([("09:00", "20:00", 1800)], 5)),
    (5, _config([("10:00", "19:00", 300)], 2)),
    (5, _config([("10am", "6pm", 14_400)], 4)),
)


@dataclass
class OrderLife:
    """
    What a look is shown over time.

    :param states: (from when on, the fields of the reply), in order; the last one is terminal.
    """

    kind: str
    placed_at: float
    states: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def ended_at(self) -> float:
        """Return when the order ended."""
        return self.states[-1][0]


def draw_lives(count: int = 10_000, seed: int = 7) -> Iterator[OrderLife]:
    """Yield lives of all classes by their shares; the same ones for the same count and seed."""
    choices = random.Random(seed)
    kinds, weights = list(CLASSES), [share for share, _ in CLASSES.values()]
    for _ in range(count):
        yield _Drawing(choices.choices(kinds, weights)[0], choices).draw()


class _Drawing:
    """Draw one life, piece by piece."""

    def __init__(self, kind: str, choices: random.Random) -> None:
        self.kind, self.choices = kind, choices
        prefix, zone = self._weighed([(share, (prefix, zone)) for share, prefix, zone in _NUMBERS])
        config = dict(self._weighed(_CONFIGS))
        self.hours = CallingHours.from_config({**config, "timezone": zone}, prefix)
        if choices.random() < 0.3:
            config["timezone"] = zone
        number = f"{prefix}{choices.randrange(10_000):04}"
        self.shown: dict[str, Any] = {
            "id": "co",
            "status": "initializing",
            "to_phone_number": number,
            "call_retry_config": config,
            "scheduled_at": None,
            "calls_count": 0,
            "last_call_attempt": None,
        }
        at = _YEAR_BEGINS + choices.random() * 364 * DAY
        # Most pipelines run when people can be phoned, some at night; a few of those force the first attempt.
        if choices.random() < 0.8:
            at = self._inside(at)
        self.forced = choices.random() < 0.2
        self.life = OrderLife(kind, at)
        self._show(at)
        self.at = at + self._between(0.5, 2.0)

    def draw(self) -> OrderLife:
        kind, choices, most = self.kind, self.choices, self.hours.max_attempts
        if kind == "answered at once":
            self._attempts(0)
        elif kind == "after some attempts":
            self._attempts(choices.randint(1, most - 1))
        elif kind in ("voicemail", "never reached"):
            self._attempts(most)
        elif kind == "bad number":
            self._bad_number()
        elif kind == "menu or filter":
            self._begin_attempt()
            self._talk(choices.choice(["IVR", "ios-screening-filter"]), self._between(8, 25))
            self._end("completed", self._between(0.5, 3))
        elif kind == "planned ahead":
            planned = self.at + self._between(3600, 4 * DAY)
            if choices.random() < 0.8:
                planned = self._inside(planned)
            self.shown["scheduled_at"] = datetime.fromtimestamp(planned, timezone.utc)
            self._attempts(choices.choices(range(most), [60, 25, *[15 / most] * (most - 2)])[0], planned)
        elif kind == "queued for a slot":
            self._begin_attempt(queue=min(choices.lognormvariate(7.3, 1.0), 6 * 3600))
            self._answered()
        elif kind == "long post-processing":
            self._begin_attempt()
            self._answered(processing=min(60 * choices.lognormvariate(1.0, 0.8), 1800))
        elif kind == "cancelled outside":
            self._attempts(choices.choice([0, 1, 2, most]), self.at + choices.choice([0, DAY]))
            self._cut(choices.uniform(0.0, 1.0) * min(self.life.ended_at - self.life.placed_at, 2 * DAY))
        else:
            self._parked()
        return self.life

    # --- pieces ----------------------------------------

    def _attempts(self, failing: int, not_before: float = 0.0) -> None:
        """Let some attempts fail, then a human answer, if attempts are left."""
        for index in range(self.hours.max_attempts):
            self._begin_attempt(not_before)
            if index == failing:
                self._answered()
                return
            dialled = self.at
            voicemail = self.kind == "voicemail" or (self.kind != "never reached" and self.choices.random() < 0.3)
            if voicemail:
                self._talk("voicemail", self._between(3, 30))
            else:
                busy = self.choices.random() < 0.15
                self._fail("busy" if busy else "no_answer", self._between(1, 3) if busy else self._between(20, 45))
            not_before = self.at + self.hours.retry_delay(dialled)
            if index + 1 < self.hours.max_attempts:
                self._show(self.at, status="scheduled")
        self._end("completed" if self.kind == "voicemail" else "errored", self._between(0.5, 3))

    def _begin_attempt(self, not_before: float = 0.0, queue: float | None = None) -> None:
        """Wait for the time and a window, queue, dial and ring."""
        first = self.shown["calls_count"] == 0
        queue = self._between(1, 5) if queue is None else queue
        since, due = self.at, max(self.at, not_before)
        if not (first and self.forced):
            due = self.hours.next_open(due)
            if not self.hours.window_at(due + queue):
                due = self.hours.next_open(due + queue)
        if due > since:
            self._show(since, status="scheduled")
        self._show(due, status="queued_for_calling")
        self.at = due + queue
        self.shown["calls_count"] += 1
        self._show(self.at, status="calling", last_call_attempt={"status": "queued"})
        self.dialled = self.at + self._between(0.2, 1.0)
        self._attempt(self.dialled, status="ringing", started_at=self.dialled)

    def _talk(self, result: str, seconds: float) -> None:
        answered = self.dialled + self._between(4, 25)
        self._attempt(answered, status="ongoing")
        self.at = answered + seconds
        self._attempt(self.at, status="completed", result=result, ended_at=self.at)

    def _fail(self, dial_error: str, after: float) -> None:
        self.at = self.dialled + after
        self._attempt(self.at, status="error", dial_error=dial_error, ended_at=self.at)

    def _answered(self, processing: float | None = None) -> None:
        self._talk("human", min(self.choices.lognormvariate(4.5, 0.7), 1800))
        self._show(self.at, status="post_processing")
        self._end("completed", self._between(1, 20) if processing is None else processing)

    def _bad_number(self) -> None:
        if self.choices.random() < 0.25:
            self._end("errored", self._between(1, 5))
            return
        self._begin_attempt()
        self._fail("number_non_attributed", self._between(0.5, 2))
        self._end("errored", self._between(0.5, 3))

    def _parked(self) -> None:
        status = self.choices.choice(["paused", "queued_for_calling", "negotiating"])
        self._show(self.at, status=status)
        if status == "negotiating" and self.choices.random() < 0.5:
            self.at += self._between(30, 900)
            self._attempts(0)
        else:
            self._end("cancelled", self.choices.lognormvariate(10.5, 1.0))

    def _cut(self, after: float) -> None:
        at = self.life.placed_at + after
        states = self.life.states
        states[:] = [state for state in states if state[0] < at]
        states.append((at, {**states[-1][1], "status": "cancelled"}))

    def _end(self, status: str, after: float) -> None:
        self.at += after
        self._show(self.at, status=status)

    # --- what is shown ----------------------------------------

    def _show(self, at: float, **fields: Any) -> None:
        self.shown.update(fields)
        self.life.states.append((at, dict(self.shown)))

    def _attempt(self, at: float, **fields: Any) -> None:
        times = {
            name: datetime.fromtimestamp(fields.pop(name), timezone.utc)
            for name in list(fields)
            if name.endswith("_at")
        }
        self._show(at, last_call_attempt={**self.shown["last_call_attempt"], **fields, **times})

    # --- chance ----------------------------------------

    def _inside(self, at: float) -> float:
        """Return a moment inside the calling windows, of the same day if it can be."""
        opening = self.hours.next_open(at)
        if opening == at:
            return at
        later = opening + self.choices.random() * 6 * 3600
        return later if self.hours.window_at(later) else opening + self.choices.random() * 3600

    def _between(self, least: float, most: float) -> float:
        return self.choices.uniform(least, most)

    def _weighed(self, options: Any) -> Any:
        return self.choices.choices([option for _, option in options], [share for share, _ in options])[0]
