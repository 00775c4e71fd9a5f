"""
Phone a list of people and collect what they say: dial → wait → use the answers.

What it shows: one mapped task that dials, one that waits without holding a worker, and one that uses the answers, those of
the people who did not pick up included.

For real calls: make a connection ``revox_default`` with your API key, then trigger the DAG with contacts of your own. The
numbers below are reserved for fiction, so run unchanged it phones nobody.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_revox.models import AssistantRequest
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.sensors import RevoxCallSensor

log = logging.getLogger(__name__)

CONTACTS = [
    {"name": "Ada", "phone_number": "+14155550108"},
    {"name": "Bruno", "phone_number": "+14155550117"},
    {"name": "Chiara", "phone_number": "+14155550151"},
    {"name": "Deniz", "phone_number": "+14155550154"},
    {"name": "Elif", "phone_number": "+14155550101"},
]

# An AssistantRequest is checked when this file is parsed, and Airflow leaves its {{name}} to Revox: the prompt variables of
# each call go there. In a plain dict, Jinja would take it for a template of its own.
SURVEY = AssistantRequest(
    prompt="You call {{name}} for the Corner Bakery. Ask how the last order was, listen, and thank them. Be brief.",
    first_sentence="Hello {{name}}, this is the Corner Bakery. Do you have a minute?",
    first_sentence_mode="static",
    voicemail_message=None,  # hang up on a machine without leaving a message
    structured_output_config=[
        {"name": "satisfaction", "type": "number", "required": True, "description": "From 0 to 10."},
        {"name": "would_order_again", "type": "boolean", "required": True},
        {"name": "comment", "type": "string", "required": False, "description": "In their words, one sentence."},
    ],
    # Nobody is phoned outside these hours, which are those of the person's own time zone.
    call_retry_config={
        "calling_windows": [
            {
                "calling_window_start_time": "09:00",
                "calling_window_end_time": "20:00",
                "retry_delay_seconds": 900,
            }
        ],
        "max_retry_attempts": 2,
    },
)

with DAG(
    "example_revox_outreach",
    schedule=None,
    params={"contacts": CONTACTS},
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

    @task
    def choose_contacts(params: Any = None) -> list[dict[str, Any]]:
        """Return one mapping of operator arguments for each call."""
        return [
            {
                "phone_number": contact["phone_number"],
                "prompt_variables": {"name": contact["name"]},
                # Metadata stays with the call, and comes back in the summary of how it ended.
                "metadata": {"name": contact["name"]},
            }
            for contact in params["contacts"]
        ]

    dial = RevoxCreateCallOperator.partial(
        task_id="dial",
        assistant=SURVEY,
        # Of this whole DAG, at most ten people are on the phone at once.
        concurrency={"key": "example_revox_outreach", "max": 10},
        map_index_template="{{ task.metadata['name'] }}",
    ).expand_kwargs(choose_contacts())

    wait_for_end = RevoxCallSensor.partial(
        task_id="wait_for_end",
        # Waits in the triggerer: a thousand calls under way hold no worker.
        deferrable=True,
        timeout=3 * 24 * 3600,
        # Somebody who did not answer is no failure of this DAG: the task then returns None.
        success_when="output",
        unsuccessful="return",
        # One number that Revox refuses must not keep the others from being waited for.
        trigger_rule="all_done",
    ).expand(call_id=dial.output)

    @task(trigger_rule="all_done")
    def report(call_ids: Any, ti: Any = None) -> list[dict[str, Any]]:
        """Tell who said what."""
        # Pulled by map index: a task that returned None has pushed nothing (Airflow logs that as "XCom not found"), and in
        # a list of all results those after it would move up.
        indexes = range(len(call_ids or []))
        answers = ti.xcom_pull(task_ids="wait_for_end", map_indexes=indexes)
        calls = ti.xcom_pull(task_ids="wait_for_end", map_indexes=indexes, key="call")
        lines = []
        for call, answer in zip(calls, answers, strict=True):
            if call is None:
                continue  # its end was not seen; the log of wait_for_end says why
            name = call["metadata"]["name"]
            said = answer or f"nothing: {call['result'] or call['dial_error']}"
            log.info("%s said %s (attempts: %s)", name, said, call["attempts"])
            lines.append({"name": name, "result": call["result"], "attempts": call["attempts"], "answer": answer})
        return lines

    report(dial.output) << wait_for_end
