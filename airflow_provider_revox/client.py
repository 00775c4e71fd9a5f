"""
The wire: each request is built once, each reply read once, and whether to try again is decided once.

An `Endpoint` says what goes out and how the reply is read; `read_response` turns a reply into a value or a named error;
`is_worth_another_try` decides about retries. Two thin senders, `RevoxClient` and `AsyncRevoxClient`, only move bytes and wait.

The one rule above all others is in `is_certainly_not_taken`: a request that may dial a person is sent again only when it is
certain that Revox did not take it.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import tenacity
from aiolimiter import AsyncLimiter
from pydantic_core import from_json

from airflow_provider_revox.exceptions import (
    RevoxAPIError,
    RevoxAuthenticationError,
    RevoxError,
    RevoxNotFoundError,
    RevoxOutcomeUnknownError,
    RevoxRateLimitError,
    RevoxRejectedError,
    RevoxReplyError,
    RevoxServerError,
    RevoxUnreachableError,
)
from airflow_provider_revox.models.numbers import mask_numbers_in
from airflow_provider_revox.transport import OneConnectionClients, Session, quick_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_revox.endpoints import Endpoint

T = TypeVar("T")

DEFAULT_BASE_URL = "https://www.getrevox.com/api"
CONNECT_TIMEOUT_SECONDS = 5.0

#: Statuses after which Revox certainly placed no call: it refused the request before acting on it.
REFUSED_STATUSES = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 429})

#: Errors of httpx that can only happen before the first byte of a request leaves.
_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)
# The last two: an address that cannot be written down. httpx also raises them for where a 3xx reply points, which is after
# the request was carried out, so they do not say that nothing was sent.
_FAILURES = (httpx.RequestError, httpx.InvalidURL, UnicodeError)


@dataclass(frozen=True)
class ClientSettings:
    """
    All that a client needs to know.

    :param api_key: sent as bearer token; never shown in a repr.
    :param base_url: with the path, without a slash at the end.
    :param timeout: seconds to wait for each part of a reply.
    :param max_connections: requests under way at once; further ones wait their turn in front of the pool.
    :param requests_per_second: upper limit over all requests of one client, None for no limit.
    :param deployment: opening part of the name that every call gets (`airflow_call_key`).
    :param api_extensions: `auto` (use them where they answer), `on` (the connection test insists on them), `off` (never ask).
    :param call_url: where people see a call in their browser, with `{call_id}` in it; empty when not known.
    :param tries: how often a request that may be repeated is sent at the most.
    :param backoff_seconds: the first pause between tries; it doubles from try to try, with jitter.
    :param longest_pause_seconds: a `Retry-After` beyond this ends the tries.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 30.0
    max_connections: int = 16
    requests_per_second: float | None = None
    deployment: str = ""
    api_extensions: str = "auto"
    call_url: str = ""
    tries: int = 5
    backoff_seconds: float = 0.5
    longest_pause_seconds: float = 60.0


# --- what came back ----------------------------------------


def read_response(endpoint: Endpoint[T], response: httpx.Response, api_key: str) -> T:
    """
    Return what a reply says.

    :raises RevoxAPIError: of the kind that fits the status; RevoxReplyError when a good status comes with an unreadable body.
    """
    status = response.status_code
    if response.is_success:
        try:
            return endpoint.read(response.content)
        except ValueError as error:
            raise RevoxReplyError(f"{endpoint.what}: the reply cannot be read: {error}", status_code=status) from None
    message = f"{endpoint.what}: Revox answered {status}{_explanation(response, api_key)}"
    if response.is_redirect:
        raise RevoxReplyError(f"{message}; redirects are not followed, check the connection's host", status_code=status)
    if status in (401, 403):
        raise RevoxAuthenticationError(f"{message}; check the API key in the connection's password", status_code=status)
    if status == 404:
        raise RevoxNotFoundError(message, status_code=status)
    retry_after = _retry_after(response.headers.get("retry-after"))
    if status == 429:
        raise RevoxRateLimitError(message, retry_after=retry_after)
    if status in (408, 425) or status >= 500:
        raise RevoxServerError(message, status_code=status, retry_after=retry_after)
    raise RevoxRejectedError(message, status_code=status)


def _explanation(response: httpx.Response, api_key: str) -> str:
    """Return what Revox says about an error, cut short and without key or full numbers."""
    try:
        text = _said(from_json(response.content))
    except ValueError:
        # JSON that was cut short is data, of which any part may be private.
        text = "" if response.text.lstrip(" \t\r\n[").startswith("{") else response.text
    text = " ".join(mask_numbers_in(text.replace(api_key, "•••")).split())
    return f": {text[:300]}{'…' if len(text) > 300 else ''}" if text else ""


def _retry_after(value: str | None) -> float | None:
    """Return seconds from either form of Retry-After: a number, or an HTTP date."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _said(reply: object) -> str:
    """Return the message in an error reply; of lists of problems only where and what, never the input they repeat."""
    if isinstance(reply, str):
        return reply
    if isinstance(reply, list):
        return "; ".join(filter(None, map(_said, reply)))
    if not isinstance(reply, dict):
        return ""
    said = next(filter(None, (_said(reply.get(name)) for name in ("error", "message", "msg", "detail"))), "")
    where = reply.get("loc") or reply.get("field")
    if isinstance(where, list):
        where = ".".join(map(str, where))
    return f"{where}: {said}" if said and isinstance(where, str) else said


# httpx's errors hold the request, and the request holds the key: they are never chained to ours.
def _unreachable(endpoint: Endpoint[T], error: Exception) -> RevoxUnreachableError:
    sent = not isinstance(error, _NOTHING_SENT)
    how = "no whole reply came" if sent else "nothing was sent"
    return RevoxUnreachableError(f"{endpoint.what}: {how} ({type(error).__name__})", sent=sent)


# --- whether to try again ----------------------------------------


def is_certainly_not_taken(error: BaseException) -> bool:
    """Say whether it is certain that a request which ended in this error placed no call."""
    if isinstance(error, RevoxUnreachableError):
        return not error.sent
    return isinstance(error, RevoxAPIError) and error.status_code in REFUSED_STATUSES


def is_transient(error: BaseException) -> bool:
    """Say whether the same reading request may succeed a little later."""
    return isinstance(error, RevoxUnreachableError | RevoxRateLimitError | RevoxServerError | RevoxReplyError) and not (
        isinstance(error, RevoxReplyError) and 300 <= error.status_code < 400
    )


def is_worth_another_try(endpoint: Endpoint[Any], error: BaseException, settings: ClientSettings) -> bool:
    """Decide whether to send a request again after this error."""
    if (getattr(error, "retry_after", None) or 0.0) > settings.longest_pause_seconds:
        return False
    if endpoint.may_dial:
        never_connected = isinstance(error, RevoxUnreachableError) and not error.sent
        return never_connected or isinstance(error, RevoxRateLimitError)
    return is_transient(error)


def pause_before_try(settings: ClientSettings, tries: int, error: BaseException | None) -> float:
    """Return the seconds to wait after so many tries, of which the last ended in this error."""
    backoff = min(settings.backoff_seconds * 2.0 ** (tries - 1), settings.longest_pause_seconds)
    jitter = settings.backoff_seconds * random.random()  # noqa: S311  spreads load, guards nothing
    asked_for: float = getattr(error, "retry_after", None) or 0.0
    return max(backoff + jitter, asked_for)


def _retrying(endpoint: Endpoint[Any], settings: ClientSettings) -> dict[str, Any]:
    def pause(state: tenacity.RetryCallState) -> float:
        return pause_before_try(settings, state.attempt_number, state.outcome.exception() if state.outcome else None)

    return {
        "retry": tenacity.retry_if_exception(lambda error: is_worth_another_try(endpoint, error, settings)),
        "wait": pause,
        "stop": tenacity.stop_after_attempt(settings.tries),
        "reraise": True,
    }


def _final(endpoint: Endpoint[Any], error: RevoxError) -> RevoxError:
    """Return the error that the caller sees: a dialling request that may have been taken is of unknown outcome."""
    if not endpoint.may_dial or is_certainly_not_taken(error):
        return error
    return RevoxOutcomeUnknownError(f"{error}; whether Revox took the order, and so dials, is not known")


# --- the two senders ----------------------------------------


class _Pace:
    """Spread requests over time: each takes the next free moment. Pure but for the clock; waiting is the sender's."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._free_at = 0.0

    def delay(self) -> float:
        now = time.monotonic()
        begin = max(now, self._free_at)
        self._free_at = begin + self._gap
        return begin - now


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return the TLS context that all clients share (about 20 ms to build; honours SSL_CERT_FILE and SSL_CERT_DIR)."""
    return httpx.create_ssl_context()


def _httpx_arguments(settings: ClientSettings) -> dict[str, Any]:
    # A bare context costs nothing and trusts nobody: right where no TLS is spoken.
    plain = settings.base_url.startswith("http://")
    return {
        "headers": {
            "Authorization": f"Bearer {settings.api_key}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "airflow-provider-revox",
        },
        "timeout": httpx.Timeout(settings.timeout, connect=CONNECT_TIMEOUT_SECONDS),
        "limits": httpx.Limits(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_connections,
            # Longer than the usual poll interval, so that a poll finds its connection open.
            keepalive_expiry=120.0,
        ),
        "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else tls_context(),
        "follow_redirects": False,
    }


class RevoxClient:
    """
    Send endpoints over HTTP and wait in the calling thread.

    :param settings: where to, as whom, how patiently.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._pace = _Pace(settings.requests_per_second)
        self._http = httpx.Client(**_httpx_arguments(settings))

    def send(self, endpoint: Endpoint[T], *, before_try: Callable[[], None] | None = None) -> T:
        """
        Send a request, again where that is safe, and return what the reply says.

        :param before_try: called right before each try; what it raises ends the sending.
        :raises RevoxOutcomeUnknownError: when the request may have dialled a person and that cannot be told.
        :raises RevoxAPIError: when Revox answered with an error.
        :raises RevoxUnreachableError: when no whole reply came.
        """
        try:
            for attempt in tenacity.Retrying(**_retrying(endpoint, self.settings)):
                with attempt:
                    if delay := self._pace.delay():
                        time.sleep(delay)
                    if before_try is not None:
                        before_try()
                    return self._exchange(endpoint)
        except (RevoxAPIError, RevoxUnreachableError) as error:
            raise _final(endpoint, error) from None
        raise AssertionError("unreachable: the last try returns or raises")

    def _exchange(self, endpoint: Endpoint[T]) -> T:
        url = self.settings.base_url + endpoint.path
        try:
            response = self._http.request(endpoint.method, url, params=endpoint.params, content=endpoint.body)
        except _FAILURES as error:
            raise _unreachable(endpoint, error) from None
        return read_response(endpoint, response, self.settings.api_key)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


class AsyncRevoxClient:
    """
    Send endpoints over HTTP on one event loop; the twin of `RevoxClient`.

    A gate keeps the number of requests under way at `max_connections`: queueing inside httpx's own pool costs time in the
    square of the queue and fails when it is long. To make one takes up to 0.3 s of CPU, the first time, for TLS and
    `airflow-provider-revox[fast]`; it may be made in another thread than that of the loop.

    :param settings: where to, as whom, how patiently.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        #: Whether a request failed for want of a free connection: the gate prevents that, so some are lost, and a new
        #: client is needed.
        self.worn_out = False
        self._gate = asyncio.Semaphore(settings.max_connections)
        rate = settings.requests_per_second
        # One at a time, evenly: the limiter would let a whole period's worth go at once.
        self._pace = AsyncLimiter(1, 1 / rate) if rate else None
        arguments = _httpx_arguments(settings)
        self._http = OneConnectionClients(arguments)
        # What may dial never goes over it: whether such a request had left decides about the next one.
        self._quick = quick_session(settings.base_url, arguments) or self._http

    async def send(self, endpoint: Endpoint[T]) -> T:
        """Send a request, again where that is safe, and return what the reply says; raises as `RevoxClient.send`."""
        try:
            async for attempt in tenacity.AsyncRetrying(**_retrying(endpoint, self.settings)):
                with attempt:
                    return await self.exchange(endpoint)
        except (RevoxAPIError, RevoxUnreachableError) as error:
            raise _final(endpoint, error) from None
        raise AssertionError("unreachable: the last try returns or raises")

    async def exchange(self, endpoint: Endpoint[T]) -> T:
        """
        Send a request once, when it is its turn, and return what the reply says.

        :raises RevoxAPIError: when Revox answered with an error.
        :raises RevoxUnreachableError: when no whole reply came; its `sent` says whether the request may have left.
        """
        http: Session = self._http if endpoint.may_dial else self._quick
        url = self.settings.base_url + endpoint.path
        async with self._gate:
            if self._pace is not None:
                await self._pace.acquire()
            try:
                response = await http.request(endpoint.method, url, params=endpoint.params, content=endpoint.body)
            except _FAILURES as error:
                self.worn_out |= isinstance(error, httpx.PoolTimeout)
                raise _unreachable(endpoint, error) from None
        return read_response(endpoint, response, self.settings.api_key)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._quick.aclose()
        await self._http.aclose()
