"""A throw-away Airflow: scheduler, triggerer, DAG processor and API server as processes, on SQLite, for this machine only."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from demo_processes import DemoError

if TYPE_CHECKING:
    from demo_processes import Processes

EXAMPLE_DAGS = Path(__file__).resolve().parent.parent / "example_dags"
START_WITHIN_SECONDS = 120.0
RUN = "demo"


class Airflow:
    """
    Start an Airflow in a directory, and talk to it over its REST API.

    :param home: a directory that nobody else uses; holds the database, the logs and everything else.
    :param revox: base URL of the Revox that the connection ``revox_default`` leads to.
    """

    def __init__(self, home: Path, processes: Processes, revox: str, api_key: str) -> None:
        self._processes = processes
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**clean_environment(home), **settings(home, port), **_connection(revox, api_key)}
        # The environment may name a proxy, which has no business here.
        self._rest = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def start(self) -> None:
        """Make the database and start all components, as far as possible at the same time."""
        # By far the slowest to start, and it needs no database for that. A line for each request would slow it down.
        self._component(
            "api-server", AIRFLOW__DATABASE__CHECK_MIGRATIONS="False", AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING"
        )
        self._component("db-migrate", command=("db", "migrate"))
        self._processes.finish("db-migrate", START_WITHIN_SECONDS)
        self._component("dag-processor")
        # Their log servers would listen on every address of this machine; all logs lie in files here anyway.
        self._component("scheduler", "--skip-serve-logs")
        self._component("triggerer", "--skip-serve-logs")

    def _component(self, name: str, *arguments: str, command: tuple[str, ...] = (), **extra: str) -> None:
        self._processes.start(
            name, [sys.executable, "-m", "airflow", *(command or (name,)), *arguments], {**self._environment, **extra}
        )

    # --- over the REST API ----------------------------------------

    def wait_for_api(self) -> None:
        """
        Wait until the API server answers, tasks included.

        It builds the API for the tasks when that is first asked, for seconds in which it answers nobody. Asked here, it does
        so while the other components start, and not when the first task runs.
        """
        self._processes.until(lambda: self._says("/execution/health"), "the API server to answer", START_WITHIN_SECONDS)

    def wait_until_healthy(self) -> None:
        """Wait until every component says that it works."""
        self._processes.until(self._is_healthy, "all of Airflow to be healthy", START_WITHIN_SECONDS)

    def wait_for_dags(self, dag_ids: list[str]) -> None:
        """Wait until the DAG processor has read these DAGs. :raises DemoError: when a file cannot be imported."""
        self._processes.until(
            lambda: self._has_dags(dag_ids), "the DAG processor to read the DAGs", START_WITHIN_SECONDS
        )

    def run(self, dag_id: str, conf: dict[str, Any]) -> None:
        """Start a run of a DAG."""
        reply = self._rest.post(
            f"/api/v2/dags/{dag_id}/dagRuns", json={"dag_run_id": RUN, "logical_date": None, "conf": conf}
        )
        if reply.is_error:
            raise DemoError(f"Airflow did not start a run of {dag_id}: {reply.status_code} {reply.text}")

    def run_states(self) -> dict[str, str]:
        """Return the state of each DAG's run."""
        return {run["dag_id"]: run["state"] for run in self._get("/api/v2/dags/~/dagRuns")["dag_runs"]}

    def task_instances(self) -> list[dict[str, Any]]:
        """Return the task instances of all runs."""
        found: list[dict[str, Any]] = self._get("/api/v2/dags/~/dagRuns/~/taskInstances", limit=100)["task_instances"]
        return found

    def xcoms(self, key: str) -> dict[tuple[str, str, int], Any]:
        """Return the values of all XComs with a key, by DAG, task and map index."""
        entries = self._get("/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries", limit=100, xcom_key=key)[
            "xcom_entries"
        ]
        return {
            (entry["dag_id"], entry["task_id"], entry["map_index"]): self._get(
                f"/api/v2/dags/{entry['dag_id']}/dagRuns/{RUN}/taskInstances/{entry['task_id']}/xcomEntries/{key}",
                map_index=entry["map_index"],
                deserialize=True,
            )["value"]
            for entry in entries
        }

    def _says(self, path: str) -> dict[str, Any] | None:
        """Return what Airflow answers, None while it does not."""
        try:
            return self._get(path)
        except httpx.HTTPError:
            return None

    def _is_healthy(self) -> bool:
        health = self._says("/api/v2/monitor/health") or {}
        components = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(health.get(component, {}).get("status") == "healthy" for component in components)

    def _has_dags(self, dag_ids: list[str]) -> bool:
        for error in self._get("/api/v2/importErrors")["import_errors"]:
            raise DemoError(f"{error['filename']} cannot be imported:\n{error['stack_trace']}")
        return {dag["dag_id"] for dag in self._get("/api/v2/dags")["dags"]}.issuperset(dag_ids)

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._rest.get(path, params=query).raise_for_status().json()
        return reply


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without what reaches into the demo or out of it: another Airflow's settings, proxies."""
    (home / "tmp").mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "_AIRFLOW")) and not name.lower().endswith("_proxy")
    }
    kept["TMPDIR"] = str(home / "tmp")
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Then each of a dozen processes would compile all of Airflow anew; here nobody is bothered by what they keep.
        kept["PYTHONPYCACHEPREFIX"] = str(home / "pycache")
    return kept


def settings(home: Path, port: int) -> dict[str, str]:
    """Return the environment of an Airflow that lives in a directory and whose API server listens on a port."""
    values = {
        "CORE__DAGS_FOLDER": str(EXAMPLE_DAGS),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # no login: only this machine can reach it
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "API__WORKERS": "1",
        # Otherwise each component would make up its own: they start at the same moment.
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
    }
    environment = {f"AIRFLOW__{name}": value for name, value in values.items()}
    return {
        **environment,
        "AIRFLOW_HOME": str(home),
        # Simulated people answer at once, so look as often as is allowed.
        "REVOX_EXAMPLE_POKE_INTERVAL": "1",
        "REVOX_EXAMPLE_MAX_POLL_INTERVAL": "2",
    }


def _connection(revox: str, api_key: str) -> dict[str, str]:
    return {"AIRFLOW_CONN_REVOX_DEFAULT": json.dumps({"conn_type": "revox", "host": revox, "password": api_key})}
