"""Looking at orders on an event loop, with the client that everything on the loop shares. Never dials."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_provider_revox.endpoints import glance_at_call
from airflow_provider_revox.exceptions import RevoxError
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.polling import Again, End, Pace, Watch

if TYPE_CHECKING:
    from airflow_provider_revox.client import AsyncRevoxClient

log = logging.getLogger(__name__)


async def watch_call(
    call_id: str, revox_conn_id: str, poke_interval: float, max_poll_interval: float, deadline: float | None
) -> End:
    """
    Look at one order until it ends, the deadline passes, or it cannot be seen for good.

    The connection has worked before, on the worker that handed over the wait: a refusal is outlived.

    :param poke_interval: seconds; see `airflow_provider_revox.polling.Pace`.
    :param max_poll_interval: seconds.
    :param deadline: POSIX time in seconds, None for never.
    """
    until = None if deadline is None else datetime.fromtimestamp(deadline, timezone.utc)
    watch = Watch(Pace(poke_interval, max_poll_interval), until, trusted=True)
    hook = RevoxHook(revox_conn_id)
    client: AsyncRevoxClient | None = None
    refused: AsyncRevoxClient | None = None
    async with AsyncExitStack() as borrowed:
        while True:
            step: Again | End
            try:
                if client is None:
                    client = await borrowed.enter_async_context(hook.aget_conn(instead_of=refused))
                seen = await client.send(glance_at_call(call_id))
                step = watch.saw(seen, _now(), random.random())  # noqa: S311  spreads load, guards nothing
            except RevoxError as error:
                step = watch.failed(error, _now(), random.random())  # noqa: S311
            if watch.news:
                log.info("Call %s %s", call_id, watch.news)
            if isinstance(step, End):
                return step
            if step.reconnect:
                # Given back at once: a key can stay refused for days, and each look then borrows another client.
                refused, client = client or refused, None
                await borrowed.aclose()
            await asyncio.sleep(step.seconds)


def _now() -> datetime:
    return datetime.now(timezone.utc)
