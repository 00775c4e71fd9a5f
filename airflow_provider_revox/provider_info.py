"""What Airflow's provider manager reads about this package; imports nothing, so that listing providers stays fast."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description (schema: ``airflow/provider_info.schema.json``)."""
    integration = "Revox"
    return {
        "package-name": "airflow-provider-revox",
        "name": "Revox",
        "description": "Have people phoned from a DAG, once each, and get typed answers back.",
        "integrations": [
            {"integration-name": integration, "external-doc-url": "https://www.getrevox.com", "tags": ["service"]}
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_provider_revox.hooks"]}],
        "operators": [{"integration-name": integration, "python-modules": ["airflow_provider_revox.operators"]}],
        "sensors": [{"integration-name": integration, "python-modules": ["airflow_provider_revox.sensors"]}],
        "triggers": [{"integration-name": integration, "python-modules": ["airflow_provider_revox.triggers"]}],
        "extra-links": [
            "airflow_provider_revox.links.RevoxCallLink",
            "airflow_provider_revox.links.RevoxRecordingLink",
        ],
        "connection-types": [
            {
                "connection-type": "revox",
                "hook-name": "Revox",
                "hook-class-name": "airflow_provider_revox.hooks.RevoxHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema", "port"],
                    "relabeling": {"password": "API key", "host": "Host"},
                    "placeholders": {
                        "host": "https://www.getrevox.com/api",
                        "password": "the API key of your Revox account",
                    },
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout",
                        "schema": {"type": ["number", "null"]},
                        "description": "Seconds to wait for each part of a reply. Default: 30.",
                    },
                    "max_connections": {
                        "label": "Requests under way at once",
                        "schema": {"type": ["integer", "null"]},
                        "description": "Further requests wait their turn. Default: 16.",
                    },
                    "requests_per_second": {
                        "label": "Requests per second",
                        "schema": {"type": ["number", "null"]},
                        "description": "Upper limit of one process. Default: no limit.",
                    },
                    "deployment": {
                        "label": "Deployment",
                        "schema": {"type": ["string", "null"]},
                        "description": "Name of this Airflow, where several share one Revox account. Default: empty.",
                    },
                    "api_extensions": {
                        "label": "API extensions",
                        "schema": {"type": ["string", "null"], "enum": ["auto", "on", "off", None]},
                        "description": "Cancel and search: auto (where they answer), on (Test insists), off. Default: auto.",
                    },
                    "call_url": {
                        "label": "Address of a call",
                        "schema": {"type": ["string", "null"]},
                        "description": "Where people see a call, with {call_id} in it: the link on a task. Default: no link.",
                    },
                },
            }
        ],
    }
