"""Scenarios side by side."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any


class Together:
    """
    Scenarios that run at the same time in one Airflow; each test looks at what came of its own.

    :param at_once: how many.
    """

    def __init__(self, at_once: int) -> None:
        self._pool = ThreadPoolExecutor(at_once)
        self._futures: dict[Any, Future[Any]] = {}

    def begin(self, key: Any, play: Any, *arguments: Any) -> None:
        self._futures[key] = self._pool.submit(play, *arguments)

    def __getitem__(self, key: Any) -> Any:
        return self._futures[key].result()

    def wait(self) -> None:
        """Wait until all that were begun have ended; what one raised is raised where it is asked for."""
        wait(self._futures.values())

    def close(self, *, wait_for_them: bool = True) -> None:
        """End. Those that nobody waits for may go on until they notice that their Airflow is gone."""
        self._pool.shutdown(wait=wait_for_them, cancel_futures=True)
