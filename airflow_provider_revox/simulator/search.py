"""Finding orders and attempts: filters, sorting and pages."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_revox.simulator.orders import Order
    from airflow_provider_revox.simulator.state import ServiceState
    from airflow_provider_revox.simulator.validation import ListQuery, SearchBody


def attempts_page(state: ServiceState, query: ListQuery) -> list[dict[str, Any]]:
    """Return a page of attempts, newest first, of orders in the statuses asked for."""
    newest_first = (
        attempt.fields
        for attempt in reversed(state.attempts)
        if not query.statuses or attempt.order.status in query.statuses
    )
    begin = query.page * query.page_size
    return list(islice(newest_first, begin, begin + query.page_size))


def found_orders(state: ServiceState, search: SearchBody, now: float) -> list[Order]:
    """Return all orders that a search matches, sorted; orders that are still hidden are left out."""
    orders = [order for order in state.orders.values() if order.visible_from <= now and _matches(order, search)]
    # Sorting is stable, so equal keys keep the order of creation in the direction asked for.
    if search.sort_direction == "desc":
        orders.reverse()
    orders.sort(key=_SORT_KEYS[search.sort_by], reverse=search.sort_direction == "desc")
    return orders


_SORT_KEYS: dict[str, Callable[[Order], Any]] = {
    "created_at": lambda order: order.created_at,
    "updated_at": lambda order: order.updated_at,
    "scheduled_at": lambda order: order.scheduled_at or 0.0,
    "status": lambda order: order.status,
    "to_phone_number": lambda order: order.phone_number,
}


def _matches(order: Order, search: SearchBody) -> bool:
    # No order has an assignee or a campaign, so asking for one finds none.
    if search.assignee_ids or search.campaign_ids:
        return False
    if search.call_ids is not None and order.id not in search.call_ids:
        return False
    if search.to_phone_number is not None and order.phone_number != search.to_phone_number:
        return False
    wanted: tuple[tuple[list[Any], str], ...] = (
        (search.statuses, order.status),
        (search.assistant_ids, order.assistant["id"]),
        (search.directions, "outbound"),
        (search.from_phone_numbers, order.from_phone_number),
        (search.results, order.last_result or "none"),
        (search.outcomes, order.outcome or "none"),
    )
    fits = all(not allowed or value in allowed for allowed, value in wanted)
    return fits and _mentions(order, search.query)


def _mentions(order: Order, query: str | None) -> bool:
    if not query:
        return True
    texts = [order.id, order.phone_number, order.from_phone_number, order.assistant["name"]]
    texts += (order.metadata or {}).values()
    return any(query.casefold() in text.casefold() for text in texts)
