"""When to look again: pure, so tested without any I/O."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
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
from airflow_provider_revox.polling import Again, End, Pace, Watch, next_look
from airflow_provider_revox.simulator.windows import CallingHours as ServiceHours

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


def config(*windows: tuple[Any, Any, Any], **more: Any) -> dict[str, Any]:
    names = ("calling_window_start_time", "calling_window_end_time", "retry_delay_seconds")
    return {"calling_windows": [dict(zip(names, window, strict=True)) for window in windows], **more}


def after(ended_at: datetime, status: str = "scheduled", last: str = "error", **fields: Any) -> CallGlance:
    """An order whose last attempt has ended."""
    times = {"started_at": ended_at - timedelta(seconds=30), "ended_at": ended_at}
    more = {name: fields.pop(name) for name in ("result", "dial_error", "started_at") if name in fields}
    return seen(status, **{**attempt(last, **{**times, **more}), **fields})


DAYTIME = config(("10:00", "18:00", 7200), max_retry_attempts=3, timezone="UTC")


def pauses_from(begins: datetime, glance: CallGlance, until: datetime, jitter: float = 0.0) -> list[datetime]:
    """The moments of all looks at an order that does not change."""
    now, looks = begins, []
    while now < until:
        now += timedelta(seconds=next_look(glance, now, PACE, unchanged=len(looks), jitter=jitter))
        looks.append(now)
    return looks


def test_a_planned_order_is_looked_at_seldom_until_it_begins_and_then_at_once() -> None:
    begins = NOW + timedelta(days=3)
    looks = pauses_from(NOW, seen("scheduled", scheduled_at=begins), begins)
    assert len(looks) == 3 * 144
    assert begins <= looks[-1] <= begins + timedelta(seconds=10)
    assert wait(seen("scheduled", scheduled_at=begins), jitter=0.999) == pytest.approx(540, abs=1)
    assert wait(seen("scheduled", scheduled_at=NOW + timedelta(seconds=90))) == 100


def test_an_order_that_was_forced_begins_before_its_planned_time() -> None:
    planned = NOW + timedelta(days=3)
    assert [wait(seen("queued_for_calling", scheduled_at=planned), n) for n in (0, 1, 20)] == [15, 22.5, 600]


def test_a_plan_in_the_past_is_waited_for_in_proportion() -> None:
    assert wait(seen("scheduled", scheduled_at=NOW - timedelta(seconds=20)), unchanged=300) == 15
    assert wait(seen("scheduled", scheduled_at=NOW - timedelta(minutes=10)), unchanged=300) == 150
    assert wait(seen("scheduled", scheduled_at=NOW - timedelta(days=1))) == 600
    assert wait(seen("scheduled", scheduled_at="soon")) == 15


def test_a_first_attempt_may_be_forced_so_the_hours_only_make_the_looks_rarer() -> None:
    night = config(("20:00", "21:00", 60), timezone="UTC")
    queued = seen("queued_for_calling", call_retry_config=night)
    assert [wait(queued, n) for n in (0, 1, 20)] == [15, 22.5, 600]
    opens = NOW.replace(hour=20)
    looks = pauses_from(NOW, queued, opens)
    assert opens <= looks[-1] <= opens + timedelta(seconds=10)
    assert wait(seen("scheduled", call_retry_config=night)) == 600
    due = seen("scheduled", call_retry_config=night, scheduled_at=NOW - timedelta(seconds=60))
    assert wait(due, unchanged=30) == 15


@pytest.mark.parametrize("status", ["initializing", "queued_for_calling", "scheduled"])
def test_in_the_calling_hours_an_attempt_may_begin_at_any_moment(status: str) -> None:
    assert wait(seen(status, call_retry_config=DAYTIME), unchanged=500) == 15
    assert wait(after(NOW - timedelta(hours=2), status, call_retry_config=DAYTIME), unchanged=500) == 15


def test_between_attempts_it_sleeps_towards_the_next() -> None:
    two = config(("10:00", "13:00", 1200), ("14:00", "20:00", 300), timezone="UTC")
    ended = NOW - timedelta(seconds=60)
    assert wait(after(ended, call_retry_config=DAYTIME)) == 600
    assert wait(after(NOW - timedelta(seconds=7000), call_retry_config=DAYTIME)) == 210
    assert wait(after(NOW - timedelta(seconds=7000), call_retry_config=DAYTIME), jitter=0.999) == pytest.approx(
        205, abs=1
    )
    assert wait(after(NOW - timedelta(seconds=900), call_retry_config=two)) == 310, (
        "the delay of the window it was dialled in"
    )
    unsure = after(NOW - timedelta(seconds=100), call_retry_config=two, started_at=None)
    assert wait(unsure) == 210, "the shortest when that is not known"
    assert wait(after(ended, call_retry_config=None, to_phone_number="+442079460000")) == 600, "the service's own hours"
    planned = after(ended, call_retry_config=DAYTIME, scheduled_at=NOW + timedelta(seconds=100))
    assert wait(planned) == 110, "what the service says itself"
    late = NOW.replace(hour=22)
    planned = after(ended, call_retry_config=DAYTIME, scheduled_at=late + timedelta(seconds=100))
    assert next_look(planned, late, PACE, unchanged=0, jitter=0) == 110, "it knows its hours"


def test_over_night_it_sleeps_until_the_hours_open() -> None:
    ended = NOW.replace(hour=17)
    opens = NOW.replace(hour=10) + timedelta(days=1)
    looks = pauses_from(ended, after(ended, call_retry_config=DAYTIME), opens)
    assert len(looks) <= 17 * 6 + 1
    assert opens <= looks[-1] <= opens + timedelta(seconds=10)


def test_a_window_that_closed_while_an_attempt_was_dialled_counts_as_its_own() -> None:
    two = config(("10:00", "12:00", 240), ("12:00", "20:00", 3600), timezone="UTC")
    late = after(NOW + timedelta(seconds=25), call_retry_config=two, started_at=NOW + timedelta(seconds=5))
    assert next_look(late, NOW + timedelta(seconds=30), PACE, unchanged=0, jitter=0) == 245


@pytest.mark.parametrize(
    "what",
    [
        {"result": "human", "last": "completed"},
        {"dial_error": "busy", "calls_count": 3},
        {"dial_error": "number_non_attributed", "status": "calling"},
        {"status": "post_processing", "last": "completed", "result": "voicemail"},
    ],
)
def test_an_order_that_is_about_to_end_is_watched_closely_at_first(what: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"call_retry_config": DAYTIME, **what}
    assert wait(after(NOW - timedelta(seconds=5), **fields), unchanged=30) == 15
    assert wait(after(NOW - timedelta(seconds=60), **fields), unchanged=30) == 15
    assert wait(after(NOW - timedelta(seconds=200), **fields), unchanged=30) == 50


def test_what_was_thought_about_to_end_may_be_dialled_again_all_the_same() -> None:
    used_up = {"call_retry_config": DAYTIME, "calls_count": 3}
    assert wait(after(NOW - timedelta(seconds=7100), **used_up)) == 110
    assert wait(after(NOW - timedelta(seconds=7300), **used_up), unchanged=50) == 15


def test_a_paused_order_is_not_dialled_however_open_its_hours_are() -> None:
    for status in ("paused", "not_launched", "negotiating"):
        assert wait(after(NOW - timedelta(hours=3), status, call_retry_config=DAYTIME), unchanged=20) == 600
    assert wait(seen("post_processing", call_retry_config=DAYTIME), unchanged=20) == 600


def test_an_attempt_that_is_dialled_or_in_an_unknown_state_may_be_live() -> None:
    for status in ("queued", "connecting"):
        assert wait(seen("calling", **attempt(status)), unchanged=50) == 15
    assert wait(seen("queued_for_calling", **attempt("queued")), unchanged=50) == 15
    assert wait(seen("calling"), unchanged=50) == 15
    assert wait(seen("paused", **attempt("queued")), unchanged=50) == 600


TIMES = st.datetimes(
    min_value=datetime(2026, 1, 1),
    max_value=datetime(2026, 12, 31),
    timezones=st.just(timezone.utc),
)
ANY_TIME = st.none() | TIMES | st.datetimes(timezones=st.just(timezone.utc)) | st.just("odd")
ODD = st.sampled_from([None, "", "odd", "25:00", "6pm", "9am", "18:00", "09:00", "00:00", 7, "\x00", "é" * 300])
ZONES = st.sampled_from(
    [None, "", "UTC", "America/Nowhere", "America", "../etc", "Europe/Paris", "\x00", "x" * 5000, 3]
)
NUMBERS = st.sampled_from([None, "", "+", "+1", "+18005550123", "+33142685300", "+999999", "odd", "+61412341234", 5])
DELAYS = st.none() | st.integers(-5, 10**400) | st.floats() | st.just("odd")


@given(
    status=st.sampled_from(["initializing", "queued_for_calling", "scheduled", "calling", "paused", "odd", None]),
    last=st.none() | st.sampled_from(["queued", "ringing", "ongoing", "completed", "error", "odd", None]),
    began=ANY_TIME,
    ended=ANY_TIME,
    planned=ANY_TIME,
    windows=st.none() | st.lists(st.tuples(ODD, ODD, DELAYS), max_size=3),
    zone=ZONES,
    number=NUMBERS,
    count=st.none() | st.integers(-1, 5) | st.just("odd"),
    now=st.just(NOW) | TIMES,
    pace=st.tuples(st.floats(0.01, 600), st.floats(600, 1e300)),
    unchanged=st.integers(0, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_the_bounds_hold_for_every_order(
    status: Any,
    last: Any,
    began: Any,
    ended: Any,
    planned: Any,
    windows: Any,
    zone: Any,
    number: Any,
    count: Any,
    now: datetime,
    pace: tuple[float, float],
    unchanged: int,
    jitter: float,
) -> None:
    fields: dict[str, Any] = {"scheduled_at": planned, "to_phone_number": number, "calls_count": count}
    if windows is not None:
        fields["call_retry_config"] = config(*windows, timezone=zone, max_retry_attempts=count)
    if last is not None:
        fields["last_call_attempt"] = {"status": last, "started_at": began, "ended_at": ended}
    glance = seen(status, **fields)
    poke, longest = pace
    seconds = next_look(glance, now, Pace(poke, longest), unchanged=unchanged, jitter=jitter)
    assert 1 <= seconds <= longest
    if last in ("ringing", "ongoing"):
        assert seconds <= max(1, poke)
    Watch(Pace(poke, longest), None).saw(glance, now, jitter)


HOURS = st.tuples(st.integers(0, 1438), st.integers(1, 600)).map(lambda pair: (pair[0], min(pair[0] + pair[1], 1439)))
PLACES = {
    "+12125550123": ["America/New_York"],
    "+33142685300": ["Europe/Paris"],
    "+61412341234": ["Australia/Perth", "Australia/Sydney", "Australia/Adelaide"],
    "+18005550123": ["America/New_York", "America/Los_Angeles", "Pacific/Honolulu"],
}


@given(
    hours=st.lists(HOURS, min_size=1, max_size=2),
    place=st.sampled_from([(number, zone) for number, zones in PLACES.items() for zone in zones]),
    named=st.booleans(),
    day=st.sampled_from(
        ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-07-01"]
    ),
    second=st.integers(-86_400, 86_400),
    delay=st.sampled_from([0, 300, 7200]),
    poke=st.sampled_from([1.0, 15.0, 120.0]),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_it_never_sleeps_past_the_moment_when_an_attempt_may_begin(
    hours: list[tuple[int, int]],
    place: tuple[str, str],
    named: bool,
    day: str,
    second: int,
    delay: int,
    poke: float,
    jitter: float,
) -> None:
    """Whichever of the zones of the number the service keeps to, and also on the days when clocks change."""
    number, zone = place
    texts = [tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in pair) for pair in hours]
    sent = config(*[(*pair, delay) for pair in texts], max_retry_attempts=3)
    now = datetime.fromisoformat(f"{day}T12:00:00+00:00") + timedelta(seconds=second)
    glance = after(
        now - timedelta(minutes=5),
        to_phone_number=number,
        call_retry_config={**sent, "timezone": zone} if named else sent,
    )
    ours = next_look(glance, now, Pace(poke, 600), unchanged=9, jitter=jitter)
    service = ServiceHours.from_config({**sent, "timezone": zone}, number)
    due = max(now.timestamp(), now.timestamp() - 300 + delay)
    try:
        begins = service.next_open(due)
    except ValueError:
        return
    assert now.timestamp() + ours <= begins + max(poke, 1) + 0.001


@pytest.mark.parametrize(
    ("windows", "zone"),
    [
        ([("10am", "6pm", 600)], "UTC"),
        ([("9:30", " 6 PM ", 600)], "UTC"),
    ],
)
def test_window_times_are_read_in_every_form(windows: Any, zone: str) -> None:
    ended = NOW.replace(hour=17, minute=55)
    glance = after(ended, call_retry_config=config(*windows, timezone=zone))
    assert pauses_from(ended, glance, NOW.replace(hour=22))[3] > NOW.replace(hour=18, minute=10)
    assert next_look(glance, NOW.replace(hour=20), PACE, unchanged=0, jitter=0) == 600


@pytest.mark.parametrize(
    "sent",
    [
        config(("18:00", "10:00", 600), timezone="UTC"),
        config(("10:00", "10:00", 600), timezone="UTC"),
        config(("noon", "18:00", 600), timezone="UTC"),
        config((None, None, 600), ("10:00", "11:00", 6000), timezone="UTC"),
        config(("02:00", "03:00", 600), timezone="Mars/Olympus"),
        config(("02:00", "03:00", 600)),
    ],
)
def test_hours_that_cannot_be_read_leave_the_delay(sent: dict[str, Any]) -> None:
    assert wait(after(NOW - timedelta(seconds=300), call_retry_config=sent)) == 310
    assert wait(after(NOW - timedelta(seconds=1000), call_retry_config=sent), unchanged=50) == 100
    assert wait(after(NOW - timedelta(hours=20), call_retry_config=sent), unchanged=50) == 600


def test_several_zones_make_the_widest_window() -> None:
    mobile = {"to_phone_number": "+61412341234", "call_retry_config": config(("10:00", "18:00", 60))}
    # 23:15 UTC is 10:15 in Sydney, 09:15 UTC is 17:15 in Perth; an island's zone is open for two hours more.
    for hour, pause in ((22, 600), (23, 15), (9, 15), (12, 600)):
        now = NOW.replace(hour=hour, minute=15)
        assert next_look(after(now - timedelta(hours=1), **mobile), now, PACE, unchanged=50, jitter=0) == pause


@pytest.mark.parametrize(
    ("day", "window", "at"),
    [
        ("2026-11-01", ("01:10", "01:30"), "05:15"),  # the clocks go back: this window comes twice
        ("2026-11-01", ("01:10", "01:30"), "06:15"),
        ("2026-03-08", ("02:30", "03:15"), "07:05"),  # they go forward over its beginning
        ("2026-03-08", ("01:30", "02:30"), "06:55"),  # and over its end
    ],
)
def test_a_window_in_the_hour_of_a_clock_change(day: str, window: tuple[str, str], at: str) -> None:
    now = datetime.fromisoformat(f"{day}T{at}:00+00:00")
    glance = after(now - timedelta(hours=1), call_retry_config=config((*window, 60), timezone="America/New_York"))
    assert next_look(glance, now, PACE, unchanged=50, jitter=0) == 15


FIRST, LAST = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)
TWO = [("10:00", "13:00", 7200), ("14:00", "18:00", 60)]


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("fields", [{"started_at": FIRST}, {"started_at": LAST}, {"scheduled_at": LAST}, {}])
@pytest.mark.parametrize("now", [NOW, LAST - timedelta(days=1), FIRST + timedelta(hours=1)])
def test_the_ends_of_the_calendar_are_no_trouble(zone: str, fields: dict[str, Any], now: datetime) -> None:
    for ended in (FIRST + timedelta(minutes=1), LAST):
        glance = after(ended, **{"call_retry_config": config(*TWO, timezone=zone), **fields})
        assert 1 <= next_look(glance, now, PACE, unchanged=0, jitter=0) <= 600
    planned = seen("scheduled", scheduled_at=LAST, call_retry_config=config(*TWO, timezone=zone))
    assert 1 <= next_look(planned, now, PACE, unchanged=0, jitter=0) <= 600


def test_a_number_is_only_looked_up_where_it_is_needed() -> None:
    code = (
        "import sys\n"
        "import airflow_provider_revox.polling as polling\n"
        "from airflow_provider_revox.models import CallGlance\n"
        "from datetime import datetime, timezone\n"
        "config = {'timezone': 'Europe/Paris', 'calling_windows': "
        "[{'calling_window_start_time': '10:00', 'calling_window_end_time': '18:00', 'retry_delay_seconds': 9}]}\n"
        "glance = CallGlance.model_validate({'id': 'c', 'status': 'scheduled', 'to_phone_number': '+12125550123',"
        " 'call_retry_config': config})\n"
        "polling.Watch(polling.Pace(), None).saw(glance, datetime.now(timezone.utc), 0)\n"
        "print('phonenumbers' in sys.modules)\n"
        "polling.preload()\n"
        "print('phonenumbers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_a_watch_is_small() -> None:
    """Thousands live in one process; what a whole wait may take is 12 KB."""
    glance = after(NOW, call_retry_config=DAYTIME, to_phone_number="+33142685300")
    pace = Pace()

    def watches(count: int) -> list[Watch]:
        made = []
        for _ in range(count):
            made.append(Watch(pace, NOW))
            made[-1].saw(CallGlance.model_validate(glance.model_dump()), NOW, 0)
        return made

    watches(1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = watches(200)
        each = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert each < 1500
    assert not hasattr(kept[0], "__dict__")


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
