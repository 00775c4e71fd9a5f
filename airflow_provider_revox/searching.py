"""Finding an order again by the number it goes to and the name that was given to it (search extension)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_revox import endpoints
from airflow_provider_revox.exceptions import RevoxAPIError, RevoxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_revox.client import RevoxClient
    from airflow_provider_revox.models import CallOrder, CallSearchResult

#: Metadata key under which an order carries its name.
NAME_KEY = "airflow_call_key"

CLOCKS_DIFFER = timedelta(minutes=1)

_PAGE_SIZE = 100
_MOST_PAGES = 50


@dataclass(frozen=True)
class Found:
    """
    What a search found.

    :param orders: those that fit, the latest first.
    :param doubt: if there is none, why that is not certain; None when the search was complete.
    :param impossible: True when this deployment, or this connection, cannot search at all.
    """

    orders: tuple[CallOrder, ...] = ()
    doubt: str | None = None
    impossible: bool = False

    @property
    def certainly_absent(self) -> bool:
        """Say whether there is no such order beyond doubt."""
        return not self.orders and self.doubt is None


def name_of(order: CallOrder) -> str:
    """Return the name that an order carries, an empty text when it has none."""
    name = (order.metadata or {}).get(NAME_KEY)
    return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class Wanted:
    """
    What an order must be like to be the one that is looked for.

    :param named: whether its name is right.
    :param exactly: the name holds the nonce, so that nothing else needs to fit.
    :param since: an order is older than that by more than a minute only if its clock is wrong.
    :param known: ids of orders that are not looked for.
    """

    number: str = field(repr=False)
    named: Callable[[str], bool]
    exactly: bool
    since: datetime | None
    known: frozenset[str | None] = frozenset()

    def fits(self, order: CallOrder) -> bool | None:
        """Say whether this is the order; None when that cannot be told from what the search shows of it."""
        if order.id in self.known:
            return False
        if order.metadata is None:
            return None if self._could_be_new(order) and self._could_be_to_number(order) else False
        if not self.named(name_of(order)):
            return False
        if self.exactly:
            return True
        if not self._could_be_to_number(order):
            return False
        # Right but for the time: of a deleted run with the same id, or of this one by a clock that goes wrong.
        return True if self._could_be_new(order) and _digits(order.to_phone_number) else None

    def _could_be_to_number(self, order: CallOrder) -> bool:
        return _digits(order.to_phone_number) in (_digits(self.number), "")

    def _could_be_new(self, order: CallOrder) -> bool:
        return (
            self.since is None
            or not isinstance(order.created_at, datetime)
            or order.created_at >= self.since - CLOCKS_DIFFER
        )


def _digits(number: object) -> str:
    return "".join(filter(str.isdigit, str(number or "")))


def find_orders(client: RevoxClient, wanted: Wanted) -> Found:
    """
    Look through all orders to a number for the one that is wanted.

    Never raises for what Revox answers: a search that cannot be done leaves a doubt, and a doubt never leads to dialling.
    """
    if client.settings.api_extensions == "off":
        return Found(doubt="searching is switched off in the connection (api_extensions)", impossible=True)
    seen: dict[str, CallOrder] = {}
    # The largest ever said: rows may shift while pages are read, and a total that shrinks proves nothing.
    total: int | None = None
    try:
        for page in _pages(client, wanted.number):
            seen |= {order.id: order for order in page.calls}
            if page.total_count is not None:
                total = max(total or 0, page.total_count)
            if not page.calls or (total is not None and len(seen) >= total):
                break
    except RevoxAPIError as error:
        if error.status_code in (404, 405):
            return Found(doubt="this Revox deployment cannot search", impossible=True)
        return Found(doubt=f"searching failed ({error})")
    except RevoxError as error:
        return Found(doubt=f"searching failed ({error})")
    fits = {order_id: wanted.fits(order) for order_id, order in seen.items()}
    if fitting := [seen[order_id] for order_id, fit in fits.items() if fit]:
        return Found(orders=tuple(sorted(fitting, key=lambda order: str(order.created_at), reverse=True)))
    if unclear := [order_id for order_id, fit in fits.items() if fit is None]:
        return Found(doubt=f"the search shows orders that may be this one ({', '.join(unclear[:5])})")
    if total is None or len(seen) < total:
        return Found(doubt=f"the search was incomplete ({len(seen)} of {'?' if total is None else total} orders seen)")
    return Found()


def _pages(client: RevoxClient, number: str) -> Iterator[CallSearchResult]:
    for page in range(_MOST_PAGES):
        yield client.send(endpoints.search_calls(page, _PAGE_SIZE, {"to_phone_number": number}))
