"""The request that has a person phoned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from airflow_provider_revox.models.assistant_request import AssistantRequest  # noqa: TC001  # pydantic reads it
from airflow_provider_revox.models.request_fields import (
    REFUSED_VALUE,
    FilledText,
    Flag,
    Moment,
    PhoneNumber,
    RequestModel,
    TextMap,
    WholeFromOne,
    check_json,
    refused,
)


class Concurrency(RequestModel):
    """Limit how many calls that share a key run at once.

    :param key: what the calls share; not empty.
    :param max: the most calls at once, a whole number, 1 or more.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("max",)

    key: FilledText
    max: WholeFromOne


def _check_extra_body(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise refused("must be a mapping of field names to JSON values")
    if not all(isinstance(key, str) and key for key in value):
        raise refused("has a key that is not a field name; every key must be a non-empty string", REFUSED_VALUE)
    known = [name for name in CallRequest.model_fields if name in value]
    if known:
        raise refused(
            f"repeats {', '.join(known)}; extra_body is only for fields that CallRequest does not have",
            REFUSED_VALUE,
        )
    copied: dict[str, Any] = check_json(dict(value))
    return copied


class CallRequest(RequestModel):
    """Ask for one person to be phoned: the body of ``POST /call``.

    What was not given is not sent. ``None`` counts as not given for every field here, since that is what an
    operator passes for a parameter that was left alone; null inside ``assistant`` is another matter, see
    there.

    :param phone_number: E.164 number to dial, such as ``+14155550100``.
    :param assistant: the assistant for this call; give exactly one of ``assistant`` and ``assistant_id``.
    :param assistant_id: the id of an assistant that exists.
    :param concurrency: limit on calls at once.
    :param force_now: whether to dial now, whatever the calling windows say.
    :param from_phone_number: E.164 number to dial from. Left out, the service takes its own.
    :param metadata: kept with the order. Keys are non-empty strings; numbers, booleans, dates and datetimes
        are turned into text, nested values and nulls are refused.
    :param prompt_variables: put into the prompt; likewise.
    :param scheduled_at: when to dial first: an aware datetime or ISO 8601 text with its offset; sent in UTC.
    :param extra_body: fields of the body that this version does not know yet, as JSON values, merged in
        last. It cannot replace a field that is listed here, and is not itself sent.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("assistant_id", "scheduled_at")
    masked_fields: ClassVar[tuple[str, ...]] = ("phone_number", "from_phone_number")

    phone_number: PhoneNumber
    assistant: AssistantRequest | None = None
    assistant_id: FilledText | None = Field(default=None, validate_default=True)
    concurrency: Concurrency | None = None
    force_now: Flag | None = None
    from_phone_number: PhoneNumber | None = None
    metadata: TextMap | None = None
    prompt_variables: TextMap | None = None
    scheduled_at: Moment | None = None
    extra_body: Annotated[dict[str, Any], BeforeValidator(_check_extra_body)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_not_given(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}
        return data

    @field_validator("assistant_id")
    @classmethod
    def _exactly_one_assistant(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "assistant" not in info.data:
            return value
        if info.data["assistant"] is None and value is None:
            raise refused("missing, and so is assistant; give exactly one of the two", REFUSED_VALUE)
        if info.data["assistant"] is not None and value is not None:
            raise refused("given together with assistant; give exactly one of the two", REFUSED_VALUE)
        return value

    def to_wire(self) -> dict[str, Any]:
        """Return the body to send: what was given, nothing else, in JSON types.

        A null that was given inside ``assistant`` stays null; what was left out stays out. ``extra_body`` is
        merged in.
        """
        given = self.model_dump(mode="json", exclude_unset=True, exclude={"extra_body"})
        body = {name: value for name, value in given.items() if value is not None}
        return {**(self.extra_body or {}), **body}

    def wire_json(self) -> bytes:
        """Return what :meth:`to_wire` does, as compact UTF-8 JSON."""
        return json.dumps(self.to_wire(), allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
