from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from airflow_provider_revox.simulator import Simulator
from airflow_provider_revox.simulator.__main__ import main

COMMAND = [sys.executable, "-W", "error", "-m", "airflow_provider_revox.simulator"]


@pytest.fixture(scope="module")
def sim():
    with Simulator(speed=600) as simulator:
        yield simulator


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_one_line_and_stops_when_told(stop):
    arguments = [*COMMAND, "--port", "0", "--speed", "60", "--api-key", "k1", "--no-extensions"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"Revox simulator listening on (http://127\.0\.0\.1:\d+/api) "
            r"\(speed 60, seed 7, extensions off, API key: k1\)\n",
            line,
        )
        assert found, line
        with httpx.Client(headers={"Authorization": "Bearer k1"}) as client:
            assert client.get(f"{found[1]}/call").json() == {"calls": []}
            process.send_signal(stop)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "http"], "must be a port between 0 and 65535"),
        (["--port", "70000"], "must be a port between 0 and 65535"),
        (["--speed", "0"], "must be a positive number"),
        (["--speed", "fast"], "must be a positive number"),
        (["--seed", "x"], "invalid int value"),
        (["--host", "0.0.0.0"], "loopback addresses only"),
        (["--host", "example.com"], "loopback addresses only"),
        (["--api-key", ""], "API key"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_bad_flags_get_a_clear_message(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(sim):
    port = sim.url.rpartition(":")[2]
    finished = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=20, check=False)
    assert finished.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_simulator_does_not_import_airflow():
    code = (
        "import sys, airflow_provider_revox.simulator; print([m for m in sys.modules if m.split('.')[0] == 'airflow'])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert finished.stdout == "[]\n"


def test_two_simulators_run_side_by_side(sim):
    with Simulator(api_key="other") as other:
        assert other.url != sim.url
        headers = {"Authorization": "Bearer other"}
        assert httpx.get(f"{other.base_url}/call", headers=headers).status_code == 200
        assert httpx.get(f"{sim.base_url}/call", headers=headers).status_code == 401


def has_other_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_it_listens_on_the_other_loopback_or_says_that_there_is_none():
    if not has_other_loopback():
        with pytest.raises(OSError):  # noqa: PT011  the words are the system's
            Simulator(host="::1").__enter__()
        return
    with Simulator(host="::1") as simulator:
        assert simulator.url.startswith("http://[::1]:")
        assert httpx.get(f"{simulator.url}/_simulator/stats").status_code == 200


def test_it_must_be_started_and_keeps_its_story_when_stopped():
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="with statement"):
        simulator.stats()
    with simulator:
        httpx.get(f"{simulator.base_url}/call")
    assert simulator.stats()["refused_keys"] == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(simulator.url)


def test_everything_is_reachable_over_http(sim):
    sim.reset()
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    control = f"{sim.url}/_simulator"
    body = {"phone_number": "+12025550112", "assistant_id": "asst_plain", "force_now": True}
    order = httpx.post(f"{sim.base_url}/call", json=body, headers=headers).json()["call"]
    assert [one["id"] for one in httpx.get(f"{control}/orders").json()] == [order["id"]]
    moment = httpx.post(f"{control}/advance", json={"seconds": 600}).json()["now"]
    assert moment > order["created_at"]
    stats = httpx.get(f"{control}/stats").json()
    assert stats["dials"] == {"+12025550112": 1}
    assert (stats["orders_created"], stats["posts_received"], stats["requests"]) == (1, 1, {"create_call": 1})
    assert httpx.post(f"{control}/release").json() == {"released": 0}
    assert httpx.post(f"{control}/release", params={"phone_number": "+12025550112"}).json() == {"released": 0}
    assert sim.orders()[0]["status"] == "completed"
    assert httpx.post(f"{control}/reset").status_code == 200
    assert httpx.get(f"{control}/orders").json() == []


def test_the_key_can_be_rotated():
    with Simulator(api_key="old") as sim:
        control = f"{sim.url}/_simulator/api-key"
        assert httpx.post(control, json={"api_key": "new"}).status_code == 200
        for bad in ("", " x", "x\n", "ä", None):
            assert httpx.post(control, json={"api_key": bad}).status_code == 422
        answers = {
            key: httpx.get(f"{sim.base_url}/call", headers={"Authorization": f"Bearer {key}"}).status_code
            for key in ("old", "new")
        }
    assert answers == {"old": 401, "new": 200}


@pytest.mark.parametrize("seconds", [-1, 1e12, "x", None])
def test_the_clock_advances_within_reason(sim, seconds):
    reply = httpx.post(f"{sim.url}/_simulator/advance", json={"seconds": seconds})
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("seconds:")


def test_time_runs_at_its_speed():
    with Simulator(speed=36_000) as fast:
        headers = {"Authorization": f"Bearer {fast.api_key}"}
        body = {"phone_number": "+12025550112", "assistant_id": "asst_plain", "force_now": True}
        with httpx.Client(base_url=fast.base_url, headers=headers) as client:
            order = client.post("/call", json=body).json()["call"]
            while order["status"] != "completed":
                order = client.get(f"/call/{order['id']}").json()["call"]
        assert order["last_call_attempt"]["ended_at"] > order["created_at"]
