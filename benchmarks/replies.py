"""What the services answer while something runs and when it has ended, in shape and size as they do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from airflow_provider_revox.simulator import Simulator

#: Stands for the id in a reply; as wide as an id of Revox.
_ID = "00000000-0000-4000-8000-999999999999"


@dataclass(frozen=True)
class Template:
    """Bytes of a reply around the places where an id stands."""

    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, value: object, placeholder: str = _ID) -> Template:
        """Return the template of a value as compact JSON."""
        return cls(tuple(json.dumps(value, separators=(",", ":")).encode().split(placeholder.encode())))

    def filled(self, identifier: bytes) -> bytes:
        """Return the reply about one thing."""
        return identifier.join(self.parts)


@dataclass(frozen=True)
class Replies:
    """The replies of one service, before and after the end."""

    running: Template
    ended: Template


def call_orders() -> Replies:
    """Return a call order in conversation, and the same order completed, both as the simulator shows them."""
    prompt = "Ask whether the appointment on Thursday still stands, and if not, which day would suit better. "
    request = {"phone_number": "+14155550100", "force_now": True, "assistant": {"prompt": prompt * 3}}
    with (
        Simulator(speed=0.001, live_fields=True) as revox,
        httpx.Client(base_url=revox.base_url, headers={"Authorization": f"Bearer {revox.api_key}"}) as client,
    ):
        call_id = client.post("/call", json=request).json()["call"]["id"]

        def shown(attempt_status: str) -> Template:
            for _ in range(1000):
                order = client.get(f"/call/{call_id}").json()["call"]
                if (order["last_call_attempt"] or {}).get("status") == attempt_status:
                    return Template.of(order, call_id)
                revox.advance(5)
            raise RuntimeError(f"the simulator's call never came to {attempt_status}")

        running = shown("ongoing")
        revox.advance(3600)
        return Replies(running, shown("completed"))


def dbt_cloud_runs() -> Replies:
    """Return a run of a dbt Cloud job as API v2 shows it: status 3 while it runs, 10 when it succeeded."""

    def run(status: int) -> dict[str, Any]:
        ended = status == 10
        return {
            "status": {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""},
            "data": {
                "id": 999999999999,
                "trigger_id": 340471298,
                "account_id": 1,
                "environment_id": 218762,
                "project_id": 270542,
                "job_definition_id": 411293,
                "status": status,
                "dbt_version": "latest",
                "git_branch": "main",
                "git_sha": "9f1c0d7f4b2c4a0e8f5d7b8c7a6f5e4d3c2b1a09",
                "status_message": None,
                "owner_thread_id": None,
                "executed_by_thread_id": "scheduler-run-5d8c7b9f6d-x2x9k",
                "deferring_run_id": None,
                "artifacts_saved": ended,
                "artifact_s3_path": None,
                "has_docs_generated": False,
                "has_sources_generated": False,
                "notifications_sent": ended,
                "blocked_by": [],
                "created_at": "2025-03-10 09:00:02.913712+00:00",
                "updated_at": "2025-03-10 09:03:12.501817+00:00",
                "dequeued_at": "2025-03-10 09:00:04.121872+00:00",
                "started_at": "2025-03-10 09:00:09.512931+00:00",
                "finished_at": "2025-03-10 09:09:12.120311+00:00" if ended else None,
                "last_checked_at": None,
                "last_heartbeat_at": None,
                "should_start_at": None,
                "trigger": None,
                "job": None,
                "environment": None,
                "run_steps": [],
                "status_humanized": "Success" if ended else "Running",
                "in_progress": not ended,
                "is_complete": ended,
                "is_success": ended,
                "is_error": False,
                "is_cancelled": False,
                "duration": "00:03:10",
                "queued_duration": "00:00:06",
                "run_duration": "00:03:03",
                "duration_humanized": "3 minutes",
                "queued_duration_humanized": "6 seconds",
                "run_duration_humanized": "3 minutes",
                "created_at_humanized": "3 minutes ago",
                "finished_at_humanized": "0 minutes from now",
                "retrying_run_id": None,
                "can_retry": False,
                "retry_not_supported_reason": "RETRY_NOT_FAILED_RUN",
                "job_id": 411293,
                "is_running": None,
                "href": "https://cloud.getdbt.com/deploy/1/projects/270542/runs/999999999999/",
                "used_repo_cache": None,
            },
        }

    return Replies(Template.of(run(3), "999999999999"), Template.of(run(10), "999999999999"))


def fivetran_connectors() -> Replies:
    """Return details of a Fivetran connector while it syncs, and when a sync has just succeeded."""

    def connector(succeeded_at: str, sync_state: str) -> dict[str, Any]:
        return {
            "code": "Success",
            "data": {
                "id": "connector_999999999999",
                "group_id": "projected_sickle",
                "service": "postgres",
                "service_version": 1,
                "schema": "orders_db",
                "connected_by": "concerning_batch",
                "created_at": "2024-11-05T10:37:15.238532Z",
                "succeeded_at": succeeded_at,
                "failed_at": None,
                "paused": False,
                "pause_after_trial": False,
                "sync_frequency": 360,
                "data_delay_threshold": 0,
                "data_delay_sensitivity": "NORMAL",
                "private_link_id": None,
                "networking_method": "Directly",
                "proxy_agent_id": None,
                "schedule_type": "auto",
                "status": {
                    "setup_state": "connected",
                    "schema_status": "ready",
                    "sync_state": sync_state,
                    "update_state": "on_schedule",
                    "is_historical_sync": False,
                    "tasks": [],
                    "warnings": [],
                },
                "setup_tests": [
                    {"title": "Host Connection", "status": "PASSED", "message": ""},
                    {"title": "Database Connection", "status": "PASSED", "message": ""},
                ],
                "config": {
                    "host": "db.example.com",
                    "port": 5432,
                    "database": "orders",
                    "user": "fivetran",
                    "password": "******",
                    "update_method": "XMIN",
                    "connection_type": "Directly",
                    "always_encrypted": True,
                },
            },
        }

    return Replies(
        Template.of(connector("2025-03-10T09:00:00.000000Z", "syncing"), "999999999999"),
        Template.of(connector("2035-03-10T09:00:00.000000Z", "scheduled"), "999999999999"),
    )


def airbyte_jobs() -> Replies:
    """Return an Airbyte job while it runs and when it succeeded."""

    def job(status: str) -> dict[str, Any]:
        return {
            "jobId": 999999999999,
            "status": status,
            "jobType": "sync",
            "startTime": "2025-03-10T09:00:02Z",
            "connectionId": "7f4b2c4a-0e8f-4d7b-8c7a-6f5e4d3c2b1a",
            "lastUpdatedAt": "2025-03-10T09:03:12Z",
            "duration": "PT3M10S",
            "bytesSynced": 104857600,
            "rowsSynced": 128400,
        }

    return Replies(Template.of(job("running"), "999999999999"), Template.of(job("succeeded"), "999999999999"))
