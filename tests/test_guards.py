"""The lines that scripts/guards.py takes out: each is still there, once, and named by the tests that it turns red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import guards

ROOT = Path(__file__).resolve().parent.parent


def test_every_guarding_line_is_there_once() -> None:
    for name, guard in guards.GUARDS.items():
        for file, text, instead in guard.edits:
            source = (ROOT / "airflow_provider_revox" / file).read_text()
            assert source.count(text) == 1, (name, text)
            # What is left is a program.
            compile(source.replace(text, instead), file, "exec")


#: What promises nothing that a line could keep, and why.
WITHOUT_GUARD = {
    "test_plain_operator.py::test_the_docs_tell_these_figures",  # about the documentation
    "test_settled_by_hand.py::test_a_deleted_run_forgets_its_call",  # a limit, and no promise
    "test_without_store.py::test_this_airflow_has_no_store",  # about the Airflow it is run with
}


def test_every_system_test_is_turned_red_by_a_guard() -> None:
    """What the table says is red, not whether it is: that takes hours, and `scripts/guards.py`."""
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/system"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tests: dict[str, list[str]] = {}
    for line in collected.stdout.splitlines():
        if line.startswith("tests/system/"):
            tests.setdefault(line.split("[")[0], []).append(line)
    assert len(tests) > 30, collected.stdout

    def is_red(test: str) -> bool:
        path, _, name = test.partition("::")
        return any(
            path in guards.arguments(guard) and any(part in name for part in guard.red)
            for guard in guards.GUARDS.values()
        )

    green = {function.removeprefix("tests/system/") for function, cases in tests.items() if not any(map(is_red, cases))}
    assert green == WITHOUT_GUARD


def test_every_system_test_names_its_guards() -> None:
    of_module: dict[str, set[str]] = {path.stem: set() for path in (ROOT / "tests" / "system").glob("test_*.py")}
    for name, guard in guards.GUARDS.items():
        for argument in guards.arguments(guard):
            if argument.startswith("tests/"):
                of_module[Path(argument).stem].add(name)
    for module, names in of_module.items():
        told = (ROOT / "tests" / "system" / f"{module}.py").read_text().split('"""')[1]
        assert names, module
        assert {name for name in guards.GUARDS if f"``{name}``" in told} == names, module
