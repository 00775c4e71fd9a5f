"""The replies of the service, taken out of their envelopes."""

from __future__ import annotations

from pydantic import ConfigDict

from airflow_provider_revox.models.quiet import QuietModel
from airflow_provider_revox.models.reply_bytes import read_reply
from airflow_provider_revox.models.responses import CallAttempt, CallOrder, CallSearchResult


class _Envelope(QuietModel):
    model_config = ConfigDict(extra="ignore", defer_build=True, hide_input_in_errors=True)


class _CallReply(_Envelope):
    call: CallOrder


class _AttemptsReply(_Envelope):
    calls: list[CallAttempt]


def parse_call_reply(reply: bytes | str) -> CallOrder:
    """Read the reply to ``GET /call/{id}`` or ``POST /call``.

    :param reply: the body of the reply.
    :raises ValueError: when it is not JSON, was cut short, lacks ``call``, or the call has no id. The
        message repeats nothing of the body.
    """
    return read_reply(_CallReply, reply).call


def parse_attempts_reply(reply: bytes | str) -> list[CallAttempt]:
    """Read the reply to ``GET /call``: one page of attempts, not of orders.

    :param reply: the body of the reply.
    :raises ValueError: when it is not JSON, was cut short, lacks ``calls``, or an entry is not an object.
        The message repeats nothing of the body.
    """
    return read_reply(_AttemptsReply, reply).calls


def parse_search_reply(reply: bytes | str) -> CallSearchResult:
    """Read the reply to ``POST /call/search``: one page of orders.

    An entry without an id fails the whole page: a search is asked to prove that an order is not there, and a
    page with a hole in it proves nothing.

    :param reply: the body of the reply.
    :raises ValueError: when it is not JSON, was cut short, lacks ``calls``, or an order in it has no id. The
        message repeats nothing of the body.
    """
    return read_reply(CallSearchResult, reply)
