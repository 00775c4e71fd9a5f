"""Waiting for a call with the sensor and the operator: the same end in every mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException
from pydantic import BaseModel

from airflow_provider_revox.exceptions import (
    RevoxCallNotVisibleError,
    RevoxInvalidOutputError,
    RevoxRequestError,
)
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from tests.harness import TaskRun

CONFIG = [{"name": "city", "type": "string", "required": True}]
ROUND_THE_CLOCK = {"calling_window_start_time": "00:00", "calling_window_end_time": "23:59", "retry_delay_seconds": 300}
ASSISTANT = {
    "prompt": "Ask where they live.",
    "structured_output_config": CONFIG,
    "call_retry_config": {"calling_windows": [ROUND_THE_CLOCK], "max_retry_attempts": 3},
}
MODES = {
    "deferrable": {"deferrable": True},
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
}


class Answer(BaseModel):
    city: str


class Strict(BaseModel):
    city: int
    zip_code: str


def place(number: str, **fields: Any) -> str:
    request = {"phone_number": number, "assistant": ASSISTANT, "force_now": True, **fields}
    with RevoxHook() as hook:
        return hook.create_call(request).id


@pytest.fixture(params=["deferrable", "poke", "reschedule", "operator", "operator, on the worker"])
def wait(request: pytest.FixtureRequest, revox: Simulator) -> Any:
    """Have a number called and wait for the end, in each way there is; returns the task instance and its result."""

    def waited(number: str, *, advance: float = 0, task: TaskRun | None = None, **settings: Any) -> tuple[TaskRun, Any]:
        task = task or TaskRun()
        settings = {"poke_interval": 1, "max_poll_interval": 1, **settings}
        if request.param.startswith("operator"):
            operator: Any = RevoxCreateCallOperator(
                task_id="call",
                phone_number=number,
                assistant=ASSISTANT,
                force_now=True,
                wait_for_completion=True,
                deferrable=request.param == "operator",
                **settings,
            )
        else:
            call_id = place(number)
            operator = RevoxCallSensor(task_id="wait", call_id=call_id, **MODES[request.param], **settings)
        if advance:
            revox.advance(advance)
        return task, task.run(operator)

    return waited


def test_the_answer_arrives(wait: Any) -> None:
    task, answer = wait("+14155550100")
    assert list(answer) == ["city"]
    assert task.xcoms["return_value"] == answer
    assert task.xcoms["call"]["status"] == "completed"
    assert task.xcoms["call"]["result"] == "human"
    assert "transcript" not in task.xcoms


def test_people_who_answer_late_are_waited_for(wait: Any, revox: Simulator) -> None:
    task, answer = wait("+14155550152", max_poll_interval=2)
    assert answer["city"]
    assert task.xcoms["call"]["attempts"] == 3
    assert revox.stats()["orders_per_number"] == {"+14155550152": 1}


def test_an_output_model_is_validated_and_dumped(wait: Any) -> None:
    _, answer = wait("+14155550100", output_model=Answer, success_when="output")
    assert answer == {"city": answer["city"]}
    with pytest.raises(RevoxInvalidOutputError, match=r"city: int_parsing; zip_code: missing") as told:
        wait("+14155550100", output_model=Strict)
    assert answer["city"] not in str(told.value)
    with pytest.raises(RevoxInvalidOutputError, match="output: model_type"):
        wait("+14155550158", output_model=Answer)


def test_the_deadline_ends_the_wait_and_leaves_the_call_alone(wait: Any, revox: Simulator) -> None:
    with pytest.raises(AirflowSensorTimeout, match="had not ended 2 s after") as told:
        wait("+14155550161", timeout=2)
    assert "The call itself goes on" in str(told.value)
    assert revox.stats()["cancels"] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"success_when": "answered"}, "success_when must be one of"),
        ({"unsuccessful": "ignore"}, "unsuccessful must be one of"),
        ({"output_model": dict}, "output_model must be a pydantic model class"),
        ({"max_poll_interval": 0.5}, "poke_interval"),
        ({"max_poll_interval": -1}, "max_poll_interval"),
        ({"transcript_path": ""}, "transcript_path"),
        ({"timeout": 1e12}, "timeout"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(wait: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RevoxRequestError, match=words):
        wait("+14155550100", **settings)


def test_transcripts_on_request(wait: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "calls" / "one.json"
    task, _ = wait("+14155550100", push_transcript=True, transcript_path=f"file://{path}")
    written = json.loads(path.read_text())
    assert written["call_id"] == task.xcoms["call"]["id"]
    entries = written["attempts"][0]["transcript"]
    assert [entry["role"] for entry in entries][:1] in (["assistant"], ["user"])
    assert [entry["content"] for entry in task.xcoms["transcript"]] == [entry["content"] for entry in entries]
    assert not any(entry["content"] in caplog.text for entry in entries if len(entry["content"]) > 12)


def test_a_long_transcript_is_cut(wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_revox.waiting.TRANSCRIPT_XCOM_BYTES", 200)
    task, _ = wait("+14155550100", push_transcript=True)
    assert task.xcoms["transcript"][-1]["role"] == "cut"
    assert len(json.dumps(task.xcoms["transcript"])) < 400


def test_trouble_with_the_api_is_outlived(wait: Any, revox: Simulator) -> None:
    for kind in ("unavailable", "drop_reply", "truncated_json", "wrong_content_type", "reset"):
        revox.add_fault("get_call", kind, after=1)
    _, answer = wait("+14155550100")
    assert answer["city"]


# --- the sensor alone -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_changed_key_is_picked_up(revox: Simulator, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call_id = place("+14155550100")
    revox.add_fault("get_call", "unauthorized")
    sensor = RevoxCallSensor(task_id="wait", call_id=call_id, poke_interval=1, **MODES[mode])
    assert TaskRun().run(sensor)["city"]


@pytest.mark.parametrize("mode", MODES)
def test_a_key_that_never_worked_fails_at_once(revox: Simulator, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call_id = place("+14155550100")
    mistyped = {"conn_type": "revox", "host": revox.base_url, "password": "mistyped"}
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps(mistyped))
    task = TaskRun()
    with pytest.raises(RevoxCallNotVisibleError, match="check the API key in the connection's password"):
        task.run(RevoxCallSensor(task_id="wait", call_id=call_id, **MODES[mode]))
    assert (task.deferrals, task.reschedules) == (0, 0)
    monkeypatch.delenv("AIRFLOW_CONN_REVOX_DEFAULT")
    with pytest.raises(RevoxCallNotVisibleError, match="is not defined"):
        task.run(RevoxCallSensor(task_id="wait", call_id=call_id, **MODES[mode]))
    assert (task.deferrals, task.reschedules) == (0, 0)


def test_a_rotated_key_is_outlived(
    wait: Any, revox: Simulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.01)
    caplog.set_level("INFO")
    # The first look works; whether it is taken in the triggerer or on the worker, the next ones are refused.
    refused = revox.add_fault("get_call", "unauthorized", after=1, count=6)
    task, answer = wait("+14155550152", poke_interval=0.05, max_poll_interval=0.05)
    assert answer["city"]
    assert revox.stats()["faults_fired"] == {"unauthorized": 6}, refused
    told = [line for line in caplog.messages if "the connection's key is refused" in line]
    # What is rescheduled knows nothing of the look before.
    assert len(told) == 1 or task.reschedules


def test_an_end_whose_reading_is_refused_is_read_later(
    wait: Any, revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is rotated between the look that sees the end and the reading of it."""
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.01)
    revox.add_fault("get_call", "unauthorized", after=1, count=4)
    _, answer = wait("+14155550100", advance=3600, poke_interval=0.05, max_poll_interval=0.05)
    assert answer["city"]


def test_at_the_deadline_the_refusal_is_named(wait: Any, revox: Simulator) -> None:
    revox.add_fault("get_call", "unauthorized", after=1, probability=1)
    with pytest.raises(AirflowSensorTimeout, match=r"could not be seen 2 s after .*check the API key") as told:
        wait("+14155550160", timeout=2, poke_interval=0.05, max_poll_interval=0.05)
    assert "may have ended" in str(told.value)
    assert revox.stats()["cancels"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_single_404_is_not_the_end_of_a_wait(revox: Simulator, mode: str) -> None:
    call_id = place("+14155550100")
    revox.add_fault("get_call", "not_found", after=1)
    sensor = RevoxCallSensor(task_id="wait", call_id=call_id, poke_interval=1, **MODES[mode])
    assert TaskRun().run(sensor)["city"]


@pytest.mark.parametrize("call_id", ["", " ", "None", None, 7])
def test_a_template_that_renders_to_nonsense(revox: Simulator, call_id: Any) -> None:
    with pytest.raises(RevoxRequestError, match="call_id"):
        TaskRun().run(RevoxCallSensor(task_id="wait", call_id=call_id))
    assert revox.stats()["requests"] == {}


def test_a_call_that_has_ended_needs_no_triggerer(revox: Simulator) -> None:
    call_id = place("+14155550100")
    revox.advance(3600)
    task = TaskRun()
    assert task.run(RevoxCallSensor(task_id="wait", call_id=call_id))["city"]
    assert task.deferrals == 0


def test_one_poke(revox: Simulator) -> None:
    sensor = RevoxCallSensor(task_id="wait", call_id=place("+14155550100"))
    revox.advance(3600)
    poked = sensor.poke({})  # type: ignore[arg-type]
    assert poked.is_done
    assert poked.xcom_value["city"]
    assert not RevoxCallSensor(task_id="w", call_id=place("+14155550160")).poke({}).is_done  # type: ignore[arg-type]


def test_the_trigger_row_holds_no_secret_and_the_event_three_words(revox: Simulator) -> None:
    task = TaskRun()
    call_id = place("+14155550100")
    task.run(RevoxCallSensor(task_id="wait", call_id=call_id, poke_interval=1))
    ((path, kwargs),) = task.triggers
    assert path == "airflow_provider_revox.triggers.RevoxCallTrigger"
    assert sorted(kwargs) == [
        "call_id",
        "cancel_on_kill",
        "deadline",
        "max_poll_interval",
        "poke_interval",
        "revox_conn_id",
    ]
    assert revox.api_key not in json.dumps(kwargs)
    assert task.events == [{"call_id": call_id, "status": "completed", "reason": "ended"}]


@pytest.mark.parametrize("mode", MODES)
def test_an_end_that_cannot_be_read_at_once_is_waited_for(revox: Simulator, mode: str) -> None:
    call_id = place("+14155550100")
    revox.advance(3600)
    # The first look shows the end; then the API is away for all tries of the one that reads it.
    revox.add_fault("get_call", "status", status=503, after=1, count=5)
    task = TaskRun()
    assert task.run(RevoxCallSensor(task_id="wait", call_id=call_id, poke_interval=1, **MODES[mode]))["city"]


def test_never_fail_skips_on_every_failure(revox: Simulator) -> None:
    call_id = place("+14155550100")
    settings = {"transcript_path": "nowhere://bucket/x", "poke_interval": 1}
    with pytest.raises(AirflowSkipException):
        TaskRun().run(RevoxCallSensor(task_id="wait", call_id=call_id, never_fail=True, **settings))
    with pytest.raises(ValueError, match="nowhere"):
        TaskRun().run(RevoxCallSensor(task_id="wait", call_id=call_id, soft_fail=True, **settings))
