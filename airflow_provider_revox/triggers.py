"""Waiting for a call in the triggerer. A trigger never dials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class RevoxCallTrigger(BaseTrigger):
    """
    Wait for the end of one call order, however long the API is away, until a deadline.

    Fires once, with ``{"call_id": …, "status": …, "reason": …}`` and nothing else: the worker reads the order itself. The
    reason is ``ended``, ``deadline`` or ``not_visible``; the status is that of the last look, None if there was none.

    All arguments are JSON primitives, for they are stored in Airflow's database; no secret is among them.

    :param call_id: id of the order.
    :param revox_conn_id: the Airflow connection, read in the triggerer.
    :param poke_interval: seconds; see `airflow_provider_revox.polling.Pace`.
    :param max_poll_interval: seconds.
    :param deadline: POSIX time in seconds after which to stop; None for never.
    :param cancel_on_kill: cancel the order when a person ends the waiting task as failed or skipped (Airflow ≥ 3.3).
    :param later_arguments: of a later version of this provider; carried along.
    """

    def __init__(
        self,
        call_id: str,
        revox_conn_id: str,
        poke_interval: float = 15.0,
        max_poll_interval: float = 600.0,
        deadline: float | None = None,
        cancel_on_kill: bool = False,
        **later_arguments: Any,
    ) -> None:
        # Only assigns: what is raised here would stop the triggerer for everybody.
        super().__init__()  # type: ignore[no-untyped-call]
        self.call_id = call_id
        self.revox_conn_id = revox_conn_id
        self.poke_interval = poke_interval
        self.max_poll_interval = max_poll_interval
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill
        self.later_arguments = later_arguments

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to make this trigger again."""
        return (
            "airflow_provider_revox.triggers.RevoxCallTrigger",
            {
                **self.later_arguments,
                "call_id": self.call_id,
                "revox_conn_id": self.revox_conn_id,
                "poke_interval": self.poke_interval,
                "max_poll_interval": self.max_poll_interval,
                "deadline": self.deadline,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the order until it ends, the deadline passes, or it cannot be seen for good."""
        # Not at the top: DAG files import triggers through operators of their own, and pay for what is imported there.
        from airflow_provider_revox.watcher import watch_call

        end = await watch_call(
            self.call_id, self.revox_conn_id, self.poke_interval, self.max_poll_interval, self.deadline
        )
        yield TriggerEvent({"call_id": self.call_id, "status": end.status, "reason": end.reason})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the order if the task was ended as failed or skipped; Airflow asks for other reasons as well."""
        from airflow_provider_revox.cancelling import cancel_if_ended

        if self.cancel_on_kill and self.task_instance is not None:
            await cancel_if_ended(self.revox_conn_id, self.call_id, self.task_instance, self.deadline)
