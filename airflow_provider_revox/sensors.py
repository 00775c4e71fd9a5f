"""Sensors: wait for the end of a call."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_revox.call_task import CallTask
from airflow_provider_revox.exceptions import RevoxRequestError
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.links import RevoxCallLink, RevoxRecordingLink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context
    from pydantic import BaseModel


class RevoxCallSensor(CallTask, BaseSensorOperator):
    """
    Wait for the end of a call and return its structured output.

    All modes give the same end: deferrable (default; waits in the triggerer), ``mode="poke"`` and ``mode="reschedule"`` (with
    ``deferrable=False``). ``soft_fail`` skips on timeout only, ``never_fail`` on every failure. The sensor never dials.

    XCom: ``return_value`` is the structured output (dict or None); ``call`` is a small summary of the call.

    :param call_id: id of the order (template field).
    :param revox_conn_id: the Airflow connection.
    :param deferrable: wait in the triggerer, without a worker.
    :param poke_interval: seconds; the longest lag while the phone rings or people talk, default 15.
    :param max_poll_interval: seconds; the longest pause between two looks while nothing changes, default 600.
    :param success_when: what a completed call must have brought: ``completed``, ``human`` or ``output``.
    :param unsuccessful: ``fail``, ``skip`` or ``return``, when it did not.
    :param output_model: pydantic model that the structured output must fit; what it dumps is returned.
    :param push_transcript: push the transcript to XCom ``transcript``, cut at 48 kB.
    :param transcript_path: object-storage path for the transcripts, as JSON (template field).
    :param cancel_on_kill: cancel the order when a person ends the waiting task as failed or skipped; for a deferred
        task from Airflow 3.3 on.
    :param cancel_on_timeout: cancel the order when ``timeout`` or ``execution_timeout`` passes.
    :param timeout: seconds; one absolute deadline over deferrals, reschedules and restarts of the triggerer.
    :raises AirflowSensorTimeout: the call had not ended within ``timeout``.
    :raises RevoxCallFailedError: the order ended as errored; RevoxCallCancelledError: it was cancelled.
    :raises RevoxCallUnsuccessfulError: it completed, but not as ``success_when`` asks.
    :raises RevoxInvalidOutputError: the structured output does not fit ``output_model``.
    :raises RevoxCallNotVisibleError: its state could not be read; the call is left alone.
    """

    template_fields: Sequence[str] = ("call_id", "revox_conn_id", "transcript_path")
    ui_color = "#e6f4ea"
    operator_extra_links = (RevoxCallLink(), RevoxRecordingLink())

    def __init__(
        self,
        *,
        call_id: str,
        revox_conn_id: str = RevoxHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float | timedelta = 15.0,
        max_poll_interval: float | timedelta = 600.0,
        success_when: str = "completed",
        unsuccessful: str = "fail",
        output_model: type[BaseModel] | None = None,
        push_transcript: bool = False,
        transcript_path: str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.call_id = call_id
        self.revox_conn_id = revox_conn_id
        self.deferrable = deferrable
        self.max_poll_interval = max_poll_interval
        self.success_when = success_when
        self.unsuccessful = unsuccessful
        self.output_model = output_model
        self.push_transcript = push_transcript
        self.transcript_path = transcript_path
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002  Airflow's signature
        """Look once: done when the order has ended, however it did."""
        from airflow_provider_revox.verdict import structured_output

        with RevoxHook(self.revox_conn_id) as hook:
            order = hook.get_call(self.call_id)
        return PokeReturnValue(order.is_terminal, structured_output(order) if order.is_terminal else None)

    def execute(self, context: Context) -> Any:
        """Wait for the end and return the structured output."""
        return self._or_skip(lambda: self._execute(context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral. The base class would skip on every error with soft_fail: here only on timeout."""
        return self._or_skip(lambda: BaseOperator.resume_execution(self, next_method, next_kwargs, context))

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        call_id: str | None = None,
        deadline: float | None = None,
        **_later_arguments: Any,
    ) -> Any:
        """
        Go on when the triggerer says so: read the order, and return or raise by what became of it.

        What a later version of this provider stored with the deferral, and this one does not know, is passed over.
        """
        return self._resume(context, event, call_id or self.call_id, deadline)

    def _execute(self, context: Context) -> Any:
        if not isinstance(self.call_id, str) or not self.call_id.strip() or self.call_id == "None":
            # Of what is no text only the type: it may be the answer of a call.
            given = repr(self.call_id) if isinstance(self.call_id, str) else type(self.call_id).__name__
            raise RevoxRequestError(f"call_id must be the id that Revox gave the order, got {given}")
        with RevoxHook(self.revox_conn_id) as hook:
            wait = self._call_wait(hook)
            began = self._began(context)
            return wait.until_end(
                context,
                self,
                self.call_id,
                wait.new_deadline(began),
                deferrable=self.deferrable,
                between_looks=_go_on_later if self.reschedule else None,
                # A connection that never worked would have ended the wait at its first look.
                trusted=began is not None,
            )

    def _began(self, context: Context) -> datetime | None:
        """Return when a wait that is rescheduled began, None for one that begins now."""
        if self.deferrable or not self.reschedule:
            return None
        return context["ti"].get_first_reschedule_date(context)

    def _or_skip(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except AirflowSensorTimeout as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        except AirflowSkipException:
            raise
        except Exception as error:
            # never_fail skips on every failure, as in Airflow's own sensors; all else is raised again as it is. Going on
            # later is an exception as well.
            if self.never_fail and not isinstance(error, _reschedule_exception()):
                raise AirflowSkipException(f"never_fail is set: {error}") from error
            raise


def _go_on_later(seconds: float) -> NoReturn:
    raise _reschedule_exception()(datetime.now(timezone.utc) + timedelta(seconds=seconds))


def _reschedule_exception() -> type[AirflowException]:
    """Return the exception that frees the worker until later; it moved after Airflow 3.1."""
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException
    return AirflowRescheduleException
