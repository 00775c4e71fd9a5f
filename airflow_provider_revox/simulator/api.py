"""The API itself, under ``/api``: routes, the key, and the endpoints. Plain ASGI, for speed."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from airflow_provider_revox.simulator.misbehaviour import misbehave
from airflow_provider_revox.simulator.orders import encoded
from airflow_provider_revox.simulator.search import attempts_page, found_orders
from airflow_provider_revox.simulator.validation import Refusal, call_request, list_query, search_request
from airflow_provider_revox.simulator.wire import Exchange, Holding, Reply, problem

if TYPE_CHECKING:
    from airflow_provider_revox.simulator.faults import FaultOrder, Faults
    from airflow_provider_revox.simulator.orders import Order
    from airflow_provider_revox.simulator.state import ServiceState
    from airflow_provider_revox.simulator.wire import Receive, Scope, Send

_ACTIONS = {b"cancel": "cancel_call", b"pause": "pause_call", b"resume": "resume_call"}
_NO_KEY = problem(401, "missing or invalid API key", headers={"WWW-Authenticate": "Bearer"})
_NO_ROUTE = problem(404, "not found")


class Api:
    """The service's endpoints.

    :param extensions: whether cancel, pause, resume and search exist; without them they are unknown routes
    """

    def __init__(
        self, state: ServiceState, faults: Faults, holding: Holding, api_key: str, *, extensions: bool
    ) -> None:
        self._state = state
        self._faults = faults
        self._holding = holding
        self.change_key(api_key)
        self._extensions = extensions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send, self._holding)
        routed = self._route(scope["method"], scope["raw_path"])
        if isinstance(routed, Reply):
            await exchange.reply(routed if self._knows_key(scope) else _NO_KEY)
            return
        endpoint, call_id = routed
        state = self._state
        state.requests[endpoint] += 1
        body = await exchange.body() if scope["method"] == "POST" else b""
        if body is None:
            return
        if not self._knows_key(scope):
            state.refused_keys += 1
            await exchange.reply(_NO_KEY)
            return
        order = state.orders.get(call_id)
        if endpoint == "get_call" and order is not None:
            order.polls += 1
        exchange.phone_number = order.phone_number if order else _number_in(body)
        fault = self._faults.striking(endpoint, exchange.phone_number)
        asked = fault.order if fault else None
        take = partial(self._take, endpoint, order, scope["query_string"], body, asked)
        if asked is None:
            await exchange.reply(take())
        else:
            await misbehave(asked, take, exchange)

    def change_key(self, api_key: str) -> None:
        """Take another key from now on, and no longer the one before."""
        self._credentials = api_key.encode()

    def _knows_key(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, credentials = value.partition(b" ")
                known: bool = scheme.lower() == b"bearer" and credentials.strip() == self._credentials
                return known
        return False

    def _route(self, method: str, raw_path: bytes) -> tuple[str, str] | Reply:
        segments = raw_path.split(b"/")[2:]
        if segments[:1] != [b"call"] or len(segments) > 3 or b"" in segments[1:]:
            return _NO_ROUTE
        routes: dict[str, str]
        if len(segments) == 1:
            routes = {"GET": "list_calls", "POST": "create_call"}
        elif len(segments) == 2:
            routes = {"GET": "get_call"}
            if segments[1] == b"search" and method == "POST":
                if not self._extensions:
                    return _NO_ROUTE
                routes = {"POST": "search_calls"}
        elif self._extensions and segments[2] in _ACTIONS:
            routes = {"POST": _ACTIONS[segments[2]]}
        else:
            return _NO_ROUTE
        if method not in routes:
            return problem(405, "method not allowed", headers={"Allow": ", ".join(routes)})
        call_id = unquote_to_bytes(segments[1]).decode(errors="replace") if len(segments) > 1 else ""
        return routes[method], call_id

    def _take(self, endpoint: str, order: Order | None, query: bytes, body: bytes, fault: FaultOrder | None) -> Reply:
        try:
            if endpoint == "create_call":
                return self._create(body, fault)
            if endpoint == "list_calls":
                return self._list(query)
            if endpoint == "search_calls":
                return self._search(body, fault)
        except Refusal as refusal:
            return problem(refusal.status, refusal.message, refusal.details)
        if order is None:
            return problem(404, "no call has this id")
        if endpoint == "get_call":
            self._state.settle()
            return Reply(200, b'{"call":%b}' % order.as_bytes())
        act = {
            "cancel_call": self._state.cancel,
            "pause_call": self._state.pause,
            "resume_call": self._state.resume,
        }
        return Reply(200, encoded({"success": act[endpoint](order)}))

    def _create(self, body: bytes, fault: FaultOrder | None) -> Reply:
        request = call_request(body)
        hidden = fault.seconds if fault is not None and fault.kind == "late_in_search" else 0.0
        order = self._state.create(request, hidden_seconds=hidden)
        return Reply(200, b'{"call":%b}' % order.as_bytes())

    def _list(self, query: bytes) -> Reply:
        parameters = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        asked = list_query(parameters)
        self._state.settle()
        return Reply(200, encoded({"calls": attempts_page(self._state, asked)}))

    def _search(self, body: bytes, fault: FaultOrder | None) -> Reply:
        search = search_request(body)
        now = self._state.settle()
        orders = found_orders(self._state, search, now)
        total = len(orders)
        if fault is not None and fault.kind == "incomplete_search":
            total = max(total, fault.missing)
            orders = orders[fault.missing :]
        begin = search.page * search.page_size
        shown = orders[begin : begin + search.page_size]
        if search.call_ids is not None:
            for order in shown:
                order.polls += 1
        page = b",".join(order.as_bytes() for order in shown)
        return Reply(200, b'{"calls":[%b],"total_count":%d}' % (page, total))


def _number_in(body: bytes) -> str | None:
    """Return the number that a request to call or to search is about."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return None
    number = (asked.get("phone_number") or asked.get("to_phone_number")) if isinstance(asked, dict) else None
    return number if isinstance(number, str) else None
