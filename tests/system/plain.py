"""
What people write without this provider: post the order, wait for its end, let Airflow retry.

The smallest honest one: a timeout on each request, an error for each bad status, and the retries that every guide to Airflow
recommends. It is what the fault list is run against for comparison.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
from airflow.sdk import BaseHook, BaseOperator

ENDED = ("completed", "errored", "cancelled")


class PlainCallOperator(BaseOperator):
    """Have somebody phoned and return the answer."""

    template_fields = ("phone_number", "revox_conn_id")

    def __init__(self, *, phone_number: str, revox_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.phone_number = phone_number
        self.revox_conn_id = revox_conn_id

    def execute(self, context: Any) -> Any:
        connection = BaseHook.get_connection(self.revox_conn_id)
        headers = {"Authorization": f"Bearer {connection.password}"}
        with httpx.Client(base_url=connection.host, headers=headers, timeout=10) as client:
            body = {"phone_number": self.phone_number, "assistant_id": "asst_survey", "force_now": True}
            order = client.post("/call", json=body).raise_for_status().json()["call"]
            while order["status"] not in ENDED:
                time.sleep(1)  # its poll interval: what is compared with is an operator as people write it
                order = client.get(f"/call/{order['id']}").raise_for_status().json()["call"]
        if order["status"] != "completed":
            raise RuntimeError(f"call {order['id']} is {order['status']}")
        attempt = order["last_call_attempt"]
        return attempt and attempt["structured_output"]
