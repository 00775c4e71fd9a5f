"""Tables of the documentation that tests hold Airflow to: they must be the same in both places."""

from __future__ import annotations

from pathlib import Path

from tests.system.actions import ACTIONS, CELLS, MOMENTS, render

RELIABILITY = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"


def test_the_docs_hold_the_table_of_what_a_person_does() -> None:
    section = RELIABILITY.read_text().split("## When a person acts\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert "\n".join(lines) + "\n" == render()


def test_the_table_has_every_cell() -> None:
    assert list(CELLS) == [(moment, action) for moment in MOMENTS for action in ACTIONS]
