"""What the fields of a reply accept: anything, without ever failing.

A reply is read while a person may be on the phone, so nothing in it may stop the reading. A field has a
value of its declared type, or ``None`` where the service sent nothing that can be read as one.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import ConfigDict, PlainValidator, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from airflow_provider_revox.models.enums import (
    AttemptStatus,
    CallResult,
    CallStatus,
    DialError,
    Direction,
    EndedBy,
    TranscriptRole,
)
from airflow_provider_revox.models.quiet import QuietModel
from airflow_provider_revox.models.request_fields import refused

if TYPE_CHECKING:
    from collections.abc import Callable

_MemberT = TypeVar("_MemberT", bound=str)


class ReplyModel(QuietModel):
    """Keep unknown fields; build the validator at first use, not at import."""

    model_config = ConfigDict(extra="allow", defer_build=True, hide_input_in_errors=True)


def _to_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number_text(value)
    return None


def _number_text(value: float) -> str | None:
    try:
        return str(value)
    except ValueError:  # more digits than Python turns into text
        return None


def _to_flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None


def _to_number(value: Any) -> int | float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _to_whole(value: Any) -> int | None:
    number = _to_number(value)
    return number if isinstance(number, int) else None


def _to_id(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    number = _to_whole(value) if isinstance(value, (int, float)) else None
    text = None if number is None else _number_text(number)
    if text is None:
        raise refused("must be a non-empty string")
    return text


def _read_time(value: Any, read: ValidatorFunctionWrapHandler) -> datetime | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        moment: datetime = read(value)
        if moment.utcoffset() is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return moment.astimezone(timezone.utc)
    except (ValidationError, OverflowError):
        return None


def _read_or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _read_objects(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, list):
        return None
    return _read_or_none([entry for entry in value if isinstance(entry, (dict, QuietModel))], read)


def _read_objects_or_empty(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    return _read_objects(value, read) or []


def _to_texts(value: Any) -> list[str] | None:
    if not isinstance(value, list):
        return None
    return [text for text in map(_to_text, value) if text is not None]


def _to_map(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _member_or_text(members: Callable[[str], _MemberT]) -> Callable[[Any], _MemberT | str | None]:
    def read(value: Any) -> _MemberT | str | None:
        text = _to_text(value)
        if text is None:
            return None
        try:
            return members(text)
        except ValueError:
            return text

    return read


AnyText = Annotated[str | None, PlainValidator(_to_text)]
AnyFlag = Annotated[bool | None, PlainValidator(_to_flag)]
AnyNumber = Annotated[int | float | None, PlainValidator(_to_number)]
AnyWhole = Annotated[int | None, PlainValidator(_to_whole)]
AnyMap = Annotated[dict[str, Any] | None, PlainValidator(_to_map)]
AnyTexts = Annotated[list[str] | None, PlainValidator(_to_texts)]
OrderId = Annotated[str, PlainValidator(_to_id)]

AnyTime = Annotated[datetime | None, WrapValidator(_read_time)]
"""ISO 8601 text, or seconds or milliseconds since 1970; without a zone it is taken as UTC."""

OR_NONE = WrapValidator(_read_or_none)
"""Read a nested object, or None when it is not one."""

OBJECTS = WrapValidator(_read_objects)
"""Read the objects of a list, passing over what is not an object; None when it is not a list."""

OBJECTS_OR_EMPTY = WrapValidator(_read_objects_or_empty)
"""Likewise, and an empty list when it is not a list."""

AnyCallStatus = Annotated[CallStatus | str | None, PlainValidator(_member_or_text(CallStatus))]
AnyAttemptStatus = Annotated[AttemptStatus | str | None, PlainValidator(_member_or_text(AttemptStatus))]
AnyCallResult = Annotated[CallResult | str | None, PlainValidator(_member_or_text(CallResult))]
AnyDialError = Annotated[DialError | str | None, PlainValidator(_member_or_text(DialError))]
AnyEndedBy = Annotated[EndedBy | str | None, PlainValidator(_member_or_text(EndedBy))]
AnyDirection = Annotated[Direction | str | None, PlainValidator(_member_or_text(Direction))]
AnyRole = Annotated[TranscriptRole | str | None, PlainValidator(_member_or_text(TranscriptRole))]
