"""The machine that figures were taken on."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any


def describe_machine(distributions: tuple[str, ...] = ()) -> dict[str, Any]:
    """
    Return the date, the machine, the interpreter, and the versions of what was measured.

    :param distributions: names of installed distributions whose versions matter.
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "openssl": ssl.OPENSSL_VERSION,
        "versions": {name: version for name in distributions if (version := _version(name))},
    }


def surroundings(home: Path) -> dict[str, str]:
    """
    Return the environment for processes that are measured: an Airflow home of their own, no proxy, nothing of the user's.

    Modules are compiled once and kept, as they are where people install packages.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "REVOX"))
        and not name.lower().endswith("_proxy")
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def machine_line(machine: dict[str, Any]) -> str:
    """Return the description as one line of text."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory']}; "
        f"{machine['system']}; Python {machine['python']}, {machine['openssl']}; {versions}."
    )


def _first(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name)
    return next(values, None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
