"""What a watcher knows of its connection: the client in use, whether its key is refused, and what looking at many is good for."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from airflow_provider_revox.exceptions import (
    RevoxAPIError,
    RevoxAuthenticationError,
    RevoxConnectionError,
    RevoxError,
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxUnreachableError,
)
from airflow_provider_revox.hooks import RevoxHook
from airflow_provider_revox.polling import preload

if TYPE_CHECKING:
    from airflow_provider_revox.client import AsyncRevoxClient

log = logging.getLogger(__name__)

#: While a connection is refused it is read anew, for all waits together, at the most this often, in seconds.
READ_AGAIN_SECONDS = 10.0
#: Orders that one request looks at, at the most: the largest page that the API is known to give.
MOST_TOGETHER = 100
#: From this many orders on, one request for all is worth it, even if some of them need one of their own after that.
FEWEST_TOGETHER = 4
#: How long, in seconds, orders are looked at one by one after a look at many went wrong; it doubles, up to the second value.
WITHOUT_BULK_SECONDS = (60.0, 3600.0)
#: How long, in seconds, looks at many may be answered with 429 before that is taken to be about searching alone.
LIMITED_SECONDS = 60.0
#: Reading the connection is given up after so many seconds.
READ_WITHIN_SECONDS = 60.0


class Loan:
    """
    A client, borrowed from the hook for many looks.

    :param users: looks under way with it; when it is given up, it goes back with the last of them.
    """

    def __init__(self, client: AsyncRevoxClient, borrowed: AsyncExitStack) -> None:
        self.client = client
        self.users = 0
        self._borrowed = borrowed

    async def end(self) -> None:
        """Give the client back. What goes wrong with that is nothing to those who wait for calls."""
        try:
            await self._borrowed.aclose()
        except Exception as error:  # noqa: BLE001  the looks are done; a bad close must not replace the end of a call
            log.warning("A client of Revox did not close well (%s)", type(error).__name__)


class Connected:
    """
    Lend one client to all looks of a connection, and read the connection anew when it is refused: once for all.

    A first refusal is followed by another look at the connection at once; further ones at least `READ_AGAIN_SECONDS` apart, and
    whoever asks in between is told the same without a request.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._hook = RevoxHook(conn_id)
        self._loan: Loan | None = None
        self._given_up: AsyncRevoxClient | None = None
        self._building: asyncio.Task[Loan] | None = None
        self._trouble: RevoxError | None = None
        self._read_again_at = 0.0
        #: Whether the connection was read since a look succeeded with it.
        self._read_in_vain = False

    @property
    def most_requests(self) -> int:
        """How many requests may be under way at once: one until the connection is known."""
        return self._loan.client.settings.max_connections if self._loan else 1

    async def borrow(self) -> Loan:
        """
        Return the client to look with.

        :raises RevoxError: when the connection cannot be used, or was refused a moment ago.
        """
        while self._loan is None:
            if self._trouble is not None and asyncio.get_running_loop().time() < self._read_again_at:
                raise self._trouble.with_traceback(None)
            if self._building is None:
                self._building = asyncio.ensure_future(self._build())
            building = self._building
            try:
                # Shielded: whoever is cancelled meanwhile must not take the client from the others.
                loan = await asyncio.wait_for(asyncio.shield(building), READ_WITHIN_SECONDS)
            except asyncio.CancelledError:
                if not building.cancelled():
                    raise
                raise self._failed(building, self._cannot_read("was cut off")) from None
            except asyncio.TimeoutError:
                building.cancel()
                raise self._failed(building, self._cannot_read(f"took over {READ_WITHIN_SECONDS:g} s")) from None
            except RevoxError as error:
                raise self._failed(building, error) from None
            except BaseException:
                # A mistake of ours: this wait is told, and whoever looks next builds anew.
                if self._building is building:
                    self._building = None
                raise
            if self._building is building:
                self._building, self._loan = None, loan
        self._loan.users += 1
        return self._loan

    def _failed(self, building: asyncio.Task[Loan], error: RevoxError) -> RevoxError:
        """Note that a client could not be built, once for all who waited for it."""
        if self._building is building:
            self._building = None
            self._give_up(error)
        return error

    def _cannot_read(self, why: str) -> RevoxUnreachableError:
        return RevoxUnreachableError(f"reading connection {self._conn_id!r} {why}; nothing was sent", sent=False)

    async def _build(self) -> Loan:
        # Before the first look, and not in the event loop: it takes some tenths of a second, once.
        await asyncio.to_thread(preload)
        borrowed = AsyncExitStack()
        return Loan(await borrowed.enter_async_context(self._hook.aget_conn(instead_of=self._given_up)), borrowed)

    async def give_back(self, loan: Loan) -> None:
        """End the use of a client; one that was given up goes back with its last user."""
        loan.users -= 1
        if loan is not self._loan and not loan.users:
            await loan.end()

    def worked(self, loan: Loan) -> None:
        """Note that a look succeeded."""
        if loan is self._loan:
            self._trouble, self._read_in_vain = None, False

    def heed(self, loan: Loan, error: RevoxError) -> None:
        """Give up a client whose key is refused, or which has lost its connections."""
        if loan is not self._loan:
            # Somebody else has seen to it.
            return
        if isinstance(error, RevoxAuthenticationError):
            # Told to all: it must not name the order that happened to be looked at.
            what = (
                f"connection {self._conn_id!r}: Revox answered {error.status_code}; check the API key in its password"
            )
            self._give_up(RevoxAuthenticationError(what, status_code=error.status_code))
        elif loan.client.worn_out:
            self._given_up, self._loan = loan.client, None

    def _give_up(self, error: RevoxError) -> None:
        self._trouble = error
        if self._loan is not None:
            self._given_up, self._loan = self._loan.client, None
        now = asyncio.get_running_loop().time()
        refused = isinstance(error, RevoxAuthenticationError | RevoxConnectionError)
        self._read_again_at = now + READ_AGAIN_SECONDS if self._read_in_vain or not refused else now
        self._read_in_vain = True

    async def close(self) -> None:
        """Give the client back; called when no look is under way any more."""
        building, self._building = self._building, None
        if building is not None:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            if not building.cancelled() and building.exception() is None:
                self._loan = building.result()
        loan, self._loan = self._loan, None
        if loan is not None:
            await loan.end()


class BulkLooks:
    """Whether to look at many orders with one request, and at how many. Pure."""

    def __init__(self) -> None:
        #: Whether the connection allows it; not before it is known.
        self.allowed = False
        self._most = MOST_TOGETHER
        self._off_until = -math.inf
        self._off_seconds = WITHOUT_BULK_SECONDS[0]
        self._limited_since: float | None = None

    def most_for(self, orders: int, now: float) -> int:
        """Return how many of so many orders to look at with the next request."""
        return self._most if self.allowed and now >= self._off_until and orders >= FEWEST_TOGETHER else 1

    def failed(self, error: RevoxError, now: float, *, asked: int) -> None:
        """
        Take in that a look at many went wrong: ask for fewer where that may help, for none for a while elsewhere.

        :param asked: at how many orders. Several such looks may be under way: what goes wrong with all of them is one failure.
        """
        if now < self._off_until or asked > self._most:
            return
        if isinstance(error, RevoxRejectedError) and self._most // 2 >= FEWEST_TOGETHER:
            self._most //= 2
            return
        if isinstance(error, RevoxRateLimitError):
            # One by one they would be more requests still; unless it is only searching that is limited.
            self._limited_since = now if self._limited_since is None else self._limited_since
            if now - self._limited_since < LIMITED_SECONDS:
                return
        cannot = isinstance(error, RevoxAPIError) and error.status_code in (404, 405)
        self._switch_off(now, WITHOUT_BULK_SECONDS[1] if cannot else self._off_seconds)

    def worked(self, now: float, *, asked: int, told: int) -> None:
        """Take in how many of the orders asked for a reply told of."""
        self._limited_since = None
        if not told:
            # It passes over what it is asked for.
            self._switch_off(now, self._off_seconds)
            return
        self._off_seconds = WITHOUT_BULK_SECONDS[0]
        if told < asked / 2:
            # The server gives shorter pages.
            self._most = max(told, FEWEST_TOGETHER)
        elif told == asked == self._most:
            self._most = min(2 * self._most, MOST_TOGETHER)

    def _switch_off(self, now: float, seconds: float) -> None:
        self._off_until = now + seconds
        self._off_seconds = min(2 * self._off_seconds, WITHOUT_BULK_SECONDS[1])
        self._limited_since = None
