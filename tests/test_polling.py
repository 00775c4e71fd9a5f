"""When to look again: pure, so tested without any I/O."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxConnectionError,
    RevoxError,
    RevoxNotFoundError,
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxReplyError,
    RevoxRequestError,
    RevoxServerError,
    RevoxUnreachableError,
)
from airflow_provider_revox.models import CallGlance
from airflow_provider_revox.polling import MARGIN_SECONDS, Again, End, Pace, Watch, next_look

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
PACE = Pace(poke_interval=15, max_poll_interval=600)


def seen(status: str = "calling", **fields: Any) -> CallGlance:
    return CallGlance.model_validate({"id": "c1", "status": status, **fields})


def attempt(status: str, **fields: Any) -> dict[str, Any]:
    return {"last_call_attempt": {"status": status, **fields}, "calls_count": 1}


def wait(glance: CallGlance, unchanged: int = 0, jitter: float = 0.0, pace: Pace = PACE) -> float:
    return next_look(glance, NOW, pace, unchanged=unchanged, jitter=jitter)


@pytest.mark.parametrize("status", ["ringing", "ongoing"])
@pytest.mark.parametrize("unchanged", [0, 50])
def test_a_live_attempt_is_watched_closely_for_ever(status: str, unchanged: int) -> None:
    assert wait(seen(**attempt(status)), unchanged) == 15
    assert 13.5 <= wait(seen(**attempt(status)), unchanged, jitter=0.999) < 15


@pytest.mark.parametrize("status", ["initializing", "queued_for_calling", "paused", "negotiating", "post_processing"])
def test_what_does_not_change_is_looked_at_ever_more_seldom(status: str) -> None:
    waits = [wait(seen(status), unchanged) for unchanged in range(12)]
    assert waits[0] == 15
    assert waits == sorted(waits)
    assert waits[1] > waits[0]
    assert waits[-1] == 600
    assert wait(seen(status), 10_000) == 600


def test_a_planned_order_is_left_alone_until_it_begins() -> None:
    planned = seen("scheduled", scheduled_at=(NOW + timedelta(days=3)).isoformat())
    until = timedelta(days=3).total_seconds()
    assert wait(planned) == until - MARGIN_SECONDS
    assert until - MARGIN_SECONDS < wait(planned, jitter=0.9) <= until


def test_a_plan_in_the_past_says_nothing() -> None:
    assert wait(seen("scheduled", scheduled_at=(NOW - timedelta(hours=1)).isoformat())) == 15
    assert wait(seen("scheduled", scheduled_at="soon")) == 15


def test_between_attempts_it_sleeps_towards_the_next() -> None:
    config = {
        "calling_windows": [
            {"calling_window_start_time": "10:00", "calling_window_end_time": "18:00", "retry_delay_seconds": 7200},
            {"calling_window_start_time": "19:00", "calling_window_end_time": "20:00", "retry_delay_seconds": 300},
        ]
    }
    ended = {"ended_at": (NOW - timedelta(seconds=60)).isoformat()}
    glance = seen("queued_for_calling", call_retry_config=config, **attempt("error", **ended))
    assert wait(glance) == 300 - 60 - MARGIN_SECONDS
    assert wait(glance, jitter=0.999) == pytest.approx(240, abs=0.1)
    far = {"calling_windows": [{"retry_delay_seconds": 7200}]}
    assert wait(seen("queued_for_calling", call_retry_config=far, **attempt("error", **ended))) == 600
    overdue = {"ended_at": (NOW - timedelta(seconds=400)).isoformat()}
    assert wait(seen("queued_for_calling", call_retry_config=config, **attempt("error", **overdue))) == 15


TIMES = st.datetimes(
    min_value=datetime(2026, 1, 1),
    max_value=datetime(2026, 12, 31),
    timezones=st.just(timezone.utc),
)


@given(
    status=st.sampled_from(["initializing", "queued_for_calling", "scheduled", "calling", "paused", "odd", None]),
    last=st.none() | st.sampled_from(["queued", "ringing", "ongoing", "completed", "error", "odd"]),
    ended=st.none() | TIMES,
    planned=st.none() | TIMES,
    delay=st.none() | st.integers(0, 10**18) | st.just(-5) | st.just("odd"),
    poke=st.floats(0.01, 600),
    unchanged=st.integers(0, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_the_bounds_hold_for_every_order(
    status: Any, last: Any, ended: Any, planned: Any, delay: Any, poke: float, unchanged: int, jitter: float
) -> None:
    fields: dict[str, Any] = {
        "scheduled_at": planned,
        "call_retry_config": {"calling_windows": [{"retry_delay_seconds": delay}]},
    }
    if last is not None:
        fields |= attempt(last, ended_at=ended)
    seconds = wait(seen(status, **fields), unchanged, jitter, Pace(poke, 600))
    assert seconds >= 1
    not_begun = last is None and status in ("initializing", "queued_for_calling", "scheduled")
    if not_begun and planned is not None and planned > NOW + timedelta(seconds=MARGIN_SECONDS + 1):
        assert NOW + timedelta(seconds=seconds) >= planned - timedelta(seconds=MARGIN_SECONDS + 0.001)
    else:
        assert seconds <= 600
    if last in ("ringing", "ongoing"):
        assert seconds <= max(1, poke)


@pytest.mark.parametrize(
    ("poke", "longest", "words"),
    [
        (0, 600, "poke_interval must be a number of seconds above 0, got 0"),
        (-1, 600, "poke_interval"),
        (True, 600, "poke_interval"),
        ("15", 600, "poke_interval"),
        (float("nan"), 600, "poke_interval"),
        (15, 0, "max_poll_interval"),
        (15, float("inf"), "max_poll_interval"),
        (601, 600, r"poke_interval \(601 s\) must not be above max_poll_interval \(600 s\)"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(poke: Any, longest: Any, words: str) -> None:
    with pytest.raises(RevoxRequestError, match=words):
        Pace(poke, longest)


# --- following one order --------------------------------------------------------------------


def test_the_end_is_seen() -> None:
    for status in ("completed", "cancelled", "errored"):
        assert Watch(PACE, None).saw(seen(status), NOW, 0) == End("ended", status)


def test_news_are_told_once() -> None:
    watch = Watch(PACE, None)
    watch.saw(seen("queued_for_calling"), NOW, 0)
    assert watch.news == "is queued_for_calling"
    watch.saw(seen("queued_for_calling"), NOW, 0)
    assert watch.news is None
    watch.saw(seen("calling", **attempt("ringing")), NOW, 0)
    assert watch.news == "is calling: attempt 1 is ringing"
    watch.saw(seen("scheduled", **attempt("error", dial_error="busy")), NOW, 0)
    assert watch.news == "is scheduled: attempt 1 ended (busy)"
    watch.failed(RevoxServerError("away", status_code=503), NOW, 0)
    assert watch.news == "cannot be seen just now: away"
    watch.failed(RevoxServerError("away", status_code=503), NOW, 0)
    assert watch.news is None
    watch.saw(seen("scheduled", scheduled_at=NOW.isoformat()), NOW, 0)
    assert watch.news == "is scheduled, the first attempt at 2026-03-02T12:00:00+00:00 at the earliest"


WINDOWS = {"calling_windows": [{"retry_delay_seconds": 7200}, {"retry_delay_seconds": 3600}], "max_retry_attempts": 2}


@pytest.mark.parametrize(
    ("status", "last", "more", "news"),
    [
        ("scheduled", {"dial_error": "no_answer"}, {}, "ended (no_answer); next attempt at 2026-03-02T13:00:00+00:00"),
        ("scheduled", {"result": "voicemail"}, {}, "ended (voicemail); next attempt at 2026-03-02T13:00:00+00:00"),
        (
            "scheduled",
            {"dial_error": "busy"},
            {"scheduled_at": "2026-03-03T09:00:00Z"},
            "ended (busy); next attempt at 2026-03-03T09:00:00+00:00",
        ),
        ("scheduled", {"dial_error": "busy"}, {"calls_count": 2}, "ended (busy)"),
        ("scheduled", {"dial_error": "busy"}, {"call_retry_config": None}, "ended (busy)"),
        ("scheduled", {"dial_error": "busy", "ended_at": None}, {}, "ended (busy)"),
        ("calling", {"result": "human"}, {}, "ended (human)"),
        ("errored", {"dial_error": "busy"}, {}, "ended (busy)"),
    ],
)
def test_the_end_of_an_attempt_is_told_and_when_the_next_may_come(
    status: str, last: dict[str, Any], more: dict[str, Any], news: str
) -> None:
    watch = Watch(PACE, None)
    fields = attempt("completed", ended_at=NOW.isoformat(), **{k: v for k, v in last.items() if k != "ended_at"})
    if "ended_at" in last:
        fields["last_call_attempt"]["ended_at"] = None
    watch.saw(seen(status, **{**fields, "call_retry_config": WINDOWS, **more}), NOW, 0)
    tail = " at the earliest" if "next attempt" in news else ""
    assert watch.news == f"is {status}: attempt {more.get('calls_count', 1)} {news}{tail}"


def test_the_last_look_falls_on_the_deadline() -> None:
    watch = Watch(PACE, NOW + timedelta(seconds=20))
    assert watch.saw(seen(), NOW, 0) == Again(15)
    assert watch.saw(seen(), NOW + timedelta(seconds=15), 0) == Again(5)
    assert watch.saw(seen(), NOW + timedelta(seconds=20), 0) == End("deadline", "calling")
    assert watch.saw(seen("completed"), NOW + timedelta(seconds=99), 0) == End("ended", "completed")


TRANSIENT = [
    RevoxUnreachableError("x", sent=True),
    RevoxUnreachableError("x", sent=False),
    RevoxServerError("x", status_code=503),
    RevoxReplyError("x", status_code=200),
    RevoxRateLimitError("x"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_trouble_is_outlived_until_the_deadline(error: RevoxError) -> None:
    deadline = NOW + timedelta(days=7)
    watch, now, looks = Watch(PACE, deadline), NOW, 0
    while isinstance(step := watch.failed(error, now, 0.5), Again):
        assert 1 <= step.seconds <= 600
        assert not step.reconnect
        now += timedelta(seconds=step.seconds)
        looks += 1
    assert step == End("deadline", None)
    assert now == deadline
    assert looks > 1000


def test_trouble_is_forgotten_when_it_is_over() -> None:
    watch = Watch(PACE, None)
    missing = RevoxNotFoundError("x", status_code=404)
    assert isinstance(watch.failed(missing, NOW, 0), Again)
    assert isinstance(watch.failed(missing, NOW + timedelta(seconds=59), 0), Again)
    watch.saw(seen(), NOW + timedelta(seconds=60), 0)
    assert isinstance(watch.failed(missing, NOW + timedelta(seconds=61), 0), Again)
    assert watch.failed(missing, NOW + timedelta(seconds=121), 0) == End("not_visible", "calling")


REFUSED_KEY = RevoxAuthenticationError("x", status_code=401)
BROKEN_CONNECTION = RevoxConnectionError("x")
AT_ONCE = Again(1, reconnect=True, soon=True)


def test_a_key_that_never_worked_is_read_anew_once() -> None:
    watch = Watch(PACE, None)
    assert watch.failed(REFUSED_KEY, NOW, 0) == AT_ONCE
    assert watch.failed(RevoxServerError("x"), NOW, 0) == Again(22.5)
    assert watch.failed(REFUSED_KEY, NOW, 0) == End("not_visible", None)
    assert watch.news == "cannot be seen: x"
    assert Watch(PACE, None).failed(BROKEN_CONNECTION, NOW, 0) == End("not_visible", None)


@pytest.mark.parametrize("error", [REFUSED_KEY, BROKEN_CONNECTION], ids=repr)
def test_a_look_that_succeeded_shows_that_the_key_works(error: RevoxError) -> None:
    watch = Watch(PACE, None)
    for _ in range(2):
        watch.saw(seen(), NOW, 0)
        assert watch.failed(error, NOW, 0) == AT_ONCE
        assert isinstance(watch.failed(error, NOW, 0), Again)


@pytest.mark.parametrize("error", [REFUSED_KEY, BROKEN_CONNECTION], ids=repr)
def test_a_rotated_key_is_outlived_until_the_deadline(error: RevoxError) -> None:
    deadline = NOW + timedelta(days=7)
    watch, now, pauses, news = Watch(PACE, deadline, trusted=True), NOW, [], []
    while isinstance(step := watch.failed(error, now, 0), Again):
        assert step.reconnect
        pauses.append(step.seconds)
        news.append(watch.news)
        now += timedelta(seconds=step.seconds)
    assert step == End("deadline", None)
    assert now == deadline
    assert pauses[:3] == [1, 22.5, 33.75]
    assert max(pauses) == 600
    assert sum(pause == 600 for pause in pauses) > 0.9 * len(pauses)
    assert [line for line in news if line] == news[:1]
    assert "Change the connection" in str(news[0])


def test_the_first_try_with_a_new_key_keeps_the_deadline() -> None:
    watch = Watch(PACE, NOW + timedelta(seconds=0.5), trusted=True)
    assert watch.failed(REFUSED_KEY, NOW, 0) == Again(0.5, reconnect=True, soon=True)
    assert watch.failed(REFUSED_KEY, NOW + timedelta(seconds=0.5), 0) == End("deadline", None)


def test_a_refused_key_is_told_of_once_even_in_the_midst_of_other_trouble() -> None:
    watch, away, told = Watch(PACE, None, trusted=True), RevoxServerError("away", status_code=503), []
    for error in (away, REFUSED_KEY, away, REFUSED_KEY, BROKEN_CONNECTION, away):
        watch.failed(error, NOW, 0)
        told.append(watch.news)
    key = "the connection's key is refused (x). Change the connection: it is read again before every look"
    assert told == ["cannot be seen just now: away", f"cannot be seen just now: {key}", None, None, None, None]


@pytest.mark.parametrize("trusted", [True, False])
def test_what_waiting_cannot_mend_ends_the_wait(trusted: bool) -> None:
    error = RevoxRejectedError("x", status_code=400)
    assert Watch(PACE, None, trusted=trusted).failed(error, NOW, 0) == End("not_visible", None)


@pytest.mark.parametrize("before", [RevoxServerError("away", status_code=503), REFUSED_KEY], ids=repr)
def test_an_order_is_not_missing_because_other_looks_failed_before(before: RevoxError) -> None:
    """A service that comes back can lack an order for a moment; so can an account whose key was just put in."""
    watch, missing = Watch(PACE, None, trusted=True), RevoxNotFoundError("x", status_code=404)
    for minute in range(10):
        watch.failed(before, NOW + timedelta(minutes=minute), 0)
    begins = NOW + timedelta(minutes=10)
    assert isinstance(watch.failed(missing, begins, 0), Again)
    assert isinstance(watch.failed(missing, begins + timedelta(seconds=59), 0), Again)
    assert isinstance(watch.failed(before, begins + timedelta(seconds=60), 0), Again)
    assert isinstance(watch.failed(missing, begins + timedelta(seconds=61), 0), Again)
    assert watch.failed(missing, begins + timedelta(seconds=121), 0) == End("not_visible", None)


def test_a_missing_order_is_looked_for_in_quick_succession() -> None:
    watch, now, missing = Watch(Pace(60, 600), None), NOW, RevoxNotFoundError("x", status_code=404)
    while isinstance(step := watch.failed(missing, now, 0), Again):
        assert step.soon
        assert step.seconds <= 15
        now += timedelta(seconds=step.seconds)
    assert step == End("not_visible", None)
    assert now - NOW == timedelta(seconds=60)
    assert not watch.saw(seen(), now, 0).soon
