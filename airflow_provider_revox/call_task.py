"""What the tasks that wait for a call have in common. Light, for DAG files pay for its import."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_revox.hooks import RevoxHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from pydantic import BaseModel

    from airflow_provider_revox.cancelling import StopRequest
    from airflow_provider_revox.waiting import CallWait


class CallTask:
    """Mix the settings of `airflow_provider_revox.waiting.CallWait` into an operator, which assigns them."""

    revox_conn_id: str
    deferrable: bool
    poke_interval: Any
    max_poll_interval: float | timedelta
    timeout: Any
    success_when: str
    unsuccessful: str
    output_model: type[BaseModel] | None
    push_transcript: bool
    transcript_path: str | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    _stop: StopRequest | None = None

    def on_kill(self) -> None:
        """Let the waiting loop see whether the call is to be cancelled: Airflow asks to stop for other reasons as well."""
        if self._stop is not None:
            self._stop.ask()

    def _call_wait(self, hook: RevoxHook) -> CallWait:
        """Return how this task waits. :raises RevoxRequestError: for a setting that makes no sense."""
        from airflow_provider_revox.polling import Pace
        from airflow_provider_revox.waiting import CallWait

        timeout = conf.getfloat("sensors", "default_timeout") if self.timeout is None else self.timeout
        wait = CallWait(
            hook=hook,
            pace=Pace(_seconds(self.poke_interval), _seconds(self.max_poll_interval)),
            timeout=_seconds(timeout),
            success_when=self.success_when,
            unsuccessful=self.unsuccessful,
            output_model=self.output_model,
            push_transcript=self.push_transcript,
            transcript_path=self.transcript_path,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
        )
        self._stop = wait.stop
        return wait

    def _resume(self, context: Context, event: object, call_id: str, deadline: float | None) -> Any:
        """Go on when the triggerer says so: read the order, and return or raise by what became of it."""
        with RevoxHook(self.revox_conn_id) as hook:
            wait = self._call_wait(hook)
            until = datetime.fromtimestamp(deadline, timezone.utc) if deadline else wait.new_deadline()
            end = wait.read_event(event, call_id)
            # After an event that says nothing about this call the wait simply goes on.
            return wait.until_end(context, self, call_id, until, deferrable=self.deferrable, end=end, just_placed=True)


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
