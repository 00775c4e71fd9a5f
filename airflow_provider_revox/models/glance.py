"""The little of a call order that a poll needs, read straight from the reply's bytes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict

from airflow_provider_revox.models.assistant_reply import CallRetryConfigReply  # noqa: TC001  # pydantic reads it
from airflow_provider_revox.models.enums import is_terminal
from airflow_provider_revox.models.quiet import QuietModel
from airflow_provider_revox.models.reply_bytes import read_reply
from airflow_provider_revox.models.reply_fields import (
    OR_NONE,
    AnyAttemptStatus,
    AnyCallResult,
    AnyCallStatus,
    AnyDialError,
    AnyText,
    AnyTime,
    AnyWhole,
    OrderId,
)


class GlanceModel(QuietModel):
    """Pass over every field that is not asked for, which is what makes a glance cheap."""

    model_config = ConfigDict(extra="ignore", defer_build=True, hide_input_in_errors=True)


class AttemptGlance(GlanceModel):
    """Hold how far one attempt has come; a field is ``None`` when it was not sent or could not be read."""

    shown_fields: ClassVar[tuple[str, ...]] = ("status", "result", "dial_error", "started_at", "ended_at")

    status: AnyAttemptStatus = None
    started_at: AnyTime = None
    ended_at: AnyTime = None
    result: AnyCallResult = None
    dial_error: AnyDialError = None


class CallGlance(GlanceModel):
    """Hold how far a call order has come, under the names that :class:`CallOrder` has for it.

    Only ``id`` is required; times are aware, in UTC; the number is never shown. The verdict on an order is
    never taken from a glance.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("id", "status", "calls_count", "scheduled_at")

    id: OrderId
    status: AnyCallStatus = None
    to_phone_number: AnyText = None
    scheduled_at: AnyTime = None
    calls_count: AnyWhole = None
    last_call_attempt: Annotated[AttemptGlance | None, OR_NONE] = None
    call_retry_config: Annotated[CallRetryConfigReply | None, OR_NONE] = None

    @classmethod
    def from_reply(cls, reply: bytes | str) -> CallGlance:
        """Read the reply to ``GET /call/{id}`` or ``POST /call``.

        :param reply: the body of the reply.
        :raises ValueError: when it is not JSON, was cut short, lacks ``call``, or the call has no id. The
            message repeats nothing of the body.
        """
        return read_reply(_GlanceReply, reply).call

    @property
    def is_terminal(self) -> bool:
        """Tell whether the order has ended; see :func:`airflow_provider_revox.models.is_terminal`."""
        return is_terminal(self.status)

    @property
    def latest_attempt(self) -> AttemptGlance | None:
        """Return the most recent attempt, or ``None`` when the reply tells of none."""
        return self.last_call_attempt


class _GlanceReply(GlanceModel):
    call: CallGlance


class _GlancesReply(GlanceModel):
    calls: list[CallGlance]


def parse_search_glances(reply: bytes | str) -> list[CallGlance]:
    """Read the reply to ``POST /call/search``, taking from each order only what a poll needs.

    :param reply: the body of the reply.
    :raises ValueError: when it is not JSON, was cut short, lacks ``calls``, or an order in it has no id.
    """
    return read_reply(_GlancesReply, reply).calls
