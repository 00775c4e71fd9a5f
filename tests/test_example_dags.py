"""The example DAGs do what they say: each is executed against the simulator, in an Airflow of its own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"
NAMES = ["example_revox_outreach", "example_revox_enrichment", "example_revox_follow_up"]

#: Runs one DAG several times against one simulator each, and prints what came of it as JSON.
RUNNER = """
import importlib, json, os, sys, warnings
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
    warnings.filterwarnings("error", category=kind, module=r"airflow_provider_revox|example_revox")
from airflow_provider_revox.simulator import Simulator

# Nobody is phoned at night, and a test must not depend on the hour: the simulator's next day begins at nine.
tomorrow = datetime.now(ZoneInfo("America/Los_Angeles")) + timedelta(days=1)
name, confs, answer_to = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
answer = []
sys.path.insert(0, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
dag = importlib.import_module(name).dag
for conf in confs:
    with Simulator(speed=600, seed=7, start_at=tomorrow.replace(hour=9, minute=0)) as simulator:
        os.environ["AIRFLOW_CONN_REVOX_DEFAULT"] = json.dumps(
            {
                "conn_type": "revox",
                "host": simulator.base_url,
                "password": simulator.api_key,
                "extra": {"call_url": "https://app.example.com/calls/{call_id}"},
            }
        )
        run = dag.test(run_conf=conf)
        tasks = {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: {
                "state": ti.state,
                "value": ti.xcom_pull(ti.task_id, map_indexes=ti.map_index),
                "links": [
                    ti.xcom_pull(ti.task_id, map_indexes=ti.map_index, key=f"_link_{link}")
                    for link in ("RevoxCallLink", "RevoxRecordingLink")
                ],
            }
            for ti in run.get_task_instances()
        }
        answer.append({"state": run.state, "tasks": tasks, "stats": simulator.stats()})
with open(answer_to, "w") as file:
    json.dump(answer, file)
"""

#: Imports one DAG file, and prints how long that took and what it touched.
IMPORTER = """
import importlib.util, json, sys, time
from airflow.sdk import DAG, task
import airflow.providers.common.compat.sdk, airflow.triggers.base, pydantic, sqlite3

with DAG("warm"):  # Airflow's own looking for decorators is no matter of the file
    task(lambda: None, task_id="one")
    task.branch(lambda: None, task_id="two")

touched = []


def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes and not str(arguments[0]).partition(".pyc")[1]:
        touched.append([event, str(arguments[0])])
    if event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen", "os.mkdir", "os.remove"):
        touched.append([event, str(arguments)])


began = time.process_time()
spec = importlib.util.spec_from_file_location("example", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["example"] = module
sys.addaudithook(watch)
spec.loader.exec_module(module)
took = time.process_time() - began
print(json.dumps({"dag_id": module.dag.dag_id, "seconds": took, "touched": touched}))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a fresh Airflow with a database."""
    home = tmp_path_factory.mktemp("airflow")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    environment = {
        **kept,
        # Compiled once for all processes of this module, and not beside the sources.
        "PYTHONPYCACHEPREFIX": str(home / "pycache"),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "REVOX_EXAMPLE_POKE_INTERVAL": "1",
        "REVOX_EXAMPLE_MAX_POLL_INTERVAL": "2",
    }
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return environment


def run_dag(airflow: dict[str, str], name: str, *confs: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a DAG once for each conf, each time with a simulator of its own."""
    answer = Path(airflow["AIRFLOW_HOME"], f"{name}.json")
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, name, json.dumps(confs), str(answer)],
        env=airflow,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    runs: list[dict[str, Any]] = json.loads(answer.read_text())
    assert [run["state"] for run in runs] == ["success"] * len(confs), done.stdout[-4000:]
    return runs


def assert_one_order_each(run: dict[str, Any], people: int) -> None:
    assert list(run["stats"]["orders_per_number"].values()) == [1] * people


@pytest.mark.timeout(300)
def test_outreach_reports_who_said_what(airflow: dict[str, str]) -> None:
    [run] = run_dag(airflow, "example_revox_outreach", {})
    report = {line["name"]: line for line in run["tasks"]["report"]["value"]}
    assert list(report) == ["Ada", "Bruno", "Chiara", "Deniz", "Elif"]
    assert (report["Deniz"]["result"], report["Deniz"]["answer"]) == ("voicemail", None)
    assert (report["Chiara"]["result"], report["Chiara"]["attempts"]) == ("human", 2)
    for name in ("Ada", "Bruno", "Chiara", "Elif"):
        answer = report[name]["answer"]
        assert 0 <= answer["satisfaction"] <= 10
        assert answer["would_order_again"] in (True, False)
    assert_one_order_each(run, people=5)
    for index in range(5):
        dialled, waited = run["tasks"][f"dial[{index}]"], run["tasks"][f"wait_for_end[{index}]"]
        page = f"https://app.example.com/calls/{dialled['value']}"
        assert dialled["links"] == [page, ""]
        assert waited["links"][0] == page
        assert waited["links"][1].endswith(".wav")


@pytest.mark.timeout(300)
def test_outreach_takes_contacts_from_the_conf_and_survives_a_bad_one(airflow: dict[str, str]) -> None:
    contacts = [
        {"name": "Nobody", "phone_number": "not a number"},
        {"name": "Busy", "phone_number": "+14155550153"},
        {"name": "Ada", "phone_number": "+14155550108"},
    ]
    [run] = run_dag(airflow, "example_revox_outreach", {"contacts": contacts})
    assert run["tasks"]["dial[0]"]["state"] == "failed"
    report = {line["name"]: line for line in run["tasks"]["report"]["value"]}
    assert list(report) == ["Busy", "Ada"]
    assert report["Busy"]["answer"] is None
    assert report["Ada"]["answer"]["satisfaction"] >= 0
    assert_one_order_each(run, people=2)


@pytest.mark.timeout(300)
def test_enrichment_fills_the_gaps_and_asks_only_for_them(airflow: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "companies.sqlite"
    first, second = run_dag(airflow, "example_revox_enrichment", {"table": str(path)}, {"table": str(path)})
    with closing(sqlite3.connect(path)) as table:
        rows = table.execute("SELECT name, contact_email, employees FROM companies ORDER BY name").fetchall()
    found = {name: (email, employees) for name, email, employees in rows}
    assert found["Cobalt Foods"] == (None, None)  # a phone menu told nothing
    assert found["Delta Print"] == ("info@deltaprint.example", 12)  # was complete
    for company in ("Alder & Sons", "Brightwater"):
        email, employees = found[company]
        assert "@" in email
        assert employees >= 1
    assert first["tasks"]["write_back"]["value"] == ["Alder & Sons", "Brightwater"]
    assert first["tasks"]["ask[2]"]["state"] == "skipped"
    assert_one_order_each(first, people=3)
    assert list(second["stats"]["orders_per_number"]) == ["+14155550155"]


SOON = {"call_in_minutes": 0.02, "call_back_in_minutes": 0.04}


def contact(phone_number: str, call_back_number: str) -> dict[str, Any]:
    return {"contact": {"name": "Farah", "phone_number": phone_number, "call_back_number": call_back_number}}


@pytest.mark.timeout(300)
def test_follow_up_calls_back_only_those_who_asked_or_were_not_reached(airflow: dict[str, str]) -> None:
    not_reached, no_answer, asked, decided = run_dag(
        airflow,
        "example_revox_follow_up",
        SOON,
        # Busy at every attempt: the order ends as errored, and its task as failed.
        SOON | contact("+14155550153", "+14155550102"),
        # With seed 7, 104 asks to be called back and 103 confirms at once.
        SOON | contact("+14155550104", "+14155550100"),
        SOON | contact("+14155550103", "+14155550100"),
    )
    for run, decision in ((not_reached, "confirmed"), (no_answer, "confirmed"), (asked, "cancelled")):
        assert run["tasks"]["call_back"]["state"] == "success"
        assert run["tasks"]["close"]["value"] == decision
        assert_one_order_each(run, people=2)
    assert no_answer["tasks"]["first_call"]["state"] == "failed"
    assert asked["tasks"]["first_call"]["value"] == {"decision": "call me back"}
    assert decided["tasks"]["call_back"]["state"] == "skipped"
    assert decided["tasks"]["close"]["value"] == "confirmed"
    assert_one_order_each(decided, people=1)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_read_quickly_and_touches_nothing(airflow: dict[str, str], name: str) -> None:
    # Python compiles what it reads for the first time, which writes files and takes time; the second import counts.
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:example", "-c", IMPORTER, str(EXAMPLES / f"{name}.py")],
            env=airflow,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["dag_id"] == name
    assert seen["touched"] == []
    assert seen["seconds"] < 1


def test_the_examples_dial_only_numbers_reserved_for_fiction() -> None:
    for name in NAMES:
        numbers = re.findall(r"\+\d{7,}", (EXAMPLES / f"{name}.py").read_text())
        assert numbers
        assert all(re.fullmatch(r"\+141555501\d\d", number) for number in numbers)
