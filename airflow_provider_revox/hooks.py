"""The hook: from an Airflow connection to clients of Revox, and the API's endpoints as methods, sync and async."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_revox.connection import settings_from_connection
from airflow_provider_revox.exceptions import (
    RevoxAuthenticationError,
    RevoxConnectionError,
    RevoxError,
    RevoxUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from typing_extensions import Self

    from airflow_provider_revox.client import AsyncRevoxClient, ClientSettings, RevoxClient
    from airflow_provider_revox.endpoints import Endpoint
    from airflow_provider_revox.models import CallAttempt, CallOrder, CallRequest, CallSearchResult

T = TypeVar("T")


class RevoxHook(BaseHook):
    """
    Talk to the Revox call API with an Airflow connection of type ``revox``.

    The connection holds the API key in its password. Host (with or without scheme and path; default
    ``https://www.getrevox.com/api``) and the extras ``timeout``, ``max_connections``, ``requests_per_second``, ``deployment``,
    ``api_extensions`` and ``call_url`` are optional. Every method has an async twin whose name begins with ``a``.

    A call placed with `create_call` has no record: to have a person dialled at most once whatever happens to the
    task, use `RevoxCreateCallOperator`.

    :param revox_conn_id: the Airflow connection.
    """

    conn_name_attr = "revox_conn_id"
    default_conn_name = "revox_default"
    conn_type = "revox"
    hook_name = "Revox"

    def __init__(self, revox_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.revox_conn_id = revox_conn_id
        self._client: RevoxClient | None = None

    def get_conn(self) -> RevoxClient:
        """
        Return this hook's client; built at the first call, with the connection as it is then.

        :raises RevoxConnectionError: when the connection cannot be used as it is.
        """
        if self._client is None:
            from airflow_provider_revox.client import RevoxClient

            try:
                connection = self.get_connection(self.revox_conn_id)
            except AirflowNotFoundException:
                raise _not_defined(self.revox_conn_id) from None
            self._client = RevoxClient(settings_from_connection(connection))
        return self._client

    @asynccontextmanager
    async def aget_conn(self, *, instead_of: AsyncRevoxClient | None = None) -> AsyncIterator[AsyncRevoxClient]:
        """
        Lend the async client that everything on this event loop with this connection shares.

        It is built with the first borrower and closed with the last, so hold it open over a series of requests.

        :param instead_of: a client whose key was refused: unless someone else did so already, the connection is read anew
            and a new client takes its place. Those who hold the old one keep it.
        """
        shared = _shared_clients.setdefault(asyncio.get_running_loop(), {})
        lender = shared.get(self.revox_conn_id)
        if lender is None or (instead_of is not None and lender.client is instead_of):
            lender = shared[self.revox_conn_id] = _Lender(self.revox_conn_id)
        try:
            async with lender.lend() as client:
                yield client
        finally:
            if lender.idle and shared.get(self.revox_conn_id) is lender:
                del shared[self.revox_conn_id]

    def close(self) -> None:
        """Close the connections of this hook's sync client."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- the endpoints ----------------------------------------

    def create_call(self, request: CallRequest | Mapping[str, Any]) -> CallOrder:
        """
        Place one call order: a person will be phoned.

        :param request: a CallRequest or a mapping with its fields.
        :raises RevoxRequestError: when the request is not valid; nothing was sent.
        :raises RevoxOutcomeUnknownError: when it is not known whether Revox took the order. Do not simply try again.
        """
        return self.get_conn().send(_create(request))

    async def acreate_call(self, request: CallRequest | Mapping[str, Any]) -> CallOrder:
        """Place one call order; the async twin of `create_call`."""
        return await self._asend(_create(request))

    def get_call(self, call_id: str) -> CallOrder:
        """Return one call order in full. :raises RevoxNotFoundError: when there is none with this id."""
        from airflow_provider_revox import endpoints

        return self.get_conn().send(endpoints.get_call(call_id))

    async def aget_call(self, call_id: str) -> CallOrder:
        """Return one call order in full; the async twin of `get_call`."""
        from airflow_provider_revox import endpoints

        return await self._asend(endpoints.get_call(call_id))

    def list_calls(self, page: int = 0, page_size: int = 50, statuses: Iterable[str] = ()) -> list[CallAttempt]:
        """
        Return one page of call attempts (not orders), newest first.

        :param page: starts at 0; a short or empty page is the last.
        :param page_size: attempts a page.
        :param statuses: order statuses, all when empty.
        """
        from airflow_provider_revox import endpoints

        return self.get_conn().send(endpoints.list_calls(page, page_size, statuses))

    async def alist_calls(self, page: int = 0, page_size: int = 50, statuses: Iterable[str] = ()) -> list[CallAttempt]:
        """Return one page of call attempts; the async twin of `list_calls`."""
        from airflow_provider_revox import endpoints

        return await self._asend(endpoints.list_calls(page, page_size, statuses))

    def iter_calls(self, statuses: Iterable[str] = (), page_size: int = 100) -> Iterator[CallAttempt]:
        """
        Yield all call attempts, page by page, each id once.

        Rows may shift between pages while they are read: one that moves onto a page already read is missed.
        """
        seen, page, statuses = _SeenIds(), 0, tuple(statuses)
        while rows := self.list_calls(page, page_size, statuses):
            yield from seen.new(rows)
            if len(rows) < page_size:
                return
            page += 1

    async def aiter_calls(self, statuses: Iterable[str] = (), page_size: int = 100) -> AsyncIterator[CallAttempt]:
        """Yield all call attempts; the async twin of `iter_calls`."""
        seen, page, statuses = _SeenIds(), 0, tuple(statuses)
        while rows := await self.alist_calls(page, page_size, statuses):
            for row in seen.new(rows):
                yield row
            if len(rows) < page_size:
                return
            page += 1

    def cancel_call(self, call_id: str) -> bool:
        """
        Cancel an order that has not ended (extension); True when Revox did so.

        :raises RevoxNotFoundError: when there is no such order, or the deployment cannot cancel.
        """
        from airflow_provider_revox import endpoints

        connection = self.get_conn()
        require_extensions(connection.settings, "cancel_call")
        return connection.send(endpoints.cancel_call(call_id))

    async def acancel_call(self, call_id: str) -> bool:
        """Cancel an order; the async twin of `cancel_call`."""
        from airflow_provider_revox import endpoints

        async with self.aget_conn() as connection:
            require_extensions(connection.settings, "acancel_call")
            return await connection.send(endpoints.cancel_call(call_id))

    def search_calls(self, page: int = 0, page_size: int = 50, **filters: Any) -> CallSearchResult:
        """
        Return one page of orders that fit all filters, with their metadata, and how many there are (extension).

        :param filters: ``statuses``, ``results``, ``outcomes``, ``directions``, ``assistant_ids``, ``assignee_ids``,
            ``campaign_ids``, ``from_phone_numbers``, ``call_ids`` (lists); ``to_phone_number``, ``query``, ``sort_by``,
            ``sort_direction`` (text).
        :raises RevoxNotFoundError: when the deployment cannot search.
        """
        from airflow_provider_revox import endpoints

        connection = self.get_conn()
        require_extensions(connection.settings, "search_calls")
        return connection.send(endpoints.search_calls(page, page_size, filters))

    async def asearch_calls(self, page: int = 0, page_size: int = 50, **filters: Any) -> CallSearchResult:
        """Return one page of orders that fit all filters; the async twin of `search_calls`."""
        from airflow_provider_revox import endpoints

        async with self.aget_conn() as connection:
            require_extensions(connection.settings, "asearch_calls")
            return await connection.send(endpoints.search_calls(page, page_size, filters))

    def test_connection(self) -> tuple[bool, str]:
        """
        Say whether the connection works, by listing one call attempt; dials nobody.

        With ``api_extensions=on`` it searches as well: a deployment that cannot is then told here, not after a lost reply.
        """
        try:
            self.list_calls(page=0, page_size=1)
            if self.get_conn().settings.api_extensions == "on":
                self.search_calls(page=0, page_size=1)
        except RevoxAuthenticationError as error:
            return False, f"Revox is there, but does not accept the API key: {error}"
        except RevoxUnreachableError as error:
            return False, f"Revox cannot be reached: {error}; check the host"
        except RevoxError as error:
            return False, str(error)
        finally:
            self.close()
        return True, "Revox accepts the API key. Nobody was phoned."

    async def _asend(self, endpoint: Endpoint[T]) -> T:
        async with self.aget_conn() as connection:
            return await connection.send(endpoint)


def _create(request: CallRequest | Mapping[str, Any]) -> Endpoint[CallOrder]:
    from airflow_provider_revox import endpoints

    return endpoints.create_call(endpoints.read_request(request))


class _SeenIds:
    """Let each attempt through once: rows shift between pages, and so come twice."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def new(self, rows: list[CallAttempt]) -> Iterator[CallAttempt]:
        for row in rows:
            if row.id is None or row.id not in self._ids:
                self._ids.add(str(row.id))
                yield row


def require_extensions(settings: ClientSettings, method: str) -> None:
    """Refuse what the connection switches off. :raises RevoxConnectionError: with ``api_extensions=off``."""
    if settings.api_extensions == "off":
        raise RevoxConnectionError(f"{method} needs an API extension, and the connection has api_extensions=off")


# --- one async client per event loop and connection ----------------------------------------


class _Lender:
    """Build one client when it is first borrowed, lend it to all, close it when the last gives it back."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._borrowers = 0
        self._building: asyncio.Task[AsyncRevoxClient] | None = None

    @property
    def idle(self) -> bool:
        return self._borrowers == 0

    @property
    def client(self) -> AsyncRevoxClient | None:
        if self._building is None or not self._building.done() or _failed(self._building):
            return None
        return self._building.result()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[AsyncRevoxClient]:
        self._borrowers += 1
        try:
            if self._building is None or (self._building.done() and self.client is None):
                self._building = asyncio.ensure_future(_build_client(self._conn_id))
            # Shielded: one borrower that is cancelled must not take the client from the others.
            yield await asyncio.shield(self._building)
        finally:
            self._borrowers -= 1
            if self.idle and self._building is not None:
                client, building, self._building = self.client, self._building, None
                building.cancel()
                if client is not None:
                    await client.aclose()


def _not_defined(conn_id: str) -> RevoxConnectionError:
    return RevoxConnectionError(f"connection {conn_id!r} is not defined; add one of type revox with the API key")


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


async def _build_client(conn_id: str) -> AsyncRevoxClient:
    from airflow_provider_revox.client import AsyncRevoxClient

    try:
        # The sync look-up can deadlock inside a triggerer.
        connection = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise _not_defined(conn_id) from None
    except Exception as error:  # noqa: BLE001  whatever Airflow raises while its API server is away: it passes
        what = f"reading connection {conn_id!r} ({type(error).__name__})"
        raise RevoxUnreachableError(f"Airflow is in trouble {what}; nothing was sent", sent=False) from None
    # In a thread: the first one loads certificates, and aiohttp where it is installed.
    return await asyncio.to_thread(AsyncRevoxClient, settings_from_connection(connection))


_shared_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Lender]] = weakref.WeakKeyDictionary()
