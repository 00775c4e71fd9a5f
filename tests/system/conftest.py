"""One Airflow for all system tests of a session, and what to show of it when one fails."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.deployment import Deployment, keep_home
from tests.system.together import Together

#: Scenarios side by side: what two cores can bear without heartbeats being late.
AT_ONCE = 20


def pytest_configure() -> None:
    """Have the fixtures stop the processes also when somebody ends pytest with a SIGTERM, as CI does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
        try:
            deployment.start()
        except Exception:
            print(deployment.machine.tails())
            raise
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


@pytest.fixture(scope="session")
def _played(request: pytest.FixtureRequest, airflow: Deployment) -> Iterator[Together]:
    """All scenarios of the modules that were asked for, begun at once: most of each is waiting."""
    together = Together(AT_ONCE)
    modules = {item.module for item in request.session.items if hasattr(item, "module")}
    for module in sorted(modules, key=lambda module: module.__name__):
        for key, play in getattr(module, "SCENARIOS", {}).items():
            together.begin((module.__name__, key), play, airflow)
    yield together
    # Whatever still runs belongs to tests that were left out, or interrupted.
    together.close(wait_for_them=False)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, _played: Together) -> Callable[[Any], Any]:
    """Returns what came of one of the scenarios of a module, by its key."""
    return lambda key: _played[request.module.__name__, key]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look at the scenarios that run side by side first; what kills a component of Airflow would disturb them."""
    items.sort(key=lambda item: item.get_closest_marker("destructive") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.failed and report.when != "teardown" and "airflow" in getattr(item, "funcargs", {}):
        report.sections.append(("logs of the components", item.funcargs["airflow"].machine.tails()))
    return report
