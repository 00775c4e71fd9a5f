"""Waiting for a call on a worker, and what a task makes of its end; shared by operator and sensor, in every mode."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout

from airflow_provider_revox.cancelling import StopRequest, cancel_on_worker, is_to_be_cancelled, state_on_worker
from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxCallCancelledError,
    RevoxCallNotVisibleError,
    RevoxConnectionError,
    RevoxError,
    RevoxInvalidOutputError,
    RevoxRequestError,
)
from airflow_provider_revox.polling import Again, End, Pace, Watch
from airflow_provider_revox.verdict import (
    SUCCESS_WHEN,
    UNSUCCESSFUL,
    Outcome,
    check_choice,
    judge,
    structured_output,
    summarise,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from pydantic import BaseModel

    from airflow_provider_revox.hooks import RevoxHook
    from airflow_provider_revox.models import CallOrder

log = logging.getLogger(__name__)

#: The most that `push_transcript` puts into XCom, in bytes of JSON; what was said last is cut.
TRANSCRIPT_XCOM_BYTES = 48_000
#: The longest wait: ten years, in seconds.
_LONGEST = 10 * 365 * 86_400
_SLEEP_PIECE_SECONDS = 1.0
#: The longest that a worker waits before it asks the triggerer again, lest the two pass a task back and forth without pause: the
#: triggerer sees the end of a call that the worker may not read.
_BREATHER_SECONDS = 15.0


@dataclass(frozen=True)
class CallWait:
    """
    How a task waits for a call and what it makes of the end; checked when it is made.

    :param pace: how often to look.
    :param timeout: seconds from the beginning of the wait to the deadline.
    :param success_when: ``completed``, ``human`` or ``output``; see `airflow_provider_revox.verdict.judge`.
    :param unsuccessful: ``fail``, ``skip`` or ``return``, for an order that completed otherwise.
    :param output_model: a pydantic model that the structured output must fit; what it dumps is returned.
    :param push_transcript: push the transcript to XCom ``transcript``, cut at `TRANSCRIPT_XCOM_BYTES`.
    :param transcript_path: object-storage path to which the transcripts of all attempts are written as JSON.
    :param cancel_on_kill: cancel the order when a person ends the task as failed or skipped.
    :param cancel_on_timeout: cancel the order when the deadline, or the task's execution_timeout, passes.
    :raises RevoxRequestError: naming the setting, what is wrong and what would be right.
    """

    hook: RevoxHook
    pace: Pace
    timeout: float
    success_when: str = "completed"
    unsuccessful: str = "fail"
    output_model: type[BaseModel] | None = None
    push_transcript: bool = False
    transcript_path: str | None = None
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = False
    stop: StopRequest = field(default_factory=StopRequest, repr=False)

    def __post_init__(self) -> None:
        check_choice("success_when", self.success_when, SUCCESS_WHEN)
        check_choice("unsuccessful", self.unsuccessful, UNSUCCESSFUL)
        if (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, int | float)
            or not 0 <= self.timeout <= _LONGEST
        ):
            raise RevoxRequestError(f"timeout must be a number of seconds from 0 to {_LONGEST}, got {self.timeout!r}")
        if self.output_model is not None and not hasattr(self.output_model, "model_validate"):
            raise RevoxRequestError(f"output_model must be a pydantic model class, got {self.output_model!r}")
        if self.transcript_path is not None and not (isinstance(self.transcript_path, str) and self.transcript_path):
            raise RevoxRequestError(
                "transcript_path must be an object-storage path, for instance s3://bucket/call.json"
            )

    def new_deadline(self, began: datetime | None = None) -> datetime:
        """Return the deadline of a wait that begins now, or began at a given time."""
        return (began or _now()) + timedelta(seconds=self.timeout)

    # --- waiting ----------------------------------------

    def until_end(
        self,
        context: Context,
        operator: Any,
        call_id: str,
        deadline: datetime,
        *,
        deferrable: bool,
        end: End | None = None,
        between_looks: Callable[[float], None] | None = None,
        just_placed: bool = False,
        trusted: bool = False,
    ) -> dict[str, Any] | None:
        """
        Wait for the end of a call and return what the task returns, or raise what it ends with; see `conclude`.

        :param end: what the triggerer said, None to begin waiting.
        :param between_looks: waits for seconds on the worker, or raises to go on later.
        :param just_placed: there is no point in looking before the first pause.
        :param trusted: the connection is known to have worked in this wait; see `airflow_provider_revox.polling.Watch`.
        """

        def sleep(seconds: float) -> None:
            self._sleep(context, call_id, seconds)

        trusted = trusted or just_placed
        if end is None and deferrable and not just_placed:
            end = self._look_once(call_id, deadline, sleep)
        try:
            while True:
                if end is None:
                    if deferrable:
                        self.defer(operator, call_id, deadline)
                    log.info("Waiting for call %s on this worker until %s at the latest", call_id, deadline.isoformat())
                    end = self._follow(
                        Watch(self.pace, deadline, trusted=trusted), call_id, sleep, between_looks or sleep
                    )
                try:
                    return self.conclude(context, call_id, end, deadline)
                except StillPending as pending:
                    end, trusted = None, True
                    if not deferrable:
                        (between_looks or sleep)(self.pace.poke_interval)
                    elif pending.refused:
                        sleep(min(self.pace.poke_interval, _BREATHER_SECONDS))
        except AirflowTaskTimeout:
            self._timed_out(call_id, "the task's execution_timeout passed")
            raise

    def _look_once(self, call_id: str, deadline: datetime, sleep: Callable[[float], None]) -> End | None:
        """
        Return the end of an order that has ended already, or that can never be seen; None to wait for it.

        That spares the way over the triggerer, and tells of a wrong key before days are spent on it.
        """
        watch = Watch(self.pace, deadline)
        step = self._look(watch, call_id)
        if isinstance(step, Again) and step.reconnect:
            sleep(step.seconds)
            step = self._look(watch, call_id)
        return step if isinstance(step, End) else None

    def _look(self, watch: Watch, call_id: str) -> Again | End:
        """Look at the order; return what to do next. Where the connection is to be read anew, the next look does so."""
        from airflow_provider_revox.endpoints import glance_at_call

        step: Again | End
        try:
            seen = self.hook.get_conn().send(glance_at_call(call_id))
            step = watch.saw(seen, _now(), random.random())  # noqa: S311  spreads load, guards nothing
        except RevoxError as error:
            step = watch.failed(error, _now(), random.random())  # noqa: S311
        if watch.news:
            log.info("Call %s %s", call_id, watch.news)
        if isinstance(step, Again) and step.reconnect:
            self.hook.close()
        return step

    def defer(self, operator: Any, call_id: str, deadline: datetime) -> NoReturn:
        """Hand the wait to the triggerer; the task goes on in its `execute_complete`."""
        from airflow_provider_revox.triggers import RevoxCallTrigger

        log.info("Waiting for call %s in the triggerer until %s at the latest", call_id, deadline.isoformat())
        trigger = RevoxCallTrigger(
            call_id=call_id,
            revox_conn_id=self.hook.revox_conn_id,
            poke_interval=self.pace.poke_interval,
            max_poll_interval=self.pace.max_poll_interval,
            deadline=deadline.timestamp(),
            cancel_on_kill=self.cancel_on_kill,
        )
        # No deferral timeout: it would end the task without the look that finds what the call brought meanwhile.
        operator.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"call_id": call_id, "deadline": deadline.timestamp()},
        )
        raise AssertionError("unreachable: defer raises")

    def _sleep(self, context: Context, call_id: str, seconds: float) -> None:
        """Sleep in short pieces, and between them see whether the task is to end."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.stop.goes_on()
            if self.stop.asked:
                self.stop.asked = False
                self._stop_asked(context, call_id)
            time.sleep(min(left, _SLEEP_PIECE_SECONDS))

    def _stop_asked(self, context: Context, call_id: str) -> None:
        """Cancel the order if its task was ended as failed or skipped; otherwise wait on."""
        if not self.cancel_on_kill:
            log.info("Call %s is left alone, as cancel_on_kill is off", call_id)
            return
        state = state_on_worker(context["ti"])
        if is_to_be_cancelled(call_id, state, stood_still=self.stop.stood_still):
            cancel_on_worker(self.hook, call_id, f"its task is {state}")
            raise RevoxCallCancelledError(f"The task of call {call_id} was ended as {state} while it waited")

    def _follow(
        self, watch: Watch, call_id: str, sleep: Callable[[float], None], between_looks: Callable[[float], None]
    ) -> End:
        """Look at the order until it ends, the deadline passes, or it cannot be seen for good."""
        while isinstance(step := self._look(watch, call_id), Again):
            (sleep if step.soon else between_looks)(step.seconds)
        return step

    def read_event(self, event: object, call_id: str) -> End | None:
        """Return what the trigger's event says about this call; None when it is about another, or makes no sense."""
        if not isinstance(event, Mapping) or event.get("call_id") != call_id:
            log.warning("Passing over an event that is not about call %s", call_id)
            return None
        status = event.get("status")
        return End(str(event.get("reason")), None if status is None else str(status))

    # --- the end ----------------------------------------

    def conclude(self, context: Context, call_id: str, end: End, deadline: datetime) -> dict[str, Any] | None:
        """
        Return what the task returns, or raise what it ends with. The order is read once, in full.

        :raises AirflowSensorTimeout: at the deadline, if the order has not ended.
        :raises AirflowSkipException: when unsuccessful, with ``unsuccessful="skip"``.
        :raises RevoxCallNotVisibleError: when the order cannot be seen; the call is left alone.
        :raises RevoxError: by the verdict on the order.
        :raises StillPending: before the deadline, when the order has not ended after all, or cannot be read just now.
        """
        from airflow_provider_revox.client import is_transient
        from airflow_provider_revox.endpoints import get_call

        in_time = end.reason == "ended" and _now() < deadline

        try:
            order = self.hook.get_conn().send(get_call(call_id))
        except RevoxError as error:
            # The look that saw the end had a key that works: one that is refused now was rotated in between.
            refused = isinstance(error, RevoxAuthenticationError | RevoxConnectionError)
            if in_time and (refused or is_transient(error)):
                log.info("Call %s ended, but cannot be read just now (%s); waiting on", call_id, error)
                if refused:
                    self.hook.close()
                raise StillPending(call_id, refused=refused) from None
            if end.reason == "deadline":
                raise self._deadline_passed(call_id, None, f" ({error})") from None
            raise _not_visible(call_id, str(error)) from None
        verdict = judge(order, self.success_when)
        if verdict.outcome is Outcome.PENDING:
            if in_time:
                raise StillPending(call_id)
            if end.reason == "not_visible":
                raise _not_visible(call_id, "it could not be seen while waiting, and has not ended")
            raise self._deadline_passed(call_id, str(order.status))
        log.info("Call ended: %s", verdict.reason)
        context["ti"].xcom_push(key="call", value=summarise(order))
        self._keep_transcripts(context, order)
        if verdict.outcome is Outcome.UNSUCCESSFUL and self.unsuccessful == "return":
            return structured_output(order)
        if verdict.outcome is Outcome.UNSUCCESSFUL and self.unsuccessful == "skip":
            raise AirflowSkipException(verdict.reason)
        if (failure := verdict.error()) is not None:
            raise failure
        return self._output(order)

    def _deadline_passed(self, call_id: str, status: str | None, why: str = "") -> AirflowSensorTimeout:
        """Return the error that says what is certain; the status is that of the last look, None when it saw nothing."""
        cancelled = self._timed_out(call_id, "the deadline of the wait passed")
        if cancelled:
            fate = "was cancelled."
        elif status is None or cancelled is None:
            fate = "may have ended; clear the task to see what became of it, nobody is dialled by that."
        else:
            fate = "itself goes on; clear the task to wait for it again, nobody is dialled by that."
        what = "could not be seen" if status is None else f"is {status} and had not ended"
        return AirflowSensorTimeout(
            f"Call {call_id} {what} {self.timeout:g} s after the wait began{why}. The call {fate}"
        )

    def _timed_out(self, call_id: str, because: str) -> bool | None:
        """Cancel the order if that was asked for; say whether it was cancelled."""
        self.stop.goes_on()
        if self.cancel_on_timeout and self.stop.stood_still:
            log.warning(
                "Call %s is left alone: this task stood still, and another try of it may wait for the call", call_id
            )
            return False
        if self.cancel_on_timeout:
            return cancel_on_worker(self.hook, call_id, because)
        log.info("Call %s is left alone though %s, as cancel_on_timeout is off", call_id, because)
        return False

    def _output(self, order: CallOrder) -> dict[str, Any] | None:
        output = structured_output(order)
        if self.output_model is None:
            return output
        from pydantic import ValidationError

        try:
            dumped: dict[str, Any] = self.output_model.model_validate(output).model_dump(mode="json")
        except ValidationError as error:
            # Names and kinds of problems only: the values are what people said.
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'output'}: {problem['type']}"
                for problem in error.errors(include_url=False, include_input=False, include_context=False)
            )
        else:
            return dumped
        # Not raised above: pydantic's error would hang on ours, if hidden, and with it what people said.
        raise RevoxInvalidOutputError(
            f"The structured output of call {order.id} does not fit {self.output_model.__name__}: {problems}."
            " The answer is kept in Revox; calling again is not needed to read it."
        )

    def _keep_transcripts(self, context: Context, order: CallOrder) -> None:
        if self.transcript_path is not None:
            from airflow.providers.common.compat.sdk import ObjectStoragePath

            attempts = [
                {"attempt_id": attempt.id, "transcript": _transcript(attempt)} for attempt in order.call_attempts
            ]
            path = ObjectStoragePath(self.transcript_path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"call_id": order.id, "attempts": attempts}, ensure_ascii=False))
            log.info("Transcripts of call %s written to %s", order.id, self.transcript_path)
        if self.push_transcript:
            entries = _transcript(order.latest_attempt) if order.latest_attempt else []
            context["ti"].xcom_push(key="transcript", value=_cut(entries))


class StillPending(Exception):  # noqa: N818  not an error: the wait goes on
    """
    The order has not ended though the look before said so, or its end cannot be read yet.

    :param refused: it cannot be read because the connection is refused.
    """

    def __init__(self, call_id: str, *, refused: bool = False) -> None:
        super().__init__(call_id)
        self.refused = refused


def _not_visible(call_id: str, why: str) -> RevoxCallNotVisibleError:
    return RevoxCallNotVisibleError(
        f"The state of call {call_id} cannot be read: {why}. The call itself was left alone and may go on; the next try of this"
        " task goes on waiting for it, and dials nobody."
    )


def _transcript(attempt: Any) -> list[dict[str, Any]]:
    return [entry.model_dump(mode="json") for entry in attempt.transcript or () if hasattr(entry, "model_dump")]


def _cut(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return as many entries as fit into XCom, with a last one that says how many were left out."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(json.dumps(entry))
        if size > TRANSCRIPT_XCOM_BYTES:
            return [
                *entries[:count],
                {"role": "cut", "content": f"{len(entries) - count} more entries left out"},
            ]
    return entries


def _now() -> datetime:
    return datetime.now(timezone.utc)
