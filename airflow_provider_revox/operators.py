"""Operators: have a person phoned from a DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_revox.call_task import CallTask
from airflow_provider_revox.exceptions import RevoxRecordError, RevoxRequestError
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.links import RevoxCallLink, RevoxRecordingLink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from airflow.providers.common.compat.sdk import Context
    from pydantic import BaseModel

    from airflow_provider_revox.ledger import Ledger, Settlement
    from airflow_provider_revox.models import AssistantRequest, CallRequest, Concurrency
    from airflow_provider_revox.settling import Origin


#: Parameters that make up the request to Revox.
_REQUEST_FIELDS = (
    "phone_number",
    "assistant",
    "assistant_id",
    "concurrency",
    "force_now",
    "from_phone_number",
    "metadata",
    "prompt_variables",
    "scheduled_at",
    "extra_body",
)


class RevoxCreateCallOperator(CallTask, BaseOperator):
    """
    Have one person phoned, once, and return the call id, or wait for the end and return the answer.

    The call is recorded before and after it is placed (Airflow ≥ 3.3), so a retry, a clear or a crash goes on with the same call
    and dials nobody again; see docs/reliability.md. Every field of the request is a template field and takes XComArgs.
    Everything is checked when the task runs, before anything is written or sent.

    XCom: ``call_id`` as soon as it is known; ``return_value`` is the call id, or with ``wait_for_completion`` the
    structured output (dict or None); ``call`` is a small summary of the call once it ended.

    :param phone_number: whom to call, in E.164, for instance ``+14155550100``.
    :param assistant: an AssistantRequest or a dict with its fields; either this or assistant_id.
    :param assistant_id: id of an assistant in Revox.
    :param concurrency: ``{"key": …, "max": …}``: how many calls with this key may run at once.
    :param force_now: call outside the calling windows too.
    :param from_phone_number: the number to call from, in E.164; default: the account's.
    :param metadata: kept with the order; texts, numbers and booleans. The key ``airflow_call_key`` is taken.
    :param prompt_variables: put into the prompt; texts, numbers and booleans.
    :param scheduled_at: when to call: a datetime with a zone, or ISO 8601 text with one.
    :param extra_body: further fields of the request, for what Revox has and this version does not know.
    :param revox_conn_id: the Airflow connection.
    :param wait_for_completion: wait for the end of the call and return its structured output.
    :param deferrable: wait in the triggerer, without a worker; otherwise the worker waits.
    :param poke_interval: seconds; the longest lag while the phone rings or people talk, default 15.
    :param max_poll_interval: seconds; the longest pause between two looks while nothing changes, default 600.
    :param timeout: seconds or timedelta to wait at the most; default: ``[sensors] default_timeout``.
    :param success_when: what a completed call must have brought: ``completed``, ``human`` or ``output``.
    :param unsuccessful: ``fail``, ``skip`` or ``return``, when it did not.
    :param output_model: pydantic model that the structured output must fit; what it dumps is returned.
    :param push_transcript: push the transcript to XCom ``transcript``, cut at 48 kB.
    :param transcript_path: object-storage path for the transcripts, as JSON (template field).
    :param cancel_on_kill: cancel the order when a person ends the waiting task as failed or skipped; for a deferred
        task from Airflow 3.3 on.
    :param cancel_on_timeout: cancel the order when ``timeout`` or ``execution_timeout`` passes.
    :param on_unknown: when it cannot be found out whether a request dialled: ``fail``, or ``redial_if_absent`` (dial again
        once two complete searches found no such order; takes some two minutes).
    :param redial_after: call id or nonce of this task instance's newest entry: allows one more call after it, once.
    :param adopt: call id to take as this task instance's call when its outcome is unknown.
    :raises RevoxRequestError: bad input; nothing was written or sent.
    :raises RevoxOutcomeUnknownError: a request may have dialled; the message says how to settle it.
    :raises RevoxRecordError: this task instance's record forbids what was asked.
    :raises AirflowSensorTimeout: the call had not ended within ``timeout``.
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "revox_conn_id", "transcript_path", "redial_after", "adopt")
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("assistant", "metadata", "prompt_variables", "extra_body"), "json"
    )
    ui_color = "#e8f0fe"
    operator_extra_links = (RevoxCallLink(), RevoxRecordingLink())

    def __init__(
        self,
        *,
        phone_number: str,
        assistant: AssistantRequest | Mapping[str, Any] | None = None,
        assistant_id: str | None = None,
        concurrency: Concurrency | Mapping[str, Any] | None = None,
        force_now: bool | str | None = None,
        from_phone_number: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        prompt_variables: Mapping[str, Any] | None = None,
        scheduled_at: datetime | str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        revox_conn_id: str = RevoxHook.default_conn_name,
        wait_for_completion: bool = False,
        deferrable: bool = True,
        poke_interval: float | timedelta = 15.0,
        max_poll_interval: float | timedelta = 600.0,
        timeout: float | timedelta | None = None,
        success_when: str = "completed",
        unsuccessful: str = "fail",
        output_model: type[BaseModel] | None = None,
        push_transcript: bool = False,
        transcript_path: str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = False,
        on_unknown: str = "fail",
        redial_after: str | None = None,
        adopt: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.phone_number = phone_number
        self.assistant = assistant
        self.assistant_id = assistant_id
        self.concurrency = concurrency
        self.force_now = force_now
        self.from_phone_number = from_phone_number
        self.metadata = metadata
        self.prompt_variables = prompt_variables
        self.scheduled_at = scheduled_at
        self.extra_body = extra_body
        self.revox_conn_id = revox_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poke_interval = poke_interval
        self.max_poll_interval = max_poll_interval
        self.timeout = timeout
        self.success_when = success_when
        self.unsuccessful = unsuccessful
        self.output_model = output_model
        self.push_transcript = push_transcript
        self.transcript_path = transcript_path
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_unknown = on_unknown
        self.redial_after = redial_after
        self.adopt = adopt

    def execute(self, context: Context) -> Any:
        """Place the call, or find the one that was placed before; then return its id or wait for its end."""
        from airflow_provider_revox.placing import Placing

        request = self._request()
        settlement = self._settlement()
        with RevoxHook(self.revox_conn_id) as hook:
            wait = self._call_wait(hook) if self.wait_for_completion else None
            client = hook.get_conn()
            placing = Placing(
                client,
                _ledger(context),
                request,
                _origin(context, client.settings.deployment),
                on_unknown=self.on_unknown,
                settlement=settlement,
            )
            placed = placing.once()
            context["ti"].xcom_push(key="call_id", value=placed.call_id)
            if wait is None:
                return placed.call_id
            return wait.until_end(
                context,
                self,
                placed.call_id,
                wait.new_deadline(),
                deferrable=self.deferrable,
                just_placed=placed.how == "placed",
            )

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
        record = _ledger(context).read()
        # `dag.test()` hands over nothing of what was stored with the deferral but the event.
        known = (record and record.newest.call_id) or call_id or _pushed_call_id(context)
        if not known:
            raise RevoxRecordError(
                "This task goes on after a wait, but knows no call of its own. Nobody was dialled; clear it."
            )
        return self._resume(context, event, known, deadline)

    # --- what the author gave ----------------------------------------

    def _request(self) -> CallRequest:
        from airflow_provider_revox.endpoints import read_request
        from airflow_provider_revox.searching import NAME_KEY

        given = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        request = read_request({name: value for name, value in given.items() if value is not None})
        if NAME_KEY in (request.metadata or {}):
            raise RevoxRequestError(f"metadata.{NAME_KEY}: this key is set by the operator; use another name")
        return request

    def _settlement(self) -> Settlement | None:
        from airflow_provider_revox.ledger import Settlement
        from airflow_provider_revox.placing import ON_UNKNOWN
        from airflow_provider_revox.verdict import check_choice

        check_choice("on_unknown", self.on_unknown, ON_UNKNOWN)
        for name in ("redial_after", "adopt"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise RevoxRequestError(f"{name} must be a call id (text), got {type(value).__name__}")
        # A template that has nothing to say renders to one of these.
        redial_after, adopt = (None if word in ("", "None") else word for word in (self.redial_after, self.adopt))
        if redial_after and adopt:
            raise RevoxRequestError("redial_after and adopt exclude each other: set the one that is meant")
        return Settlement(redial_after=redial_after, adopt=adopt) if redial_after or adopt else None


def _ledger(context: Context) -> Ledger:
    from airflow_provider_revox.ledger import Ledger

    store = context.get("task_state_store")
    if store is None:
        return Ledger(None)
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # from 3.3 on, as the store

    wiped = conf.getboolean("state_store", "clear_on_success", fallback=False)
    outside = bool(conf.get("workers", "state_store_backend", fallback=""))
    return Ledger(store, forever=NEVER_EXPIRE, wiped_on_success=wiped, has_backend=outside)


def _pushed_call_id(context: Context) -> str | None:
    """Return the call id that this try pushed before it was deferred; Airflow keeps a deferred task's XCom."""
    ti = context["ti"]
    call_id = ti.xcom_pull(task_ids=ti.task_id, key="call_id", map_indexes=ti.map_index)
    return call_id if isinstance(call_id, str) else None


def _origin(context: Context, deployment: str) -> Origin:
    from airflow_provider_revox.ledger import CallName
    from airflow_provider_revox.settling import Origin

    ti, run = context["ti"], context["dag_run"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return Origin(
        name=CallName(deployment, ti.dag_id, ti.run_id, ti.task_id, map_index),
        first_try=ti.try_number <= 1,
        clear_number=getattr(run, "clear_number", None) or 0,
        mapped=map_index >= 0,
        since=run.run_after,
    )
