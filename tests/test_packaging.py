"""The package as others get it: provider info, wheel, an empty environment."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_revox
from airflow_provider_revox.provider_info import get_provider_info

ROOT = Path(__file__).parents[1]


def test_the_info_fits_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_what_the_info_names_exists() -> None:
    from importlib import import_module

    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                import_module(module)
    (connection,) = info["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert hook.conn_type == connection["connection-type"]
    assert hook.hook_name == connection["hook-name"]


def test_airflow_finds_the_provider() -> None:
    (entry,) = [
        point
        for point in entry_points(group="apache_airflow_provider")
        if point.value.startswith("airflow_provider_revox")
    ]
    assert entry.load() is get_provider_info
    listed = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "list", "--output", "json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    rows = json.loads(listed.stdout[listed.stdout.index("[{") :])
    (row,) = [row for row in rows if row["package_name"] == "airflow-provider-revox"]
    assert row["version"] == airflow_provider_revox.__version__


def test_the_connection_form_needs_no_hook() -> None:
    code = """
import sys
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
print(sorted(name for name in manager.connection_form_widgets if "revox" in name))
print("revox" in manager.field_behaviours)
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=100)
    assert "extra__revox__requests_per_second" in shown.stdout
    assert shown.stdout.rstrip().endswith("True")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=100,
    )
    return out


def test_the_wheel_is_whole_and_well_described(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], check=True, timeout=60)
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "airflow_provider_revox").rglob("*.py")}
    assert sources <= set(names)
    assert "airflow_provider_revox/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "example_dags"))]
    with tarfile.open(sdist) as archive:
        packed = archive.getnames()
    assert any(name.endswith("example_dags/example_revox_outreach.py") for name in packed)


def test_the_wheel_installs_into_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True, timeout=100)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=100
    )
    code = "from airflow_provider_revox.provider_info import get_provider_info as info; print(info()['package-name'])"
    shown = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "airflow-provider-revox"
