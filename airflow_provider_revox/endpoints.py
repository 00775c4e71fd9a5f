"""What can be asked of Revox: each request is built here, once, and with it how its reply is read. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import from_json

from airflow_provider_revox.exceptions import RevoxRequestError
from airflow_provider_revox.models import (
    CallAttempt,
    CallGlance,
    CallOrder,
    CallRequest,
    CallSearchResult,
    describe_validation_error,
    parse_attempts_reply,
    parse_call_reply,
    parse_search_glances,
    parse_search_reply,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint(Generic[T]):
    """
    One request, and how to read its reply.

    :param what: for messages, for instance `reading call 4f3c`.
    :param read: bytes of the reply to the value; raises ValueError when they cannot be read.
    :param may_dial: whether carrying it out may make a phone ring.
    """

    what: str
    method: str
    path: str
    read: Callable[[bytes], T] = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    may_dial: bool = False


def read_request(value: CallRequest | Mapping[str, Any]) -> CallRequest:
    """
    Return a checked request.

    :param value: a CallRequest, or a mapping with its fields.
    :raises RevoxRequestError: naming each field that is wrong and what would be right.
    """
    if isinstance(value, CallRequest):
        return value
    if not isinstance(value, Mapping):
        raise RevoxRequestError(f"A call request must be a CallRequest or a dict, got {type(value).__name__}")
    try:
        return CallRequest.model_validate(dict(value))
    except ValidationError as error:
        # Not chained: pydantic's error holds the input, with the number and the prompt.
        raise RevoxRequestError(f"The call request is not valid:\n{describe_validation_error(error)}") from None


def create_call(request: CallRequest) -> Endpoint[CallOrder]:
    """Build the request that places one call order."""
    body = json.dumps(request.to_wire(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Endpoint("placing a call", "POST", "/call", parse_call_reply, body=body.encode(), may_dial=True)


def get_call(call_id: str) -> Endpoint[CallOrder]:
    """Build the request that reads one order in full."""
    return Endpoint(f"reading call {call_id}", "GET", _call_path(call_id), parse_call_reply)


def glance_at_call(call_id: str) -> Endpoint[CallGlance]:
    """Build the request that reads of one order only what waiting needs."""
    return Endpoint(f"looking at call {call_id}", "GET", _call_path(call_id), CallGlance.from_reply)


def glance_at_calls(call_ids: Sequence[str]) -> Endpoint[list[CallGlance]]:
    """Build the request that reads of many orders only what waiting needs (extension); some may be left out of the reply."""
    search = search_calls(0, len(call_ids), {"call_ids": list(call_ids)})
    what = f"looking at {len(call_ids)} calls"
    return Endpoint(what, search.method, search.path, parse_search_glances, body=search.body)


def list_calls(page: int, page_size: int, statuses: Iterable[str]) -> Endpoint[list[CallAttempt]]:
    """Build the request for one page of call attempts; pages start at 0."""
    if page < 0 or page_size < 1:
        raise RevoxRequestError(f"page must be 0 or more and page_size 1 or more, got {page} and {page_size}")
    if isinstance(statuses, str):
        raise RevoxRequestError(f"statuses must be a list of order statuses, got the text {statuses!r}")
    params = {"page": str(page), "page_size": str(page_size)}
    if joined := ",".join(str(status) for status in statuses):
        params["statuses"] = joined
    return Endpoint("listing call attempts", "GET", "/call", parse_attempts_reply, params=params)


def cancel_call(call_id: str) -> Endpoint[bool]:
    """Build the request that cancels an order (extension); True when Revox did so."""
    return Endpoint(f"cancelling call {call_id}", "POST", _call_path(call_id) + "/cancel", _read_success)


_SEARCH_LISTS = (
    "assignee_ids",
    "assistant_ids",
    "campaign_ids",
    "directions",
    "from_phone_numbers",
    "outcomes",
    "results",
    "statuses",
)
_SEARCH_OPTIONS = frozenset({"call_ids", "query", "sort_by", "sort_direction", "to_phone_number"})


def search_calls(page: int, page_size: int, filters: Mapping[str, Any]) -> Endpoint[CallSearchResult]:
    """Build the request for one page of a search over orders (extension)."""
    if unknown := set(filters) - set(_SEARCH_LISTS) - _SEARCH_OPTIONS:
        known = ", ".join(sorted({*_SEARCH_LISTS, *_SEARCH_OPTIONS}))
        raise RevoxRequestError(f"search_calls does not know {', '.join(sorted(unknown))}; it knows {known}")
    body: dict[str, Any] = {name: [] for name in _SEARCH_LISTS}
    body |= {name: value for name, value in filters.items() if value is not None}
    body |= {"page": page, "page_size": page_size}
    return Endpoint("searching calls", "POST", "/call/search", parse_search_reply, body=json.dumps(body).encode())


def _call_path(call_id: str) -> str:
    # A dot segment would be resolved away and ask for something else; an empty id would list calls.
    if not isinstance(call_id, str) or not call_id.strip() or call_id in {".", ".."}:
        given = repr(call_id) if isinstance(call_id, str) else type(call_id).__name__
        raise RevoxRequestError(f"call_id must be the id that Revox gave the order, got {given}")
    return "/call/" + quote(call_id, safe="")


def _read_success(content: bytes) -> bool:
    reply = from_json(content)
    if not isinstance(reply, dict) or not isinstance(reply.get("success"), bool):
        raise ValueError("it lacks `success`")  # noqa: TRY004  what every reader raises for bytes that do not fit
    return bool(reply["success"])
