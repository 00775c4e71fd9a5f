"""
What must happen at each point of a call's life when each of the simulator's faults strikes there.

A point has columns (what was so before, and how often the fault strikes) and rows (faults that are alike there). A cell is an
`End`: how the task ends, what Revox and the record hold then, and what one more try without a fault does. All of it is written
down here, nothing is worked out; `tests/test_every_fault.py` plays it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxCallCancelledError,
    RevoxCallNotVisibleError,
    RevoxNotFoundError,
    RevoxOutcomeUnknownError,
    RevoxRateLimitError,
    RevoxRecordError,
    RevoxRejectedError,
    RevoxReplyError,
    RevoxServerError,
    RevoxUnreachableError,
)

#: As often as the client tries a request, so that one whole look or search fails.
ONE_LOOK = 5
FOR_GOOD = 10_000


class Crash(BaseException):
    """A process that dies."""


class ItsOwn(Exception):
    """Stands in a cell for the error that the client makes of the fault."""


#: Ends that also are `AirflowFailException`, so that Airflow makes no further try by itself. No other end is.
ENDS_FOR_GOOD = {RevoxCallCancelledError, RevoxOutcomeUnknownError, RevoxRecordError, RevoxRejectedError}

# --- the faults ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fault:
    """
    One fault of the simulator.

    :param error: what the client makes of it; None when the request succeeds all the same.
    :param says: words of that error.
    :param timeout: of the connection, in seconds, where the fault is about time.
    """

    kind: str
    error: type[BaseException] | None = None
    says: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    timeout: float | None = None

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.arguments.items())])


def _status(status: int, error: type[Exception], *, taken: bool = False) -> Fault:
    return Fault("status", error, f"answered {status}", {"status": status, "taken": taken})


_NO_REPLY = (RevoxUnreachableError, "no whole reply came")
_UNREADABLE = (RevoxReplyError, "cannot be read")
_LATE = (RevoxUnreachableError, "no whole reply came (ReadTimeout)")

DROPPED = Fault("drop_reply", *_NO_REPLY)
RESET = Fault("reset", *_NO_REPLY)
BAD_GATEWAY = Fault("bad_gateway_after", RevoxServerError, "answered 502")
BUSY = Fault("rate_limited", RevoxRateLimitError, "answered 429")
BUSY_NO_TIME = Fault("rate_limited", RevoxRateLimitError, "answered 429", {"retry_after": 0})
BUSY_AN_HOUR = Fault("rate_limited", RevoxRateLimitError, "answered 429", {"retry_after": 3600})
BROKEN = Fault("server_error", RevoxServerError, "answered 500")
AWAY = Fault("unavailable", RevoxServerError, "answered 503")
NO_KEY = Fault("unauthorized", RevoxAuthenticationError, "answered 401")
NOT_THERE = Fault("not_found", RevoxNotFoundError, "answered 404")
SLOW = Fault("slow", arguments={"seconds": 0.02})
TOO_SLOW = Fault("slow", *_LATE, {"seconds": 2}, timeout=0.2)
CUT = Fault("truncated_json", *_UNREADABLE)
CUT_SHORT_OF_ITS_LENGTH = Fault("truncated_json", *_NO_REPLY, {"lie": True})
A_PAGE = Fault("wrong_content_type", *_UNREADABLE)
NO_CALL = Fault("missing_call", *_UNREADABLE)
MOVED, MOVED_TAKEN = _status(302, RevoxReplyError), _status(302, RevoxReplyError, taken=True)
GIVEN_UP, GIVEN_UP_TAKEN = _status(408, RevoxServerError), _status(408, RevoxServerError, taken=True)
CONFLICT, CONFLICT_TAKEN = _status(409, RevoxRejectedError), _status(409, RevoxRejectedError, taken=True)
NO_GATEWAY, NO_GATEWAY_TAKEN = _status(504, RevoxServerError), _status(504, RevoxServerError, taken=True)
INVALID = _status(422, RevoxRejectedError)
HELD = Fault("hold", *_LATE, {"taken": False}, timeout=0.2)
HELD_TAKEN = Fault("hold", *_LATE, {"taken": True}, timeout=0.2)
SHOWS_LATE = Fault("late_in_search", arguments={"seconds": 200_000})
PARTIAL = Fault("incomplete_search")

#: Revox did what it was asked for, and the client cannot know.
TAKEN_UNHEARD = (DROPPED, BAD_GATEWAY, CUT, CUT_SHORT_OF_ITS_LENGTH, A_PAGE, NO_CALL, GIVEN_UP_TAKEN, NO_GATEWAY_TAKEN)
TAKEN_UNHEARD_IN_TIME = (TOO_SLOW, HELD_TAKEN)
TAKEN_AND_DENIED = (MOVED_TAKEN, CONFLICT_TAKEN)
#: Revox did nothing, and the client cannot know.
NOT_TAKEN = (RESET, BROKEN, AWAY, GIVEN_UP, NO_GATEWAY)

#: A reading request is repeated after these.
PASSING = (*TAKEN_UNHEARD, *NOT_TAKEN, BUSY, BUSY_NO_TIME)
PASSING_SLOWLY = (*TAKEN_UNHEARD_IN_TIME, HELD)
#: And never after these.
DENIED = (*TAKEN_AND_DENIED, MOVED, CONFLICT, INVALID, NO_KEY)

# --- how a task ends -------------------------------------------------------------------------


class Then(NamedTuple):
    """What one more try without a fault ends with."""

    error: type[BaseException] | None
    orders: int
    state: str
    earlier: tuple[str, ...] = ()


class End(NamedTuple):
    """
    What a try ends with.

    :param error: None when it returns something.
    :param orders: orders that Revox took for the number.
    :param dials: how often the phone rings for them in the end; as many as there are orders when None.
    :param posts: requests to dial that Revox received.
    :param state: of the newest entry of the record; None for no record.
    :param earlier: states of the entries before it.
    :param xcoms: the keys that were pushed.
    :param words: in the error, with {nonce} and {call_id} as they are, and {says} from the fault.
    :param never: words that would not be true.
    """

    error: type[BaseException] | None
    orders: int
    posts: int
    state: str | None
    then: Then
    earlier: tuple[str, ...] = ()
    xcoms: str = ""
    words: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    dials: int | None = None
    cancels: int = 0


SAME_CALL = Then(None, 1, "placed")
DIALS_AFTER_REFUSAL = Then(None, 1, "placed", ("refused",))
UNKNOWN = Then(RevoxOutcomeUnknownError, 0, "unknown")
UNKNOWN_ORDER = Then(RevoxOutcomeUnknownError, 1, "unknown")

PLACED = End(None, 1, 1, "placed", SAME_CALL, xcoms="call_id return_value")
FOUND = PLACED
REFUSED = End(ItsOwn, 0, 1, "refused", DIALS_AFTER_REFUSAL, words=("{says}",))
#: How an unknown outcome is told.
TOLD = ("+1415•••0100", "will not dial again by itself", 'adopt="<its id>"', 'redial_after="{nonce}"', "revox_settle")
ABSENT = End(RevoxOutcomeUnknownError, 0, 1, "unknown", UNKNOWN, words=(*TOLD, "found no such order"))
LOST = ABSENT._replace(words=(*TOLD, "cannot search"))
LOST_ORDER = LOST._replace(orders=1, then=UNKNOWN_ORDER)

# --- points ----------------------------------------------------------------------------------


SEARCH, NO_SEARCH, BOTH = (True,), (False,), (True, False)


class Column(NamedTuple):
    """What was so before, how often the fault strikes, and whether Revox can search (and cancel)."""

    scene: str
    search: tuple[bool, ...] = BOTH
    count: int = 1


def once_and_for_good(scene: str, search: tuple[bool, ...]) -> tuple[Column, Column]:
    return Column(scene, search), Column(scene, search, FOR_GOOD)


class Point(NamedTuple):
    """
    A point in a call's life.

    :param strikes: the endpoint at which the fault is armed.
    :param rows: an end for each column; None where a timeout would pass again and again, and show nothing new.
    :param after: requests that pass before it strikes.
    :param not_here: kinds of faults that cannot strike here, and why.
    """

    strikes: str
    columns: tuple[Column, ...]
    rows: dict[tuple[Fault, ...], tuple[End | None, ...]]
    not_here: dict[str, str]
    after: int = 0


SEARCHED_ONLY = {"incomplete_search": "strikes searches only"}
ORDERED_OR_SEARCHED_ONLY = {**SEARCHED_ONLY, "late_in_search": "strikes the request that dials only"}
SEARCH_ITSELF = {"late_in_search": "strikes the request that dials only, and lets its reply through: see THE_WRITES"}

# --- 1. the request that dials ---------------------------------------------------------------

THE_POST = Point(
    "create_call",
    (Column("post", SEARCH), Column("post", NO_SEARCH)),
    {
        (SLOW, SHOWS_LATE): (PLACED, PLACED),
        (BUSY, BUSY_NO_TIME): (PLACED._replace(posts=2), PLACED._replace(posts=2)),
        (*TAKEN_UNHEARD, *TAKEN_UNHEARD_IN_TIME, *TAKEN_AND_DENIED): (FOUND, LOST_ORDER),
        (*NOT_TAKEN, MOVED, CONFLICT, HELD): (ABSENT, LOST),
        (BUSY_AN_HOUR, INVALID, NO_KEY, NOT_THERE): (REFUSED, REFUSED),
    },
    SEARCHED_ONLY,
)
#: The same again and again: only "too many requests" is tried again.
THE_POST_FOR_GOOD = Point(
    "create_call",
    (Column("post", SEARCH, FOR_GOOD), Column("post", NO_SEARCH, FOR_GOOD)),
    {
        (BUSY, BUSY_NO_TIME): (REFUSED._replace(posts=5), REFUSED._replace(posts=5)),
        (BUSY_AN_HOUR, INVALID, NO_KEY, NOT_THERE): (REFUSED, REFUSED),
        (*TAKEN_UNHEARD, *TAKEN_AND_DENIED): (FOUND, LOST_ORDER),
        (*NOT_TAKEN, MOVED, CONFLICT): (ABSENT, LOST),
    },
    {**SEARCHED_ONLY, **dict.fromkeys(("slow", "hold", "late_in_search"), "one request, so once is for good")},
)

# --- 2. the search after a lost reply: the order was taken, or was not -----------------------

FAILED = ABSENT._replace(words=(*TOLD, "searching failed", "{says}"))
FAILED_ORDER = FAILED._replace(orders=1, then=SAME_CALL)
CANNOT, CANNOT_ORDER = LOST, LOST._replace(orders=1, then=SAME_CALL)
INCOMPLETE = ABSENT._replace(words=(*TOLD, "the search was incomplete (0 of 1 orders seen)"))
INCOMPLETE_ORDER = INCOMPLETE._replace(orders=1, then=SAME_CALL)

THE_SEARCH = Point(
    "search_calls",
    (*once_and_for_good("reply lost", SEARCH), *once_and_for_good("request lost", SEARCH)),
    {
        (SLOW,): (FOUND, FOUND, ABSENT, ABSENT),
        PASSING: (FOUND, FAILED_ORDER, ABSENT, FAILED),
        PASSING_SLOWLY: (FOUND, FAILED_ORDER, ABSENT, None),
        (*DENIED, BUSY_AN_HOUR): (FAILED_ORDER, FAILED_ORDER, FAILED, FAILED),
        (NOT_THERE,): (CANNOT_ORDER, CANNOT_ORDER, CANNOT, CANNOT),
        (PARTIAL,): (INCOMPLETE_ORDER, INCOMPLETE_ORDER, INCOMPLETE, INCOMPLETE),
    },
    SEARCH_ITSELF,
)

# --- 3. a look while waiting: once, one whole look, until the deadline -----------------------

ANSWER = End(None, 1, 1, "placed", SAME_CALL, xcoms="call call_id return_value")
#: The call has ended, but nobody could see it.
UNSEEN = End(AirflowSensorTimeout, 1, 1, "placed", SAME_CALL, xcoms="call_id", words=("{call_id}", "clear the task"))
UNSEEN = UNSEEN._replace(never=("had not ended", "itself goes on"))
HIDDEN = End(RevoxCallNotVisibleError, 1, 1, "placed", SAME_CALL, xcoms="call_id")
HIDDEN = HIDDEN._replace(words=("{call_id}", "{says}", "left alone", "dials nobody"))
_LOOKS: dict[tuple[Fault, ...], tuple[End | None, ...]] = {
    (SLOW,): (ANSWER, ANSWER, ANSWER),
    (*PASSING, BUSY_AN_HOUR, MOVED, MOVED_TAKEN): (ANSWER, ANSWER, UNSEEN),
    PASSING_SLOWLY: (ANSWER, None, None),
    (NOT_THERE,): (ANSWER, ANSWER, HIDDEN),
    # The call was placed with this key: it was rotated since, and the wait goes on until the connection has the new one.
    (NO_KEY,): (ANSWER, ANSWER, UNSEEN),
    # The wait is given up at once, and the last reading finds that the call ended.
    (CONFLICT, CONFLICT_TAKEN, INVALID): (ANSWER, HIDDEN, HIDDEN),
}


def looks(scene: str, search: tuple[bool, ...]) -> tuple[Column, ...]:
    return Column(scene), Column(scene, search, ONE_LOOK), Column(scene, search, FOR_GOOD)


A_LOOK_ON_THE_WORKER = Point("get_call", looks("worker", SEARCH), _LOOKS, ORDERED_OR_SEARCHED_ONLY)
A_LOOK_IN_THE_TRIGGERER = A_LOOK_ON_THE_WORKER._replace(columns=looks("triggerer", NO_SEARCH))

# --- 4. the reading at the end ---------------------------------------------------------------

_LAST_READING: dict[tuple[Fault, ...], tuple[End | None, ...]] = {
    (SLOW,): (ANSWER, ANSWER, ANSWER),
    (*PASSING, BUSY_AN_HOUR): (ANSWER, ANSWER, UNSEEN),
    PASSING_SLOWLY: (ANSWER, None, None),
    (NO_KEY,): (ANSWER, ANSWER, UNSEEN),
    (*(fault for fault in DENIED if fault is not NO_KEY), NOT_THERE): (HIDDEN, HIDDEN, HIDDEN),
}

#: The look before it has seen that the call ended.
THE_LAST_READING = Point("get_call", looks("ended", SEARCH), _LAST_READING, ORDERED_OR_SEARCHED_ONLY, after=1)
THE_LAST_READING_WHEN_DEFERRABLE = THE_LAST_READING._replace(columns=looks("ended, deferrable", NO_SEARCH))

# --- 5. cancelling at the deadline -----------------------------------------------------------

IS_CANCELLED, IS_WAITED_FOR = Then(RevoxCallCancelledError, 1, "placed"), Then(AirflowSensorTimeout, 1, "placed")
CANCELLED = End(AirflowSensorTimeout, 1, 1, "placed", IS_CANCELLED, xcoms="call_id", dials=0, cancels=1)
CANCELLED = CANCELLED._replace(words=("{call_id}", "The call was cancelled."))
GOES_ON = CANCELLED._replace(words=("{call_id}", "The call itself goes on"), cancels=0, then=IS_WAITED_FOR)
#: Whether it was cancelled could not be heard, so neither is said.
CANCELLED_UNHEARD = CANCELLED._replace(words=("{call_id}", "clear the task"), never=("itself goes on", "was cancelled"))
GOES_ON_UNHEARD = CANCELLED_UNHEARD._replace(cancels=0, then=IS_WAITED_FOR)

THE_CANCEL = Point(
    "cancel_call",
    (Column("deadline", SEARCH), Column("deadline", SEARCH, FOR_GOOD), Column("deadline, triggerer", SEARCH)),
    {
        (SLOW,): (CANCELLED, CANCELLED, CANCELLED),
        (BUSY, BUSY_NO_TIME): (CANCELLED, GOES_ON, CANCELLED),
        NOT_TAKEN: (CANCELLED, GOES_ON_UNHEARD, CANCELLED),
        (HELD,): (CANCELLED, None, CANCELLED),
        (MOVED, CONFLICT): (GOES_ON_UNHEARD, GOES_ON_UNHEARD, GOES_ON_UNHEARD),
        (*TAKEN_UNHEARD, *TAKEN_AND_DENIED): (CANCELLED_UNHEARD, CANCELLED_UNHEARD, CANCELLED_UNHEARD),
        TAKEN_UNHEARD_IN_TIME: (CANCELLED_UNHEARD, None, CANCELLED_UNHEARD),
        (BUSY_AN_HOUR, INVALID, NO_KEY, NOT_THERE): (GOES_ON, GOES_ON, GOES_ON),
    },
    ORDERED_OR_SEARCHED_ONLY,
)

# --- 6. what `redial_after` makes sure of ----------------------------------------------------

REDIALLED = End(None, 2, 2, "placed", Then(None, 2, "placed", ("placed",)), ("placed",), "call_id return_value")
#: Nobody was dialled, and the word still holds when Revox is well again.
NOT_REDIALLED = End(ItsOwn, 1, 1, "placed", Then(None, 2, "placed", ("placed",)), words=("{says}", "{call_id}"))
NO_SUCH_CALL = NOT_REDIALLED._replace(error=RevoxRecordError, words=("knows no call {call_id}",))

THE_CHECK_BEFORE_REDIALLING = Point(
    "get_call",
    (Column("redial after a call"), Column("redial after a call", SEARCH, FOR_GOOD)),
    {
        (SLOW,): (REDIALLED, REDIALLED),
        PASSING: (REDIALLED, NOT_REDIALLED),
        PASSING_SLOWLY: (REDIALLED, None),
        (*DENIED, BUSY_AN_HOUR): (NOT_REDIALLED, NOT_REDIALLED),
        (NOT_THERE,): (NO_SUCH_CALL, NO_SUCH_CALL),
    },
    ORDERED_OR_SEARCHED_ONLY,
)


#: A person said that there is no call. Where there is no search, the person's word counts, for one call.
ON_THEIR_WORD = End(None, 1, 2, "placed", Then(None, 1, "placed", ("unknown",)), ("unknown",), "call_id return_value")
ON_THEIR_WRONG_WORD = ON_THEIR_WORD._replace(orders=2, then=Then(None, 2, "placed", ("unknown",)))
#: Where a search fails, nobody is dialled until it does not.
_NOT_LOOKED_INTO = ("could not be looked into", "Nobody was dialled now")
LOOK_AGAIN = End(RevoxRecordError, 1, 1, "unknown", SAME_CALL, words=_NOT_LOOKED_INTO)
LOOK_AGAIN_AND_DIAL = LOOK_AGAIN._replace(orders=0, then=Then(None, 1, "placed", ("unknown",)))

THE_SEARCH_BEFORE_REDIALLING = Point(
    "search_calls",
    (
        *once_and_for_good("redial, the reply was lost", SEARCH),
        *once_and_for_good("redial, the request was lost", SEARCH),
    ),
    {
        (SLOW,): (FOUND, FOUND, ON_THEIR_WORD, ON_THEIR_WORD),
        PASSING: (FOUND, LOOK_AGAIN, ON_THEIR_WORD, LOOK_AGAIN_AND_DIAL),
        PASSING_SLOWLY: (FOUND, None, ON_THEIR_WORD, None),
        (*DENIED, BUSY_AN_HOUR, PARTIAL): (*[LOOK_AGAIN] * 2, *[LOOK_AGAIN_AND_DIAL] * 2),
        (NOT_THERE,): (*[ON_THEIR_WRONG_WORD] * 2, *[ON_THEIR_WORD] * 2),
    },
    SEARCH_ITSELF,
)

# --- 7. the look that `adopt` takes ----------------------------------------------------------

ADOPTED = PLACED
NOT_ADOPTED = End(ItsOwn, 1, 1, "unknown", SAME_CALL, words=("{says}", "{call_id}"))
NONE_TO_ADOPT = NOT_ADOPTED._replace(error=RevoxRecordError, words=("knows no call {call_id}",))

THE_ADOPTION = Point(
    "get_call",
    (Column("adopt"), Column("adopt", NO_SEARCH, FOR_GOOD)),
    {
        (SLOW,): (ADOPTED, ADOPTED),
        PASSING: (ADOPTED, NOT_ADOPTED),
        PASSING_SLOWLY: (ADOPTED, None),
        (*DENIED, BUSY_AN_HOUR): (NOT_ADOPTED, NOT_ADOPTED),
        (NOT_THERE,): (NONE_TO_ADOPT, NONE_TO_ADOPT),
    },
    ORDERED_OR_SEARCHED_ONLY,
)

# --- 8. the writes of the record -------------------------------------------------------------


class Write(NamedTuple):
    """
    A write of the record at which the process dies, or the store refuses.

    :param state: what was to be written.
    :param kept: whether the store kept it all the same.
    :param fault: that strikes the request to dial.
    :param ends: where Revox can search, and where it cannot.
    :param which: the first or a later write of that state.
    :param passed_over: a store that refuses does not keep the task from telling how to settle it.
    """

    state: str
    kept: bool
    fault: Fault | None
    ends: tuple[End, End]
    which: int = 1
    passed_over: bool = False


NOTHING_DONE = End(ItsOwn, 0, 0, None, SAME_CALL)
INTENT_ONLY = End(ItsOwn, 0, 0, "intent", UNKNOWN)
POSTED = INTENT_ONLY._replace(posts=1)
ORDERED = End(ItsOwn, 1, 1, "intent", SAME_CALL)
ORDERED_NOT_FOUND = ORDERED._replace(then=UNKNOWN_ORDER)
ID_KEPT = ORDERED._replace(state="placed")
REFUSAL_KEPT = End(ItsOwn, 0, 1, "refused", DIALS_AFTER_REFUSAL)
UNKNOWN_KEPT = POSTED._replace(state="unknown")

#: Another process had the call placed between this one's reading of the record and its intent.
OVERTAKEN = End(
    RevoxRecordError, 1, 1, "placed", SAME_CALL, words=("Another process", "Nobody was dialled by this one")
)

THE_WRITES = (
    Write("intent", False, None, (NOTHING_DONE, NOTHING_DONE)),
    Write("intent", True, None, (INTENT_ONLY, INTENT_ONLY)),
    Write("intent", False, BUSY, (POSTED, POSTED), which=2),
    Write("placed", False, None, (ORDERED, ORDERED_NOT_FOUND)),
    Write("placed", True, None, (ID_KEPT, ID_KEPT)),
    Write("placed", False, SHOWS_LATE, (ORDERED_NOT_FOUND, ORDERED_NOT_FOUND)),
    Write("placed", False, DROPPED, (ORDERED, LOST_ORDER)),
    Write("placed", True, DROPPED, (ID_KEPT, LOST_ORDER)),
    Write("refused", False, INVALID, (POSTED, POSTED)),
    Write("refused", True, INVALID, (REFUSAL_KEPT, REFUSAL_KEPT)),
    Write("unknown", False, RESET, (POSTED, POSTED), passed_over=True),
    Write("unknown", True, RESET, (UNKNOWN_KEPT, UNKNOWN_KEPT), passed_over=True),
)

POINTS = {
    "the request that dials": THE_POST,
    "the request that dials, for good": THE_POST_FOR_GOOD,
    "the search": THE_SEARCH,
    "a look on the worker": A_LOOK_ON_THE_WORKER,
    "a look in the triggerer": A_LOOK_IN_THE_TRIGGERER,
    "the last reading": THE_LAST_READING,
    "the last reading when deferrable": THE_LAST_READING_WHEN_DEFERRABLE,
    "the cancel": THE_CANCEL,
    "the check before redialling": THE_CHECK_BEFORE_REDIALLING,
    "the search before redialling": THE_SEARCH_BEFORE_REDIALLING,
    "the adoption": THE_ADOPTION,
}
#: A Revox that lacks the endpoint: no fault can strike there, the request itself finds nothing.
WITHOUT_EXTENSIONS = {
    "reply lost": LOST_ORDER,
    "request lost": LOST,
    "deadline": GOES_ON,
    "deadline, triggerer": GOES_ON,
    "redial, the reply was lost": ON_THEIR_WRONG_WORD,
    "redial, the request was lost": ON_THEIR_WORD,
}
