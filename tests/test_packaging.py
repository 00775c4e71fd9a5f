"""The package as others get it: wheel, an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
