"""Requests over aiohttp, with httpx's replies and errors. Imports aiohttp: only `transport.quick_session` imports this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

# Each before those it is a kind of. What is not a failure to connect may have come after the request had left.
_ERRORS: tuple[tuple[type[Exception], type[httpx.RequestError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (asyncio.TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientOSError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
)


class AiohttpSession:
    """
    Send requests over aiohttp's connections.

    Not for requests that may dial. aiohttp sends a GET a second time by itself when the connection breaks before the
    reply; it knows no proxy here; and it is no matter of life and death which of its errors come after a request has left.

    :param arguments: those for `httpx.AsyncClient`.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = arguments
        self._session: aiohttp.ClientSession | None = None
        self.is_closed = False

    async def request(
        self, method: str, url: str, *, params: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send one request, once, and return its reply, read to the end."""
        if self.is_closed:
            raise RuntimeError("the client is closed")
        if self._session is None:
            self._session = self._open()
        # httpx writes the address down, so that it is the same with every transport.
        address = URL(str(httpx.URL(url, params=params) if params else httpx.URL(url)), encoded=True)
        try:
            async with self._session.request(method, address, data=content, allow_redirects=False) as reply:
                body = await reply.read()
        except tuple(error for error, _ in _ERRORS) as error:
            said = next(theirs for kind, theirs in _ERRORS if isinstance(error, kind))
            raise said(str(error)) from None
        return httpx.Response(reply.status, headers=reply.raw_headers, content=body)

    def _open(self) -> aiohttp.ClientSession:
        timeout: httpx.Timeout = self._arguments["timeout"]
        connector = aiohttp.TCPConnector(
            ssl=self._arguments["verify"],
            keepalive_timeout=self._arguments["limits"].keepalive_expiry,
            # The gate in front lets as many in as are wanted; who waited here could only time out.
            limit=0,
        )
        return aiohttp.ClientSession(
            connector=connector,
            # The codings that httpx always knows; it decodes.
            headers={**self._arguments["headers"], "Accept-Encoding": "gzip, deflate"},
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=timeout.connect, sock_read=timeout.read),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        self.is_closed = True
        if self._session is not None:
            await self._session.close()
