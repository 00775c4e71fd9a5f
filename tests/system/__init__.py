"""Real Airflow processes that die at the worst moment, and what becomes of the calls; see docs/reliability.md."""
