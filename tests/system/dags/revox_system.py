"""The DAGs of the system tests."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from tests.system.points import DIRECTORY, KnownPlainCallOperator, StoppingCreateCallOperator

PERSON = {"number": Param("", type="string"), "conn_id": Param("revox_search", type="string")}
CALL: dict[str, Any] = {
    "task_id": "call",
    "assistant_id": "asst_survey",
    "force_now": True,
    "wait_for_completion": True,
    "poke_interval": 1,
    "max_poll_interval": 2,
    "timeout": 600,
    # Enough to outlast an API server that is away for a minute.
    "retries": 12,
    "retry_delay": timedelta(seconds=1),
    "revox_conn_id": "{{ params.conn_id }}",
}
ONE: dict[str, Any] = {**CALL, "phone_number": "{{ params.number }}"}

#: Longer than two triggerers take to start again.
BRIEFLY_SECONDS = int(os.environ.get("REVOX_SYSTEM_BRIEFLY", "60"))

VARIANTS: dict[str, dict[str, Any]] = {
    "call": {},
    "call_redial": {"on_unknown": "redial_if_absent"},
    "call_on_worker": {"deferrable": False},
    "call_briefly": {"timeout": BRIEFLY_SECONDS},
    "call_briefly_on_worker": {"timeout": BRIEFLY_SECONDS, "deferrable": False},
    # As Airflow has it by default: a task that is taken for dead has failed.
    "call_once_on_worker": {"retries": 0, "deferrable": False},
}
for dag_id, variant in VARIANTS.items():
    with DAG(dag_id, schedule=None, params=PERSON, max_active_runs=100):
        StoppingCreateCallOperator(**{**ONE, **variant})

with DAG("plain", schedule=None, params=PERSON, max_active_runs=100):
    # As people write it today, with the retries that everybody sets.
    KnownPlainCallOperator(
        task_id="call",
        phone_number="{{ params.number }}",
        revox_conn_id="{{ params.conn_id }}",
        retries=3,
        retry_delay=timedelta(seconds=1),
    )


def people(params: Any = None, run_id: Any = None) -> list[str]:
    """Return who is to be called; another list once one was left for this run."""
    changed = Path(os.environ[DIRECTORY]) / f"{run_id}.people"
    return changed.read_text().split() if changed.exists() else list(params["numbers"])


MANY = {"numbers": Param([], type="array"), "conn_id": Param("revox_search", type="string")}

with DAG("many", schedule=None, params=MANY):
    # With the default `on_unknown` the few who are hit between the intent and the request would end as unknown.
    StoppingCreateCallOperator.partial(**{**CALL, "retries": 30, "on_unknown": "redial_if_absent"}).expand(
        phone_number=task(people)()
    )

with DAG("many_plain", schedule=None, params=MANY):
    KnownPlainCallOperator.partial(
        task_id="call", revox_conn_id="{{ params.conn_id }}", retries=30, retry_delay=timedelta(seconds=1)
    ).expand(phone_number=task(people)())
