"""What the demo shows: lines as things happen, a live overview on a terminal, and tables at the end."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from airflow_provider_revox.models import is_terminal, mask_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType

_COLOURS = {"success": "green", "failed": "red", "running": "cyan", "healthy": "green"}
_LOG_LINES = 25


@dataclass(frozen=True)
class Row:
    """One call in the table at the end."""

    dag: str
    person: str
    number: str
    outcome: str
    attempts: int
    answer: Mapping[str, Any] | None


class Screen:
    """Write to the terminal, or plain lines when there is none."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, width=120)
        self._began = time.monotonic()
        self._live: Live | None = None
        self._told: dict[str, set[str]] = {}
        self._states: dict[str, str] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Write a line with the time; the text may hold rich's markup."""
        self._console.print(f"[dim]{self.seconds:5.1f} s[/dim]  {text}", soft_wrap=True)

    def waiting(self, what: str) -> None:
        """Say what the demo waits for: on a terminal below everything else, as long as that takes."""
        if self._console.is_terminal:
            self._overview(self._console.render_str(f"[dim]… {what}[/dim]"))
        else:
            self.say(what)

    def _overview(self, content: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self._console, transient=True, refresh_per_second=8)
            self._live.start()
        self._live.update(content)

    def close(self) -> None:
        """Take the overview away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    # --- while the DAGs run ----------------------------------------

    def show_runs(self, states: Mapping[str, str], task_instances: Sequence[Mapping[str, Any]]) -> None:
        """Show where each DAG run is."""
        for dag_id, state in states.items():
            if self._states.get(dag_id) != state and state in ("running", "success", "failed"):
                self.say(f"DAG run {dag_id}: [{_COLOURS[state]}]{state}[/]")
        self._states = dict(states)
        if not self._console.is_terminal:
            return
        table = Table.grid(padding=(0, 2))
        for dag_id, state in states.items():
            own = [instance["state"] for instance in task_instances if instance["dag_id"] == dag_id]
            done = sum(one in ("success", "skipped", "failed", "upstream_failed") for one in own)
            deferred = own.count("deferred")
            on_the_phone = f"{deferred} waiting for a call in the triggerer" if deferred else ""
            bar = ProgressBar(total=max(len(own), 1), completed=done, width=24)
            colour = _COLOURS.get(state, "white")
            table.add_row(f"[{colour}]{dag_id}[/]", bar, f"{done}/{len(own)} tasks", f"[dim]{on_the_phone}[/dim]")
        self._overview(table)

    def show_orders(self, orders: Sequence[Mapping[str, Any]]) -> None:
        """Say what is new about the calls."""
        for order in orders:
            told = self._told.setdefault(order["id"], set())
            for news, text in _news_of(order):
                if news not in told:
                    told.add(news)
                    self.say(f"[cyan]☎ {_whom(order)}[/]: {text}")

    # --- the end ----------------------------------------

    def show_calls(self, rows: Sequence[Row]) -> None:
        """Show all calls in a table."""
        table = Table(title="Calls, as Airflow knows them", title_justify="left", title_style="bold")
        for heading in ("DAG", "Person", "Number", "Outcome"):
            table.add_column(heading, no_wrap=True)
        table.add_column("Attempts", justify="right")
        table.add_column("Answer")
        for before, row in zip([None, *rows], rows, strict=False):
            if before is not None and before.dag != row.dag:
                table.add_section()
            table.add_row(
                row.dag,
                escape(row.person),
                mask_number(row.number),
                _words(row.outcome),
                str(row.attempts),
                escape(_spoken(row.answer)),
            )
        self._console.print()
        self._console.print(table)

    def print(self, text: str) -> None:
        """Write a line; the text may hold rich's markup."""
        self._console.print(text)

    def show_logs(self, logs: Sequence[Path]) -> None:
        """Show the ends of logs."""
        for log in logs:
            # A task's log is told from another's by the directories it lies in.
            name = "/".join(part for part in log.parts if "=" in part) or log.name
            self._console.rule(escape(name), align="left")
            lines = log.read_text(errors="replace").splitlines() if log.exists() else ["(no log)"]
            for line in lines[-_LOG_LINES:]:
                self._console.print(_plain(line), markup=False, soft_wrap=True)


def person_of(order: Mapping[str, Any]) -> str:
    """Return whom an order is for, as its DAG says."""
    metadata = order["metadata"] or {}
    return str(metadata.get("name") or metadata.get("company") or "somebody")


def _whom(order: Mapping[str, Any]) -> str:
    return f"{escape(person_of(order))} {mask_number(order['to_phone_number'])}"


def _news_of(order: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Tell the story of an order so far, each event under a name of its own."""
    yield "placed", "call placed"
    attempts = list(reversed(order["call_attempts"]))
    for number, attempt in enumerate(attempts, start=1):
        last = number == len(attempts)
        if last and is_terminal(order["status"]):
            colour = "green" if attempt["result"] == "human" else "yellow"
            yield "ended", f"ended, [{colour}]{_how(attempt)}[/]"
        elif last and attempt["status"] == "ongoing":
            yield f"talk {number}", "on the phone"
        elif not last or order["status"] in ("scheduled", "queued_for_calling"):
            yield f"attempt {number}", f"[yellow]{_how(attempt)}[/], to be dialled again"
    if not attempts and is_terminal(order["status"]):
        yield "ended", f"ended, {order['status']}"


def _how(attempt: Mapping[str, Any]) -> str:
    return _words(attempt["dial_error"] or attempt["result"])


def _words(outcome: str | None) -> str:
    """Return an outcome as people say it."""
    said = {"human": "a person answered", "IVR": "a phone menu", "ios-screening-filter": "a screening filter"}
    return said.get(str(outcome), str(outcome).replace("_", " "))


def _spoken(answer: Mapping[str, Any] | None) -> str:
    if not answer:
        return "–"
    said = {True: "yes", False: "no"}
    return ", ".join(
        f"{name.replace('_', ' ')}: {said[value] if isinstance(value, bool) else value}"
        for name, value in answer.items()
    )


def _plain(line: str) -> str:
    """Return what a line of a task's log says: the files hold JSON."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "event" not in entry:
        return line
    errors = [f"{detail['exc_type']}: {detail['exc_value']}" for detail in entry.get("error_detail") or ()]
    return " ".join([str(entry.get("level", "")), str(entry["event"]), *errors])
