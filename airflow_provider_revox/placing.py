"""
Dial once: the one path by which a task has a person phoned.

The story, in the order of `Placing.once`:

1. What a person settled is applied to the record (`redial_after`, `adopt`).
2. A record that knows a call id is the end of it: that call is this task's call, whatever became of it.
3. An intent without id, or an unknown outcome, is settled by searching Revox for the call by number and name.
   Found: adopted. Not found: the task fails for good, or, with ``redial_if_absent``, dials when it is sure.
4. Otherwise an intent is written, one order is posted, and its id is written.

Everything else in this provider that needs a call placed goes through here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_revox import endpoints
from airflow_provider_revox.exceptions import (
    RevoxAPIError,
    RevoxOutcomeUnknownError,
    RevoxRecordError,
    RevoxUnreachableError,
)
from airflow_provider_revox.ledger import POST_WITHIN, SETTLE_KEY, Entry, Record, State
from airflow_provider_revox.searching import NAME_KEY, Found, Wanted, find_orders, name_of
from airflow_provider_revox.settling import Placed, Settling

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)

ON_UNKNOWN = ("fail", "redial_if_absent")

#: Pauses before the looks that are taken for an order whose request got no answer: it may show a little late.
LOOK_AFTER_SECONDS = (0.0, 2.0, 5.0)
#: Between the two looks that must find nothing.
APART_SECONDS = 30.0


class Placing(Settling):
    """Place the call of one task instance, or find out which call it already has."""

    def once(self) -> Placed:
        """
        Return this task instance's call; place it if there is none.

        :raises RevoxOutcomeUnknownError: when a request may have dialled and that cannot be found out.
        :raises RevoxRecordError: when the record, or a settlement, forbids going on. Nobody was dialled.
        :raises RevoxAPIError: when Revox refused the order. Nobody was dialled.
        :raises RevoxUnreachableError: when Revox could not be reached at all. Nobody was dialled.
        """
        self._ledger.read()
        if (word := self._heed_words()) is not None:
            placed = self._dial()
            self._ledger.mark_used(word, self._now())
            return placed
        if (record := self._ledger.record) is None:
            return self._dial_unless_dialled()
        newest = record.newest
        if newest.state is State.REFUSED and not newest.is_for(self._number):
            # The number was changed and changed back: what stood before that refusal stands again.
            newest = next((entry for entry in record.earlier if entry.state is not State.REFUSED), newest)
        if not newest.is_for(self._number) and not record.dialled_nobody:
            raise RevoxRecordError(self._how_to_change_number(record, newest))
        if newest.call_id:
            log.info("Call %s to %s was placed before; going on with it", newest.call_id, newest.number)
            return Placed(newest.call_id, "reattached")
        return self._dial_unless_dialled() if newest.state is State.REFUSED else self._resolve(newest)

    # --- dialling ----------------------------------------

    def _dial(self, *, may_dial_again: bool = True) -> Placed:
        """Write the intent, post one order, write its id."""
        entry = self._new_entry()

        def write_intent() -> None:
            nonlocal entry
            while True:
                entry = entry.about_to_post(self._now())
                self._ledger.put_if_untouched(entry)
                # The write can take long: an attempt never begins on an intent that is out of date.
                if self._now() < entry.post_before:
                    return

        metadata = {**(self._request.metadata or {}), NAME_KEY: entry.name}
        endpoint = endpoints.create_call(self._request.model_copy(update={"metadata": metadata}))
        try:
            order = self._client.send(endpoint, before_try=write_intent)
        except RevoxOutcomeUnknownError as error:
            log.warning("The request to phone %s got no clear answer: %s", self._masked, error)
            return self._resolve(entry, may_dial=may_dial_again)
        except (RevoxAPIError, RevoxUnreachableError) as error:
            self._ledger.put(entry.refused(str(error), self._now()))
            raise
        log.info("Call %s to %s placed (order is %s)", order.id, self._masked, order.status)
        return self._keep(entry, order.id, "placed")

    # --- a request of which nobody knows what became ----------------------------------------

    def _resolve(self, entry: Entry, *, may_dial: bool = True) -> Placed:
        """Find the order of an intent without id or of an unknown outcome: adopt it, dial when sure, or give up."""
        wanted = self._wanted(entry)
        found = self._look(wanted)
        if found.certainly_absent and may_dial and self._on_unknown == "redial_if_absent":
            found = self._find_when_quiet(wanted, entry.post_before)
            if found.certainly_absent:
                log.warning("Two complete searches found no order to %s under this task's name; dialling", self._masked)
                self._ledger.put(entry.unknown("two complete searches found no such order", self._now()))
                # Once: if this request is lost as well, something is wrong that another one would not mend.
                return self._dial_unless_dialled(may_dial_again=False)
        if found.orders:
            return self._adopt(entry, found.orders[0])
        reason = found.doubt or "a search found no such order, which may still show later"
        try:
            # What another process found out meanwhile is worth more.
            if self._ledger.is_untouched():
                self._ledger.put(entry.unknown(reason, self._now()))
        except Exception as error:  # noqa: BLE001  the record already says `intent`, which means the same
            log.warning("The unknown outcome could not be recorded: %s", type(error).__name__)
        raise RevoxOutcomeUnknownError(self._how_to_settle(entry, reason))

    def _look(self, wanted: Wanted) -> Found:
        """Search, a few times if there is nothing: an order may show a little late."""
        found = Found()
        for pause in LOOK_AFTER_SECONDS:
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if not found.certainly_absent:
                break
        return found

    def _find_when_quiet(self, wanted: Wanted, last_post: datetime) -> Found:
        """Search twice, once no lost request can still be on its way; absence is certain only if both find nothing."""
        # Written by a clock that may go wrong; but whoever writes an intent now waits no longer than this before the request.
        quiet_at = self._quiet_at(min(last_post, self._now() + POST_WITHIN))
        log.info("Waiting until %s to be sure whether %s was dialled", quiet_at.isoformat(), self._masked)
        for pause in (max(0.0, (quiet_at - self._now()).total_seconds()), APART_SECONDS):
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if not found.certainly_absent:
                return found
        if not self._ledger.is_untouched():
            return Found(doubt="another process of this task instance was at work meanwhile")
        return Found()

    def _how_to_change_number(self, record: Record, newest: Entry) -> str:
        before = [entry for entry in record.earlier if entry.is_for(self._number)]
        earlier = ", ".join(f"{entry.call_id or entry.nonce} ({entry.state.value})" for entry in before)
        return (
            f"The record of this task instance is about {newest.number} ({newest.call_id or newest.state.value}), but now it"
            f" asks for {self._masked}{f', for which it also knows {earlier}' if before else ''}. Nobody was dialled now. If the"
            f' new number is meant, set redial_after="{record.newest.nonce}" and clear the task.'
        )

    def _how_to_settle(self, entry: Entry, reason: str) -> str:
        if self._ledger.store is None:
            absent = "if there is none, start a new run for this person: no record is kept here that could be settled."
            settle = f'pass adopt="<its id>" if there is one, and clear the task; {absent}'
        else:
            newest = self._ledger.record.newest if self._ledger.record else entry
            settle = (
                f'pass adopt="<its id>" if there is one, or redial_after="{newest.nonce}" if there is none (as a parameter, or'
                f" as the value of the state store key {SETTLE_KEY} of this task instance), and clear the task."
            )
        return (
            f"A request to phone {entry.number} was made at {entry.posted_at.isoformat(timespec='seconds')}, and whether it"
            f" dialled is not known: {reason}. This task will not dial again by itself. Look in Revox for a call to this"
            f" number whose metadata {NAME_KEY} is {entry.name!r}, then {settle}"
        )

    # --- what the record cannot tell ----------------------------------------

    def _may_have_been_dialled(self) -> bool:
        """
        Say whether this number may have been dialled in this run though this record tells of no call to it.

        By an earlier try, where no record is kept; or by another map index: each clear of a run may come with another list.
        """
        origin, newest = self._origin, self._ledger.record.newest if self._ledger.record else None
        if not self._ledger.durable and (newest is None or not newest.is_for(self._number)):
            return not origin.first_try or origin.clear_number > 0
        return origin.mapped and origin.clear_number > 0

    def _stood_here(self) -> bool:
        """Say whether this number was at this map index since before the last clear, and so at no other."""
        newest = self._ledger.record.newest if self._ledger.record else None
        return (
            newest is not None and newest.is_for(self._number) and newest.clear_number >= self._origin.clear_number - 1
        )

    def _dial_unless_dialled(self, *, may_dial_again: bool = True) -> Placed:
        """Dial, or adopt the call to this number that was placed elsewhere in this run; fail when that cannot be told."""
        if not self._may_have_been_dialled():
            return self._dial(may_dial_again=may_dial_again)
        origin, record, stood_here = self._origin, self._ledger.record, self._stood_here()
        # After the calls of this record a person, or nobody, wanted one more.
        known = frozenset(entry.call_id for entry in record.entries) if record else frozenset()
        of_this_run = Wanted(self._number, self._is_of_this_run, exactly=False, since=origin.since, known=known)
        found = find_orders(self._client, of_this_run) if stood_here else self._look(of_this_run)
        if found.impossible and stood_here:
            found = Found()
        if found.certainly_absent and not (self._ledger.durable or stood_here):
            # An earlier try may have posted a moment ago.
            if self._on_unknown == "redial_if_absent":
                found = self._find_when_quiet(of_this_run, self._now() + POST_WITHIN)
            else:
                found = Found(doubt="an earlier try may have dialled, and a search found no order of it")
        if found.orders:
            own = (order for order in found.orders if name_of(order).startswith(origin.name.instance_prefix))
            return self._adopt(self._new_entry(), next(own, found.orders[0]))
        if found.certainly_absent:
            return self._dial(may_dial_again=may_dial_again)
        absent = f'pass redial_after="{record.newest.nonce}"' if record else "start a new run for this person"
        raise RevoxOutcomeUnknownError(
            f"Whether an earlier try, or another map index, of this run dialled {self._masked} is not known: {found.doubt}."
            f" Nobody was dialled now. Look in Revox for a call to this number whose metadata {NAME_KEY} begins with"
            f' {origin.name.task_prefix!r}; if there is one, pass adopt="<its id>", if there is none, {absent}.'
        )
