"""The life of an order, as pure functions: request, seed and a moment in; a schedule of changes out.

Nothing here looks at a clock. Every piece of a life is computed ahead when the piece begins, and whoever
plays the schedule applies each change when its moment has come. A piece ends in a terminal status, in
waiting for ever, or in a change that ``dials``, which begins the next piece: whether that may happen at once
or has to wait for a free slot depends on other orders and is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator import outputs, transcripts
from airflow_provider_revox.simulator.clock import iso, milliseconds
from airflow_provider_revox.simulator.fates import Ending, Fate
from airflow_provider_revox.simulator.seeded import generator

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from airflow_provider_revox.simulator.windows import CallingHours

TERMINAL = frozenset({"completed", "cancelled", "errored"})


@dataclass(frozen=True)
class Change:
    """What happens to an order at one moment.

    ``status`` is the order's new status; ``opens`` begins an attempt and ``closes`` ends it; ``attempt``
    holds new field values of that attempt and ``recorded`` gives it a recording; ``dials`` asks to begin the
    next attempt, which was not to begin ``not_before`` a moment.
    """

    at: float
    status: str | None = None
    attempt: Mapping[str, Any] | None = None
    opens: bool = False
    closes: bool = False
    recorded: bool = False
    dials: bool = False
    not_before: float = 0.0


@dataclass(frozen=True)
class Life:
    """Everything the course of one order depends on.

    :param names: what all of its randomness is derived from: seed, phone number, and the ordinal of the
        order among those to this number
    :param assistant: the assistant as a response shows it, with every field
    :param scheduled_at: not before this moment, in seconds since the epoch
    :param skips_hours: the first attempt need not wait for a calling window
    :param force_now: as before, and ``scheduled_at`` does not count either
    :param post_processing: whether a completed order shows this status in between
    """

    names: tuple[object, ...]
    fate: Fate
    hours: CallingHours
    assistant: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    scheduled_at: float | None = None
    skips_hours: bool = False
    force_now: bool = False
    post_processing: bool = False

    def opening(self, created_at: float) -> list[Change]:
        """Return the changes from the creation to the first dialling."""
        return self.entry(milliseconds(created_at + self._choices("opening").uniform(0.5, 2.0)))

    def entry(self, at: float, *, resumed: bool = False) -> list[Change]:
        """Return the changes from the end of ``initializing`` (or of a pause) to the first dialling."""
        choices = self._choices("entry")
        if self.fate.ends == "errored":
            return [Change(milliseconds(at + choices.uniform(1.0, 3.0)), status="errored")]
        if self.fate.ends:
            later = milliseconds(at + choices.uniform(20.0, 90.0))
            return [Change(at, status="queued_for_calling"), Change(later, status=self.fate.ends)]
        if self.fate.stays and not (resumed and self.fate.stays == "paused"):
            return [Change(at, status=self.fate.stays)]
        if self.fate.detour:
            later = milliseconds(at + choices.uniform(30.0, 90.0))
            return [Change(at, status=self.fate.detour), *self.waiting(0, later)]
        return self.waiting(0, at)

    def waiting(self, index: int, since: float, not_before: float = 0.0) -> list[Change]:
        """Return the wait for an attempt: ``scheduled`` up to a known later time, the queue, the dialling."""
        queue = self._choices(index, "queue").uniform(1.0, 3.0)
        earliest = max(since, not_before)
        if index == 0 and self.scheduled_at is not None and not self.force_now:
            earliest = max(earliest, milliseconds(self.scheduled_at))
        due = earliest
        if not self._needs_no_window(index):
            due = self.hours.next_open(due)
            if not self.hours.window_at(due + queue):
                due = self.hours.next_open(due + queue)
        dialling = Change(milliseconds(due + queue), dials=True, not_before=earliest)
        if due > since:
            return [Change(since, status="scheduled"), Change(due, status="queued_for_calling"), dialling]
        return [Change(since, status="queued_for_calling"), dialling]

    def may_dial(self, index: int, at: float) -> bool:
        """Whether the attempt may begin now: a wait for a free slot may have outlasted the window."""
        return self._needs_no_window(index) or self.hours.window_at(at) is not None

    def attempt(self, index: int, at: float) -> list[Change]:
        """Return an attempt that begins now, and what follows it up to the next dialling or the end."""
        choices = self._choices(index, "attempt")
        ending = self.fate.ending(index)
        dialled = milliseconds(at + choices.uniform(0.2, 1.0))
        changes = [Change(at, status="calling", opens=True, attempt={"status": "queued"})]
        if ending is Ending.NOT_ATTRIBUTED:
            ended = milliseconds(dialled + 0.5)
            failure = {
                "status": "error",
                "dial_error": ending.value,
                "started_at": iso(dialled),
                "ended_at": iso(ended),
            }
            changes.append(Change(ended, closes=True, attempt=failure))
        else:
            changes.append(Change(dialled, attempt={"status": "ringing", "started_at": iso(dialled)}))
            changes += self._rung(ending, dialled, choices)
        if not changes[-1].closes:
            return changes
        return changes + self._afterwards(index, at, changes[-1].at, choices)

    def _rung(self, ending: Ending, dialled: float, choices: random.Random) -> list[Change]:
        if ending.is_dial_error:
            ring = choices.uniform(1.0, 3.0) if ending is Ending.BUSY else choices.uniform(20.0, 25.0)
            ended = milliseconds(dialled + ring)
            failure = {"status": "error", "dial_error": ending.value, "ended_at": iso(ended)}
            return [Change(ended, closes=True, attempt=failure)]
        answered = milliseconds(dialled + choices.uniform(4.0, 25.0))
        taken = Change(answered, attempt={"status": "ongoing", "answered_at": iso(answered)})
        if ending is Ending.ENDLESS:
            return [taken]
        ended, outcome = self._talk(ending, answered, choices)
        finished = {"status": "completed", "ended_at": iso(ended), **outcome}
        return [taken, Change(ended, closes=True, recorded=True, attempt=finished)]

    def _talk(self, ending: Ending, answered: float, choices: random.Random) -> tuple[float, dict[str, Any]]:
        assistant, variables = self.assistant, self.variables
        longest = assistant["max_call_duration_secs"]

        def until(shortest: float, usual_longest: float) -> float:
            return milliseconds(answered + min(choices.uniform(shortest, usual_longest), longest))

        if ending is Ending.VOICEMAIL:
            spoken = transcripts.on_voicemail(assistant, variables)
            ended = until(12.0, 30.0) if len(spoken) > 1 else until(3.0, 6.0)
            return ended, _outcome("voicemail", "agent", "voicemail", spoken)
        if ending is Ending.IVR:
            return until(8.0, 25.0), _outcome("IVR", "agent", "ivr_no_navigate", transcripts.on_menu())
        if ending is Ending.SCREENED:
            spoken = transcripts.on_screening(assistant, variables)
            return until(8.0, 25.0), _outcome("ios-screening-filter", "user", None, spoken)
        config = assistant["structured_output_config"]
        if ending is Ending.HUNG_UP_EARLY:
            data = outputs.cut_short(config, choices, answered) if config else None
            spoken = transcripts.cut_short(assistant, variables)
            return until(4.0, 12.0), _outcome("human", "user", None, spoken, data)
        talk_seconds = choices.uniform(15.0, 180.0)
        ended_by, reason = ("agent", "tool_end_call") if choices.random() < 0.7 else ("user", None)
        if talk_seconds >= longest:
            talk_seconds, ended_by, reason = longest, "system", "max_duration"
        data = None
        if config:
            make = outputs.violating if ending is Ending.VIOLATING else outputs.filled
            data = make(config, choices, answered)
        spoken = transcripts.talk(assistant, variables, data or {}, choices, ended_by=ended_by)
        return milliseconds(answered + talk_seconds), _outcome("human", ended_by, reason, spoken, data)

    def _afterwards(self, index: int, began: float, ended: float, choices: random.Random) -> list[Change]:
        ending = self.fate.ending(index)
        if ending.is_retried and index + 1 < self.hours.max_attempts:
            return self.waiting(index + 1, ended, ended + self.hours.retry_delay(began))
        closed = milliseconds(ended + choices.uniform(0.5, 3.0))
        if ending.is_dial_error:
            return [Change(closed, status="errored")]
        if not self.post_processing:
            return [Change(closed, status="completed")]
        return [Change(ended, status="post_processing"), Change(closed, status="completed")]

    def _needs_no_window(self, index: int) -> bool:
        return index == 0 and (self.force_now or self.skips_hours)

    def _choices(self, *what: object) -> random.Random:
        return generator(*self.names, *what)


def _outcome(
    result: str,
    ended_by: str,
    end_reason: str | None,
    transcript: list[transcripts.Entry],
    structured_output: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "result": result,
        "ended_by": ended_by,
        "end_reason": end_reason,
        "transcript": transcript,
        "structured_output": structured_output,
    }
