"""The provider's description: what Airflow makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

import airflow_provider_revox
from airflow_provider_revox.provider_info import get_provider_info


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


# Airflow 3.1 takes the form from hook classes, and only where Flask-AppBuilder is installed: there it shows the standard fields.
@pytest.mark.since_airflow("3.2")
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
