"""
Show the provider at work: a real Airflow runs the three example DAGs against the simulator, and nobody is phoned.

Everything lives in a temporary directory and on free ports of this machine, and is gone afterwards. Usage::

    python scripts/demo.py            # runs for about a minute; exit code 0 when all is as it should be
    python scripts/demo.py --keep     # leaves Airflow up to look around in, until Ctrl-C
"""

from __future__ import annotations

import argparse
import re
import secrets
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
from demo_airflow import RUN, Airflow
from demo_processes import DemoError, Interruptions, Processes
from demo_screen import Row, Screen, person_of

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTREACH, ENRICHMENT, FOLLOW_UP = DAGS = [
    "example_revox_outreach",
    "example_revox_enrichment",
    "example_revox_follow_up",
]
#: A quarter of an hour until the next attempt passes in nine seconds, a talk of two minutes in little more than one.
SIMULATOR_SPEED = 100
SIMULATOR_WITHIN_SECONDS = 60.0
RUNS_WITHIN_SECONDS = 180.0
#: Not oftener: the API server that answers is the one that the tasks need.
FOLLOW_EVERY_SECONDS = 1.0


class Revox:
    """The simulator, as a process."""

    def __init__(self, home: Path, processes: Processes) -> None:
        self.api_key = secrets.token_hex(16)
        self._processes = processes
        processes.start(
            "simulator",
            [
                *(sys.executable, "-m", "airflow_provider_revox.simulator", "--port", "0"),
                *("--speed", str(SIMULATOR_SPEED), "--api-key", self.api_key),
            ],
            {"PATH": "", "TMPDIR": str(home)},
        )
        self.url = processes.until(self._address, "the simulator to listen", SIMULATOR_WITHIN_SECONDS)
        self._control = httpx.Client(base_url=f"{self.url.removesuffix('/api')}/_simulator", trust_env=False)

    def _address(self) -> str:
        said = re.search(r"listening on (\S+)", self._processes.log_of("simulator").read_text())
        return said[1] if said else ""

    def orders(self) -> list[dict[str, Any]]:
        """Return all orders so far."""
        orders: list[dict[str, Any]] = self._control.get("/orders").raise_for_status().json()
        return orders

    def stats(self) -> dict[str, Any]:
        """Return the counts so far."""
        stats: dict[str, Any] = self._control.get("/stats").raise_for_status().json()
        return stats

    def skip_to_morning(self) -> None:
        """Set its clock to nine in the morning where the people live, for nobody is phoned at night."""
        now = datetime.fromisoformat(self.stats()["now"].replace("Z", "+00:00")).astimezone(
            ZoneInfo("America/Los_Angeles")
        )
        morning = (now + timedelta(days=now.hour >= 9)).replace(hour=9, minute=0, second=0)
        seconds = morning.timestamp() - now.timestamp()
        self._control.post("/advance", json={"seconds": seconds}).raise_for_status()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description="Run the example DAGs in a real Airflow against the simulator.")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    options = parser.parse_args(arguments)
    interruptions = Interruptions()
    home = Path(tempfile.mkdtemp(prefix="revox-demo-"))
    screen, processes = Screen(), Processes(home, interruptions)
    try:
        interruptions.let_through()
        return demonstrate(home, screen, processes, keep=options.keep)
    except (DemoError, httpx.HTTPError) as error:
        screen.close()
        screen.say(f"[red]The demo failed:[/] {error}")
        screen.show_logs(getattr(error, "logs", []))
        return 1
    finally:
        # Once begun, the clearing up is finished, however impatient somebody is.
        interruptions.hold()
        screen.waiting("stopping everything")
        processes.stop()
        shutil.rmtree(home, ignore_errors=True)
        screen.close()
        screen.say("stopped, nothing is left behind")


def demonstrate(home: Path, screen: Screen, processes: Processes, *, keep: bool) -> int:
    """Start everything, run the DAGs, and show what came of it."""
    screen.print("[bold]Revox provider demo[/]: a throw-away Airflow phones simulated people. Nobody real is called.\n")
    screen.waiting("starting the simulator")
    revox = Revox(home, processes)
    screen.say(f"simulator at {revox.url}, {SIMULATOR_SPEED} times faster than life")
    airflow = Airflow(home, processes, revox.url, revox.api_key)
    screen.waiting("making Airflow's database and starting its API server")
    airflow.start()
    screen.say("database made")
    screen.waiting("starting scheduler, triggerer, DAG processor and API server")
    airflow.wait_for_api()
    airflow.wait_for_dags(DAGS)
    screen.say(f"Airflow has read the DAGs: {', '.join(DAGS)}")
    airflow.wait_until_healthy()
    screen.say(f"Airflow is up at {airflow.url}")
    revox.skip_to_morning()
    table = home / "companies.sqlite"
    airflow.run(OUTREACH, {})
    airflow.run(ENRICHMENT, {"table": str(table)})
    # Hours and days of the file's defaults become seconds.
    airflow.run(FOLLOW_UP, {"call_in_minutes": 0.05, "call_back_in_minutes": 0.1})
    screen.say("the DAGs' runs are started")
    states = follow(screen, processes, airflow, revox)
    screen.close()
    as_it_should_be = conclude(screen, airflow, revox, states, table, home)
    if keep:
        screen.print(
            f"\nAirflow's UI: [bold]{airflow.url}[/]  (no login)   Table: {table}\nCtrl-C ends it and clears up."
        )
        while True:
            processes.check()
            time.sleep(1)
    return 0 if as_it_should_be else 1


def follow(screen: Screen, processes: Processes, airflow: Airflow, revox: Revox) -> dict[str, str]:
    """Show how it goes until all runs have ended, and return their states."""
    deadline = time.monotonic() + RUNS_WITHIN_SECONDS
    while True:
        processes.check()
        states = airflow.run_states()
        screen.show_orders(revox.orders())
        screen.show_runs(states, airflow.task_instances())
        if all(state in ("success", "failed") for state in states.values()):
            return states
        if time.monotonic() > deadline:
            logs = [processes.log_of(name) for name in ("scheduler", "triggerer")]
            raise DemoError(f"The DAG runs did not end within {RUNS_WITHIN_SECONDS:g} s: {states}", logs)
        time.sleep(FOLLOW_EVERY_SECONDS)


def conclude(screen: Screen, airflow: Airflow, revox: Revox, states: dict[str, str], table: Path, home: Path) -> bool:
    """Show the calls, compare what Airflow and Revox know of them, and say whether all is as it should be."""
    orders = {order["id"]: order for order in revox.orders()}
    calls, answers = airflow.xcoms("call"), airflow.xcoms("return_value")
    filled = companies(table)
    rows = []
    for place, call in sorted(calls.items(), key=lambda item: (DAGS.index(item[0][0]), item[1]["created_at"])):
        order = orders[call["id"]]
        person = person_of(order)
        answer = filled.get(person) if place[0] == ENRICHMENT else answers.get(place)
        outcome = call["result"] or call["dial_error"] or call["status"]
        rows.append(Row(place[0], person, order["to_phone_number"], outcome, call["attempts"], answer))
    screen.show_calls(rows)

    per_number = revox.stats()["orders_per_number"]
    once = bool(per_number) and set(per_number.values()) == {1}
    same = sorted(call["id"] for call in calls.values()) == sorted(orders)
    failed = [dag_id for dag_id in DAGS if states.get(dag_id) != "success"]
    screen.print(
        f"\nNumbers phoned: {len(per_number)} · orders at Revox: {len(orders)} · most orders for one number:"
        f" {max(per_number.values(), default=0)} · calls known to Airflow: {len(calls)}"
    )
    if failed:
        screen.print(f"[red]✗ DAG runs that failed: {', '.join(failed)}[/]")
    if not once or not same:
        screen.print("[red]✗ Airflow and Revox should agree on exactly one order for each number, and do not[/]")
    if failed or not once or not same:
        screen.show_logs(task_logs(airflow, home))
        return False
    retried = sum(instance["try_number"] > 1 for instance in airflow.task_instances())
    if retried:
        screen.print(f"Tasks that Airflow had to try again: {retried}. They went on with the calls that were placed.")
    screen.print("[green]✓ All DAG runs succeeded, and nobody was ordered to be phoned twice[/]")
    return True


def companies(table: Path) -> dict[str, dict[str, Any]]:
    """Return what the enrichment has found out, by company."""
    with closing(sqlite3.connect(table)) as connection:
        rows = connection.execute("SELECT name, contact_email, employees FROM companies WHERE employees IS NOT NULL")
        return {name: {"contact_email": email, "employees": employees} for name, email, employees in rows}


def task_logs(airflow: Airflow, home: Path) -> list[Path]:
    """Return the logs of the tasks that failed."""
    failed = [instance for instance in airflow.task_instances() if instance["state"] == "failed"]
    return [
        log
        for instance in failed
        for log in (home / "logs" / f"dag_id={instance['dag_id']}" / f"run_id={RUN}").glob(
            f"task_id={instance['task_id']}/"
            + (f"map_index={instance['map_index']}/" if instance["map_index"] >= 0 else "")
            + f"attempt={instance['try_number']}.log"
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
