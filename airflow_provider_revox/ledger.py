"""
The durable record of whom this task instance has dialled, kept in Airflow's task state store.

One record for one task instance, under one key, which never expires. Its newest entry is in one of four states:

- ``intent``: a request to dial was about to be sent. Until proven otherwise it may have been.
- ``placed``: Revox took the order; the call id is known. Nothing but a person's word leads to another call.
- ``refused``: it is certain that nobody was dialled. A later try may place a call.
- ``unknown``: a request left and what became of it could not be found out.

Entries that were replaced are kept in the record, newest first. How the states follow each other is told in
docs/reliability.md; `airflow_provider_revox.placing` walks them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Protocol

from pydantic import AwareDatetime, TypeAdapter

from airflow_provider_revox.exceptions import RevoxRecordError
from airflow_provider_revox.models.numbers import is_e164

RECORD_KEY = "revox_call"
SETTLE_KEY = "revox_settle"
GUARD_KEY = "revox_guard"

#: No attempt to post begins later than this after its intent was written.
POST_WITHIN = timedelta(seconds=60)

_NOTHING = "nothing was ever written"


class State(str, Enum):
    """State of one entry of the record."""

    INTENT = "intent"
    PLACED = "placed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CallName:
    """
    The name under which this task instance's calls can be found again in Revox (metadata ``airflow_call_key``).

    Its text is ``deployment/dag/run/task/map_index/nonce``; a slash within a part is written ``%2F``.
    """

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @property
    def task_prefix(self) -> str:
        """What the names of all calls of this task in this run begin with, whatever the map index."""
        parts = (self.deployment, self.dag_id, self.run_id, self.task_id)
        return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts) + "/"

    @property
    def instance_prefix(self) -> str:
        """What the names of all calls of this task instance begin with."""
        return f"{self.task_prefix}{self.map_index}/"


@dataclass(frozen=True)
class Entry:
    """
    One request to dial: what was meant, and what is known of it.

    :param name: the call's name in Revox, which ends in the nonce.
    :param number: masked, for people.
    :param digest: of the full number, salted with the nonce.
    :param post_before: no attempt to post begins after this time.
    :param clear_number: how often the run had been cleared by then.
    :param call_id: known when placed.
    :param reason: why it is refused or unknown.
    """

    state: State
    nonce: str
    name: str
    number: str
    digest: str
    post_before: AwareDatetime
    created_at: AwareDatetime
    updated_at: AwareDatetime
    clear_number: int = 0
    call_id: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.state is State.PLACED and not self.call_id:
            msg = "placed without call_id"
            raise ValueError(msg)

    @classmethod
    def intent(cls, name: CallName, number: str, masked: str, now: datetime, clear_number: int) -> Entry:
        """Return a new intent to dial a number, with a nonce of its own."""
        nonce = secrets.token_hex(8)
        return cls(
            state=State.INTENT,
            nonce=nonce,
            name=name.instance_prefix + nonce,
            number=masked,
            digest=_digest(nonce, number),
            post_before=now + POST_WITHIN,
            created_at=now,
            updated_at=now,
            clear_number=clear_number,
        )

    def is_for(self, number: str) -> bool:
        """Say whether this entry is about a number."""
        return secrets.compare_digest(self.digest, _digest(self.nonce, number))

    @property
    def posted_at(self) -> datetime:
        """When the last attempt to post began."""
        return self.post_before - POST_WITHIN

    def is_called(self, word: str) -> bool:
        """Say whether a word is this entry's call id or nonce."""
        return word in (self.call_id, self.nonce)

    def about_to_post(self, now: datetime) -> Entry:
        """Return the intent as it stands right before an attempt to post."""
        return replace(self, post_before=now + POST_WITHIN, updated_at=now)

    def placed(self, call_id: str, now: datetime) -> Entry:
        """Return the entry of a call that Revox took."""
        return replace(self, state=State.PLACED, call_id=call_id, reason=None, updated_at=now)

    def refused(self, reason: str, now: datetime) -> Entry:
        """Return the entry of a request that certainly dialled nobody."""
        return replace(self, state=State.REFUSED, reason=reason, updated_at=now)

    def unknown(self, reason: str, now: datetime) -> Entry:
        """Return the entry of a request of which nobody knows what became."""
        return replace(self, state=State.UNKNOWN, reason=reason, updated_at=now)


@dataclass(frozen=True)
class Record:
    """All that is known of the calls of one task instance: the newest entry, and those before it, newest first."""

    newest: Entry
    earlier: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, entry: Entry, before: Record | None) -> Record:
        """Return a record with another state of one of its entries, or one more entry on top."""
        if before is None:
            return cls(entry)
        entries = before.entries
        if not any(each.nonce == entry.nonce for each in entries):
            return cls(entry, entries)
        newest, *earlier = (entry if each.nonce == entry.nonce else each for each in entries)
        return cls(newest, tuple(earlier))

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, newest first."""
        return self.newest, *self.earlier

    @property
    def dialled_nobody(self) -> bool:
        """Say whether it is certain that no entry led to a call."""
        return all(entry.state is State.REFUSED for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        """Return what is stored: the newest entry's fields, and under ``earlier`` those of the others."""
        newest, *earlier = (_ENTRY.dump_python(entry, mode="json", exclude_none=True) for entry in self.entries)
        return {**newest, "earlier": earlier}

    @classmethod
    def from_json(cls, value: object) -> Record:
        """
        Return what was stored; keys of later versions are passed over.

        :raises RevoxRecordError: when it cannot be read: then nobody may be dialled.
        """
        try:
            newest, *earlier = (
                _ENTRY.validate_python(entry)
                for entry in (value, *value["earlier"])  # type: ignore[index]
            )
        except (KeyError, TypeError, ValueError) as error:
            # What it holds is left out: pydantic would repeat it.
            raise RevoxRecordError(
                f"The record of this task's calls (state store key {RECORD_KEY}) cannot be read ({type(error).__name__}), so it"
                " is not known whom it dialled. Nobody was dialled now. Mend the record, or delete it if you are sure that"
                " nobody was called."
            ) from None
        return cls(newest, tuple(earlier))


def _digest(nonce: str, number: str) -> str:
    return hashlib.sha256(f"{nonce}:{number}".encode()).hexdigest()[:32]


_ENTRY = TypeAdapter(Entry)


# --- what a person decided ----------------------------------------


@dataclass(frozen=True)
class Settlement:
    """
    A person's word on an entry: allow one more call after it, or adopt a call for it.

    :param stored: True when it came through the state store, and so is meant for just this task instance.
    """

    redial_after: str | None = None
    adopt: str | None = None
    stored: bool = False

    def __post_init__(self) -> None:
        if is_e164(self.redial_after or self.adopt):
            raise RevoxRecordError(f"{self.source} must be a call id or nonce, not a phone number. Nobody was dialled.")

    @property
    def source(self) -> str:
        """Name the setting for messages."""
        name = "redial_after" if self.redial_after else "adopt"
        return f"{SETTLE_KEY} ({name})" if self.stored else name


# --- where the record is kept ----------------------------------------


class StateStore(Protocol):
    """The part of Airflow's task state store that is used here."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, the default when there is none."""

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        """Keep a value."""


@dataclass
class Ledger:
    """
    Read and write the record of one task instance.

    :param store: None where Airflow has no task state store (before 3.3): then nothing outlives the process.
    :param forever: what the store takes as "never expires".
    :param wiped_on_success: Airflow forgets the record when the task succeeds (``[state_store] clear_on_success``).
    :param has_backend: values are kept outside Airflow's database (``[workers] state_store_backend``).
    """

    store: StateStore | None
    forever: Any = None
    wiped_on_success: bool = False
    has_backend: bool = False
    #: The record as this process last read or wrote it.
    record: Record | None = field(default=None, init=False)

    @property
    def durable(self) -> bool:
        """Say whether no record means that nothing was dialled."""
        return self.store is not None and not self.wiped_on_success

    def read(self) -> Record | None:
        """Return the record, None when there is none. :raises RevoxRecordError: when it cannot be read."""
        self.record = self._stored()
        return self.record

    def is_untouched(self) -> bool:
        """Say whether no other process wrote since this one last read or wrote."""
        return self.store is None or self._stored() == self.record

    def put(self, entry: Entry) -> None:
        """
        Keep an entry: in the place of the same one, else on top.

        What the store raises goes up: a task instance that was replaced must not go on.
        """
        now = self._stored()
        # Another process that went on after this entry keeps its place on top.
        went_on = now is not None and any(each.nonce == entry.nonce for each in now.earlier)
        self._write(Record.of(entry, now if went_on else self.record))

    def put_if_untouched(self, entry: Entry) -> None:
        """
        Keep an entry as `put` does, unless another process wrote since this one last read or wrote.

        :raises RevoxRecordError: when one did: then it, and not this one, goes on.
        """
        if not self.is_untouched():
            raise RevoxRecordError(
                "Another process of this task instance wrote its record meanwhile. Nobody was dialled by this one; clear the"
                " task to go on with what the other did."
            )
        self._write(Record.of(entry, self.record))

    def _write(self, record: Record) -> None:
        if self.store:
            if self.has_backend:
                # A backend keeps the value before Airflow checks whether this task instance was replaced.
                self.store.set(GUARD_KEY, record.newest.nonce)
            self.store.set(RECORD_KEY, record.to_json(), retention=self.forever)
        self.record = record

    def _stored(self) -> Record | None:
        value = self.store.get(RECORD_KEY, _NOTHING) if self.store else _NOTHING
        # A backend that lost the value gives None, which is not the same as a key that was never written.
        return None if value == _NOTHING else Record.from_json(value)

    def settlement(self) -> Settlement | None:
        """
        Return what a person left under the key ``revox_settle``, None when there is nothing or it was used.

        :raises RevoxRecordError: when it is not of the right form.
        """
        value = self.store.get(SETTLE_KEY, None) if self.store else None
        if isinstance(value, str):
            with suppress(ValueError):
                value = json.loads(value)
        if not value:
            return None
        match value:
            case {"used_at": str()}:
                return None
            case {"redial_after": str(word), **others} if word and not others:
                return Settlement(redial_after=word, stored=True)
            case {"adopt": str(word), **others} if word and not others:
                return Settlement(adopt=word, stored=True)
        raise RevoxRecordError(
            f'State store key {SETTLE_KEY} must be {{"redial_after": "<call id or nonce>"}} or {{"adopt": "<call id>"}}.'
            " Nobody was dialled."
        )

    def mark_used(self, word: Settlement, now: datetime) -> None:
        """Note that a settlement was acted on, so that what stands under ``revox_settle`` is not again."""
        if self.store and word.stored:
            said = {"redial_after": word.redial_after} if word.redial_after else {"adopt": word.adopt}
            self.store.set(SETTLE_KEY, {**said, "used_at": now.isoformat()}, retention=self.forever)


def utcnow() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(timezone.utc)
