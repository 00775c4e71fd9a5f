"""The trigger: made again from what is stored, deaf to later arguments, never dialling."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import airflow_provider_revox
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


def test_nothing_that_waits_can_dial() -> None:
    """Neither the trigger nor what it calls names the request that places a call."""
    for module in ("triggers", "watcher", "waiting", "polling", "verdict", "sensors"):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
            if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        }
        assert not names & {"create_call", "acreate_call", "Placing", "placing"}, module
