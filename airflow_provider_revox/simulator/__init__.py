"""A local Revox that phones nobody: the call API with its lives, outcomes and faults, for tests and demos.

Start it with ``python -m airflow_provider_revox.simulator``, or in a test::

    with Simulator(speed=600, seed=7) as simulator:
        client = httpx.Client(base_url=simulator.base_url)

It needs FastAPI, uvicorn and phonenumbers (``pip install airflow-provider-revox[simulator]``).
"""

from __future__ import annotations

from airflow_provider_revox.simulator.server import Simulator

__all__ = ["Simulator"]
