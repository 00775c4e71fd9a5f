"""
Phone somebody at a given time, and once more later if that is what it takes.

What it shows: a scheduled call, a branch on how it ended, and a second call, to the number for calling back, for those who asked
for it or were not reached.

For real calls: make a connection ``revox_default`` with your API key, then trigger the DAG with a contact of your own. The
numbers below are reserved for fiction, so run unchanged it phones nobody.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_revox.models import AssistantRequest
from airflow_provider_revox.operators import RevoxCreateCallOperator

log = logging.getLogger(__name__)

DELIVERY = AssistantRequest(
    prompt="You call {{name}} to confirm tomorrow's delivery. Find out whether it suits; if not now, offer to call back.",
    structured_output_config=[
        {
            "name": "decision",
            "type": "enum",
            "required": True,
            "enum_options": ["confirmed", "call me back", "cancelled"],
        }
    ],
    call_retry_config={
        "calling_windows": [
            {
                "calling_window_start_time": "9am",
                "calling_window_end_time": "8pm",
                "retry_delay_seconds": 1800,
            }
        ],
        "max_retry_attempts": 2,
    },
)

# Counted from the run, not from the moment at which the task happens to start: every try asks for the same time.
AT = "{{ (dag_run.run_after + macros.timedelta(minutes=params.%s)).isoformat() }}"

with DAG(
    "example_revox_follow_up",
    schedule=None,
    params={
        "contact": {"name": "Farah", "phone_number": "+14155550158", "call_back_number": "+14155550140"},
        "call_in_minutes": 30,
        "call_back_in_minutes": 24 * 60,
    },
    tags=["example", "revox"],
    doc_md=__doc__,
    default_args={
        # A retry goes on with the call that was placed: it dials nobody a second time.
        "retries": 5,
        # The defaults suit people; the simulator's calls last moments, so there the demo looks more often.
        "poke_interval": float(os.environ.get("REVOX_EXAMPLE_POKE_INTERVAL", "15")),
        "max_poll_interval": float(os.environ.get("REVOX_EXAMPLE_MAX_POLL_INTERVAL", "600")),
    },
) as dag:
    first_call = RevoxCreateCallOperator(
        task_id="first_call",
        phone_number="{{ params.contact.phone_number }}",
        scheduled_at=AT % "call_in_minutes",
        assistant=DELIVERY,
        prompt_variables={"name": "{{ params.contact.name }}"},
        metadata={"name": "{{ params.contact.name }}"},
        wait_for_completion=True,
        # A machine that answers is no failure: the task then returns None, and the branch decides.
        success_when="output",
        unsuccessful="return",
    )

    # A call that nobody ever picked up ends as errored, and its task as failed: that, too, is for the branch to decide.
    @task.branch(trigger_rule="all_done")
    def choose(ti: Any = None) -> str:
        """Say what comes next."""
        if ti.xcom_pull(task_ids="first_call", key="call") is None:
            raise RuntimeError("The first call was not placed, or its end was not seen; the log of first_call says why")
        decision = (ti.xcom_pull(task_ids="first_call") or {}).get("decision", "not reached")
        log.info("First call: %s", decision)
        return "call_back" if decision in ("call me back", "not reached") else "close"

    call_back = RevoxCreateCallOperator(
        task_id="call_back",
        phone_number="{{ params.contact.call_back_number }}",
        scheduled_at=AT % "call_back_in_minutes",
        assistant=DELIVERY,
        prompt_variables={"name": "{{ params.contact.name }}"},
        metadata={"name": "{{ params.contact.name }}"},
        wait_for_completion=True,
        success_when="output",
        unsuccessful="return",
    )

    @task(trigger_rule="none_failed_min_one_success")  # after either branch
    def close(ti: Any = None) -> str:
        """Return what was decided in the last call in which something was."""
        first, second = (ti.xcom_pull(task_ids=name) or {} for name in ("first_call", "call_back"))
        return str(second.get("decision") or first.get("decision") or "not reached")

    end = close()
    first_call >> choose() >> [call_back, end]
    call_back >> end
