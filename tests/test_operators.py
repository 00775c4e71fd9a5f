"""What DAG authors give the operator: refused by name before anything is written or sent."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_revox.exceptions import RevoxConnectionError, RevoxRecordError, RevoxRequestError
from airflow_provider_revox.models import AssistantRequest
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.simulator import Simulator
from tests.harness import TaskRun, needs_state_store

ALICE = "+14155550107"


def operator(**parameters: Any) -> RevoxCreateCallOperator:
    defaults = {"phone_number": ALICE, "assistant": {"prompt": "Ask how it went."}, "force_now": True}
    return RevoxCreateCallOperator(task_id="call", **{**defaults, **parameters})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"phone_number": "4155550100"}, "phone_number"),
    ({"phone_number": "None"}, "phone_number"),
    ({"phone_number": " +14155550107"}, "phone_number"),
    ({"phone_number": None}, "phone_number"),
    ({"phone_number": 14155550107}, "phone_number"),
    ({"from_phone_number": "0044"}, "from_phone_number"),
    ({"assistant": None}, "assistant"),
    ({"assistant_id": "as_1"}, "assistant"),
    ({"assistant": None, "assistant_id": ""}, "assistant_id"),
    ({"assistant": "Ask"}, "assistant"),
    ({"assistant": {"prompt": ""}}, "assistant.prompt"),
    ({"assistant": {"prompt": "a", "mood": "good"}}, "assistant.mood"),
    ({"assistant": {"prompt": "a", "voice": {"id": "v", "provider": "elevenlabs", "speed": 1.4}}}, "speed"),
    ({"assistant": {"prompt": "a", "transfer_phone_number": "911"}}, "transfer_phone_number"),
    (
        {"assistant": {"prompt": "a", "structured_output_config": [{"name": "x", "type": "enum", "required": True}]}},
        "enum_options",
    ),
    (
        {
            "assistant": {
                "prompt": "a",
                "call_retry_config": {
                    "calling_windows": [
                        {
                            "calling_window_start_time": "6pm",
                            "calling_window_end_time": "10:00",
                            "retry_delay_seconds": 60,
                        }
                    ],
                    "max_retry_attempts": 3,
                },
            }
        },
        "calling_window",
    ),
    ({"concurrency": {"key": "k", "max": 0}}, "concurrency.max"),
    ({"force_now": "perhaps"}, "force_now"),
    ({"metadata": {"address": {"city": "Leeds"}}}, "metadata.address"),
    ({"metadata": {"address": None}}, "metadata.address"),
    ({"metadata": {"airflow_call_key": "mine"}}, "metadata.airflow_call_key"),
    ({"prompt_variables": {"names": ["a"]}}, "prompt_variables.names"),
    ({"scheduled_at": "2026-03-02T10:00:00"}, "scheduled_at"),
    ({"scheduled_at": datetime(2026, 3, 2)}, "scheduled_at"),
    ({"scheduled_at": "tomorrow"}, "scheduled_at"),
    ({"extra_body": {"phone_number": "+14155550101"}}, "extra_body"),
    ({"on_unknown": "redial"}, "on_unknown must be one of fail, redial_if_absent"),
    ({"redial_after": 7}, "redial_after"),
    ({"wait_for_completion": True, "success_when": "answered"}, "success_when"),
    ({"wait_for_completion": True, "poke_interval": 0}, "poke_interval"),
    ({"wait_for_completion": True, "timeout": -5}, "timeout"),
    ({"wait_for_completion": True, "timeout": float("inf")}, "timeout"),
]


@pytest.mark.parametrize(("parameters", "field"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_is_refused_before_anything_happens(revox: Simulator, parameters: dict[str, Any], field: str) -> None:
    task = TaskRun()
    with pytest.raises(RevoxRequestError, match=field) as told:
        task.run(operator(**parameters))
    assert isinstance(told.value, ValueError)
    assert isinstance(told.value, AirflowFailException)
    assert task.written == []
    assert task.xcoms == {}
    assert revox.stats()["requests"] == {}
    assert ALICE not in str(told.value)


def test_a_connection_that_cannot_be_used_is_found_before_anything_happens(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", "revox://http://:key@revox.example")
    task = TaskRun()
    with pytest.raises(RevoxConnectionError, match="plain http"):
        task.run(operator())
    assert task.written == []


def test_all_fields_reach_revox(revox: Simulator) -> None:
    later = datetime.now(timezone.utc) + timedelta(days=30)
    TaskRun().run(
        operator(
            assistant=AssistantRequest(prompt="Ask.", voicemail_message=None, max_call_duration_secs=60),
            concurrency={"key": "k", "max": 2},
            force_now=False,
            from_phone_number="+14155550199",
            metadata={"lead": 7, "vip": True},
            prompt_variables={"name": "Ada"},
            scheduled_at=later,
            extra_body={"campaign_hint": "spring"},
        )
    )
    (order,) = revox.orders()
    assert order["from_phone_number"] == "+14155550199"
    assert order["metadata"]["vip"] == "true"
    assert order["assistant"]["voicemail_message"] is None
    assert order["assistant"]["max_call_duration_secs"] == 60
    assert datetime.fromisoformat(order["scheduled_at"].replace("Z", "+00:00")) == pytest.approx(
        later, abs=timedelta(seconds=1)
    )


def test_templates_are_rendered_and_then_checked(revox: Simulator) -> None:
    task = operator(
        phone_number="{{ number }}",
        assistant={"prompt": "Ask {{ name }}."},
        metadata={"lead": "{{ lead }}"},
        force_now="{{ now }}",
        redial_after="{{ '' }}",
    )
    task.render_template_fields({"number": ALICE, "name": "Ada", "lead": 7, "now": True})
    TaskRun().run(task)
    (order,) = revox.orders()
    assert order["assistant"]["prompt"] == "Ask Ada."
    assert order["metadata"]["lead"] == "7"


def test_every_field_of_a_request_is_a_template_field() -> None:
    from airflow_provider_revox.models import CallRequest

    assert set(CallRequest.model_fields) <= set(RevoxCreateCallOperator.template_fields)


# --- going on after a deferral --------------------------------------------------------------


@needs_state_store
def test_an_event_about_another_call_is_passed_over(revox: Simulator) -> None:
    task = TaskRun()
    waiting = operator(wait_for_completion=True, poke_interval=1)
    call_id = task.run(operator())
    kwargs = {"event": {"call_id": "another", "status": "completed", "reason": "ended"}, "call_id": "another"}
    with pytest.raises(BaseException) as deferred:  # noqa: PT011
        waiting.resume_execution("execute_complete", kwargs, task.context)
    assert type(deferred.value).__name__ == "TaskDeferred"
    assert deferred.value.trigger.call_id == call_id
    assert revox.stats()["posts_received"] == 1


@pytest.mark.parametrize("event", [None, "completed", {}, {"call_id": None}])
def test_an_event_that_makes_no_sense_is_passed_over(revox: Simulator, event: Any) -> None:
    task = TaskRun()
    call_id = task.run(operator())
    revox.advance(86_400)
    with pytest.raises(BaseException) as deferred:  # noqa: PT011
        operator(wait_for_completion=True).execute_complete(task.context, event=event, call_id=call_id)
    assert type(deferred.value).__name__ == "TaskDeferred"


def test_an_event_that_comes_too_early_goes_on_waiting(revox: Simulator) -> None:
    task = TaskRun()
    waiting = operator(wait_for_completion=True, poke_interval=1, phone_number="+14155550161")
    call_id = task.run(operator(phone_number="+14155550161"))
    event = {"call_id": call_id, "status": "completed", "reason": "ended"}
    deadline = datetime.now(timezone.utc).timestamp() + 50
    with pytest.raises(BaseException) as deferred:  # noqa: PT011
        waiting.execute_complete(task.context, event=event, call_id=call_id, deadline=deadline)
    assert deferred.value.trigger.deadline == deadline


def test_a_task_that_knows_no_call_dials_nobody_on_resume(revox: Simulator) -> None:
    with pytest.raises(RevoxRecordError, match="knows no call"):
        operator(wait_for_completion=True).execute_complete(TaskRun().context, event={"call_id": "x"})
    assert revox.stats()["posts_received"] == 0


def test_without_a_store_the_call_id_comes_with_the_deferral(revox: Simulator) -> None:
    task = TaskRun(store=None)
    answer = task.run(operator(wait_for_completion=True, poke_interval=1, assistant=None, assistant_id="asst_survey"))
    assert answer["satisfaction"]
    assert task.deferrals == 1


# --- without a durable record ---------------------------------------------------------------


def test_a_first_try_without_a_store_dials(revox: Simulator) -> None:
    TaskRun(store=None).run(operator())
    assert revox.stats()["posts_received"] == 1


def test_a_later_try_without_a_store_finds_the_call(revox: Simulator) -> None:
    task = TaskRun(store=None)
    call_id = task.run(operator())
    assert task.next_try().run(operator()) == call_id
    assert task.next_try(cleared=True).run(operator()) == call_id
    assert revox.stats()["posts_received"] == 1


def test_a_later_try_that_finds_nothing_goes_by_on_unknown(revox: Simulator, plain_revox: Simulator) -> None:
    from airflow_provider_revox.exceptions import RevoxOutcomeUnknownError

    with pytest.raises(RevoxOutcomeUnknownError, match="earlier try"):
        TaskRun(store=None, try_number=2).run(operator())
    assert plain_revox.stats()["posts_received"] == 0


def test_a_resumed_task_goes_on_with_the_call_that_it_pushed(revox: Simulator) -> None:
    """`dag.test()` passes over what was stored with the deferral; without a state store, XCom is what is left."""
    task, waiting = TaskRun(store=None), operator(wait_for_completion=True)
    with pytest.raises(TaskDeferred):
        waiting.execute(task.context)
    call_id = task.xcoms["call_id"]
    revox.advance(3600)
    event = {"call_id": call_id, "status": "completed", "reason": "ended"}
    waiting.execute_complete(task.context, event=event)
    assert task.xcoms["call"]["id"] == call_id
    assert revox.stats()["orders_created"] == 1
