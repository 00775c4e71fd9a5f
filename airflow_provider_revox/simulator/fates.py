"""What becomes of an order: told by the last two digits of the number it calls.

==========  ====================================================================================
digits      what happens
==========  ====================================================================================
00-50       a human answers the first attempt, with data
51          no answer once, then a human answers
52          no answer twice, then a human answers
53          busy every time; errored when the attempts are used up
54          voicemail every time; completed without data when the attempts are used up
55          a phone menu (IVR) answers; completed without data
56          the number is not attributed: errored at once, no second attempt
57          errored by the system, without any attempt
58          the screening filter of a phone answers; completed without data
59          a human answers and hangs up early: required data is missing
60          never dialled: queued for ever
61          answered, and the talk never ends
62          paused for ever, unless somebody resumes it
63          a status that nobody knows (``negotiating``), for ever
64          a status that nobody knows for a while, then as 00
65          cancelled from outside after a while, before any attempt
66          a human answers, with data that violates the structured output config
67-99       as 00
==========  ====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

UNKNOWN_STATUS = "negotiating"


class Ending(Enum):
    """How one attempt ends."""

    ANSWERED = "answered"
    VIOLATING = "violating"
    HUNG_UP_EARLY = "hung_up_early"
    ENDLESS = "endless"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    NOT_ATTRIBUTED = "number_non_attributed"
    VOICEMAIL = "voicemail"
    IVR = "ivr"
    SCREENED = "screened"

    @property
    def is_retried(self) -> bool:
        """Whether the service dials again after such an attempt, while attempts are left."""
        return self in {Ending.NO_ANSWER, Ending.BUSY, Ending.VOICEMAIL}

    @property
    def is_dial_error(self) -> bool:
        """Whether nobody and nothing took the call."""
        return self in {Ending.NO_ANSWER, Ending.BUSY, Ending.NOT_ATTRIBUTED}


@dataclass(frozen=True)
class Fate:
    """The plan for an order.

    ``attempts`` tells how the attempts end, the last one again and again; ``stays`` a status the order is
    left in for ever; ``detour`` a status it shows for a while before it goes on; ``ends`` a terminal status
    it reaches without any attempt.
    """

    attempts: tuple[Ending, ...] = (Ending.ANSWERED,)
    stays: str | None = None
    detour: str | None = None
    ends: str | None = None

    def ending(self, attempt_index: int) -> Ending:
        """Return how this attempt (counted from 0) ends."""
        return self.attempts[min(attempt_index, len(self.attempts) - 1)]


ORDINARY = Fate()
FATES: dict[int, Fate] = {
    51: Fate((Ending.NO_ANSWER, Ending.ANSWERED)),
    52: Fate((Ending.NO_ANSWER, Ending.NO_ANSWER, Ending.ANSWERED)),
    53: Fate((Ending.BUSY,)),
    54: Fate((Ending.VOICEMAIL,)),
    55: Fate((Ending.IVR,)),
    56: Fate((Ending.NOT_ATTRIBUTED,)),
    57: Fate(ends="errored"),
    58: Fate((Ending.SCREENED,)),
    59: Fate((Ending.HUNG_UP_EARLY,)),
    60: Fate(stays="queued_for_calling"),
    61: Fate((Ending.ENDLESS,)),
    62: Fate(stays="paused"),
    63: Fate(stays=UNKNOWN_STATUS),
    64: Fate(detour=UNKNOWN_STATUS),
    65: Fate(ends="cancelled"),
    66: Fate((Ending.VIOLATING,)),
}


def fate_of(phone_number: str) -> Fate:
    """Return the fate of orders to this number."""
    return FATES.get(int(phone_number[-2:]), ORDINARY)
