"""When the service may dial, and how often it tries again."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ValidationInfo, field_validator

from airflow_provider_revox.models.request_fields import (
    NOT_NULL,
    REFUSED_VALUE,
    NumberFromZero,
    RequestModel,
    Text,
    WholeFromOne,
    ZoneName,
    refused,
)

_TIME_24_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_TIME_12_HOURS = re.compile(r"(1[0-2]|[1-9])(?::([0-5][0-9]))?(am|pm)")
_TIME_WANTED = "must be a time such as '09:30' (24 hours, two digits each), '6pm' or '9:30am'"


def parse_window_time(text: str) -> time:
    """Read a calling-window time in either documented form: ``HH:mm`` (24 hours) or ``H:mma``.

    :param text: such as ``09:30``, ``18:00``, ``6pm``, ``10am`` or ``9:30am``; ``12am`` is midnight.
    :return: the local time of day, without a zone: the zone is the retry config's, else the callee's.
    :raises ValueError: when the text has neither form. The message does not repeat the text.
    """
    if match := _TIME_24_HOURS.fullmatch(text):
        return time(int(match[1]), int(match[2]))
    if match := _TIME_12_HOURS.fullmatch(text):
        hour = int(match[1]) % 12 + (12 if match[3] == "pm" else 0)
        return time(hour, int(match[2] or 0))
    raise ValueError(f"a calling-window time {_TIME_WANTED}")


def _check_window_time(value: str) -> str:
    try:
        parse_window_time(value)
    except ValueError:
        raise refused(_TIME_WANTED) from None
    return value


WindowTime = Annotated[Text, AfterValidator(_check_window_time)]


class CallingWindow(RequestModel):
    """Describe a part of the day in which the service may dial.

    :param calling_window_start_time: ``HH:mm`` or ``H:mma``, sent as written, before the end.
    :param calling_window_end_time: likewise. The service's own default window is 10:00 to 18:00.
    :param retry_delay_seconds: seconds between two attempts in this window, 0 or more. The service's own is
        7200.
    """

    shown_fields: ClassVar[tuple[str, ...]] = (
        "calling_window_start_time",
        "calling_window_end_time",
        "retry_delay_seconds",
    )

    calling_window_start_time: WindowTime
    calling_window_end_time: WindowTime
    retry_delay_seconds: NumberFromZero

    @field_validator("calling_window_end_time")
    @classmethod
    def _end_after_start(cls, value: str, info: ValidationInfo) -> str:
        start = info.data.get("calling_window_start_time")
        if start is not None and parse_window_time(value) <= parse_window_time(start):
            raise refused(
                f"the window {start}–{value} ends before it has begun; the end must be later in the day than the start",
                REFUSED_VALUE,
            )
        return value


def _refuse_no_windows(value: list[CallingWindow]) -> list[CallingWindow]:
    if not value:
        raise refused("is empty, so nobody could ever be dialled; give at least one calling window")
    return value


class CallRetryConfig(RequestModel):
    """Describe when the service dials, and how often it tries again.

    Leave the whole config out for the service's own: 10:00 to 18:00, 7200 seconds, 3 attempts. When it is
    given, the API takes windows and attempts as required.

    :param calling_windows: at least one.
    :param max_retry_attempts: a whole number, 1 or more.
    :param timezone: IANA name of the zone of the windows. Left out, the service takes that of the number's
        country.
    """

    shown_fields: ClassVar[tuple[str, ...]] = ("calling_windows", "max_retry_attempts", "timezone")

    calling_windows: Annotated[list[CallingWindow], AfterValidator(_refuse_no_windows)]
    max_retry_attempts: WholeFromOne
    timezone: Annotated[ZoneName | None, NOT_NULL] = None
