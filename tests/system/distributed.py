"""The Airflow of the system tests as companies run it: PostgreSQL, Celery with Redis, and two of whatever there can be two of."""

from __future__ import annotations

import psutil

from tests.system.deployment import Deployment
from tests.system.services import start_redis

#: A dead worker's task is taken up after this many seconds, a dead triggerer's triggers and a dead scheduler's tasks likewise.
TASK_LEASE_SECONDS = 12
TRIGGER_LEASE_SECONDS = 8
SCHEDULER_LEASE_SECONDS = 12
#: Tasks that one worker runs at a time; those that a test has stopped keep their places.
WORKER_CONCURRENCY = 12
#: What nobody has begun is queued anew after this time, and may no longer begin: its token is as old.
QUEUED_SECONDS = 60
#: What was delivered and is not finished is delivered once more after this time.
VISIBILITY_TIMEOUT_SECONDS = 600


def distributed_settings(
    broker_url: str, *, schedulers: int = 2, workers: int = 2, visibility_timeout: int = VISIBILITY_TIMEOUT_SECONDS
) -> dict[str, str]:
    """
    Return Airflow's settings, as ``SECTION__NAME``, for Celery with Redis on one small machine, with short leases.

    A heartbeat comes every 2 s, and whoever misses several of them counts as dead: where a dozen processes share two cores,
    single ones are late.

    :param schedulers: how many share the tasks.
    :param workers: how many run them.
    :param visibility_timeout: seconds; short for a test of what is delivered twice.
    """
    return {
        "CORE__EXECUTOR": "CeleryExecutor",
        # For each scheduler. Together no more than the workers have room for, lest tasks wait in Redis and count as lost.
        "CORE__PARALLELISM": str(workers * WORKER_CONCURRENCY // schedulers),
        "CELERY__BROKER_URL": broker_url,
        # Results are kept in Airflow's own database, as by default: Airflow advises against Redis there.
        "CELERY__WORKER_CONCURRENCY": str(WORKER_CONCURRENCY),
        # One second, the default, is little for sending a task from a busy scheduler; what is cut off may have been sent.
        "CELERY__OPERATION_TIMEOUT": "10",
        # Longer than any task here. A message that comes again while its task runs is ignored within QUEUED_SECONDS; later its
        # token is out of date, which Airflow 3.3 takes for the task's failure: it starts another try.
        "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(visibility_timeout),
        # A worker looks for such messages at every tenth of these intervals, so every 10 s and not every 100 s.
        "CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "1",
        # A process in each worker that these tests have no use for.
        "DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_INTERVAL": "0",
        # --- a worker dies: its tasks …
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(TASK_LEASE_SECONDS),
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        # … and those that it had taken but not begun. They come back twice by default, then they fail.
        "SCHEDULER__TASK_QUEUED_TIMEOUT": str(QUEUED_SECONDS),
        "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
        "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
        # --- a triggerer dies, or its event loop stands still
        "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(TRIGGER_LEASE_SECONDS),
        "TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": str(TRIGGER_LEASE_SECONDS),
        # --- a scheduler dies: until another adopts them, nobody looks whether the tasks that it queued are alive
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
        "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(SCHEDULER_LEASE_SECONDS),
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "4",
        # Two that look for work five times a second would be at it all the time.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    }


class Distributed(Deployment):
    """Airflow on PostgreSQL with Celery and Redis: two schedulers, two workers, two triggerers."""

    schedulers = ("scheduler-1", "scheduler-2")

    def settings(self) -> dict[str, str]:
        broker_url = start_redis(self.machine, self.home)
        return distributed_settings(broker_url, schedulers=len(self.schedulers), workers=len(self.workers))

    @property
    def workers(self) -> tuple[str, ...]:
        return ("worker-1", "worker-2")

    def _start_working(self) -> None:
        super()._start_working()
        for name in self.workers:
            # Without a log server, which would listen on every address and on the same port for both; and each with a name.
            options = (
                "--skip-serve-logs",
                "--without-mingle",
                "--without-gossip",
                "--celery-hostname",
                f"{name}@localhost",
            )
            self._start(name, "celery", "worker", *options)

    def is_healthy(self) -> bool:
        return super().is_healthy() and all(map(self._takes_tasks, self.workers))

    def _takes_tasks(self, worker: str) -> bool:
        """Say whether a worker has forked those that run the tasks; its log would still tell of the one before."""
        return len(psutil.Process(self.machine.main_pid(worker)).children()) >= WORKER_CONCURRENCY
