"""Figures on paper: a JSON file with everything, and a Markdown table to read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import describe_machine, machine_line

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY = Path(__file__).parent / "results"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned; all but the first to the right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        f" {'-' * width} " if not column else f" {'-' * (width - 1)}: " for column, width in enumerate(widths)
    )
    return "\n".join([line(heads), f"|{rule}|", *map(line, rows)])


def write_results(name: str, figures: dict[str, Any], text: str) -> Path:
    """Write `results/<name>.json` and `results/<name>.md`, and return the path of the latter."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    path = DIRECTORY / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path


def report(name: str, title: str, figures: dict[str, Any], text: str, distributions: tuple[str, ...] = ()) -> int:
    """Write the results with a description of the machine, show them, and return an exit code."""
    machine = describe_machine(("apache-airflow", "httpx", *distributions))
    page = "\n\n".join([f"# {title}", machine_line(machine), text]) + "\n"
    path = write_results(name, {"machine": machine, **figures}, page)
    sys.stdout.write(f"\n{page}\nwritten to {path}\n")
    return 0
