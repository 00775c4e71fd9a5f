"""The polling study, small: what it replays, how it counts, and that what is promised holds."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_revox.models import CallGlance, is_terminal
from benchmarks.order_lives import CLASSES, OrderLife, draw_lives
from benchmarks.polling_study import (
    OURS,
    interval_of_same_delay,
    replay_backed_off,
    replay_fixed,
    replay_ours,
    study,
    tables,
)

LIVES = list(draw_lives(400))
DOC = Path(__file__).parent.parent / "docs" / "polling-study.md"


def test_lives_go_forward_to_one_end() -> None:
    assert list(draw_lives(20)) == LIVES[:20]
    assert {life.kind for life in LIVES} == set(CLASSES)
    for life in LIVES:
        moments = [at for at, _ in life.states]
        assert moments == sorted(moments)
        assert moments[0] == life.placed_at
        assert [is_terminal(fields["status"]) for _, fields in life.states] == [False] * (len(moments) - 1) + [True]
        glance = CallGlance.model_validate(life.states[-1][1])
        assert glance.to_phone_number
        assert glance.call_retry_config


def test_the_shares_are_those_of_the_docs() -> None:
    assert sum(share for share, _ in CLASSES.values()) == 100
    drawn = Counter(life.kind for life in draw_lives(4000, seed=1))
    text = DOC.read_text(encoding="utf-8")
    for kind, (share, _) in CLASSES.items():
        assert drawn[kind] / 40 == pytest.approx(share, abs=2.5)
        assert f"| {kind} | {share:g} % |" in text


def life_of(seconds: float) -> OrderLife:
    fields = {"id": "c", "status": "paused"}
    return OrderLife("x", 1e9, [(1e9, fields), (1e9 + seconds, {**fields, "status": "cancelled"})])


def test_looks_and_delays_are_counted() -> None:
    assert (replay_fixed([life_of(100)], 15).polls, replay_fixed([life_of(100)], 15).delays) == ([7], [5])
    assert (replay_fixed([life_of(90)], 15).polls, replay_fixed([life_of(90)], 15).delays) == ([6], [0])
    backed_off = replay_backed_off([life_of(100)], 2)  # at 15, 45, 105 s
    assert (backed_off.polls, backed_off.delays) == ([3], [5])
    polls, delay = replay_ours(life_of(20), random.Random(0))
    assert polls == 2
    assert 7 < delay <= 10


def test_a_share_of_delays() -> None:
    sample = replay_fixed([life_of(seconds) for seconds in range(1, 101)], 100)
    assert [sample.delay(share) for share in (0.5, 0.95, 1.0)] == [49, 94, 99]


def test_the_fixed_interval_of_the_same_delay_is_found() -> None:
    assert interval_of_same_delay(LIVES, 14.25) == pytest.approx(15, abs=0.5)


def test_what_is_promised_holds() -> None:
    ways, by_class, same = study(LIVES, seed=7)
    ours, fixed = ways[OURS], list(ways.values())[1]
    assert fixed.delay(0.95) == pytest.approx(ours.delay(0.95), abs=0.5)
    assert fixed.mean_polls >= 10 * ours.mean_polls
    assert max(ours.delays) <= 600
    for kind in ("answered at once", "after some attempts", "voicemail", "never reached", "planned ahead"):
        assert by_class[kind].delay(0.95) <= 15
    told = tables(LIVES, ways, by_class, same)
    assert f"| {OURS} | {ours.mean_polls:.1f} |" in told
    assert all(f"| {kind} |" in told for kind in CLASSES)
