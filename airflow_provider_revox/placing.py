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
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_revox import endpoints
from airflow_provider_revox.exceptions import (
    RevoxAPIError,
    RevoxOutcomeUnknownError,
    RevoxRecordError,
    RevoxUnreachableError,
)
from airflow_provider_revox.ledger import (
    POST_WITHIN,
    SETTLE_KEY,
    CallName,
    Entry,
    Ledger,
    Settlement,
    State,
    utcnow,
)
from airflow_provider_revox.models import CallOrder, CallRequest, is_terminal, mask_number
from airflow_provider_revox.searching import NAME_KEY, Found, Wanted, find_orders, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_revox.client import RevoxClient

log = logging.getLogger(__name__)

ON_UNKNOWN = ("fail", "redial_if_absent")

#: Pauses before the looks that are taken for an order whose request got no answer: it may show a little late.
LOOK_AFTER_SECONDS = (0.0, 2.0, 5.0)
#: Beyond the last moment at which the lost request can have been answered, and between the two looks that must find nothing.
QUIET_SECONDS = 30.0
CLOCKS_DIFFER = timedelta(minutes=1)


@dataclass(frozen=True)
class Placed:
    """
    The call of this task instance.

    :param how: ``placed`` (just now), ``adopted`` (found in Revox) or ``reattached`` (known from the record).
    """

    call_id: str
    how: str


@dataclass(frozen=True)
class Origin:
    """
    Which try of which task instance asks.

    :param name: the call's name without nonce.
    :param first_try: False for a retry and after a clear.
    :param clear_number: how often the run was cleared; map indexes may have shifted with each.
    :param mapped: True for a mapped task.
    :param since: no call of this run is older.
    """

    name: CallName
    first_try: bool = True
    clear_number: int = 0
    mapped: bool = False
    since: datetime | None = None


class Placing:
    """
    Place the call of one task instance, or find out which call it already has.

    :param client: sends to Revox.
    :param ledger: keeps the record.
    :param request: checked; whom to call and how.
    :param origin: who asks.
    :param on_unknown: ``fail`` or ``redial_if_absent``, when it cannot be found out whether a request dialled.
    :param settlement: the author's `redial_after` or `adopt`.
    :param sleep: waits for seconds.
    """

    def __init__(
        self,
        client: RevoxClient,
        ledger: Ledger,
        request: CallRequest,
        origin: Origin,
        *,
        on_unknown: str = "fail",
        settlement: Settlement | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._request = request
        self._origin = origin
        self._on_unknown = on_unknown
        self._settlement = settlement
        self._sleep = sleep
        self._number = request.phone_number
        self._masked = mask_number(self._number)

    def once(self) -> Placed:
        """
        Return this task instance's call; place it if there is none.

        :raises RevoxOutcomeUnknownError: when a request may have dialled and that cannot be found out.
        :raises RevoxRecordError: when the record, or a settlement, forbids going on. Nobody was dialled.
        :raises RevoxAPIError: when Revox refused the order. Nobody was dialled.
        :raises RevoxUnreachableError: when Revox could not be reached at all. Nobody was dialled.
        """
        self._ledger.read()
        for word in filter(None, (self._settlement, self._ledger.settlement())):
            if self._adopts(word) if word.adopt else self._allows_one_more(word):
                placed = self._dial()
                self._ledger.mark_used(word, utcnow())
                return placed
        if (record := self._ledger.record) is None:
            return self._dial_unless_dialled()
        newest = record.newest
        if not newest.is_for(self._number) and not record.dialled_nobody:
            raise RevoxRecordError(
                f"The record of this task instance is about {newest.number} ({newest.call_id or newest.state.value}), but now"
                f" it asks for {self._masked}. Nobody was dialled now. If the new number is meant, set"
                f' redial_after="{newest.call_id or newest.nonce}" and clear the task.'
            )
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
                entry = entry.about_to_post(utcnow())
                self._ledger.put_if_untouched(entry)
                # The write can take long: an attempt never begins on an intent that is out of date.
                if utcnow() < entry.post_before:
                    return

        metadata = {**(self._request.metadata or {}), NAME_KEY: entry.name}
        endpoint = endpoints.create_call(self._request.model_copy(update={"metadata": metadata}))
        try:
            order = self._client.send(endpoint, before_try=write_intent)
        except RevoxOutcomeUnknownError as error:
            log.warning("The request to phone %s got no clear answer: %s", self._masked, error)
            return self._resolve(entry, may_dial=may_dial_again)
        except (RevoxAPIError, RevoxUnreachableError) as error:
            self._ledger.put(entry.refused(str(error), utcnow()))
            raise
        log.info("Call %s to %s placed (order is %s)", order.id, self._masked, order.status)
        return self._keep(entry, order.id, "placed")

    def _new_entry(self) -> Entry:
        return Entry.intent(self._origin.name, self._number, self._masked, utcnow(), self._origin.clear_number)

    def _keep(self, entry: Entry, call_id: str, how: str) -> Placed:
        """Write a call id that was just learned."""
        try:
            self._ledger.put(entry.placed(call_id, utcnow()))
        except BaseException:
            # The id must not be lost with this process: the next try finds the call by its name, a person by this line.
            log.error("Call %s to %s is %s, but could not be recorded", call_id, self._masked, how)  # noqa: TRY400
            raise
        return Placed(call_id, how)

    def _adopt(self, entry: Entry, order: CallOrder) -> Placed:
        log.info("Found call %s to %s in Revox under this task's name; adopting it", order.id, self._masked)
        return self._keep(entry, order.id, "adopted")

    # --- a request of which nobody knows what became ----------------------------------------

    def _resolve(self, entry: Entry, *, may_dial: bool = True) -> Placed:
        """Find the order of an intent without id or of an unknown outcome: adopt it, dial when sure, or give up."""
        wanted = self._wanted(entry)
        found = Found()
        for pause in LOOK_AFTER_SECONDS:
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if not found.certainly_absent:
                break
        if found.certainly_absent and may_dial and self._on_unknown == "redial_if_absent":
            found = self._find_when_quiet(wanted, entry.post_before)
            if found.certainly_absent:
                log.warning("Two complete searches found no order to %s under this task's name; dialling", self._masked)
                self._ledger.put(entry.unknown("two complete searches found no such order", utcnow()))
                # Once: if this request is lost as well, something is wrong that another one would not mend.
                return self._dial_unless_dialled(may_dial_again=False)
        if found.orders:
            return self._adopt(entry, found.orders[0])
        reason = found.doubt or "a search found no such order, which may still show later"
        try:
            # What another process found out meanwhile is worth more.
            if self._ledger.is_untouched():
                self._ledger.put(entry.unknown(reason, utcnow()))
        except Exception as error:  # noqa: BLE001  the record already says `intent`, which means the same
            log.warning("The unknown outcome could not be recorded: %s", type(error).__name__)
        raise RevoxOutcomeUnknownError(self._how_to_settle(entry, reason))

    def _find_when_quiet(self, wanted: Wanted, last_post: datetime) -> Found:
        """Search twice, once no lost request can still be on its way; absence is certain only if both find nothing."""
        quiet_at = last_post + timedelta(seconds=self._client.settings.timeout + QUIET_SECONDS)
        log.info("Waiting until %s to be sure whether %s was dialled", quiet_at.isoformat(), self._masked)
        for pause in (max(0.0, (quiet_at - utcnow()).total_seconds()), QUIET_SECONDS):
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if not found.certainly_absent:
                return found
        if not self._ledger.is_untouched():
            return Found(doubt="another process of this task instance was at work meanwhile")
        return Found()

    def _wanted(self, entry: Entry) -> Wanted:
        return Wanted(self._number, entry.name.__eq__, exactly=True, since=entry.created_at - CLOCKS_DIFFER)

    @staticmethod
    def _how_to_settle(entry: Entry, reason: str) -> str:
        return (
            f"A request to phone {entry.number} was made at {entry.posted_at.isoformat(timespec='seconds')}, and whether it"
            f" dialled is not known: {reason}. This task will not dial again by itself. Look in Revox for a call to this"
            f' number whose metadata {NAME_KEY} is {entry.name!r}, then pass adopt="<its id>" if there is one, or'
            f' redial_after="{entry.nonce}" if there is none (as a parameter, or as the value of the state store key'
            f" {SETTLE_KEY} of this task instance), and clear the task."
        )

    # --- what the record cannot tell ----------------------------------------

    def _may_have_been_dialled(self) -> bool:
        """
        Say whether this number may have been dialled in this run though this record tells of no call to it.

        By an earlier try, where no record is kept; or by another map index: each clear of a run may come with another
        list. One that was refused here before the last clear stood at this index since, and so at no other.
        """
        origin, newest = self._origin, self._ledger.record.newest if self._ledger.record else None
        if newest is None and not self._ledger.durable:
            return not origin.first_try or origin.clear_number > 0
        if not origin.mapped or origin.clear_number == 0:
            return False
        return newest is None or not newest.is_for(self._number) or newest.clear_number < origin.clear_number - 1

    def _dial_unless_dialled(self, *, may_dial_again: bool = True) -> Placed:
        """Dial, or adopt the call to this number that was placed elsewhere in this run; fail when that cannot be told."""
        if not self._may_have_been_dialled():
            return self._dial(may_dial_again=may_dial_again)
        origin = self._origin
        since = origin.since and origin.since - CLOCKS_DIFFER
        of_this_run = Wanted(self._number, self._is_of_this_run, exactly=False, since=since)
        found = find_orders(self._client, of_this_run)
        if found.certainly_absent and not self._ledger.durable:
            # An earlier try may have posted a moment ago.
            if self._on_unknown == "redial_if_absent":
                found = self._find_when_quiet(of_this_run, utcnow() + POST_WITHIN)
            else:
                found = Found(doubt="an earlier try may have dialled, and a search found no order of it")
        if found.orders:
            own = (order for order in found.orders if name_of(order).startswith(origin.name.instance_prefix))
            return self._adopt(self._new_entry(), next(own, found.orders[0]))
        if found.certainly_absent:
            return self._dial(may_dial_again=may_dial_again)
        raise RevoxOutcomeUnknownError(
            f"Whether an earlier try, or another map index, of this run dialled {self._masked} is not known: {found.doubt}."
            " Nobody was dialled now."
            f" Look in Revox for a call to this number whose metadata {NAME_KEY} begins with {origin.name.task_prefix!r}; if"
            ' there is one, pass adopt="<its id>", if there is none, start a new run for this person.'
        )

    def _is_of_this_run(self, name: str) -> bool:
        return name.startswith(self._origin.name.task_prefix)

    # --- a person's word ----------------------------------------

    def _allows_one_more(self, word: Settlement) -> bool:
        """Say whether a `redial_after` allows one more call now: if it names the newest entry, which has ended."""
        target, record = word.redial_after or "", self._ledger.record
        if record is None:
            log.info("%s=%r: nothing was dialled here before", word.source, target)
            return False
        newest = record.newest
        if any(entry.is_called(target) for entry in record.earlier):
            log.info("%s=%r was acted on before", word.source, target)
            self._ledger.mark_used(word, utcnow())
            return False
        # A nonce says "that request dialled nobody", which is not true of a call that was found meanwhile.
        if target != (newest.call_id or newest.nonce):
            return self._misses(word, target)
        if newest.call_id:
            order = self._client.send(endpoints.get_call(newest.call_id))
            if not is_terminal(str(order.status)):
                raise RevoxRecordError(
                    f"{word.source}: call {order.id} has not ended (it is {order.status}), so nobody is dialled after it. Wait"
                    " for its end, or cancel it in Revox, then clear the task."
                )
        elif newest.state is not State.REFUSED and (orders := find_orders(self._client, self._wanted(newest)).orders):
            log.warning("%s=%r: there is a call for it after all", word.source, target)
            self._adopt(newest, orders[0])
            self._ledger.mark_used(word, utcnow())
            return False
        log.warning("%s=%r allows one more call to %s", word.source, target, self._masked)
        return True

    def _adopts(self, word: Settlement) -> bool:
        """Take the named call as this task instance's call, if it can be; never allows to dial."""
        call_id, record = word.adopt or "", self._ledger.record
        newest = record.newest if record else None
        if newest and newest.call_id:
            if newest.call_id != call_id:
                return self._misses(word, call_id)
            self._ledger.mark_used(word, utcnow())
            return False
        own = newest if newest and newest.is_for(self._number) else None
        if newest and not own and newest.state is not State.REFUSED:
            return False  # the number was changed, which is told next
        order = self._client.send(endpoints.get_call(call_id))
        if order.to_phone_number != self._number:
            raise RevoxRecordError(
                f"{word.source}: call {call_id} is to {mask_number(str(order.to_phone_number))}, but this task calls"
                f" {self._masked}. Nobody was dialled; check the id."
            )
        # A word left in the DAG file must not hand the old answer to every later run.
        name = name_of(order)
        if not self._is_of_this_run(name) and (name or newest is None):
            return self._misses(word, call_id)
        entry = (own or self._new_entry()).placed(order.id, utcnow())
        self._ledger.put_if_untouched(entry)
        self._ledger.mark_used(word, utcnow())
        log.warning("%s: call %s to %s is now this task's call", word.source, order.id, self._masked)
        return False

    def _misses(self, word: Settlement, target: str) -> bool:
        """Say that a word does not mean the newest entry: a stored one was meant for this task, so it is refused."""
        if self._ledger.record is None:
            is_now = "there is no entry, and the call is of another task or run"
        else:
            newest = self._ledger.record.newest
            is_now = f"the newest entry is {newest.call_id or newest.nonce} ({newest.state.value})"
        if word.stored:
            raise RevoxRecordError(
                f"{word.source} names {target!r}, but {is_now}. Nobody was dialled; correct the value."
            )
        log.warning("%s=%r means no call of this task instance and is passed over: %s", word.source, target, is_now)
        return False
