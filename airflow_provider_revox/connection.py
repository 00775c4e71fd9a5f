"""From an Airflow connection to the settings of a client; every value is checked, and named when it is wrong."""

from __future__ import annotations

import ipaddress
import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from airflow_provider_revox.exceptions import RevoxConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_revox.client import ClientSettings


def settings_from_connection(connection: Connection) -> ClientSettings:
    """
    Return what a client needs; the form, JSON and URI styles of one connection give the same.

    :raises RevoxConnectionError: naming the field, what is wrong and what would be right; the key is never shown.
    """
    from airflow_provider_revox.client import ClientSettings

    where = f"connection {connection.conn_id!r}"
    key = (connection.password or "").strip()
    if not key:
        raise RevoxConnectionError(f"{where}: password is empty; put the Revox API key there")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RevoxConnectionError(f"{where}: password holds characters that no API key has; copy the key again")
    extra = _extra(connection, where)
    extensions = str(extra.get("api_extensions") or "auto").strip().lower()
    if extensions not in ("auto", "on", "off"):
        raise RevoxConnectionError(f"{where}: api_extensions must be auto, on or off, got {extensions!r}")
    max_connections = _number(extra, "max_connections", where) or 16.0
    if not max_connections.is_integer():
        raise RevoxConnectionError(f"{where}: max_connections must be a whole number, got {max_connections}")
    return ClientSettings(
        api_key=key,
        base_url=_base_url(connection, where),
        timeout=_number(extra, "timeout", where) or 30.0,
        max_connections=int(max_connections),
        requests_per_second=_number(extra, "requests_per_second", where),
        deployment=str(extra.get("deployment") or "").strip(),
        api_extensions=extensions,
        call_url=_call_url(extra, where),
    )


def _extra(connection: Connection, where: str) -> dict[str, Any]:
    text = (connection.extra or "").strip()
    if not text:
        return {}
    try:
        extra = json.loads(text)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise RevoxConnectionError(f'{where}: extra must be a JSON object, for instance {{"timeout": 30}}')
    # URIs carry all values as text, forms may leave empty ones: an empty value means unset in every style.
    return {name: value for name, value in extra.items() if value not in ("", None)}


def _number(extra: Mapping[str, Any], name: str, where: str) -> float | None:
    value = extra.get(name)
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (0 < number < math.inf):
        raise RevoxConnectionError(f"{where}: {name} must be a number above 0, got {str(value)[:40]!r}")
    return number


def _call_url(extra: Mapping[str, Any], where: str) -> str:
    text = str(extra.get("call_url") or "").strip()
    if text and not (text.startswith(("https://", "http://")) and text.count("{call_id}") == 1 and text.isprintable()):
        raise RevoxConnectionError(
            f"{where}: call_url must be an http address with {{call_id}} in it, for instance"
            " https://app.example.com/calls/{call_id}"
        )
    return text


def _base_url(connection: Connection, where: str) -> str:
    """Return the API's base URL; never built from `schema`, which URIs fill with other things."""
    from airflow_provider_revox.client import DEFAULT_BASE_URL

    host = (connection.host or "").strip()
    if not host:
        return DEFAULT_BASE_URL
    right = "put https://host or https://host/path there"
    try:
        url = urlsplit(host if "://" in host else f"https://{host}")
        port = url.port or connection.port or None
    except ValueError:
        raise RevoxConnectionError(f"{where}: host is not an address; {right}") from None
    if url.scheme not in ("https", "http") or not url.hostname or url.username or url.query or url.fragment:
        raise RevoxConnectionError(f"{where}: host must be an https address without user, query or fragment; {right}")
    if url.scheme == "http" and not _is_loopback(url.hostname):
        raise RevoxConnectionError(
            f"{where}: host {url.hostname} would be asked over plain http, which shows the API key to everyone on the way;"
            f" {right} (http is for loopback only)"
        )
    name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    base_url = f"{url.scheme}://{name}{f':{port}' if port else ''}{url.path.rstrip('/') or '/api'}"
    try:
        httpx.URL(base_url).raw_host.decode().encode("idna")
    except (httpx.InvalidURL, UnicodeError):
        raise RevoxConnectionError(f"{where}: host is not an address; {right}") from None
    return base_url


def _is_loopback(hostname: str) -> bool:
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False
