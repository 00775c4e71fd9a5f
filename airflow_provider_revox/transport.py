"""
How the async client's requests reach the network: httpx on one-connection clients, or aiohttp where that is installed.

What it costs, and why it is so: docs/performance.md.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from airflow_provider_revox.importing import no_collections

if TYPE_CHECKING:
    from collections.abc import Mapping


class Session(Protocol):
    """What the async client sends its requests with: the part of `httpx.AsyncClient` that it uses, with httpx's errors."""

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""

    async def request(
        self, method: str, url: str, *, params: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send one request, once, and return its reply, read to the end."""

    async def aclose(self) -> None:
        """Close all connections."""


class OneConnectionClients:
    """
    Hand out httpx clients of one connection each, the one that was last given back first.

    A client of many connections goes through all of them several times a request, and that is most of what it costs. As
    many clients come to be as there are requests under way at once. Each honours HTTPS_PROXY and NO_PROXY as httpx does.

    :param arguments: for `httpx.AsyncClient`; of its limits only how long an idle connection is kept counts.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        limits = httpx.Limits(
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=arguments["limits"].keepalive_expiry,
        )
        self._arguments = {**arguments, "limits": limits}
        self._idle: list[httpx.AsyncClient] = []
        self.is_closed = False

    async def request(
        self, method: str, url: str, *, params: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send one request, once, and return its reply, read to the end."""
        if self.is_closed:
            raise RuntimeError("the client is closed")
        http = self._idle.pop() if self._idle else httpx.AsyncClient(**self._arguments)
        try:
            response = await http.request(method, url, params=params, content=content)
        except BaseException:
            # A request that was cancelled may keep its place in the pool for ever, so the pool goes.
            await http.aclose()
            raise
        # A cookie would make replies depend on which connection they came by.
        http.cookies.clear()
        await self._take_back(http)
        return response

    async def _take_back(self, http: httpx.AsyncClient) -> None:
        if self.is_closed:
            await http.aclose()
        else:
            self._idle.append(http)

    async def aclose(self) -> None:
        """Close all connections; those in use are closed after their request."""
        self.is_closed = True
        while self._idle:
            await self._idle.pop().aclose()


def quick_session(base_url: str, arguments: Mapping[str, Any]) -> Session | None:
    """
    Return a session over aiohttp (extra `fast`), None where that is not installed or a proxy may be in the way.

    Importing aiohttp takes about 0.2 s of CPU, so this is not for an event loop, nor for a DAG file. The session may be
    made outside the loop that uses it.
    """
    proxies = urllib.request.getproxies()
    # Where there is a proxy, which hosts it is not for is left to httpx: others read NO_PROXY in ways of their own.
    if any(proxies.get(scheme) for scheme in (base_url.partition("://")[0], "all")):
        return None
    try:
        with no_collections():
            from airflow_provider_revox.aiohttp_session import AiohttpSession
    except (ImportError, AttributeError):
        # Not there, or older than what the extra asks for.
        return None
    return AiohttpSession(arguments)
