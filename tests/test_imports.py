"""DAG files are parsed all day: what they import is light, and nothing that Airflow is about to take away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_revox

PACKAGE = Path(airflow_provider_revox.__file__).resolve().parent

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


#: Imports modules and files, and prints each deprecation that one of them causes. Who causes one is the code that stands
#: in the nearest module body up the stack: Airflow's own `stacklevel`s often end in Airflow.
DEPRECATIONS = """
import importlib.util, json, pkgutil, sys, warnings
from pathlib import Path

ours = [str(Path(root).resolve()) for root in json.loads(sys.argv[1])]
# Airflow turns warnings into log lines when it starts, so it starts first.
import airflow.sdk, airflow.settings

told = []


def show(message, category, filename, lineno, file=None, line=None):
    if not issubclass(category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning)):
        return
    frame = sys._getframe()
    while frame is not None and (frame.f_code.co_name != "<module>" or "importlib" in frame.f_code.co_filename):
        frame = frame.f_back
    # The outermost module body is this one, which only imports.
    caused_by = frame.f_code.co_filename if frame else ""
    if any(place.startswith(root) for place in (caused_by, filename) for root in ours):
        told.append(f"{caused_by}: {category.__name__}: {message}")


warnings.showwarning = show
warnings.simplefilter("always")
imported = []
for name in json.loads(sys.argv[2]):
    package = importlib.import_module(name)
    imported.append(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            imported.append(found.name)
for path in json.loads(sys.argv[3]):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    imported.append(spec.name)
assert warnings.showwarning is show, "somebody else hears the warnings"
print(json.dumps({"told": told, "imported": imported}))
"""
ROOT = Path(__file__).resolve().parents[1]


def deprecations(roots: list[Path], packages: list[str], files: list[Path]) -> dict[str, list[str]]:
    arguments = (json.dumps(given, default=str) for given in (roots, packages, files))
    done = subprocess.run(
        [sys.executable, "-c", DEPRECATIONS, *arguments], check=True, timeout=100, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_is_imported_that_airflow_is_about_to_take_away() -> None:
    examples = sorted((ROOT / "example_dags").glob("*.py"))
    seen = deprecations([PACKAGE, ROOT / "example_dags"], ["airflow_provider_revox"], examples)
    assert seen["told"] == []
    sources = {path for path in PACKAGE.rglob("*.py") if path.stem != "__main__"}
    assert len(seen["imported"]) == len(sources) + len(examples)


PLANTED = (
    "from old import thing",
    "import old\nold.thing",
    "import old\nclass A:\n    b = old.thing",
    "import old\nold.function()",
    "from airflow.utils.timezone import utcnow",
)


def test_what_is_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only what our own code causes: Airflow may import what is old for itself."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    old = 'import warnings\ndef function():\n    warnings.warn("old", DeprecationWarning, stacklevel=1)\n'
    (theirs / "old.py").write_text(f"{old}def __getattr__(name):\n    function()\n    return 1\n")
    for number, planted in enumerate(PLANTED):
        (theirs / f"them{number}.py").write_text(planted)
        (ours / f"innocent{number}.py").write_text(f"import them{number}")
        (ours / f"guilty{number}.py").write_text(planted)
    told = deprecations([ours], [], sorted(ours.iterdir()))["told"]
    assert {line.partition(":")[0] for line in told} == {str(path) for path in ours.glob("guilty*.py")}
