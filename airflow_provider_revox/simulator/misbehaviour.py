"""What each kind of fault does to a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_revox.simulator.wire import Exchange, Reply, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_revox.simulator.faults import FaultOrder

    Take = Callable[[], Reply]

_HTML = b"text/html; charset=utf-8"
_PAGE = b"<!doctype html><html><head><title>Revox</title></head><body><h1>Welcome</h1></body></html>"
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_NO_BODY = frozenset({204, 304})

# Kinds that answer in place of the service, which never hears of the request.
_BEFORE = {
    "server_error": problem(500, "internal server error"),
    "unavailable": problem(503, "service unavailable"),
    "unauthorized": problem(401, "invalid API key", headers={"WWW-Authenticate": "Bearer"}),
    "not_found": problem(404, "not found"),
}
# Kinds that replace the answer of the service, which has done what it was asked for.
_AFTER = {
    "bad_gateway_after": Reply(502, _BAD_GATEWAY, _HTML),
    "wrong_content_type": Reply(200, _PAGE, _HTML),
    "missing_call": Reply(200, b"{}"),
}


async def misbehave(fault: FaultOrder, take: Take, exchange: Exchange) -> None:
    """Answer a request the way the fault says.

    :param take: has the service take the request, and returns what it would answer
    """
    kind = fault.kind
    if kind in _BEFORE:
        await exchange.reply(_BEFORE[kind])
    elif kind in _AFTER:
        take()
        await exchange.reply(_AFTER[kind])
    elif kind == "rate_limited":
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        await exchange.reply(problem(429, "too many requests", headers=headers))
    elif kind == "status":
        await _other_status(fault, take, exchange)
    elif kind in {"slow", "hold"}:
        await _wait(fault, take, exchange)
    elif kind == "reset":
        await exchange.reset()
    elif kind == "drop_reply":
        take()
        await exchange.close()
    elif kind == "truncated_json":
        reply = take()
        keep = len(reply.body) // 2
        await exchange.cut(reply, keep=keep, announce=len(reply.body) if fault.lie else keep)
    else:  # late_in_search and incomplete_search have done their work inside the service
        await exchange.reply(take())


async def _other_status(fault: FaultOrder, take: Take, exchange: Exchange) -> None:
    if fault.taken:
        take()
    headers = {} if fault.location is None else {"Location": fault.location}
    reply = problem(fault.status, f"status {fault.status} on demand", headers=headers)
    await exchange.reply(replace(reply, body=b"") if fault.status in _NO_BODY else reply)


async def _wait(fault: FaultOrder, take: Take, exchange: Exchange) -> None:
    taken_first = fault.kind == "slow" or fault.taken
    reply = take() if taken_first else None
    goes_on = await (exchange.delay(fault.seconds) if fault.kind == "slow" else exchange.hold())
    if goes_on:
        await exchange.reply(reply or take())
