"""The buttons on a task instance: they lead where they should, or nowhere, and never raise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_revox.links import RevoxCallLink, RevoxRecordingLink
from airflow_provider_revox.operators import RevoxCreateCallOperator
from airflow_provider_revox.provider_info import get_provider_info
from airflow_provider_revox.sensors import RevoxCallSensor
from airflow_provider_revox.simulator import Simulator
from tests.conftest import connect
from tests.harness import TaskRun

KEY = SimpleNamespace(dag_id="campaign", run_id="manual__1", task_id="call", map_index=3)
PAGE = "https://app.example.com/calls/{call_id}"


@pytest.fixture
def xcoms(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow holds for the task instance; an exception is raised."""
    values: dict[str, Any] = {}

    def get_value(*, ti_key: Any, key: str) -> Any:
        assert ti_key is KEY
        if isinstance(found := values.get(key), Exception):
            raise found
        return found

    monkeypatch.setattr(XCom, "get_value", get_value)
    return values


def operator() -> RevoxCreateCallOperator:
    return RevoxCreateCallOperator(task_id="call", phone_number="+14155550100", assistant_id="as_1")


@pytest.mark.parametrize("task", [operator(), RevoxCallSensor(task_id="wait", call_id="c/1")])
def test_both_tasks_have_both_links_and_airflow_knows_them(task: Any) -> None:
    assert [link.name for link in task.operator_extra_links] == ["Call", "Recording"]
    paths = [f"{type(link).__module__}.{type(link).__name__}" for link in task.operator_extra_links]
    assert get_provider_info()["extra-links"] == paths


def test_the_call_is_shown_where_the_connection_says(
    revox: Simulator, xcoms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = RevoxCallSensor(task_id="wait", call_id="c/1")
    assert RevoxCallLink().get_link(sensor, ti_key=KEY) == ""
    connect(monkeypatch, revox, call_url=PAGE)
    assert RevoxCallLink().get_link(operator(), ti_key=KEY) == ""
    assert RevoxCallLink().get_link(sensor, ti_key=KEY) == "https://app.example.com/calls/c%2F1"
    xcoms["call_id"] = "c 2?"
    assert RevoxCallLink().get_link(operator(), ti_key=KEY) == "https://app.example.com/calls/c%202%3F"


def test_the_recording_of_a_real_call(revox: Simulator, xcoms: dict[str, Any]) -> None:
    task = TaskRun()
    task.run(
        RevoxCreateCallOperator(
            task_id="call",
            phone_number="+14155550100",
            assistant_id="asst_plain",
            force_now=True,
            wait_for_completion=True,
            poke_interval=1,
        )
    )
    xcoms.update(task.xcoms)
    found = RevoxRecordingLink().get_link(operator(), ti_key=KEY)
    assert found == revox.orders()[0]["last_call_attempt"]["recording_url"]
    assert found.startswith("http://")


@pytest.mark.parametrize(
    "call",
    [None, {}, {"recording_url": None}, {"recording_url": "javascript:alert(1)"}, {"recording_url": 7}, "x",
     {"recording_url": "http://["}, RuntimeError("no database")],
)  # fmt: skip
def test_no_recording_is_no_link(xcoms: dict[str, Any], call: Any) -> None:
    xcoms["call"] = call
    assert RevoxRecordingLink().get_link(operator(), ti_key=KEY) == ""


def test_a_link_never_raises(xcoms: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    xcoms["call_id"] = "c1"
    monkeypatch.delenv("AIRFLOW_CONN_REVOX_DEFAULT", raising=False)
    assert RevoxCallLink().get_link(operator(), ti_key=KEY) == ""
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", '{"conn_type": "revox", "password": ""}')
    assert RevoxCallLink().get_link(operator(), ti_key=KEY) == ""
    xcoms["call_id"] = ["c1"]
    assert RevoxCallLink().get_link(operator(), ti_key=KEY) == ""
