"""A call order while the simulator runs: where its life has come to, and how a response shows it."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_revox.simulator import assistants
from airflow_provider_revox.simulator.clock import iso
from airflow_provider_revox.simulator.fates import fate_of
from airflow_provider_revox.simulator.lives import TERMINAL, Change, Life
from airflow_provider_revox.simulator.seeded import identifier
from airflow_provider_revox.simulator.windows import DEFAULT_RETRY_CONFIG, CallingHours

if TYPE_CHECKING:
    from airflow_provider_revox.simulator.lanes import Lane
    from airflow_provider_revox.simulator.validation import CallBody

Json = dict[str, Any]

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)


def encoded(value: object) -> bytes:
    """Return a value as compact JSON."""
    return _encoder.encode(value).encode(errors="replace")


class Attempt:
    """One call attempt; ``order`` is the order it belongs to, which a response does not tell."""

    def __init__(self, order: Order, index: int, *, live: bool) -> None:
        self.order = order
        self.fields: Json = {
            "id": identifier(order.id, "attempt", index),
            "answered_at": None,
            "dial_error": None,
            "ended_at": None,
            "phone_number": order.phone_number,
            "recording_url": None,
            "result": None,
            "started_at": None,
            "status": "queued",
            "end_reason": None,
            "ended_by": None,
            "structured_output": None,
            "transcript": None,
        }
        if live:
            self.fields |= {
                "handled_by_ai": False,
                "handled_by_human": False,
                "handled_by_user": None,
                "post_call_transcript": None,
                "assistants_used": [order.assistant["id"]],
                "email_log": [],
                "sms_log": [],
                "speech_events": [],
            }


class Order:
    """A call order, the changes that are still to come, and its cached bytes.

    :param names: seed, phone number and ordinal: what the id and all of its randomness are derived from
    """

    def __init__(self, names: tuple[object, ...], body: CallBody, created_at: float, *, live: bool) -> None:
        self.id = identifier(*names)
        self.phone_number: str = body.phone_number
        self.created_at: float = created_at
        self.updated_at: float = created_at
        self.status: str = "initializing"
        self.attempts: list[Attempt] = []
        self.attempt_open = False
        self.dialled = 0
        self.not_before = 0.0
        self.polls = 0
        self.version = 0
        self.visible_from = created_at
        self.lane: Lane | None = None
        self.lane_limit = body.concurrency.max if body.concurrency else 0
        self._live = live
        self._bytes: bytes | None = None

        assistant_id = body.assistant_id or identifier(*names, "assistant")
        self.assistant = _assistant(body, assistant_id, created_at, live=live)
        self.metadata = body.metadata
        self.from_phone_number = body.from_phone_number or assistants.DEFAULT_FROM_PHONE_NUMBER
        self.scheduled_at: float | None = body.scheduled_for
        self.retry_config = self.assistant["call_retry_config"] or DEFAULT_RETRY_CONFIG
        self.variables = body.prompt_variables or {}
        self.life = Life(
            names=names,
            fate=fate_of(body.phone_number),
            hours=CallingHours.from_config(self.retry_config, body.phone_number),
            assistant=self.assistant,
            variables=self.variables,
            scheduled_at=self.scheduled_at,
            skips_hours=live and body.skip_calling_window,
            force_now=body.force_now,
            post_processing=live,
        )
        self.pending = deque(self.life.opening(created_at))

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more can happen to this order."""
        return self.status in TERMINAL

    @property
    def last_result(self) -> str | None:
        """The result of the most recent attempt, where there is one."""
        return self.attempts[-1].fields["result"] if self.attempts else None

    @property
    def outcome(self) -> str | None:
        """What the live service would say came out of the call."""
        return "completed" if self.status == "completed" and self.last_result == "human" else None

    def apply(self, change: Change, recording_root: str) -> None:
        """Let a change happen."""
        self.updated_at = change.at
        self._bytes = None
        if change.status is not None:
            self.status = change.status
        if change.opens:
            self.attempts.append(Attempt(self, len(self.attempts), live=self._live))
            self.attempt_open = True
        if change.attempt is not None:
            self._update_attempt(change, recording_root)
        if change.closes:
            self.attempt_open = False

    def _update_attempt(self, change: Change, recording_root: str) -> None:
        fields = self.attempts[-1].fields
        if fields["started_at"] is None and change.attempt and "started_at" in change.attempt:
            self.dialled += 1
        fields.update(change.attempt or {})
        if change.recorded:
            fields["recording_url"] = f"{recording_root}/{fields['id']}.wav"
        if self._live and change.recorded:
            fields["handled_by_ai"] = True
            fields["post_call_transcript"] = [
                {"content": entry["content"], "role": entry["role"]} for entry in fields["transcript"]
            ]

    def stop(self, status: str, at: float) -> None:
        """Take the rest of its life from the order and leave it in this status; a live attempt is ended."""
        self.version += 1
        self.not_before = next((change.not_before for change in self.pending if change.dials), self.not_before)
        self.pending.clear()
        attempt: Json | None = None
        if self.attempt_open:
            answered = self.attempts[-1].fields["status"] == "ongoing"
            attempt = {
                "status": "completed" if answered else "error",
                "result": "unknown" if answered else None,
                "ended_at": iso(at),
                "ended_by": "system",
                "end_reason": "cancelled",
            }
        self.apply(Change(at, status=status, attempt=attempt, closes=True), "")

    def resume(self, at: float) -> None:
        """Go on after a pause, as far as this order ever goes."""
        self.version += 1
        if self.attempts:
            self.pending.extend(self.life.waiting(len(self.attempts), at, self.not_before))
        else:
            self.pending.extend(self.life.entry(at, resumed=True))

    def shown(self) -> Json:
        """Return the order as a response shows it."""
        calls = [attempt.fields for attempt in reversed(self.attempts)]
        order: Json = {
            "id": self.id,
            "assistant": self.assistant,
            "call_attempts": calls,
            "call_retry_config": self.retry_config,
            "calls_count": len(calls),
            "campaign": None,
            "created_at": iso(self.created_at),
            "direction": "outbound",
            "first_sentence_delay_ms": self.assistant["first_sentence_delay_ms"],
            "from_phone_number": self.from_phone_number,
            "is_cancelled": self.status == "cancelled",
            "is_completed": self.status == "completed",
            "last_call_attempt": calls[0] if calls else None,
            "llm_model": self.assistant["llm_model"],
            "metadata": self.metadata,
            "organization_id": assistants.ORGANIZATION_ID,
            "scheduled_at": None if self.scheduled_at is None else iso(self.scheduled_at),
            "status": self.status,
            "to_phone_number": self.phone_number,
        }
        return order | self._live_fields() if self._live else order

    def _live_fields(self) -> Json:
        outcome = self.outcome
        return {
            "assignee": None,
            "contact": {},
            "follow_up_emails": None,
            "outcome": outcome,
            "outcome_summary": "The person answered and gave the data asked for." if outcome else None,
            "prompt_variables": self.variables,
            "slack_channel_ids": None,
            "updated_at": iso(self.updated_at),
        }

    def as_bytes(self) -> bytes:
        """Return the order as JSON, cached until its next change."""
        if self._bytes is None:
            self._bytes = encoded(self.shown())
        return self._bytes


def _assistant(body: CallBody, assistant_id: str, created_at: float, *, live: bool) -> Json:
    # The id wins where a request gives both.
    if body.assistant_id is not None or body.assistant is None:
        return assistants.shown(assistants.BUILT_IN[assistant_id], assistant_id, live=live)
    given = body.assistant.model_dump(exclude_unset=True)  # a null that was sent stays apart from nothing sent
    return assistants.shown(given, assistant_id, created_at=iso(created_at), live=live)
