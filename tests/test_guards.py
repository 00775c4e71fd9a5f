"""The lines that scripts/guards.py takes out: each is still there, once, and named by the tests that it turns red."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def guards() -> Any:
    spec = importlib.util.spec_from_file_location("guards", ROOT / "scripts" / "guards.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["guards"] = module
    spec.loader.exec_module(module)
    return module


def test_every_guarding_line_is_there_once(guards: Any) -> None:
    for name, guard in guards.GUARDS.items():
        for file, text, instead in guard.edits:
            source = (ROOT / "airflow_provider_revox" / file).read_text()
            assert source.count(text) == 1, (name, text)
            # What is left is a program.
            compile(source.replace(text, instead), file, "exec")


def test_every_system_test_names_its_guards(guards: Any) -> None:
    of_module: dict[str, set[str]] = {path.stem: set() for path in (ROOT / "tests" / "system").glob("test_*.py")}
    for name, guard in guards.GUARDS.items():
        for argument in guards.arguments(guard):
            if argument.startswith("tests/"):
                of_module[Path(argument).stem].add(name)
    for module, names in of_module.items():
        told = (ROOT / "tests" / "system" / f"{module}.py").read_text().split('"""')[1]
        assert names, module
        assert {name for name in guards.GUARDS if f"``{name}``" in told} == names, module
