"""The simulated service: all orders, and the agenda that plays their lives as virtual time passes."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator import assistants
from airflow_provider_revox.simulator.clock import iso
from airflow_provider_revox.simulator.lanes import Lane
from airflow_provider_revox.simulator.orders import Attempt, Order
from airflow_provider_revox.simulator.validation import Refusal

if TYPE_CHECKING:
    from airflow_provider_revox.simulator.clock import VirtualClock
    from airflow_provider_revox.simulator.lives import Change
    from airflow_provider_revox.simulator.validation import CallBody

_PAUSABLE = frozenset({"initializing", "queued_for_calling", "scheduled"})


class ServiceState:
    """Orders, attempts and counts.

    There is no task per order. Whoever reads calls :meth:`settle` first, which lets everything happen that
    was due since the last time, in the order of its virtual moments, so that orders that share a concurrency
    key get their slots at the right moment however rarely anybody looks.
    """

    def __init__(self, clock: VirtualClock, seed: int, *, live_fields: bool = False) -> None:
        self.clock = clock
        self.seed = seed
        self.live_fields = live_fields
        self.recording_root = ""
        self._clear()

    def _clear(self) -> None:
        self.orders: dict[str, Order] = {}
        self.attempts: list[Attempt] = []  # in the order in which they began
        self.requests: Counter[str] = Counter()
        self.cancels = 0
        self.refused_keys = 0
        self._orders_per_number: Counter[str] = Counter()
        self._lanes: dict[str, Lane] = {}
        self._agenda: list[tuple[float, int, int, Order]] = []
        self._ties = itertools.count()

    def reset(self) -> None:
        """Forget every order and count, and start the clock anew."""
        self.clock.restart()
        self._clear()

    def create(self, body: CallBody, *, hidden_seconds: float = 0.0) -> Order:
        """Take an order.

        :param hidden_seconds: virtual seconds for which a search does not find it
        :raises Refusal: when the assistant is not known
        """
        if body.assistant_id is not None and body.assistant_id not in assistants.BUILT_IN:
            problem = f"no assistant has the id {body.assistant_id!r}"
            raise Refusal(422, f"assistant_id: {problem}", [{"field": "assistant_id", "message": problem}])
        now = self.settle()
        ordinal = self._orders_per_number[body.phone_number]
        self._orders_per_number[body.phone_number] += 1
        names = (self.seed, body.phone_number, ordinal)
        order = Order(names, body, now, live=self.live_fields)
        order.visible_from = now + hidden_seconds
        if body.concurrency is not None:
            order.lane = self._lanes.setdefault(body.concurrency.key, Lane())
        self.orders[order.id] = order
        self._note(order)
        return order

    def cancel(self, order: Order) -> bool:
        """Cancel an order that is not terminal."""
        now = self.settle()
        if order.is_terminal:
            return False
        self.cancels += 1
        order.stop("cancelled", now)
        self._leave_lane(order, now)
        return True

    def pause(self, order: Order) -> bool:
        """Pause an order that waits; one that is on the phone is not paused."""
        now = self.settle()
        if order.status not in _PAUSABLE:
            return False
        order.stop("paused", now)
        self._leave_lane(order, now)
        return True

    def resume(self, order: Order) -> bool:
        """Let a paused order go on."""
        now = self.settle()
        if order.status != "paused":
            return False
        order.resume(now)
        self._note(order)
        self.settle()
        return True

    def settle(self) -> float:
        """Let everything happen that is due by now, and return the virtual now."""
        now = self.clock.now()
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            at, _, version, order = heapq.heappop(agenda)
            if version == order.version:
                self._play(order, at)
        return now

    def _play(self, order: Order, at: float) -> None:
        change = order.pending.popleft()
        if not change.dials:
            self._apply(order, change)
        else:
            order.not_before = change.not_before
            self._dial(order, at)
        self._note(order)

    def _apply(self, order: Order, change: Change) -> None:
        order.apply(change, self.recording_root)
        if change.opens:
            self.attempts.append(order.attempts[-1])
        if change.closes:
            self._leave_lane(order, change.at)

    def _dial(self, order: Order, at: float, *, first_in_line: bool = False) -> None:
        index = len(order.attempts)
        if not order.life.may_dial(index, at):
            order.pending.extend(order.life.waiting(index, at, order.not_before))
        elif order.lane is None or order.lane.enter(order, first_in_line=first_in_line):
            order.pending.extend(order.life.attempt(index, at))

    def _leave_lane(self, order: Order, at: float) -> None:
        if order.lane is None:
            return
        order.lane.leave(order)
        while following := order.lane.next_in_line():
            self._dial(following, at, first_in_line=True)
            self._note(following)

    def _note(self, order: Order) -> None:
        if order.pending:
            heapq.heappush(self._agenda, (order.pending[0].at, next(self._ties), order.version, order))

    def stats(self, faults_fired: dict[str, int], held: int) -> dict[str, Any]:
        """Return what has happened so far, as of the virtual now."""
        now = self.settle()
        dials: Counter[str] = Counter()
        for order in self.orders.values():
            if order.dialled:
                dials[order.phone_number] += order.dialled
        return {
            "now": iso(now),
            "posts_received": self.requests["create_call"],
            "orders_created": len(self.orders),
            "orders_per_number": dict(self._orders_per_number),
            "dials": dict(dials),
            "polls": {order.id: order.polls for order in self.orders.values() if order.polls},
            "cancels": self.cancels,
            "requests": dict(self.requests),
            "refused_keys": self.refused_keys,
            "faults_fired": faults_fired,
            "held": held,
        }
