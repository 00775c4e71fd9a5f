"""
Cancelling the order of a task that a person ended.

Airflow asks tasks and triggers to stop for many reasons: a worker is shut down, a task is cleared, marked successful, taken for
dead. Only a task that *is* failed or skipped was meant to end with its call; in all other cases somebody, perhaps the next
try, still waits for the answer. So the state is asked for, and whenever it cannot be told the call is left alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_revox.exceptions import RevoxConnectionError, RevoxError, RevoxNotFoundError

if TYPE_CHECKING:
    from airflow_provider_revox.hooks import RevoxHook

log = logging.getLogger(__name__)

#: On a worker: Airflow kills a task that takes long to stop.
CANCEL_WITHIN_SECONDS = 30.0
#: In the triggerer nobody waits for it. The first question for a task's state was seen to take over 30 s on a busy machine.
CANCEL_IN_TRIGGERER_WITHIN_SECONDS = 120.0
CANCEL_TRIES = 3

#: The share of a task's lease that its heartbeats, and so Airflow, cannot have missed by chance.
_UNSEEN_SHARE = 0.75

#: Keeps the event loop from forgetting what is under way.
_under_way: set[asyncio.Task[None]] = set()

#: The task states in which the call of the task is cancelled.
ENDED_BY_A_PERSON = frozenset({"failed", "skipped"})


class StopRequest:
    """
    What a task's `on_kill` leaves for the loop that waits. A signal handler must not do more than that.

    It also knows whether the loop stood still for so long (its process was stopped, its machine asleep) that Airflow may have
    taken the task for dead. After the last try Airflow itself marks such a task failed, and nobody wished its call away.
    """

    def __init__(self) -> None:
        self.asked = False
        # Not the monotonic clock: it stands still with the machine.
        self._seen_at = time.time()
        self._stood_still_until: float | None = None

    def ask(self) -> None:
        """Ask the loop to look whether the task is to end."""
        self.asked = True

    def goes_on(self) -> None:
        """Note that the loop is alive; between two looks to be called every few seconds."""
        now = time.time()
        if now - self._seen_at >= _UNSEEN_SHARE * _lease_seconds():
            self._stood_still_until = now
        self._seen_at = now

    @property
    def stood_still(self) -> bool:
        """Say whether the loop stood still until a short time ago."""
        return self._stood_still_until is not None and time.time() - self._stood_still_until < _lease_seconds()


def _lease_seconds() -> float:
    """Return after how many seconds without a heartbeat Airflow takes a task for dead; workers go by it as well."""
    seconds: float = conf.getfloat("scheduler", "task_instance_heartbeat_timeout", fallback=300.0)
    return seconds


def is_to_be_cancelled(call_id: str, state: str | None, *, stood_still: bool = False) -> bool:
    """Decide whether a call goes with its task, and say why in the log."""
    if state not in ENDED_BY_A_PERSON:
        log.info("Call %s is left alone, because its task is %s", call_id, state or "not to be found")
        return False
    if stood_still:
        why = "but stood still before, so that Airflow may have taken it for dead"
        log.warning("Call %s is left alone: its task is %s, %s", call_id, state, why)
        return False
    return True


def cancel_on_worker(hook: RevoxHook, call_id: str, because: str) -> bool | None:
    """
    Cancel an order; True when Revox did, False when it certainly did not, None when that cannot be told.

    Never raises for what Revox answers: the log tells.
    """
    outcome: bool | RevoxError
    try:
        outcome = _cancel_briefly(hook, call_id)
    except RevoxError as error:
        outcome = error
    return _tell(call_id, because, outcome)


def _cancel_briefly(hook: RevoxHook, call_id: str) -> bool:
    """Ask with less patience than for other requests: Airflow kills a task that takes long to stop."""
    from airflow_provider_revox import endpoints
    from airflow_provider_revox.client import RevoxClient
    from airflow_provider_revox.hooks import require_extensions

    settings = hook.get_conn().settings
    require_extensions(settings, "cancel_call")
    client = RevoxClient(
        replace(
            settings,
            timeout=min(settings.timeout, CANCEL_WITHIN_SECONDS / CANCEL_TRIES * 0.75),
            tries=CANCEL_TRIES,
            longest_pause_seconds=CANCEL_WITHIN_SECONDS / CANCEL_TRIES * 0.25,
        )
    )
    try:
        return client.send(endpoints.cancel_call(call_id))
    finally:
        client.close()


async def cancel_if_ended(conn_id: str, call_id: str, ti: Any, deadline: float | None) -> None:
    """
    Cancel the order of a trigger whose task was ended as failed or skipped before the deadline (POSIX time) of its wait.

    The work goes on when the caller is cancelled: Airflow 3.3 cancels a trigger again each time it synchronises, and so
    cuts off its `on_kill` while the first question for a task's state takes seconds in a fresh triggerer.
    """
    if deadline is not None and time.time() >= deadline:
        # A triggerer that slept is told to stop what another one has brought to its end since: that task failed by itself.
        log.info("Call %s is left alone, because the wait for it is over", call_id)
        return
    work = asyncio.get_running_loop().create_task(_cancel_if_ended(conn_id, call_id, ti))
    _under_way.add(work)
    work.add_done_callback(_under_way.discard)
    await asyncio.shield(work)


async def _cancel_if_ended(conn_id: str, call_id: str, ti: Any) -> None:
    from airflow_provider_revox.hooks import RevoxHook

    async def decide() -> None:
        state = await state_in_triggerer(ti)
        if is_to_be_cancelled(call_id, state):
            await cancel_in_triggerer(RevoxHook(conn_id), call_id, f"its task is {state}")

    try:
        await asyncio.wait_for(decide(), CANCEL_IN_TRIGGERER_WITHIN_SECONDS)
    except asyncio.TimeoutError:
        log.warning("Call %s may not be cancelled: that took over %s s", call_id, CANCEL_IN_TRIGGERER_WITHIN_SECONDS)


async def cancel_in_triggerer(hook: RevoxHook, call_id: str, because: str) -> bool | None:
    """Cancel an order; the async twin of `cancel_on_worker`."""
    outcome: bool | RevoxError
    try:
        outcome = await hook.acancel_call(call_id)
    except RevoxError as error:
        outcome = error
    return _tell(call_id, because, outcome)


def _tell(call_id: str, because: str, outcome: bool | RevoxError) -> bool | None:
    from airflow_provider_revox.client import is_certainly_not_taken

    if outcome is True:
        log.info("Call %s is cancelled, because %s", call_id, because)
        return True
    if outcome is False:
        # By itself, or by an earlier try of this very request whose reply was lost.
        log.info("Call %s is not cancelled: it had ended", call_id)
        return None
    if isinstance(outcome, RevoxNotFoundError):
        log.warning("Call %s is not cancelled: this Revox deployment cannot cancel; it goes on", call_id)
        return False
    certain = isinstance(outcome, RevoxConnectionError) or is_certainly_not_taken(outcome)
    log.warning("Call %s %s: %s", call_id, "is not cancelled" if certain else "may not be cancelled", outcome)
    return False if certain else None


def state_on_worker(ti: Any) -> str | None:
    """Return the state that Airflow has for a running task instance; None when there is none, or it cannot be told."""
    try:
        return _only_state(ti.get_task_states(**_which(ti)))
    except Exception as error:  # noqa: BLE001  whatever Airflow raises while it stops a task: the call is left alone
        log.warning("The state of the task cannot be read (%s)", type(error).__name__)
        return None


async def state_in_triggerer(ti: Any) -> str | None:
    """
    Return the state that Airflow has for the task instance of a trigger; None when it cannot be told.

    The one place where a class of Airflow's inside is used: triggers have no public way to ask. Airflow's own
    `ExternalTaskTrigger` asks in the same way.
    """
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        return _only_state(await sync_to_async(RuntimeTaskInstance.get_task_states)(**_which(ti)))
    except Exception as error:  # noqa: BLE001  as on the worker: what cannot be told leaves the call alone
        log.warning("The state of the task cannot be read (%s)", type(error).__name__)
        return None


def _which(ti: Any) -> dict[str, Any]:
    return {"dag_id": ti.dag_id, "map_index": ti.map_index, "task_ids": [ti.task_id], "run_ids": [ti.run_id]}


def _only_state(states: dict[str, dict[str, Any]]) -> str | None:
    found = [state for of_run in states.values() for state in of_run.values()]
    return str(found[0]) if len(found) == 1 and found[0] is not None else None
