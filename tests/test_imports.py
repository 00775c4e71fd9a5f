"""DAG files are parsed all day: what they import is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = [
    "airflow_provider_revox.operators",
    "airflow_provider_revox.sensors",
    "airflow_provider_revox.triggers",
    "airflow_provider_revox.provider_info",
]
HEAVY = ["aiohttp", "requests", "fastapi", "phonenumbers", "pyarrow", "airflow_provider_revox.models"]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_heavy_comes_along(module: str) -> None:
    code = f"""
import sys
before = set()
if {module != "airflow_provider_revox.provider_info"}:
    from airflow.sdk import DAG
    before = set(sys.modules)
import {module}
heavy = [name for name in {HEAVY!r} if name in sys.modules and name not in before]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_provider_info_imports_nothing() -> None:
    code = """
import sys
before = set(sys.modules)
import airflow_provider_revox.provider_info
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert new <= {"airflow_provider_revox", "typing", "collections", "re", "functools", "operator", "contextlib", "copyreg",
               "enum", "keyword", "reprlib", "types", "warnings", "__future__", "_operator", "_collections", "_functools",
               "_sre", "_typing", "itertools"}, new
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)
