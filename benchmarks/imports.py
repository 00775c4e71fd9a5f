"""
What a DAG file pays: importing operators and sensors, and being parsed with 200 tasks.

Each figure is CPU time (user and system) of a fresh interpreter: of the imports after ``from airflow.sdk import DAG``, and
of reading a DAG file with ``DagBag`` as the DAG processor does, imports included. Subjects take turns; medians.

    python -m benchmarks.imports --rounds 9 --tasks 200
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import surroundings
from benchmarks.results import report, table

if TYPE_CHECKING:
    from collections.abc import Sequence

SUMMARY = "CPU of importing operators and sensors, and of parsing a DAG file with many tasks."


@dataclass(frozen=True)
class Subject:
    """
    A provider's operators and sensors.

    :param modules: what a DAG file imports of it.
    :param first: source of a task that begins something, with ``{n}`` for its number.
    :param second: source of a sensor that waits for it.
    """

    modules: tuple[str, ...]
    first: str
    second: str


SUBJECTS = {
    "ours": Subject(
        ("airflow_provider_revox.operators", "airflow_provider_revox.sensors"),
        "airflow_provider_revox.operators.RevoxCreateCallOperator(task_id='first{n}', phone_number='+14155550{n:03}',"
        " assistant_id='a1', prompt_variables={{'name': 'Ada'}})",
        "airflow_provider_revox.sensors.RevoxCallSensor(task_id='second{n}', call_id=first.output)",
    ),
    "dbt Cloud": Subject(
        ("airflow.providers.dbt.cloud.operators.dbt", "airflow.providers.dbt.cloud.sensors.dbt"),
        "airflow.providers.dbt.cloud.operators.dbt.DbtCloudRunJobOperator(task_id='first{n}', job_id={n},"
        " wait_for_termination=False)",
        "airflow.providers.dbt.cloud.sensors.dbt.DbtCloudJobRunSensor(task_id='second{n}', run_id=first.output,"
        " deferrable=True)",
    ),
    "Fivetran": Subject(
        ("fivetran_provider_async.operators", "fivetran_provider_async.sensors"),
        "fivetran_provider_async.operators.FivetranOperator(task_id='first{n}', connector_id='c{n}',"
        " wait_for_completion=False)",
        "fivetran_provider_async.sensors.FivetranSensor(task_id='second{n}', connector_id='c{n}')",
    ),
}
#: What every DAG file pays: the parse of as many of Airflow's own tasks.
EMPTY = Subject(
    ("airflow.providers.standard.operators.empty",),
    "airflow.providers.standard.operators.empty.EmptyOperator(task_id='first{n}')",
    "airflow.providers.standard.operators.empty.EmptyOperator(task_id='second{n}')",
)

_IMPORT = """
import json, time
from airflow.sdk import DAG
began = time.process_time()
{imports}
print(json.dumps({{"milliseconds": (time.process_time() - began) * 1000}}))
"""
_PARSE = """
import json, time
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
began = time.process_time()
bag = DagBag({path!r})
took = (time.process_time() - began) * 1000
assert not bag.import_errors, bag.import_errors
print(json.dumps({{"milliseconds": took, "tasks": sum(len(dag.tasks) for dag in bag.dags.values())}}))
"""


def import_milliseconds(subject: Subject) -> float:
    """Return the CPU time of importing a subject's modules into a fresh interpreter that has Airflow's DAG."""
    return _cpu(_IMPORT.format(imports=_imports(subject)))["milliseconds"]


def parse_milliseconds(subject: Subject, tasks: int) -> float:
    """Return the CPU time of reading a DAG file with this many tasks of a subject, each second one a sensor."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "many.py")
        path.write_text(_dag_file(subject, tasks))
        read = _cpu(_PARSE.format(path=str(path)))
    if read["tasks"] != tasks:
        raise ValueError(f"{read['tasks']} tasks were read instead of {tasks}")
    return read["milliseconds"]


def _imports(subject: Subject) -> str:
    return "\n".join(f"import {module}" for module in subject.modules)


def _dag_file(subject: Subject, tasks: int) -> str:
    lines = ["from airflow.sdk import DAG", _imports(subject), "with DAG('many', schedule=None):"]
    for number in range(tasks // 2):
        # The first one comes first whether or not the second one takes its output.
        lines += [f"    first = {subject.first.format(n=number)}", f"    first >> {subject.second.format(n=number)}"]
    return "\n".join(lines)


def _cpu(code: str) -> dict[str, float]:
    # An Airflow of its own, so that nothing of the user's is read: neither settings nor plugins.
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=surroundings(Path(home))
        )
    if done.returncode:
        raise RuntimeError(f"a fresh interpreter failed:\n{done.stderr}")
    # Airflow may print as well, before.
    taken: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return taken


def _is_installed(subject: Subject) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({subject.modules[0]!r}) is None)"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure milliseconds of CPU by subject, none for a peer that is not installed; write them down and return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=SUMMARY)
    parser.add_argument("--rounds", type=int, default=7, help="fresh interpreters for each figure (default 7)")
    parser.add_argument("--parse-rounds", type=int, default=3, help="the same for each parse (default 3)")
    parser.add_argument("--tasks", type=int, default=200, help="tasks in the DAG file (default 200)")
    options = parser.parse_args(argv)
    there = {name: subject for name, subject in SUBJECTS.items() if _is_installed(subject)}
    imports: dict[str, list[float]] = {name: [] for name in there}
    parses: dict[str, list[float]] = {name: [] for name in ("Airflow's EmptyOperator", *there)}
    for _ in range(options.rounds):
        for name, subject in there.items():
            imports[name].append(import_milliseconds(subject))
    for _ in range(options.parse_rounds):
        for name, subject in {"Airflow's EmptyOperator": EMPTY, **there}.items():
            parses[name].append(parse_milliseconds(subject, options.tasks))
    figures: dict[str, Any] = {
        "rounds": options.rounds,
        "tasks": options.tasks,
        "import_cpu_milliseconds": {name: round(statistics.median(all_), 1) for name, all_ in imports.items()},
        "parse_cpu_milliseconds": {name: round(statistics.median(all_), 1) for name, all_ in parses.items()},
    }
    imported, parsed = figures["import_cpu_milliseconds"], figures["parse_cpu_milliseconds"]
    rows = [(name, f"{imported[name]:.1f}" if name in imported else "", f"{parsed[name]:.1f}") for name in parsed]
    heads = ("CPU ms", "import over `from airflow.sdk import DAG`", f"parse of {options.tasks} tasks, imports included")
    return report("imports", "Imports and parsing", figures, table(heads, rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
