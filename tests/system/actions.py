"""
What becomes of call and task when a person acts on a task: the table of docs/reliability.md, as data.

`tests/test_docs_tables.py` holds the documentation to it, `tests/system/test_person.py` a real Airflow.
"""

from __future__ import annotations

from dataclasses import dataclass

MOMENTS = {
    "queued": "queued",
    "placing": "placing: Revox has the order, its reply is on the way",
    "deferred": "deferred: waiting in the triggerer",
    "resuming": "resuming: the call ended, the task is about to read its end",
    "waiting": "waiting on a worker (`deferrable=False`)",
    "succeeded": "finished, successful",
    "failed": "finished, failed by what became of the call",
}
ACTIONS = {
    "mark_failed": "mark failed",
    "mark_success": "mark success",
    "clear": "clear",
    "clear_twice": "clear twice quickly",
    "delete": "delete the run",
}

# --- what becomes of the call ----------------------------------------
NOT_PLACED = "not placed"
PLACED = "placed, once"
GOES_ON = "goes on"
CANCELLED = "cancelled"
MAYBE_CANCELLED = "goes on, or is cancelled¹"
HAD_ENDED = "had ended"

# --- what becomes of the task ----------------------------------------
FAILED = "failed"
EMPTY = "success, without answer²"
ANSWERED = "success, with the answer"
FAILED_AGAIN = "failed again, for the same reason"
SUCCESS_AS_IT_WAS = "success: Airflow refuses to mark it as what it is"
FAILED_AS_IT_WAS = "failed: Airflow refuses to mark it as what it is"
UNKNOWN = "failed: nobody can tell whether an earlier try dialled³"
GONE = "gone, and its record with it"


@dataclass(frozen=True)
class Outcome:
    """What becomes of the call, and of the task."""

    call: str
    task: str


@dataclass(frozen=True)
class Cell:
    """
    What one action at one moment leads to.

    :param without_store: the same before Airflow 3.3, None for the same.
    """

    outcome: Outcome
    without_store: Outcome | None = None

    def on(self, *, has_store: bool) -> Outcome:
        return self.outcome if has_store or self.without_store is None else self.without_store


def _cell(call: str, task: str, *before: str) -> Cell:
    return Cell(Outcome(call, task), Outcome(*before) if before else None)


CELLS: dict[tuple[str, str], Cell] = {
    ("queued", "mark_failed"): _cell(NOT_PLACED, FAILED),
    ("queued", "mark_success"): _cell(NOT_PLACED, EMPTY),
    ("queued", "clear"): _cell(PLACED, ANSWERED, NOT_PLACED, UNKNOWN),
    ("queued", "clear_twice"): _cell(PLACED, ANSWERED, NOT_PLACED, UNKNOWN),
    ("queued", "delete"): _cell(NOT_PLACED, GONE),
    ("placing", "mark_failed"): _cell(GOES_ON, FAILED),
    ("placing", "mark_success"): _cell(GOES_ON, EMPTY),
    ("placing", "clear"): _cell(GOES_ON, ANSWERED),
    ("placing", "clear_twice"): _cell(GOES_ON, ANSWERED),
    ("placing", "delete"): _cell(GOES_ON, GONE),
    ("deferred", "mark_failed"): _cell(CANCELLED, FAILED, GOES_ON, FAILED),
    ("deferred", "mark_success"): _cell(GOES_ON, EMPTY),
    ("deferred", "clear"): _cell(GOES_ON, ANSWERED),
    ("deferred", "clear_twice"): _cell(GOES_ON, ANSWERED),
    ("deferred", "delete"): _cell(MAYBE_CANCELLED, GONE, GOES_ON, GONE),
    ("resuming", "mark_failed"): _cell(HAD_ENDED, FAILED),
    ("resuming", "mark_success"): _cell(HAD_ENDED, EMPTY),
    ("resuming", "clear"): _cell(HAD_ENDED, ANSWERED),
    ("resuming", "clear_twice"): _cell(HAD_ENDED, ANSWERED),
    ("resuming", "delete"): _cell(HAD_ENDED, GONE),
    ("waiting", "mark_failed"): _cell(CANCELLED, FAILED),
    ("waiting", "mark_success"): _cell(GOES_ON, EMPTY),
    ("waiting", "clear"): _cell(GOES_ON, ANSWERED),
    ("waiting", "clear_twice"): _cell(GOES_ON, ANSWERED),
    ("waiting", "delete"): _cell(MAYBE_CANCELLED, GONE),
    ("succeeded", "mark_failed"): _cell(HAD_ENDED, FAILED),
    ("succeeded", "mark_success"): _cell(HAD_ENDED, SUCCESS_AS_IT_WAS),
    ("succeeded", "clear"): _cell(HAD_ENDED, ANSWERED),
    ("succeeded", "clear_twice"): _cell(HAD_ENDED, ANSWERED),
    ("succeeded", "delete"): _cell(HAD_ENDED, GONE),
    ("failed", "mark_failed"): _cell(HAD_ENDED, FAILED_AS_IT_WAS),
    ("failed", "mark_success"): _cell(HAD_ENDED, EMPTY),
    ("failed", "clear"): _cell(HAD_ENDED, FAILED_AGAIN),
    ("failed", "clear_twice"): _cell(HAD_ENDED, FAILED_AGAIN),
    ("failed", "delete"): _cell(HAD_ENDED, GONE),
}


def render() -> str:
    """Return the table in Markdown."""
    lines = [
        "| moment | action | the call | the task | before Airflow 3.3 |",
        "|---|---|---|---|---|",
    ]
    for (moment, action), cell in CELLS.items():
        before = cell.without_store
        cells = (
            MOMENTS[moment],
            ACTIONS[action],
            cell.outcome.call,
            cell.outcome.task,
            f"{before.call}; {before.task}" if before else "the same",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
