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
    Record,
    Settlement,
    State,
    utcnow,
)
from airflow_provider_revox.models import CallOrder, CallRequest, is_terminal, mask_number
from airflow_provider_revox.searching import NAME_KEY, Found, Wanted, find_orders, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_revox.client import ClientSettings, RevoxClient

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
    :param run_cleared: True when the run was cleared, so that map indexes may have shifted.
    :param mapped: True for a mapped task.
    :param since: no call of this run is older.
    """

    name: CallName
    first_try: bool = True
    run_cleared: bool = False
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
        record = self._ledger.read()
        for settlement in self._settlements():
            allowed, record = self._settle(settlement, record)
            if allowed:
                placed = self._dial(record)
                self._used(settlement)
                return placed
        if record is None:
            return self._place_without_record()
        newest = record.newest
        if not newest.is_for(self._number) and not record.dialled_nobody:
            raise RevoxRecordError(
                f"The record of this task instance is about {newest.number} ({newest.call_id or newest.state.value}), but now"
                f" it asks for {self._masked}. Nobody was dialled now. If the new number is meant, set"
                f' redial_after="{newest.call_id or newest.nonce}" and clear the task.'
            )
        if newest.state is State.PLACED and newest.call_id:
            log.info("Call %s to %s was placed before; going on with it", newest.call_id, newest.number)
            return Placed(newest.call_id, "reattached")
        if newest.state is State.REFUSED:
            return self._dial(record)
        return self._resolve(record)

    # --- dialling ----------------------------------------

    def _dial(self, before: Record | None, *, may_dial_again: bool = True) -> Placed:
        """Write the intent, post one order, write its id."""
        entry = Entry.intent(self._origin.name, self._number, self._masked, utcnow())
        record = before.followed_by(entry) if before else Record(entry)
        stored = before

        def write_intent() -> None:
            nonlocal record, stored
            while True:
                record = record.with_newest(record.newest.about_to_post(utcnow()))
                self._ledger.replace(stored, record)
                stored = record
                # The write can take long: an attempt never begins on an intent that is out of date.
                if utcnow() < record.newest.post_before:
                    return

        metadata = {**(self._request.metadata or {}), NAME_KEY: entry.name}
        endpoint = endpoints.create_call(self._request.model_copy(update={"metadata": metadata}))
        try:
            order = self._client.send(endpoint, before_try=write_intent)
        except RevoxOutcomeUnknownError as error:
            log.warning("The request to phone %s got no clear answer: %s", self._masked, error)
            return self._resolve(
                record.with_newest(record.newest.unknown(str(error), utcnow())), may_dial=may_dial_again
            )
        except (RevoxAPIError, RevoxUnreachableError) as error:
            self._ledger.write(record.with_newest(record.newest.refused(str(error), utcnow())))
            raise
        log.info("Call %s to %s placed (order is %s)", order.id, self._masked, order.status)
        return self._keep(record, order.id, "placed")

    def _keep(self, record: Record, call_id: str, how: str) -> Placed:
        """Write a call id that was just learned."""
        try:
            self._ledger.write(record.with_newest(record.newest.placed(call_id, utcnow())))
        except BaseException:
            # The id must not be lost with this process: the next try finds the call by its name, a person by this line.
            log.error("Call %s to %s is %s, but could not be recorded", call_id, self._masked, how)  # noqa: TRY400
            raise
        return Placed(call_id, how)

    # --- a request of which nobody knows what became ----------------------------------------

    def _resolve(self, record: Record, *, may_dial: bool = True) -> Placed:
        """Find the order of an intent without id or of an unknown outcome: adopt it, dial when sure, or give up."""
        wanted = self._wanted(record.newest)
        for pause in LOOK_AFTER_SECONDS:
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if found.orders:
                return self._adopt(record, found.orders[0])
            if found.doubt is not None:
                break
        if found.certainly_absent and may_dial and self._on_unknown == "redial_if_absent":
            found = self._find_when_quiet(record, wanted)
            if found.orders:
                return self._adopt(record, found.orders[0])
            if found.certainly_absent:
                log.warning("Two complete searches found no order to %s under this task's name; dialling", self._masked)
                record = record.with_newest(
                    record.newest.unknown("two complete searches found no such order", utcnow())
                )
                self._ledger.write(record)
                # Once: if this request is lost as well, something is wrong that another one would not mend.
                return self._dial(record, may_dial_again=False)
        reason = found.doubt or "a search found no such order, which may still show later"
        try:
            now = self._ledger.read()
            if now is None or now.newest.is_as_it_was(record.newest):
                self._ledger.write(record.with_newest(record.newest.unknown(reason, utcnow())))
        except Exception as error:  # noqa: BLE001  the record already says `intent`, which means the same
            log.warning("The unknown outcome could not be recorded: %s", type(error).__name__)
        raise RevoxOutcomeUnknownError(self._how_to_settle(record.newest, reason))

    def _adopt(self, record: Record, order: CallOrder) -> Placed:
        log.info("Found call %s to %s in Revox under this task's name; adopting it", order.id, self._masked)
        return self._keep(record, order.id, "adopted")

    def _find_when_quiet(self, record: Record | None, wanted: Wanted) -> Found:
        """Search twice, once no lost request can still be on its way; absence is certain only if both find nothing."""
        settings: ClientSettings = self._client.settings
        last_post = record.newest.post_before if record else utcnow() + POST_WITHIN
        quiet_at = last_post + timedelta(seconds=settings.timeout + QUIET_SECONDS)
        log.info("Waiting until %s to be sure whether %s was dialled", quiet_at.isoformat(), self._masked)
        self._sleep(max(0.0, (quiet_at - utcnow()).total_seconds()))
        for pause in (0.0, QUIET_SECONDS):
            self._sleep(pause)
            found = find_orders(self._client, wanted)
            if not found.certainly_absent:
                return found
        now = self._ledger.read() if record is not None else None
        if record is not None and now is not None and not now.newest.is_as_it_was(record.newest):
            return Found(doubt="another process of this task instance was at work meanwhile")
        return Found()

    def _how_to_settle(self, entry: Entry, reason: str) -> str:
        settle = (
            f'pass adopt="<its id>" if there is one, or redial_after="{entry.nonce}" if there is none (as a parameter, or as'
            f" the value of the state store key {SETTLE_KEY} of this task instance)"
        )
        return (
            f"A request to phone {entry.number} was made at {entry.posted_at.isoformat(timespec='seconds')}, and whether it"
            f" dialled is not known: {reason}. This task will not dial again by itself. Look in Revox for a call to this"
            f" number whose metadata {NAME_KEY} is {entry.name!r}, then {settle}, and clear the task."
        )

    # --- no record: what earlier tries may have done ----------------------------------------

    def _place_without_record(self) -> Placed:
        """
        Dial, unless an earlier try of this run may have dialled without leaving a record.

        With a durable record its absence means that nothing was dialled here; but the map indexes of a cleared run may
        have shifted. Without one, only the first try knows that it is the first.
        """
        origin = self._origin
        if self._ledger.durable:
            clean = not (origin.run_cleared and origin.mapped)
        else:
            clean = origin.first_try and not origin.run_cleared
        if clean:
            return self._dial(None)
        since = origin.since and origin.since - CLOCKS_DIFFER
        of_this_run = Wanted(self._number, self._is_of_this_run, exactly=False, since=since)
        found = find_orders(self._client, of_this_run)
        if found.certainly_absent and not self._ledger.durable:
            # An earlier try may have posted a moment ago.
            if self._on_unknown == "redial_if_absent":
                found = self._find_when_quiet(None, of_this_run)
            else:
                found = Found(doubt="an earlier try may have dialled, and a search found no order of it")
        if found.orders:
            own = (order for order in found.orders if name_of(order).startswith(origin.name.instance_prefix))
            entry = Entry.intent(origin.name, self._number, self._masked, utcnow())
            return self._adopt(Record(entry), next(own, found.orders[0]))
        if found.certainly_absent:
            return self._dial(None)
        raise RevoxOutcomeUnknownError(
            f"Whether an earlier try of this task dialled {self._masked} is not known: {found.doubt}. Nobody was dialled now."
            f" Look in Revox for a call to this number whose metadata {NAME_KEY} begins with {origin.name.task_prefix!r}; if"
            ' there is one, pass adopt="<its id>", if there is none, start a new run for this person.'
        )

    def _is_of_this_run(self, name: str) -> bool:
        return name.startswith(self._origin.name.task_prefix)

    def _wanted(self, entry: Entry) -> Wanted:
        return Wanted(self._number, entry.name.__eq__, exactly=True, since=entry.created_at - CLOCKS_DIFFER)

    # --- a person's word ----------------------------------------

    def _settlements(self) -> list[Settlement]:
        return [word for word in (self._settlement, self._ledger.settlement()) if word is not None]

    def _settle(self, word: Settlement, record: Record | None) -> tuple[bool, Record | None]:
        """Apply a person's word; return whether one more call is allowed now, and the record as it is then."""
        if word.adopt:
            return False, self._adopt_named(word, word.adopt, record)
        target = word.redial_after or ""
        if record is None:
            log.info("%s=%r: nothing was dialled here before", word.source, target)
            return False, record
        if any(entry.is_called(target) for entry in record.earlier):
            log.info("%s=%r was acted on before", word.source, target)
            self._used(word)
            return False, record
        newest = record.newest
        # A nonce says "that request dialled nobody", which is not true of a call that was found meanwhile.
        if target != newest.call_id and (newest.call_id or target != newest.nonce):
            self._misses(word, target, newest)
            return False, record
        if newest.call_id:
            order = self._client.send(endpoints.get_call(newest.call_id))
            if not is_terminal(str(order.status)):
                raise RevoxRecordError(
                    f"{word.source}: call {order.id} has not ended (it is {order.status}), so nobody is dialled after it. Wait"
                    " for its end, or cancel it in Revox, then clear the task."
                )
        elif newest.state is not State.REFUSED:
            found = find_orders(self._client, self._wanted(newest))
            if found.orders:
                log.warning("%s=%r: there is a call for it after all", word.source, target)
                self._adopt(record, found.orders[0])
                self._used(word)
                return False, record.with_newest(newest.placed(found.orders[0].id, utcnow()))
        log.warning("%s=%r allows one more call to %s", word.source, target, self._masked)
        return True, record

    def _adopt_named(self, word: Settlement, call_id: str, record: Record | None) -> Record | None:
        newest = record.newest if record else None
        if record and newest and newest.call_id:
            if newest.call_id != call_id:
                self._misses(word, call_id, newest)
            else:
                self._used(word)
            return record
        if newest and newest.state is not State.REFUSED and not newest.is_for(self._number):
            return record  # the number was changed, which is told next
        order = self._client.send(endpoints.get_call(call_id))
        if order.to_phone_number != self._number:
            raise RevoxRecordError(
                f"{word.source}: call {call_id} is to {mask_number(str(order.to_phone_number))}, but this task calls"
                f" {self._masked}. Nobody was dialled; check the id."
            )
        name = name_of(order)
        # A word left in the DAG file must not hand the old answer to every later run.
        if not self._is_of_this_run(name) and (name or newest is None):
            self._misses(word, call_id, newest)
            return record
        if record and newest and newest.is_for(self._number):
            record = record.with_newest(newest.placed(order.id, utcnow()))
        else:
            entry = Entry.intent(self._origin.name, self._number, self._masked, utcnow()).placed(order.id, utcnow())
            record = record.followed_by(entry) if record else Record(entry)
        self._ledger.write(record)
        self._used(word)
        log.warning("%s: call %s to %s is now this task's call", word.source, order.id, self._masked)
        return record

    def _misses(self, word: Settlement, target: str, newest: Entry | None) -> None:
        """Say that a word does not mean the newest entry: a stored one was meant for this task, so it is refused."""
        if newest is None:
            is_now = "there is no entry, and the call is of another task or run"
        else:
            is_now = f"the newest entry is {newest.call_id or newest.nonce} ({newest.state.value})"
        if word.stored:
            raise RevoxRecordError(
                f"{word.source} names {target!r}, but {is_now}. Nobody was dialled; correct the value."
            )
        log.warning("%s=%r means no call of this task instance and is passed over: %s", word.source, target, is_now)

    def _used(self, word: Settlement) -> None:
        if word.stored:
            self._ledger.mark_settlement_used(utcnow())
