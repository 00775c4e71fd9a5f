"""Apache Airflow provider for Revox: have people phoned from a DAG, once each, and get typed answers back."""

from __future__ import annotations

__version__ = "0.1.0"
