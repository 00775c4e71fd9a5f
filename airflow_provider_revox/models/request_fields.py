"""What the fields of a request accept: the types from which the request models are made.

Templated values arrive as text, so a number may be written in digits and a boolean as ``true`` or ``false``.
Nothing else is guessed: what does not fit is refused, by name and with what would fit.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainValidator, Strict
from pydantic_core import PydanticCustomError

from airflow_provider_revox.models.numbers import E164_EXAMPLE, is_e164
from airflow_provider_revox.models.quiet import QuietModel, build_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

REFUSED = "revox_refused"
REFUSED_VALUE = "revox_refused_value"
REFUSED_NUMBER = "revox_refused_number"

DATETIME_WANTED = (
    "must be a date and time with its zone: an aware datetime, or ISO 8601 text such as 2026-03-01T09:00:00+01:00"
)
TEXT_MAP_VALUE_WANTED = "must be a string, a number, a boolean, a date or a datetime"

_NUMBER_TEXT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_WHOLE_TEXT = re.compile(r"-?[0-9]{1,15}")
_LARGEST_NUMBER = 2**53 - 1
_DATETIME_TEXT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_ZONE_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*")
_FILES_BESIDE_ZONES = ("posix/", "right/", "posixrules", "localtime")


class RequestModel(QuietModel):
    """Refuse unknown fields and later changes; build the validator at first use, not at import."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, hide_input_in_errors=True)

    def __new__(cls, *_args: Any, **_fields: Any) -> Self:
        """Have the validator ready before pydantic looks for it; see :func:`build_once`."""
        build_once(cls)
        return super().__new__(cls)


def refused(problem: str, kind: str = REFUSED) -> PydanticCustomError:
    """Make the error that names a problem and what would be right.

    :param problem: the sentence after the field's name; it must not contain a string that the author gave.
    :param kind: ``REFUSED`` lets the description tell the type that was given, ``REFUSED_NUMBER`` the masked
        number, and ``REFUSED_VALUE`` nothing, because the problem tells it.
    """
    return PydanticCustomError(kind, "{problem}", {"problem": problem})


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise refused("must not be null; leave the field out instead")
    return value


NOT_NULL = BeforeValidator(_refuse_null)
"""Refuse an explicit null where the API knows none; a field that was left out stays left out."""


def _check_number(value: Any) -> str:
    if is_e164(value):
        return str(value)
    wanted = f"must be a phone number in E.164, such as {E164_EXAMPLE}"
    if isinstance(value, str) and value != value.strip() and is_e164(value.strip()):
        raise refused(f"has whitespace around it; {wanted}, with nothing around it", REFUSED_NUMBER)
    raise refused(wanted, REFUSED_NUMBER)


def _to_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise refused("must be true or false")


def _to_number(value: Any) -> int | float:
    if isinstance(value, str) and _NUMBER_TEXT.fullmatch(value):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refused("must be a number")
    if not math.isfinite(value) if isinstance(value, float) else abs(value) > _LARGEST_NUMBER:
        raise refused("must be a finite number of ordinary size")
    return value


def _to_whole(value: Any) -> int:
    if isinstance(value, str) and _WHOLE_TEXT.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused("must be a whole number")
    if abs(value) > _LARGEST_NUMBER:
        raise refused("must be a whole number of ordinary size")
    return int(value)


def _at_least(least: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value < least:
            raise refused(f"{value} is too small; it must be at least {least}", REFUSED_VALUE)
        return value

    return check


def _above_zero(value: Any) -> Any:
    if value <= 0:
        raise refused(f"{value} is too small; it must be above 0", REFUSED_VALUE)
    return value


def _refuse_blank(value: str) -> str:
    if not value.strip():
        raise refused("is empty; it must be a string with something in it")
    return value


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", value):
        raise refused("must be an http or https URL, such as https://example.com/hook")
    return value


def _check_zone(value: Any) -> str:
    wanted = "must be the name of an IANA time zone, such as Europe/Paris"
    if not isinstance(value, str):
        raise refused(wanted)
    if not _ZONE_TEXT.fullmatch(value) or value.startswith(_FILES_BESIDE_ZONES):
        raise refused(wanted)
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise refused(f"is not a time zone that exists; it {wanted}") from None
    return value


def _check_datetime(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DATETIME_TEXT.fullmatch(value):
        return value
    raise refused(DATETIME_WANTED)


def _to_utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise refused(f"has no time zone, so its moment is unknown; it {DATETIME_WANTED}")
    try:
        moment = value.astimezone(timezone.utc)
    except OverflowError:
        raise refused(f"is outside the calendar; it {DATETIME_WANTED}") from None
    # Rebuilt, since a subclass (pendulum's) stays one through astimezone and may write itself in its own way.
    return datetime(
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
        tzinfo=timezone.utc,
    )


def _to_map_key(value: Any) -> str:
    if not isinstance(value, str):
        raise refused("has a key that is not a string; every key must be a non-empty string", REFUSED_VALUE)
    if not value.strip():
        raise refused("has an empty key; every key must be a non-empty string", REFUSED_VALUE)
    return _encodable(str.__str__(value))


def _to_map_text(value: Any) -> str:
    if isinstance(value, str):
        return _encodable(str.__str__(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _whole_text(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (float, Decimal)):
        raise refused(f"is not a finite number; it {TEXT_MAP_VALUE_WANTED}")
    raise refused(f"{TEXT_MAP_VALUE_WANTED}; nested and null values are not sent")


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refused("has characters that UTF-8 cannot carry; it must be ordinary text") from None
    return value


def _whole_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        raise refused("has too many digits; give a number that large as a string") from None


def check_json(value: Any) -> Any:
    """Return a deep copy of a value as JSON would carry it.

    :param value: anything.
    :raises PydanticCustomError: when JSON cannot carry it.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise refused(
            "must be JSON: strings, finite numbers, booleans, null, and lists and mappings of these"
        ) from None


PhoneNumber = Annotated[str, PlainValidator(_check_number)]
Text = Annotated[str, Strict(), AfterValidator(_encodable)]
FilledText = Annotated[Text, AfterValidator(_refuse_blank)]
HttpUrl = Annotated[Text, AfterValidator(_check_url)]
ZoneName = Annotated[str, PlainValidator(_check_zone)]
Flag = Annotated[bool, PlainValidator(_to_flag)]
Number = Annotated[int | float, PlainValidator(_to_number)]
NumberFromZero = Annotated[Number, AfterValidator(_at_least(0))]
NumberAboveZero = Annotated[Number, AfterValidator(_above_zero)]
WholeFromOne = Annotated[int, PlainValidator(_to_whole), AfterValidator(_at_least(1))]
Moment = Annotated[datetime, BeforeValidator(_check_datetime), AfterValidator(_to_utc)]
TextMap = dict[
    Annotated[str, PlainValidator(_to_map_key)],
    Annotated[str, PlainValidator(_to_map_text)],
]
