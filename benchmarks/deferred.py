"""Task instances that wait in the triggerer, put into Airflow's database as a worker would have left them."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from benchmarks.subjects import call_id

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

DAG_ID, TASK_ID, RUN_ID = "benchmark", "wait", "benchmark"
#: What a wait that has ended goes on with; Airflow puts a name of its own there when a trigger failed.
NEXT_METHOD = "execute_complete"

SUBJECTS = ("idle", "ours", "ours-bulk")


def trigger_of(subject: str, number: int) -> BaseTrigger:
    """Return one trigger of a subject, at its default intervals."""
    if subject == "idle":
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        return TimeDeltaTrigger(timedelta(days=30))
    from airflow_provider_revox.triggers import RevoxCallTrigger

    return RevoxCallTrigger(call_id(number), "revox_default")


def insert(subject: str, waits: int) -> None:
    """Add one DAG run whose only task is mapped over so many deferred task instances."""
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import insert as insert_rows

    now = datetime.now(timezone.utc)
    with DAG(DAG_ID, schedule=None) as dag:
        EmptyOperator(task_id=TASK_ID)
    with create_session() as session:
        session.add(DagBundleModel(name=DAG_ID))
        session.flush()
        session.add(
            DagModel(  # type: ignore[no-untyped-call]
                dag_id=DAG_ID,
                bundle_name=DAG_ID,
                max_active_tasks=waits,
                max_consecutive_failed_dag_runs=0,
                has_task_concurrency_limits=False,
            )
        )
        session.flush()
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=DAG_ID, session=session)
        session.flush()
        version = DagVersion.get_latest_version(DAG_ID, session=session)
        assert version is not None
        session.add(
            DagRun(
                dag_id=DAG_ID,
                run_id=RUN_ID,
                run_after=now,
                start_date=now,
                state=DagRunState.RUNNING,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
            )
        )
        triggers = [Trigger.from_object(trigger_of(subject, number)) for number in range(waits)]
        session.add_all(triggers)
        session.flush()
        common: dict[str, Any] = {
            "dag_id": DAG_ID,
            "task_id": TASK_ID,
            "run_id": RUN_ID,
            "state": TaskInstanceState.DEFERRED,
            "try_number": 1,
            "max_tries": 0,
            "pool": "default_pool",
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
            "operator": "EmptyOperator",
            "start_date": now,
            "next_method": NEXT_METHOD,
            "next_kwargs": {},
            "executor_config": {},
            "dag_version_id": version.id,
        }
        session.execute(
            insert_rows(TaskInstance),
            [{**common, "map_index": number, "trigger_id": trigger.id} for number, trigger in enumerate(triggers)],
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("waits", type=int)
    options = parser.parse_args()
    insert(options.subject, options.waits)
    sys.stdout.write("inserted\n")
