"""What all tests share: the simulator, and an Airflow task instance without an Airflow around it."""

# ruff: noqa: E402  Airflow looks at its environment when it is first imported.

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile

# Before the first import of Airflow: tests must not read or write the home of whoever runs them.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="revox-tests-")
# And so after all that Airflow does at the end, when it may still write there.
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

from collections.abc import Iterator
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_revox.simulator import Simulator


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of what the installed Airflow does not have yet; the closing line counts them as deselected."""
    # Not at the top: it imports Airflow.
    from tests.harness import AIRFLOW

    too_new = {item for item in items for mark in item.iter_markers("since_airflow") if Version(mark.args[0]) > AIRFLOW}
    if too_new:
        config.hook.pytest_deselected(items=[item for item in items if item in too_new])
        items[:] = [item for item in items if item not in too_new]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A Revox whose time runs 600 times faster, and which can search and cancel."""
    with Simulator(speed=600, seed=7) as running:
        yield running


@pytest.fixture
def without_extensions() -> Iterator[Simulator]:
    """A Revox that speaks the documented endpoints only."""
    with Simulator(speed=600, seed=7, extensions=False) as running:
        yield running


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[bool, Simulator]]:
    """Two simulators in real time, for tests that reset them: by whether they can search."""
    with Simulator(speed=1, seed=7) as searching, Simulator(speed=1, seed=7, extensions=False) as plain:
        yield {True: searching, False: plain}


def connect(monkeypatch: pytest.MonkeyPatch, simulator: Simulator, **extra: Any) -> None:
    """Make `revox_default` lead to a simulator."""
    connection = {"conn_type": "revox", "host": simulator.base_url, "password": simulator.api_key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps(connection))


@pytest.fixture
def revox(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> Simulator:
    """A simulator to which `revox_default` leads."""
    connect(monkeypatch, simulator)
    return simulator


@pytest.fixture
def plain_revox(monkeypatch: pytest.MonkeyPatch, without_extensions: Simulator) -> Simulator:
    """A simulator without extensions to which `revox_default` leads."""
    connect(monkeypatch, without_extensions)
    return without_extensions


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a lost order without the pauses between the looks."""
    monkeypatch.setattr("airflow_provider_revox.placing.LOOK_AFTER_SECONDS", (0.0, 0.0))


#: What the async client sends with: `fast` is what the extra of this name adds.
TRANSPORTS = ("plain", "fast")


def use_transport(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let async clients be made as if the extra `fast` were installed, or as if it were not."""
    if name == "plain":
        monkeypatch.setitem(sys.modules, "airflow_provider_revox.aiohttp_session", None)
    else:
        import airflow_provider_revox.aiohttp_session  # noqa: F401  must not fail unnoticed


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Play the test with each transport of the async client."""
    use_transport(monkeypatch, request.param)
    return str(request.param)
