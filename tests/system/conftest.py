"""One Airflow for all system tests of a session, and what to show of it when one fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.deployment import Deployment, keep_home


@pytest.fixture(scope="session")
def airflow() -> Iterator[Deployment]:
    """An Airflow that runs, on one machine or, with REVOX_SYSTEM=distributed, as companies run it."""
    home = Path(tempfile.mkdtemp(prefix="revox-system-"))
    deployment = None
    try:
        if os.environ.get("REVOX_SYSTEM") == "distributed":
            from tests.system.distributed import Distributed

            deployment = Distributed(home)
        else:
            deployment = Deployment(home)
        deployment.start()
        yield deployment
    finally:
        if deployment is not None:
            deployment.stop()
        if keep_home():
            print(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def _heal(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "airflow" in request.fixturenames:
        request.getfixturevalue("airflow").heal()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed and report.when != "teardown" and "airflow" in getattr(item, "funcargs", {}):
        report.sections.append(("logs of the components", item.funcargs["airflow"].machine.tails()))
    return report
