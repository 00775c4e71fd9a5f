from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_revox.simulator.assistants import BUILT_IN, shown
from airflow_provider_revox.simulator.clock import VirtualClock, iso
from airflow_provider_revox.simulator.fates import FATES, ORDINARY, fate_of
from airflow_provider_revox.simulator.lives import TERMINAL, Change, Life
from airflow_provider_revox.simulator.outputs import filled, violating
from airflow_provider_revox.simulator.seeded import generator, identifier
from airflow_provider_revox.simulator.windows import (
    DEFAULT_RETRY_CONFIG,
    CallingHours,
    minutes_of,
    zone_name_of,
)

NOON_IN_NEW_YORK = datetime(2026, 3, 4, 17, 0, tzinfo=timezone.utc).timestamp()
SURVEY = shown(BUILT_IN["asst_survey"], "asst_survey")


def life_of(number: str, seed: int = 7, **given: object) -> Life:
    life = Life(
        names=(seed, number, 0),
        fate=fate_of(number),
        hours=CallingHours.from_config(DEFAULT_RETRY_CONFIG, number),
        assistant=SURVEY,
    )
    return replace(life, **given)


def lived(life: Life, created_at: float = NOON_IN_NEW_YORK) -> list[Change]:
    """The whole life of an order that never waits for a slot."""
    changes = life.opening(created_at)
    attempts = 0
    while changes[-1].dials:
        changes += life.attempt(attempts, changes[-1].at)
        attempts += 1
    return changes


def statuses(changes: list[Change]) -> list[str]:
    return [change.status for change in changes if change.status]


def attempts_of(changes: list[Change]) -> list[dict[str, object]]:
    attempts: list[dict[str, object]] = []
    for change in changes:
        if change.opens:
            attempts.append({})
        if change.attempt:
            attempts[-1].update(change.attempt)
    return attempts


@pytest.mark.parametrize(
    ("digits", "order_statuses", "endings"),
    [
        (12, ["queued_for_calling", "calling", "completed"], ["human"]),
        (50, ["queued_for_calling", "calling", "completed"], ["human"]),
        (55, ["queued_for_calling", "calling", "completed"], ["IVR"]),
        (56, ["queued_for_calling", "calling", "errored"], ["number_non_attributed"]),
        (57, ["errored"], []),
        (58, ["queued_for_calling", "calling", "completed"], ["ios-screening-filter"]),
        (59, ["queued_for_calling", "calling", "completed"], ["human"]),
        (60, ["queued_for_calling"], []),
        (61, ["queued_for_calling", "calling"], [None]),
        (62, ["paused"], []),
        (63, ["negotiating"], []),
        (64, ["negotiating", "queued_for_calling", "calling", "completed"], ["human"]),
        (65, ["queued_for_calling", "cancelled"], []),
        (66, ["queued_for_calling", "calling", "completed"], ["human"]),
        (99, ["queued_for_calling", "calling", "completed"], ["human"]),
    ],
)
def test_the_last_two_digits_choose_what_happens(digits, order_statuses, endings):
    changes = lived(life_of(f"+120255501{digits:02d}"))
    assert statuses(changes) == order_statuses
    assert [one.get("dial_error") or one.get("result") for one in attempts_of(changes)] == endings


@pytest.mark.parametrize(
    ("digits", "endings", "last"),
    [
        (51, ["no_answer", "human"], "completed"),
        (52, ["no_answer", "no_answer", "human"], "completed"),
        (53, ["busy", "busy", "busy"], "errored"),
        (54, ["voicemail", "voicemail", "voicemail"], "completed"),
    ],
)
def test_the_service_dials_again_after_the_delay(digits, endings, last):
    changes = lived(life_of(f"+120255501{digits}"))
    attempts = attempts_of(changes)
    assert [one.get("dial_error") or one.get("result") for one in attempts] == endings
    assert statuses(changes)[-1] == last
    began = [change.at for change in changes if change.opens]
    ended = [change.at for change in changes if change.closes]
    assert all(later - earlier >= 7200 for earlier, later in zip(ended, began[1:], strict=False))
    assert "scheduled" in statuses(changes)


def test_the_maximum_counts_all_attempts():
    hours = replace(life_of("+12025550152").hours, max_attempts=2)
    changes = lived(life_of("+12025550152", hours=hours))
    assert [one["dial_error"] for one in attempts_of(changes)] == ["no_answer", "no_answer"]
    assert statuses(changes)[-1] == "errored"


@given(seed=st.integers(), digits=st.integers(0, 99), created_at=st.floats(1.7e9, 2e9))
@settings(max_examples=200, deadline=None)
def test_a_life_is_a_function_and_runs_forward(seed, digits, created_at):
    life = life_of(f"+120255501{digits:02d}", seed)
    changes = lived(life, created_at)
    assert changes == lived(life, created_at)
    moments = [created_at, *(change.at for change in changes)]
    assert moments[1:] == sorted(moments[1:])
    assert moments[1] >= created_at
    ends = [change.status for change in changes if change.status in TERMINAL]
    assert len(ends) == (0 if digits in {60, 61, 62, 63} else 1)
    for attempt in attempts_of(changes):
        times = [attempt[name] for name in ("started_at", "answered_at", "ended_at") if attempt.get(name)]
        assert times == sorted(times)
    assert all(life.hours.window_at(change.at) for change in changes if change.opens)


def test_another_seed_tells_another_story():
    assert lived(life_of("+12025550101", 7)) != lived(life_of("+12025550101", 8))


def test_a_talk_ends_at_its_maximum():
    changes = lived(life_of("+12025550101", assistant={**SURVEY, "max_call_duration_secs": 5}))
    (attempt,) = attempts_of(changes)
    assert (attempt["ended_by"], attempt["end_reason"]) == ("system", "max_duration")
    answered, ended = (datetime.fromisoformat(attempt[name][:-1]) for name in ("answered_at", "ended_at"))
    assert (ended - answered).total_seconds() == 5


def test_a_null_voicemail_message_hangs_up_at_once():
    spoken = attempts_of(lived(life_of("+12025550154")))[0]
    silent = attempts_of(lived(life_of("+12025550154", assistant={**SURVEY, "voicemail_message": None})))[0]
    assert [entry["role"] for entry in spoken["transcript"]] == ["user", "assistant"]
    assert [entry["role"] for entry in silent["transcript"]] == ["user"]
    assert spoken["structured_output"] is None


def test_who_hangs_up_early_has_not_given_the_required_data():
    required = {field["name"] for field in SURVEY["structured_output_config"] if field["required"]}
    outputs = [attempts_of(lived(life_of("+12025550159", seed)))[0]["structured_output"] for seed in range(20)]
    assert None in outputs
    assert all(not required & set(output) for output in outputs if output is not None)


def test_scheduled_at_is_kept_unless_forced():
    later = NOON_IN_NEW_YORK + 3600
    planned = lived(life_of("+12025550101", scheduled_at=later))
    assert statuses(planned)[:2] == ["scheduled", "queued_for_calling"]
    assert attempts_of(planned)[0]["started_at"] >= iso(later)
    forced = lived(life_of("+12025550101", scheduled_at=later, force_now=True))
    assert "scheduled" not in statuses(forced)


def test_outside_the_window_the_first_attempt_waits_and_force_now_does_not():
    midnight = datetime(2026, 3, 4, 5, 0, tzinfo=timezone.utc).timestamp()
    waiting = lived(life_of("+12025550101"), midnight)
    assert statuses(waiting)[0] == "scheduled"
    assert iso(next(change.at for change in waiting if change.opens)).startswith("2026-03-04T15:00:0")
    forced = lived(life_of("+12025550101", force_now=True), midnight)
    assert next(change.at for change in forced if change.opens) - midnight < 10


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("00:00", 0),
        ("9:05", 545),
        ("17:00", 1020),
        ("23:59", 1439),
        ("6pm", 1080),
        ("10am", 600),
        ("9:30am", 570),
        ("12am", 0),
        ("12:15PM", 735),
    ],
)
def test_both_formats_of_window_times(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "24:00", "13pm", "0am", "9.30", "9", "6 pm", "09:60"])
def test_other_window_times_are_refused(text):
    with pytest.raises(ValueError, match="HH:mm"):
        minutes_of(text)


@pytest.mark.parametrize(
    ("number", "zone"),
    [
        ("+33612345678", "Europe/Paris"),
        ("+14155550100", "America/Los_Angeles"),
        ("+12025550100", "America/New_York"),
        ("+81312345678", "Asia/Tokyo"),
        ("+999123456789", "UTC"),
    ],
)
def test_the_number_tells_the_zone(number, zone):
    assert zone_name_of(number) == zone


def hours(zone: str, *windows: tuple[str, str, int]) -> CallingHours:
    config = {
        "calling_windows": [
            {
                "calling_window_start_time": start,
                "calling_window_end_time": end,
                "retry_delay_seconds": delay,
            }
            for start, end, delay in windows
        ],
        "max_retry_attempts": 3,
        "timezone": zone,
    }
    return CallingHours.from_config(config, "+12025550100")


@pytest.mark.parametrize(
    ("zone", "now", "opening"),
    [
        ("Asia/Tokyo", "2026-03-04T00:00", "2026-03-04T01:00"),
        ("Asia/Tokyo", "2026-03-04T05:00", "2026-03-04T05:00"),
        ("Asia/Tokyo", "2026-03-04T09:00", "2026-03-05T01:00"),
        ("America/Los_Angeles", "2026-03-04T17:59", "2026-03-04T18:00"),
        # The clocks change in the night before: the same wall time comes an hour earlier in UTC.
        ("America/New_York", "2026-03-08T02:00", "2026-03-08T14:00"),
    ],
)
def test_the_next_opening(zone, now, opening):
    moment = datetime.fromisoformat(now).replace(tzinfo=timezone.utc).timestamp()
    assert iso(hours(zone, ("10am", "6pm", 60)).next_open(moment)) == f"{opening}:00.000Z"


def test_a_wall_time_that_does_not_exist_is_skipped():
    # At 02:00 on this night the clocks in New York go forward to 03:00.
    night = datetime(2026, 3, 8, 1, 0, tzinfo=ZoneInfo("America/New_York")).timestamp()
    opening = hours("America/New_York", ("2:10am", "2:40am", 60)).next_open(night)
    assert iso(opening) == "2026-03-09T06:10:00.000Z"


def test_the_window_of_the_attempt_tells_the_delay():
    two = hours("UTC", ("14:00", "18:00", 900), ("9:00", "12:00", 300))
    morning = datetime(2026, 3, 4, 10, 0, tzinfo=timezone.utc).timestamp()
    assert two.retry_delay(morning) == 300
    assert two.retry_delay(morning + 5 * 3600) == 900
    assert two.retry_delay(morning + 12 * 3600) == 300


CONFIG = [
    {"name": "email", "required": True, "type": "string"},
    {"name": "company_name", "required": True, "type": "string"},
    {"name": "guests", "required": True, "type": "number"},
    {"name": "agreed", "required": True, "type": "boolean"},
    {"name": "size", "required": True, "type": "enum", "enum_options": ["small", "large"]},
    {"name": "day", "required": True, "type": "date"},
    {"name": "at", "required": True, "type": "datetime"},
    {"name": "note", "required": False, "type": "string"},
]


@given(seed=st.integers())
@settings(max_examples=50, deadline=None)
def test_data_obeys_the_config_or_breaks_it(seed):
    data = filled(CONFIG, generator(seed), NOON_IN_NEW_YORK)
    assert {field["name"] for field in CONFIG if field["required"]} <= set(data)
    assert "@" in data["email"]
    assert isinstance(data["guests"], int | float)
    assert isinstance(data["agreed"], bool)
    assert data["size"] in {"small", "large"}
    assert date.fromisoformat(data["day"])
    assert datetime.fromisoformat(data["at"]).utcoffset() is not None
    broken = violating(CONFIG, generator(seed), NOON_IN_NEW_YORK)
    assert isinstance(broken["email"], int)
    assert broken["size"] not in {"small", "large"}


def test_optional_data_comes_sometimes():
    given_notes = {"note" in filled(CONFIG, generator(seed), NOON_IN_NEW_YORK) for seed in range(30)}
    assert given_notes == {True, False}


def test_every_fate_is_in_the_table():
    assert set(FATES) == set(range(51, 67))
    assert fate_of("+12025550167") is ORDINARY


def test_identifiers_keep_their_parts_apart():
    assert identifier("ab", "c") != identifier("a", "bc")
    assert identifier(1, "a") == identifier(1, "a")


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_the_clock_needs_a_speed(speed):
    with pytest.raises(ValueError, match="speed"):
        VirtualClock(None, speed)


def test_the_clock_starts_where_it_is_told_and_never_runs_back():
    start = datetime(2026, 3, 4, 12, 0, tzinfo=timezone.utc)
    clock = VirtualClock(start, 1e-6)
    clock.advance(90)
    assert iso(clock.now()) == "2026-03-04T12:01:30.000Z"
    with pytest.raises(ValueError, match="not back"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="zone"):
        VirtualClock(start.replace(tzinfo=None))
