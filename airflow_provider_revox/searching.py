"""Finding an order again by the number it goes to and the name that was given to it (search extension)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_revox import endpoints
from airflow_provider_revox.exceptions import RevoxAPIError, RevoxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_revox.client import RevoxClient
    from airflow_provider_revox.models import CallOrder, CallSearchResult

#: Metadata key under which an order carries its name.
NAME_KEY = "airflow_call_key"

_PAGE_SIZE = 100
_MOST_PAGES = 50


@dataclass(frozen=True)
class Found:
    """
    What a search found.

    :param orders: those that fit, the latest first.
    :param doubt: if there is none, why that is not certain; None when the search was complete.
    """

    orders: tuple[CallOrder, ...] = ()
    doubt: str | None = None

    @property
    def certainly_absent(self) -> bool:
        """Say whether there is no such order beyond doubt."""
        return not self.orders and self.doubt is None


def name_of(order: CallOrder) -> str:
    """Return the name that an order carries, an empty text when it has none."""
    name = (order.metadata or {}).get(NAME_KEY)
    return name if isinstance(name, str) else ""


def find_orders(client: RevoxClient, number: str, fits: Callable[[CallOrder], bool]) -> Found:
    """
    Look through all orders to a number for those that fit.

    Never raises for what Revox answers: a search that cannot be done leaves a doubt, and a doubt never leads to dialling.
    """
    if client.settings.api_extensions == "off":
        return Found(doubt="searching is switched off in the connection (api_extensions)")
    seen: dict[str, CallOrder] = {}
    total: int | None = None
    try:
        for page in _pages(client, number):
            seen |= {order.id: order for order in page.calls}
            total = page.total_count
            if not page.calls or (total is not None and len(seen) >= total):
                break
    except RevoxAPIError as error:
        missing = error.status_code in (404, 405)
        return Found(doubt="this Revox deployment cannot search" if missing else f"searching failed ({error})")
    except RevoxError as error:
        return Found(doubt=f"searching failed ({error})")
    fitting = [order for order in seen.values() if order.to_phone_number == number and fits(order)]
    if fitting:
        return Found(orders=tuple(sorted(fitting, key=lambda order: str(order.created_at), reverse=True)))
    if total is None or len(seen) < total:
        return Found(doubt=f"the search was incomplete ({len(seen)} of {'?' if total is None else total} orders seen)")
    return Found()


def _pages(client: RevoxClient, number: str) -> Iterator[CallSearchResult]:
    for page in range(_MOST_PAGES):
        yield client.send(endpoints.search_calls(page, _PAGE_SIZE, {"to_phone_number": number}))
