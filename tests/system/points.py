"""
Named points of a call's life, at which the task of a system test stops until it is told to go on, or is killed.

Nothing of the provider is replaced: the operator below hands it Airflow's own task state store, behind a wrapper that can stop
before and after a write. A test arms a point for a number with a file; the task that reaches it writes who it is beside
it, once, and waits. Whoever comes later (the next try) passes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from airflow_provider_revox.operators import RevoxCreateCallOperator
from tests.system.plain import PlainCallOperator

DIRECTORY = "REVOX_SYSTEM_POINTS"

#: In the order in which a task comes by them. All but the last two need a task state store (Airflow 3.3).
POINTS = ("before_intent", "after_intent", "before_record", "after_record", "deferring", "resuming")


def _place() -> Path:
    return Path(os.environ[DIRECTORY])


def _tell(path: Path, text: str) -> bool:
    """Write a file that nobody sees half written; False when it is there already."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def who() -> str:
    """Return the ids of this process and of the one that supervises it."""
    return f"{os.getpid()} {os.getppid()}"


def reach(point: str, number: str) -> None:
    """Stop here if a test asked for it, the first time."""
    place = _place()
    armed = place / f"{number}.armed"
    if not armed.exists() or armed.read_text() != point:
        return
    if _tell(place / f"{number}.reached", who()):
        while not (place / f"{number}.go").exists():
            time.sleep(0.02)  # between two looks for the file that a test makes


def say_who_runs(context: Any, number: str) -> None:
    """Tell who runs this try, for tests that hold a request and then kill the one who sent it."""
    _tell(_place() / f"{number}.try{context['ti'].try_number}", who())


class StoppingStore:
    """Airflow's task state store, with a stop before and after what is written of a call."""

    def __init__(self, store: Any, number: str) -> None:
        self._store = store
        self._number = number

    def get(self, key: str, default: Any = None) -> Any:
        return self._store.get(key, default)

    def set(self, key: str, value: Any, **how: Any) -> None:
        step = {"intent": "intent", "placed": "record"}.get(key == "revox_call" and value["state"])
        if step:
            reach(f"before_{step}", self._number)
        self._store.set(key, value, **how)
        if step:
            reach(f"after_{step}", self._number)


class StoppingCreateCallOperator(RevoxCreateCallOperator):
    """The operator, with the points."""

    def execute(self, context: Any) -> Any:
        number = self.phone_number
        say_who_runs(context, number)
        if "task_state_store" in context:
            context["task_state_store"] = StoppingStore(context["task_state_store"], number)
        return super().execute(context)

    def defer(self, **kwargs: Any) -> None:
        reach("deferring", self.phone_number)
        super().defer(**kwargs)

    def execute_complete(self, context: Any, *arguments: Any, **kwargs: Any) -> Any:
        reach("resuming", self.phone_number)
        return super().execute_complete(context, *arguments, **kwargs)


class KnownPlainCallOperator(PlainCallOperator):
    """The operator without this provider, of which a test can tell who runs it."""

    def execute(self, context: Any) -> Any:
        say_who_runs(context, self.phone_number)
        return super().execute(context)
