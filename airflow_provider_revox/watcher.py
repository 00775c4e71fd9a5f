"""
Looking at many orders on one event loop, with one client. Never dials.

`Watcher` is what all waits of one event loop and connection share. Due times lie in a heap; a timer hands what is due to a few
lookers, as many as requests may be under way at once. When several orders are due together and the deployment can search,
one request looks at them all. When to look again is decided by `airflow_provider_revox.polling` alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
import random
import weakref
from collections import deque
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_revox.client import is_worth_another_try, pause_before_try
from airflow_provider_revox.endpoints import glance_at_call, glance_at_calls
from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxError,
    RevoxNotFoundError,
    RevoxRejectedError,
    RevoxReplyError,
)
from airflow_provider_revox.polling import SHORTEST_SECONDS, Again, End, Pace, Watch
from airflow_provider_revox.watching import BulkLooks, Connected, Loan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_revox.models import CallGlance

log = logging.getLogger(__name__)

#: At the most this often, in seconds, what is due is gathered: orders that are due together can be looked at together.
TICK_SECONDS = 0.1
#: How far apart the first looks of waits that begin together are, in seconds, so that a herd does not begin at once.
BETWEEN_FIRST_LOOKS_SECONDS = 0.005
#: How long, in seconds, the last wait stays for the client to be closed.
CLOSE_WITHIN_SECONDS = 5.0


async def watch_call(
    call_id: str, revox_conn_id: str, poke_interval: float, max_poll_interval: float, deadline: float | None
) -> End:
    """
    Look at one order until it ends, the deadline passes, or it cannot be seen for good.

    The connection has worked before, on the worker that handed over the wait: a refusal is outlived.

    :param poke_interval: seconds; see `airflow_provider_revox.polling.Pace`.
    :param max_poll_interval: seconds.
    :param deadline: POSIX time in seconds, None for never.
    :raises RevoxRequestError: for intervals that make no sense.
    """
    until = None if deadline is None else datetime.fromtimestamp(deadline, timezone.utc)
    watch = Watch(_pace(poke_interval, max_poll_interval), until, trusted=True)
    return await Watcher.of(revox_conn_id).end_of(call_id, watch)


@lru_cache(maxsize=64)
def _pace(poke_interval: float, max_poll_interval: float) -> Pace:
    return Pace(poke_interval, max_poll_interval)


class _Wait:
    """
    One order that somebody waits for.

    :param due: when to look next, in the loop's time.
    :param tries: how many looks in a row failed in a way that may pass at once.
    :param queued: whether it will be looked at again; not while a looker has it.
    :param context: of the one who waits: Airflow keeps the logs of triggers apart by it.
    """

    __slots__ = ("call_id", "context", "due", "ended", "queued", "tries", "watch")

    def __init__(self, call_id: str, watch: Watch, due: float) -> None:
        self.call_id = call_id
        self.watch = watch
        self.due = due
        self.ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.tries = 0
        self.queued = False
        self.context = contextvars.copy_context()

    def __lt__(self, other: _Wait) -> bool:
        return self.due < other.due


class Watcher:
    """
    Look at the orders of all waits of one event loop and connection.

    It begins with the first wait and ends with the last. A wait that is cancelled leaves a request under way alone, so that
    nothing in the client is cut off.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._loop = asyncio.get_running_loop()
        self._connected = Connected(conn_id)
        self._bulk = BulkLooks()
        self._waits = 0
        self._heap: list[_Wait] = []
        self._ready: deque[_Wait] = deque()
        #: What a look at many orders left open: each is looked at by a request of its own.
        self._left_open: deque[_Wait] = deque()
        self._lookers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._gathered_at = 0.0
        self._next_first_look = 0.0

    @classmethod
    def of(cls, conn_id: str) -> Watcher:
        """Return the watcher of the running event loop for a connection."""
        watchers = _watchers.setdefault(asyncio.get_running_loop(), {})
        if conn_id not in watchers:
            watchers[conn_id] = cls(conn_id)
        return watchers[conn_id]

    async def end_of(self, call_id: str, watch: Watch) -> End:
        """Return how the wait for an order ends."""
        self._waits += 1
        wait = _Wait(call_id, watch, self._first_look(watch.pace))
        self._push(wait)
        try:
            return await wait.ended
        finally:
            self._waits -= 1
            if not self._waits:
                await self._end()

    def _first_look(self, pace: Pace) -> float:
        """Return when to look first: soon, but one after the other, and within a `poke_interval` however many begin."""
        now = self._loop.time()
        self._next_first_look = max(now, self._next_first_look + BETWEEN_FIRST_LOOKS_SECONDS)
        if self._next_first_look - now <= pace.poke_interval:
            return self._next_first_look
        return now + pace.poke_interval * random.random()  # noqa: S311  spreads load, guards nothing

    # --- what is due ----------------------------------------

    def _push(self, wait: _Wait) -> None:
        wait.queued = True
        heapq.heappush(self._heap, wait)
        if self._heap[0] is wait:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._heap:
            at = max(self._heap[0].due, self._gathered_at + TICK_SECONDS)
            # A context of its own: what is done for all must not end up in the log of whoever happened to be first.
            self._timer = self._loop.call_at(at, self._gather, context=contextvars.Context())

    def _gather(self) -> None:
        """Hand over what is due."""
        self._gathered_at = now = self._loop.time()
        while self._heap and self._heap[0].due <= now:
            wait = heapq.heappop(self._heap)
            if not wait.ended.done():
                self._ready.append(wait)
        self._timer = None
        self._set_timer()
        self._call_lookers()

    def _call_lookers(self) -> None:
        """Have as many lookers as there is work for, and as requests may be under way at once."""
        together = self._bulk.most_for(len(self._ready), self._loop.time())
        wanted = len(self._left_open) + math.ceil(len(self._ready) / together)
        # Those there are look already, and may do so for long.
        for _ in range(min(wanted, self._connected.most_requests - len(self._lookers))):
            looker = contextvars.Context().run(self._loop.create_task, self._look_on())
            self._lookers.add(looker)

    # --- looking ----------------------------------------

    async def _look_on(self) -> None:
        """Look at what is due until nothing is."""
        waits: list[_Wait] = []
        try:
            while waits := self._next_waits():
                with _told_to(waits):
                    await self._look_at(waits)
        finally:
            # In the same breath as the look for work: a looker that is counted does what comes meanwhile.
            self._lookers.discard(asyncio.current_task())
            # It was cut off. Unless nobody waits any more, what it had taken is for others.
            for wait in waits:
                if self._waits and not (wait.queued or wait.ended.done()):
                    self._push_after(wait, SHORTEST_SECONDS)

    def _next_waits(self) -> list[_Wait]:
        """Take one wait, or as many as one request may look at; none when nothing is due."""
        if left_open := self._taken_from(self._left_open, 1):
            return left_open
        return self._taken_from(self._ready, self._bulk.most_for(len(self._ready), self._loop.time()))

    @staticmethod
    def _taken_from(queue: deque[_Wait], most: int) -> list[_Wait]:
        """Take so many waits at the most; those that were cancelled are passed over."""
        taken: list[_Wait] = []
        while queue and len(taken) < most:
            wait = queue.popleft()
            wait.queued = False
            if not wait.ended.done():
                taken.append(wait)
        return taken

    async def _look_at(self, waits: list[_Wait]) -> None:
        try:
            loan = await self._connected.borrow()
        except RevoxError as error:
            for wait in waits:
                self._failed(wait, error)
            # Nothing was waited for, and there may be thousands.
            await asyncio.sleep(0)
            return
        try:
            self._bulk.allowed = loan.client.settings.api_extensions != "off"
            # The first look tells how many may be under way.
            self._call_lookers()
            if len(waits) > 1:
                await self._look_at_all(loan, waits)
            else:
                await self._look_at_one(loan, waits[0])
        finally:
            await self._connected.give_back(loan)

    async def _look_at_one(self, loan: Loan, wait: _Wait) -> None:
        try:
            seen = await loan.client.exchange(glance_at_call(wait.call_id))
        except RevoxError as error:
            self._connected.heed(loan, error)
            self._failed(wait, error, loan)
        else:
            self._connected.worked(loan)
            self._saw(wait, seen)

    async def _look_at_all(self, loan: Loan, waits: list[_Wait]) -> None:
        """Look at orders with one request; what it leaves open is looked at with one request each."""
        try:
            seen = await loan.client.exchange(glance_at_calls([wait.call_id for wait in waits]))
        except RevoxError as error:
            self._connected.heed(loan, error)
            self._bulk_failed(loan, waits, error)
            return
        self._connected.worked(loan)
        glances = {glance.id: glance for glance in seen}
        asked = {wait.call_id for wait in waits}
        self._bulk.worked(self._loop.time(), asked=len(asked), told=len(asked & glances.keys()))
        left_open = []
        for wait in waits:
            glance = glances.get(wait.call_id)
            # The end of an order is only believed when a look at that order shows it.
            if glance is None or glance.status is None or glance.is_terminal:
                left_open.append(wait)
            else:
                with _told_to([wait]):
                    self._saw(wait, glance)
        self._look_at_each(left_open)

    def _bulk_failed(self, loan: Loan, waits: list[_Wait], error: RevoxError) -> None:
        """Look at each order, if only searching is in trouble; a little later, if all of Revox may be."""
        if not isinstance(error, RevoxAuthenticationError):
            self._bulk.failed(error, self._loop.time(), asked=len(waits))
        if isinstance(error, RevoxRejectedError | RevoxNotFoundError | RevoxReplyError):
            self._look_at_each(waits)
            return
        for wait in waits:
            self._failed(wait, error, loan)

    def _look_at_each(self, waits: list[_Wait]) -> None:
        for wait in waits:
            wait.queued = True
        self._left_open.extend(waits)
        self._call_lookers()

    # --- what a look brought ----------------------------------------

    def _saw(self, wait: _Wait, seen: CallGlance) -> None:
        wait.tries = 0
        self._go_on(wait, wait.watch.saw(seen, _now(), random.random()))  # noqa: S311  spreads load, guards nothing

    def _failed(self, wait: _Wait, error: RevoxError, loan: Loan | None = None) -> None:
        """Look again shortly where that may help, with the patience that the client has; otherwise as the policy says."""
        now = _now()
        if loan is not None:
            wait.tries += 1
            settings = loan.client.settings
            pause = pause_before_try(settings, wait.tries, error)
            deadline = wait.watch.deadline
            if (
                wait.tries < settings.tries
                and is_worth_another_try(glance_at_call(wait.call_id), error, settings)
                and (deadline is None or now + timedelta(seconds=pause) < deadline)
            ):
                self._push_after(wait, pause)
                return
        wait.tries = 0
        self._go_on(wait, wait.watch.failed(error, now, random.random()))  # noqa: S311

    def _go_on(self, wait: _Wait, step: Again | End) -> None:
        if wait.ended.done():
            return
        if wait.watch.news:
            wait.context.run(log.info, "Call %s %s", wait.call_id, wait.watch.news)
        if isinstance(step, End):
            wait.ended.set_result(step)
        else:
            self._push_after(wait, step.seconds)

    def _push_after(self, wait: _Wait, seconds: float) -> None:
        wait.due = self._loop.time() + seconds
        self._push(wait)

    # --- the end ----------------------------------------

    async def _end(self) -> None:
        """Forget everything; whoever waits next begins anew."""
        if _watchers.get(self._loop, {}).get(self._conn_id) is self:
            del _watchers[self._loop][self._conn_id]
        self._heap.clear()
        self._ready.clear()
        self._left_open.clear()
        self._set_timer()
        closing = contextvars.Context().run(self._loop.create_task, self._close())
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        # It goes on by itself when it takes long, or when the last wait is cancelled once more, which Airflow is known to do:
        # the end of a call must not wait for it.
        await asyncio.wait({closing}, timeout=CLOSE_WITHIN_SECONDS)

    async def _close(self) -> None:
        lookers = tuple(self._lookers)
        for looker in lookers:
            looker.cancel()
        await asyncio.gather(*lookers, return_exceptions=True)
        await self._connected.close()


@contextmanager
def _told_to(waits: list[_Wait]) -> Iterator[None]:
    """Have those who wait fail with what is a mistake of ours, rather than wait for ever."""
    try:
        yield
    except Exception as bug:  # noqa: BLE001  nothing is swallowed: it is raised again in each wait, and so in its trigger
        for wait in waits:
            if not wait.ended.done():
                wait.ended.set_exception(bug)


def _now() -> datetime:
    return datetime.now(timezone.utc)


_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Watcher]] = weakref.WeakKeyDictionary()
_closing: set[asyncio.Task[None]] = set()
