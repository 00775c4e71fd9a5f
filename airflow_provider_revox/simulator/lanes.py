"""Concurrency: a lane for each key, in which only so many orders are on the phone at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_revox.simulator.orders import Order


class Lane:
    """First come, first dialled. An order holds a slot from the beginning of an attempt to its end."""

    def __init__(self) -> None:
        self._dialling: set[str] = set()
        self._waiting: deque[Order] = deque()

    def enter(self, order: Order, *, first_in_line: bool = False) -> bool:
        """Take a slot, or line up when the key is at the order's maximum or others came before."""
        if (first_in_line or not self._waiting) and self._has_room_for(order):
            self._dialling.add(order.id)
            return True
        self._waiting.append(order)
        return False

    def leave(self, order: Order) -> None:
        """Give the slot back, or give up waiting for one."""
        self._dialling.discard(order.id)
        if order in self._waiting:
            self._waiting.remove(order)

    def next_in_line(self) -> Order | None:
        """Take the order out of the line that may ask for a slot now."""
        if self._waiting and self._has_room_for(self._waiting[0]):
            return self._waiting.popleft()
        return None

    def _has_room_for(self, order: Order) -> bool:
        return len(self._dialling) < order.lane_limit
