"""
Fill the gaps of a table by asking on the phone: rows → calls → checked answers → rows.

What it shows: one mapped task that dials and waits, a pydantic model that every answer must fit before it is written, and a
table in which a second run asks only for what is still missing.

For real calls: make a connection ``revox_default`` with your API key, and put your own table and SQL in place of SQLite. The
numbers below are reserved for fiction, so run unchanged it phones nobody.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task
from pydantic import BaseModel, Field

from airflow_provider_revox.models import AssistantRequest
from airflow_provider_revox.operators import RevoxCreateCallOperator

log = logging.getLogger(__name__)

TABLE = os.path.join(os.environ.get("AIRFLOW_HOME", "~/airflow"), "revox_example.sqlite")  # noqa: PTH118
ROWS = [
    ("Alder & Sons", "+14155550120", None, None),
    ("Brightwater", "+14155550121", None, None),
    ("Cobalt Foods", "+14155550155", None, None),
    ("Delta Print", "+14155550123", "info@deltaprint.example", 12),  # complete: not phoned
]


class CompanyDetails(BaseModel):
    """What an answer must look like to be written to the table."""

    contact_email: str = Field(pattern=r"^\S+@\S+\.\S+$")
    employees: int = Field(ge=1, le=1_000_000)


RECEPTION = AssistantRequest(
    prompt="You call the reception of {{company}}. Ask for the e-mail address for orders and how many people work there.",
    structured_output_config=[
        {"name": "contact_email", "type": "string", "required": True},
        {"name": "employees", "type": "number", "required": True},
    ],
    call_retry_config={
        "calling_windows": [
            # Opening hours, in the time zone of the number: not at lunch.
            {"calling_window_start_time": "09:00", "calling_window_end_time": "12:00", "retry_delay_seconds": 3600},
            {"calling_window_start_time": "13:30", "calling_window_end_time": "18:00", "retry_delay_seconds": 3600},
        ],
        "max_retry_attempts": 3,
    },
)

with DAG(
    "example_revox_enrichment",
    schedule=None,
    params={"table": TABLE},
    tags=["example", "revox"],
    doc_md=__doc__,
    default_args={
        # A retry goes on with the call that was placed: it dials nobody a second time.
        "retries": 5,
        # The defaults suit people; the simulator's calls last moments, so there the demo looks more often.
        "poke_interval": float(os.environ.get("REVOX_EXAMPLE_POKE_INTERVAL", "15")),
        "max_poll_interval": float(os.environ.get("REVOX_EXAMPLE_MAX_POLL_INTERVAL", "600")),
    },
    # Two runs at once would both find the same gaps, and phone the same people.
    max_active_runs=1,
) as dag:

    @task
    def make_table(params: Any = None) -> str:
        """Make a table to play with where there is none, and return its path."""
        path = Path(params["table"]).expanduser()
        if not path.exists():
            with closing(sqlite3.connect(path)) as table, table:
                table.execute("CREATE TABLE companies (name PRIMARY KEY, phone_number, contact_email, employees)")
                table.executemany("INSERT INTO companies VALUES (?, ?, ?, ?)", ROWS)
        return str(path)

    @task
    def find_gaps(path: Any) -> list[dict[str, Any]]:
        """Return one mapping of operator arguments for each row that lacks something."""
        with closing(sqlite3.connect(path)) as table:
            gaps = table.execute(
                "SELECT name, phone_number FROM companies WHERE contact_email IS NULL OR employees IS NULL ORDER BY name"
            ).fetchall()
        return [
            {"phone_number": number, "prompt_variables": {"company": name}, "metadata": {"company": name}}
            for name, number in gaps
        ]

    @task(trigger_rule="all_done")  # what some companies told is kept, whatever became of the other calls
    def write_back(path: Any, rows: Any, ti: Any = None) -> list[str]:
        """Write the answers into the table and return the companies that were filled."""
        # Pulled by map index: a call without an answer has pushed nothing (Airflow logs that as "XCom not found"), and in a
        # list of all results those after it would move up.
        answers = ti.xcom_pull(task_ids="ask", map_indexes=range(len(rows)))
        filled = []
        with closing(sqlite3.connect(path)) as table, table:
            for row, answer in zip(rows, answers, strict=True):
                company = row["metadata"]["company"]
                if answer is None:
                    log.info("%s told nothing; the next run asks again", company)
                    continue
                table.execute(
                    "UPDATE companies SET contact_email = :contact_email, employees = :employees WHERE name = :name",
                    {**answer, "name": company},
                )
                filled.append(company)
        return filled

    path = make_table()
    rows = find_gaps(path)
    ask = RevoxCreateCallOperator.partial(
        task_id="ask",
        assistant=RECEPTION,
        wait_for_completion=True,  # one task for dialling and waiting; it waits in the triggerer
        timeout=3 * 24 * 3600,
        # An answer that does not fit the model fails its task: nothing unchecked gets into the table.
        output_model=CompanyDetails,
        # A phone menu or a machine answered: the task is skipped, the row keeps its gaps.
        success_when="output",
        unsuccessful="skip",
        map_index_template="{{ task.metadata['company'] }}",
    ).expand_kwargs(rows)
    ask >> write_back(path, rows)
