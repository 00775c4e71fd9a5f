"""The trigger: made again from what is stored, deaf to later arguments, never dialling."""

from __future__ import annotations

import ast
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_revox
from airflow_provider_revox import hooks
from airflow_provider_revox.client import AsyncRevoxClient
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.triggers import RevoxCallTrigger

PACKAGE = Path(airflow_provider_revox.__file__).parent


def place() -> str:
    with RevoxHook() as hook:
        request = {"phone_number": "+14155550100", "assistant": {"prompt": "Ask."}, "force_now": True}
        return hook.create_call(request).id


def test_a_trigger_comes_back_with_arguments_of_a_later_version() -> None:
    stored = {
        "call_id": "c1",
        "revox_conn_id": "revox_default",
        "poke_interval": 5.0,
        "max_poll_interval": 50.0,
        "deadline": 1.5e9,
        "cancel_on_kill": True,
        "colour": "green",
    }
    path, kwargs = RevoxCallTrigger(**stored).serialize()
    assert path == f"{RevoxCallTrigger.__module__}.{RevoxCallTrigger.__qualname__}"
    assert kwargs == stored
    assert RevoxCallTrigger(**kwargs).serialize() == (path, kwargs)


def test_a_trigger_can_be_made_of_anything() -> None:
    RevoxCallTrigger(call_id=None, revox_conn_id=7, poke_interval="x", deadline="y")  # type: ignore[arg-type]


async def test_it_fires_once_when_the_order_ends(revox: Simulator) -> None:
    call_id = place()
    revox.advance(3600)
    trigger = RevoxCallTrigger(call_id, "revox_default")
    events: list[Any] = [event.payload async for event in trigger.run()]
    assert events == [{"call_id": call_id, "status": "completed", "reason": "ended"}]


async def test_an_order_that_ended_long_ago_is_found_after_the_deadline(revox: Simulator) -> None:
    """A triggerer that was down past the deadline still looks once."""
    call_id = place()
    revox.advance(3600)
    trigger = RevoxCallTrigger(call_id, "revox_default", deadline=1.0)
    events = [event.payload async for event in trigger.run()]
    assert events[0]["reason"] == "ended"


async def test_a_key_that_stays_refused_leaves_no_clients_behind(
    revox: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look reads the connection anew, with one client at a time, until somebody has changed it."""
    monkeypatch.setattr("airflow_provider_revox.polling.SHORTEST_SECONDS", 0.001)
    monkeypatch.setattr("airflow_provider_revox.watcher.TICK_SECONDS", 0.001)
    monkeypatch.setattr("airflow_provider_revox.watching.READ_AGAIN_SECONDS", 0.0)
    call_id = place()
    revox.advance(3600)
    good = os.environ["AIRFLOW_CONN_REVOX_DEFAULT"]
    built: list[AsyncRevoxClient] = []
    open_at_once: list[int] = []
    build = hooks._build_client

    async def count(conn_id: str) -> AsyncRevoxClient:
        open_at_once.append(sum(not client._http.is_closed for client in built))
        if len(built) == 5:
            monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({"conn_type": "revox", "password": ""}))
        if len(open_at_once) == 9:
            monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", good)
        built.append(await build(conn_id))
        return built[-1]

    monkeypatch.setattr("airflow_provider_revox.hooks._build_client", count)
    monkeypatch.setenv("AIRFLOW_CONN_REVOX_DEFAULT", json.dumps({**json.loads(good), "password": "rotated"}))
    trigger = RevoxCallTrigger(call_id, "revox_default", poke_interval=0.001, max_poll_interval=0.002)
    events = [event.payload async for event in trigger.run()]
    assert events == [{"call_id": call_id, "status": "completed", "reason": "ended"}]
    assert open_at_once == [0] * 9
    assert revox.stats()["refused_keys"] == 5
    assert hooks._shared_clients[asyncio.get_running_loop()] == {}


def test_nothing_that_waits_can_dial() -> None:
    """Neither the trigger nor what it calls names the request that places a call."""
    for module in ("triggers", "watcher", "watching", "waiting", "polling", "verdict", "sensors"):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
            if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        }
        assert not names & {"create_call", "acreate_call", "Placing", "placing"}, module
