"""
What a task instance knows of its calls, and what a person decides about them.

Two words settle what the record alone cannot: ``redial_after`` allows one more call after the newest entry, ``adopt`` names the
call that came of it. Each is a parameter of the operator, which reaches every map index and every later run and so is passed
over where it does not fit; or it lies in the state store of just this task instance, and then is refused where it does not.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_revox import endpoints
from airflow_provider_revox.exceptions import RevoxNotFoundError, RevoxRecordError
from airflow_provider_revox.ledger import CallName, Entry, Ledger, Settlement, State, utcnow
from airflow_provider_revox.models import CallOrder, CallRequest, is_terminal, mask_number
from airflow_provider_revox.searching import Wanted, find_orders, name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow_provider_revox.client import RevoxClient

log = logging.getLogger(__name__)

#: Beyond the last moment at which a lost request can have been answered.
QUIET_SECONDS = 30.0


@dataclass(frozen=True)
class Placed:
    """
    The call of a task instance.

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


class Settling:
    """
    The calls of one task instance: its record, and a person's word on it.

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

    @staticmethod
    def _now() -> datetime:
        return utcnow()

    def _new_entry(self) -> Entry:
        return Entry.intent(self._origin.name, self._number, self._masked, self._now(), self._origin.clear_number)

    def _wanted(self, entry: Entry) -> Wanted:
        return Wanted(self._number, entry.name.__eq__, exactly=True, since=entry.created_at)

    def _is_of_this_run(self, name: str) -> bool:
        return name.startswith(self._origin.name.task_prefix)

    def _quiet_at(self, last_post: datetime) -> datetime:
        """Return when no request that was begun by then can still be on its way."""
        return last_post + timedelta(seconds=self._client.settings.timeout + QUIET_SECONDS)

    def _keep(self, entry: Entry, call_id: str, how: str) -> Placed:
        """Write a call id that was just learned."""
        try:
            self._ledger.put(entry.placed(call_id, self._now()))
        except BaseException:
            # The id must not be lost with this process: the next try finds the call by its name, a person by this line.
            log.error("Call %s to %s is %s, but could not be recorded", call_id, self._masked, how)  # noqa: TRY400
            raise
        return Placed(call_id, how)

    def _adopt(self, entry: Entry, order: CallOrder) -> Placed:
        log.info("Found call %s to %s in Revox under this task's name; adopting it", order.id, self._masked)
        return self._keep(entry, order.id, "adopted")

    # --- a person's word ----------------------------------------

    def _heed_words(self) -> Settlement | None:
        """Apply what people settled; return the word that allows one more call now, None if there is none."""
        words = [word for word in (self._settlement, self._ledger.settlement()) if word is not None]
        # Who found the call knows more than who wants another one.
        for word in (word for word in words if word.adopt):
            self._adopt_named(word, word.adopt or "")
        for word in (word for word in words if word.redial_after):
            if self._allows_one_more(word, word.redial_after or ""):
                log.warning("%s=%r allows one more call to %s", word.source, word.redial_after, self._masked)
                return word
        return None

    def _allows_one_more(self, word: Settlement, target: str) -> bool:
        """Say whether a word allows one more call now: if it names the newest entry, and what came of that has ended."""
        record = self._ledger.record
        if record is None:
            known = "nothing was dialled here before" if self._ledger.durable else "no record is kept here"
            log.info("%s=%r is passed over: %s", word.source, target, known)
            return False
        newest = record.newest
        if any(entry.is_called(target) for entry in record.earlier):
            log.info("%s=%r was acted on before", word.source, target)
            self._ledger.mark_used(word, self._now())
            return False
        # A nonce says "that request dialled nobody", which is not true of a call that was found meanwhile. But for another
        # number it is the nonce that is asked for: a call id may be known at several map indexes.
        by_call_id = newest.call_id is not None and newest.is_for(self._number)
        if target != (newest.call_id if by_call_id else newest.nonce):
            self._misses(word, target)
            return False
        if newest.call_id:
            order = self._get_call(word, newest.call_id)
            if by_call_id and self._origin.mapped and not word.stored and name_of(order) != newest.name:
                # Placed by another map index, which the parameter reaches as well.
                self._misses(word, target)
                return False
            self._check_ended(word, order)
        # The newest, or of a number that was changed and changed back an earlier one.
        own = next((e for e in record.entries if e.is_for(self._number) and e.state is not State.REFUSED), None)
        if own is not None and own.call_id is None:
            return not self._is_found_after_all(word, own)
        if own is not None and own is not newest:
            self._check_ended(word, self._get_call(word, own.call_id or ""))
        return True

    def _check_ended(self, word: Settlement, order: CallOrder) -> None:
        if not is_terminal(str(order.status)):
            raise RevoxRecordError(
                f"{word.source}: call {order.id} has not ended (it is {order.status}), so nobody is dialled after it. Wait"
                " for its end, or cancel it in Revox, then clear the task."
            )

    def _is_found_after_all(self, word: Settlement, entry: Entry) -> bool:
        """
        Look once more for the call that a person says there is none; adopt it if there is.

        :raises RevoxRecordError: when that cannot be looked into, or it is too early to say: the process that wrote the entry
            may stand still before its request, or the request may still be on its way.
        """
        found = find_orders(self._client, self._wanted(entry))
        if found.orders:
            log.warning("%s=%r: there is a call for it after all", word.source, word.redial_after)
            # On top of the record, so that the word is used up.
            newest = self._ledger.record.newest if self._ledger.record else None
            self._adopt(entry if entry is newest else self._new_entry(), found.orders[0])
            self._ledger.mark_used(word, self._now())
        elif found.doubt and not found.impossible:
            raise RevoxRecordError(
                f"{word.source}: whether there is a call for it after all could not be looked into: {found.doubt}. Nobody was"
                " dialled now. Clear the task to look again; or set api_extensions=off in the connection to go by your word"
                " alone."
            )
        elif self._now() < (quiet_at := self._quiet_at(entry.post_before)):
            raise RevoxRecordError(
                f"{word.source}: the request of {entry.posted_at.isoformat(timespec='seconds')} can still arrive until"
                f" {quiet_at.isoformat(timespec='seconds')}. Nobody was dialled now. Look in Revox once more after that; if there"
                " still is no call, clear the task."
            )
        return bool(found.orders)

    def _adopt_named(self, word: Settlement, call_id: str) -> None:
        """Take the named call as this task instance's call, if it can be."""
        record = self._ledger.record
        newest = record.newest if record else None
        if newest and newest.call_id == call_id:
            self._ledger.mark_used(word, self._now())
            return
        own = newest if newest and newest.is_for(self._number) else None
        settled = newest is not None and newest.call_id is not None
        if settled or (record and any(entry.call_id == call_id for entry in record.earlier)):
            # There is a call already; or a request before the newest led to the named one.
            self._misses(word, call_id)
            return
        open_end = newest is not None and newest.state is not State.REFUSED
        if open_end and not own:
            return  # the number was changed, which is told next
        try:
            order = self._get_call(word, call_id, to=self._number)
        except RevoxRecordError:
            if word.stored or open_end:
                raise
            self._misses(word, call_id)
            return
        # A word left in the DAG file must not hand the old answer to every later run.
        name = name_of(order)
        if not self._is_of_this_run(name) and (name or newest is None):
            self._misses(word, call_id)
            return
        self._ledger.put_if_untouched((own or self._new_entry()).placed(order.id, self._now()))
        self._ledger.mark_used(word, self._now())
        log.warning("%s: call %s to %s is now this task's call", word.source, order.id, self._masked)

    def _get_call(self, word: Settlement, call_id: str, *, to: str | None = None) -> CallOrder:
        """Return a call that a word names. :raises RevoxRecordError: when Revox has none, or it is to another number."""
        try:
            order = self._client.send(endpoints.get_call(call_id))
        except RevoxNotFoundError:
            raise RevoxRecordError(
                f"{word.source}: Revox knows no call {call_id}. Nobody was dialled now. Check the id and the connection; if"
                " the call was deleted in Revox, start a new run for this person."
            ) from None
        if to not in (None, order.to_phone_number):
            raise RevoxRecordError(
                f"{word.source}: call {call_id} is to {mask_number(str(order.to_phone_number))}, but this task calls"
                f" {self._masked}. Nobody was dialled; check the id."
            )
        return order

    def _misses(self, word: Settlement, target: str) -> None:
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
