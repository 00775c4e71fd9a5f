"""What an order's state means, and what a task returns."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from airflow_provider_revox.exceptions import (
    RevoxCallCancelledError,
    RevoxCallFailedError,
    RevoxCallUnsuccessfulError,
    RevoxRequestError,
)
from airflow_provider_revox.models import CallOrder
from airflow_provider_revox.verdict import Outcome, judge, output_problems, structured_output, summarise

CONFIG = [
    {"name": "city", "type": "string", "required": True},
    {"name": "age", "type": "number", "required": False},
    {"name": "happy", "type": "boolean", "required": False},
    {"name": "plan", "type": "enum", "required": True, "enum_options": ["basic", "pro"]},
    {"name": "on", "type": "date", "required": False},
    {"name": "at", "type": "datetime", "required": False},
    {"name": "mood", "type": "colour", "required": False},
]
GOOD = {
    "city": "Leeds",
    "age": 41.5,
    "happy": False,
    "plan": "pro",
    "on": "2026-03-02",
    "at": "2026-03-02T10:00:00Z",
    "mood": 3,
}


def order(status: str | None = "completed", output: Any = None, **fields: Any) -> CallOrder:
    attempt = {
        "id": "a1",
        "status": "completed",
        "result": "human",
        "end_reason": "tool_end_call",
        "ended_by": "agent",
        "phone_number": "+14155550100",
        "answered_at": "2026-03-02T10:00:00Z",
        "ended_at": "2026-03-02T10:00:47.5Z",
        "structured_output": output,
        "transcript": [{"role": "user", "content": "I live in Leeds"}],
    }
    defaults = {
        "id": "c1",
        "status": status,
        "calls_count": 1,
        "call_attempts": [attempt],
        "last_call_attempt": attempt,
        "assistant": {"id": "as", "prompt": "secret prompt", "structured_output_config": CONFIG},
        "to_phone_number": "+14155550100",
        "metadata": {"lead": "7"},
    }
    # As it comes over the wire: no text in it is one of ours.
    return CallOrder.model_validate(json.loads(json.dumps({**defaults, **fields})))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("initializing", Outcome.PENDING),
        ("queued_for_calling", Outcome.PENDING),
        ("scheduled", Outcome.PENDING),
        ("calling", Outcome.PENDING),
        ("paused", Outcome.PENDING),
        ("not_launched", Outcome.PENDING),
        ("post_processing", Outcome.PENDING),
        ("negotiating", Outcome.PENDING),
        (None, Outcome.PENDING),
        ("completed", Outcome.SUCCEEDED),
        ("errored", Outcome.FAILED),
        ("cancelled", Outcome.CANCELLED),
    ],
)
@pytest.mark.parametrize("success_when", ["completed", "human", "output"])
def test_each_status_has_its_meaning(status: str, outcome: Outcome, success_when: str) -> None:
    verdict = judge(order(status, GOOD), success_when)
    assert verdict.outcome is outcome
    assert "c1" in verdict.reason


def test_the_errors_of_the_verdicts() -> None:
    assert judge(order()).error() is None
    assert judge(order("calling")).error() is None
    assert isinstance(judge(order("errored")).error(), RevoxCallFailedError)
    assert isinstance(judge(order("cancelled")).error(), RevoxCallCancelledError)
    unsuccessful = judge(order(), "output").error()
    assert isinstance(unsuccessful, RevoxCallUnsuccessfulError)
    assert str(unsuccessful) == "call c1 completed without the output it asks for: there is no structured output"


def test_a_human_is_asked_for() -> None:
    machine = {"id": "a2", "status": "completed", "result": "voicemail"}
    assert judge(order(call_attempts=[machine], last_call_attempt=machine), "human").outcome is Outcome.UNSUCCESSFUL
    human_before = [machine, {"id": "a1", "result": "human"}]
    assert judge(order(call_attempts=human_before, last_call_attempt=machine), "human").outcome is Outcome.SUCCEEDED


def test_another_condition_is_refused() -> None:
    with pytest.raises(
        RevoxRequestError, match=r"^success_when must be one of completed, human, output, got 'answered'"
    ):
        judge(order(), "answered")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"age": None}, None),
        ({"mood": object}, None),
        ({"age": 41}, None),
        ({"age": float("nan")}, "age is not a number"),
        ({"age": float("-inf")}, "age is not a number"),
        ({"on": 20260302}, "on is not a date"),
        ({"on": "20260302"}, "on is not a date"),
        ({"on": "2026-W10-1"}, "on is not a date"),
        ({"at": "2026-03-02 10:00:00+02:00"}, None),
        ({"at": "2026-03-02T10:00:00z"}, None),
        ({"age": 10**400}, None),
        ({"at": "20260302"}, "at is not a datetime"),
        ({"at": "2026-13-02T10:00:00Z"}, "at is not a datetime"),
        ({"at": "2026-W10-1"}, "at is not a datetime"),
        ({"at": "20260302T100000Z"}, "at is not a datetime"),
        ({"city": None}, "city is required and missing"),
        ({"city": 5}, "city is not a string"),
        ({"age": "41"}, "age is not a number"),
        ({"age": True}, "age is not a number"),
        ({"happy": "yes"}, "happy is not a boolean"),
        ({"plan": "gold"}, "plan is none of its options"),
        ({"on": "02.03.2026"}, "on is not a date"),
        ({"on": "2026-02-30"}, "on is not a date"),
        ({"on": "2026-03-02T10:00:00Z"}, "on is not a date"),
        ({"at": "2026-03-02"}, "at is not a datetime"),
        ({"at": "tomorrow"}, "at is not a datetime"),
        ({"at": 7}, "at is not a datetime"),
    ],
)
def test_the_output_is_held_against_the_orders_own_config(changes: dict[str, Any], problem: str | None) -> None:
    output = {name: value for name, value in {**GOOD, **changes}.items() if value is not object}
    assert output_problems(order(output=output)) == ([problem] if problem else [])


def test_without_a_config_there_is_nothing_to_hold_it_against() -> None:
    for assistant in (None, {"id": "as"}, {"id": "as", "structured_output_config": None}):
        assert output_problems(order(output=GOOD, assistant=assistant)) == [
            "the order has no structured_output_config to check against"
        ]


def test_what_people_said_is_in_no_reason() -> None:
    said = judge(order(output={"city": 5, "plan": "a-secret-plan", "age": "a-secret-age"}), "output").reason
    assert "secret" not in said
    assert "plan is none of its options" in said


def test_the_answer_is_that_of_the_latest_attempt_that_has_one() -> None:
    attempts = [
        {"id": "a3", "structured_output": None},
        {"id": "a2", "structured_output": {"city": "York"}},
        {"id": "a1", "structured_output": {"city": "Leeds"}},
    ]
    assert structured_output(order(call_attempts=attempts, last_call_attempt=attempts[0])) == {"city": "York"}
    assert structured_output(order()) is None


def test_the_summary_is_plain_and_small() -> None:
    summary = summarise(order(output=GOOD, created_at="2026-03-02T09:00:00Z"))
    assert summary == {
        "id": "c1",
        "status": "completed",
        "attempts": 1,
        "result": "human",
        "dial_error": None,
        "end_reason": "tool_end_call",
        "ended_by": "agent",
        "created_at": "2026-03-02T09:00:00+00:00",
        "scheduled_at": None,
        "started_at": None,
        "answered_at": "2026-03-02T10:00:00+00:00",
        "ended_at": "2026-03-02T10:00:47.500000+00:00",
        "duration_seconds": 47.5,
        "recording_url": None,
        "metadata": {"lead": "7"},
    }
    text = json.dumps(summary)
    for private in ("14155550100", "secret prompt", "I live in Leeds"):
        assert private not in text


def test_a_bare_order_is_summarised_too() -> None:
    summary = summarise(CallOrder.model_validate({"id": "c1"}))
    assert summary["attempts"] == 0
    assert summary["duration_seconds"] is None
    assert summary["metadata"] == {}


# --- what is told of it -----------------------------------------------------------------------

VOICEMAIL = {"id": "a2", "result": "voicemail"}
BUSY = {"id": "a1", "dial_error": "busy", "result": "unknown", "end_reason": "not_connected"}


@pytest.mark.parametrize(
    ("fields", "success_when", "reason"),
    [
        ({"status": "calling"}, "completed", "call c1 is calling"),
        ({"status": None}, "completed", "call c1 is unknown"),
        ({}, "human", "call c1 completed after 1 attempt (last: human, tool_end_call)"),
        (
            {"status": "errored", "calls_count": 3, "last_call_attempt": BUSY},
            "completed",
            "call c1 could not be carried out (errored) after 3 attempts (last: busy, unknown, not_connected)",
        ),
        (
            {"status": "cancelled", "calls_count": None, "call_attempts": [], "last_call_attempt": None},
            "completed",
            "call c1 was cancelled after 0 attempts",
        ),
        (
            {"call_attempts": [VOICEMAIL], "last_call_attempt": VOICEMAIL},
            "human",
            "call c1 completed without reaching a human after 1 attempt (last: voicemail)",
        ),
        (
            {"calls_count": 0, "call_attempts": [{"id": "a1"}], "last_call_attempt": None},
            "completed",
            "call c1 completed after 0 attempts",
        ),
        (
            {"last_call_attempt": {"id": "a1", "structured_output": {}}},
            "output",
            "call c1 completed without the output it asks for: city is required and missing; plan is required and missing",
        ),
    ],
)
def test_the_reason_is_one_sentence(fields: dict[str, Any], success_when: str, reason: str) -> None:
    assert judge(order(**fields), success_when).reason == reason


@pytest.mark.parametrize("success_when", ["completed", "output"])
def test_a_human_is_asked_for_only_if_that_is_said(success_when: str) -> None:
    machine = {**VOICEMAIL, "structured_output": GOOD}
    verdict = judge(order(call_attempts=[machine], last_call_attempt=machine), success_when)
    assert verdict.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("success_when", ["human", "output"])
def test_a_condition_may_come_from_json(success_when: str) -> None:
    read = json.loads(json.dumps(success_when))
    assert judge(order(call_attempts=[], last_call_attempt=VOICEMAIL), read).outcome is Outcome.UNSUCCESSFUL


def test_a_verdict_stands() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge(order()).outcome = Outcome.FAILED  # type: ignore[misc]


@pytest.mark.parametrize(
    ("entry", "output", "problem"),
    [
        ({"type": "string", "required": True}, {}, None),
        ({"name": None, "type": "string", "required": True}, {}, None),
        ({"name": "city", "type": "string"}, {}, None),
        ({"name": "city", "type": None}, {"city": 5}, None),
        ({"name": "plan", "type": "enum"}, {"plan": "pro"}, "plan is none of its options"),
        ({"name": "plan", "type": "enum", "enum_options": None}, {"plan": "pro"}, "plan is none of its options"),
    ],
)
def test_a_config_that_says_little_asks_for_little(
    entry: dict[str, Any], output: dict[str, Any], problem: str | None
) -> None:
    read = order(output=output, assistant={"id": "as", "structured_output_config": [entry]})
    assert output_problems(read) == ([problem] if problem else [])


@pytest.mark.parametrize("config", [[], {}, "city"])
def test_a_config_without_fields_is_none(config: Any) -> None:
    read = order(output=GOOD, assistant={"id": "as", "structured_output_config": config})
    assert output_problems(read) == ["the order has no structured_output_config to check against"]


# --- what goes to XCom ------------------------------------------------------------------------


def test_the_answer_is_a_copy_and_may_be_empty() -> None:
    read = order(output={"city": "Leeds"}, metadata={"lead": "7"})
    structured_output(read)["city"] = "York"
    summarise(read)["metadata"]["lead"] = "8"
    assert (read.structured_output, read.metadata) == ({"city": "Leeds"}, {"lead": "7"})
    assert structured_output(order(output={})) == {}


def test_a_summary_holds_plain_texts_only() -> None:
    summary = summarise(
        order(
            scheduled_at="2026-03-03T09:00:00Z", last_call_attempt={**BUSY, "ended_by": "system", "recording_url": "x"}
        )
    )
    assert summary["scheduled_at"] == "2026-03-03T09:00:00+00:00"
    assert (summary["dial_error"], summary["recording_url"]) == ("busy", "x")
    assert {type(value) for value in summary.values()} == {str, int, dict, type(None)}


def test_before_the_first_attempt_there_is_nothing_to_tell() -> None:
    summary = summarise(CallOrder.model_validate({"id": "c1", "status": "scheduled"}))
    assert {name: value for name, value in summary.items() if value is not None} == {
        "id": "c1",
        "status": "scheduled",
        "attempts": 0,
        "metadata": {},
    }


@pytest.mark.parametrize(
    ("answered", "ended", "seconds"),
    [
        ("2026-03-02T10:00:00Z", "2026-03-02T10:00:01.234567Z", 1.235),
        ("2026-03-02T10:00:00Z", None, None),
        (None, "2026-03-02T10:00:01Z", None),
    ],
)
def test_talking_is_timed_from_answer_to_end(answered: str | None, ended: str | None, seconds: float | None) -> None:
    attempt = {"id": "a1", "answered_at": answered, "ended_at": ended}
    assert summarise(order(last_call_attempt=attempt))["duration_seconds"] == seconds
