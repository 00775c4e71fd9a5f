"""The matrix of Airflow versions: no test falls through it."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import matrix
from packaging.requirements import Requirement
from packaging.version import Version

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
#: The modules of the package that touch Airflow.
ON_AIRFLOW = {
    *("call_task", "cancelling", "hooks", "links", "operators", "sensors", "triggers", "waiting", "watcher", "watching")
}
#: Left out for another reason than that they touch nothing of Airflow.
SAME_EVERYWHERE = {"test_demo", "test_guards", "test_matrix", "test_packaging"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{each.name}" for each in node.names}
    return names


def test_what_is_left_out_touches_nothing_of_airflow() -> None:
    assert {path.stem for path in TESTS.glob("test_*.py")} >= matrix.LEFT_OUT
    for name in matrix.LEFT_OUT - SAME_EVERYWHERE:
        for module in imported(TESTS / f"{name}.py"):
            top, *parts = module.split(".")
            assert top != "airflow", name
            assert top != "airflow_provider_revox" or not ON_AIRFLOW & set(parts), name


def test_a_test_that_is_not_named_is_run() -> None:
    run = {Path(path).stem for path in matrix.test_files(system=False)}
    assert run == {path.stem for path in TESTS.glob("test_*.py")} - matrix.LEFT_OUT


def test_what_has_no_store_is_tested_as_such() -> None:
    """The record of a call is kept from Airflow 3.3 on."""
    assert list(matrix.WITHOUT_STORE) == [each for each in matrix.VERSIONS if Version(each) < Version("3.3")]
    assert all((ROOT / path).is_file() for path in matrix.SYSTEM_TESTS)


def test_the_oldest_airflow_that_is_promised_is_tested() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    promised = Requirement(re.search(r'"(apache-airflow>=[\d.]+)"', text)[1])
    (bound,) = promised.specifier
    oldest = min(map(Version, matrix.VERSIONS))
    assert oldest.release[:2] == Version(bound.version).release[:2]


def test_no_test_is_too_new_for_the_newest() -> None:
    """It would run nowhere."""
    sources = [path.read_text() for path in TESTS.rglob("*.py")]
    asked = {version for text in sources for version in re.findall(r'since_airflow\("([\d.]+)"\)', text)}
    assert asked
    assert max(map(Version, asked)) <= max(map(Version, matrix.VERSIONS))


def test_ci_runs_the_same_versions() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert json.loads(re.search(r"^ +airflow: (\[.*\])$", workflow, re.MULTILINE)[1]) == list(matrix.VERSIONS)
    pinned = set(re.findall(r"==(.*)", (ROOT / ".github" / "airflow.txt").read_text()))
    assert pinned == {list(matrix.VERSIONS)[-1]}
