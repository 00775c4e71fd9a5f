"""Buttons on a task instance in Airflow's UI: the call in the browser, and its recording."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import BaseOperator

log = logging.getLogger(__name__)


class RevoxCallLink(BaseOperatorLink):
    """Lead to the call where people see it: the connection's ``call_url`` with the call id in it."""

    name = "Call"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address, an empty text when there is none yet or the connection has no ``call_url``. Never raises."""
        return _or_nothing(self.name, lambda: _call_url(operator, ti_key))


class RevoxRecordingLink(BaseOperatorLink):
    """Lead to the recording of the call's latest attempt."""

    name = "Recording"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002  Airflow's signature
        """Return the address, an empty text when there is no recording (yet). Never raises."""
        return _or_nothing(self.name, lambda: (_xcom(ti_key, "call") or {}).get("recording_url"))


def _call_url(operator: Any, ti_key: Any) -> str:
    from airflow_provider_revox.connection import settings_from_connection
    from airflow_provider_revox.hooks import RevoxHook

    call_id = _xcom(ti_key, "call_id") or getattr(operator, "call_id", None)
    if not isinstance(call_id, str) or not call_id:
        return ""
    settings = settings_from_connection(RevoxHook.get_connection(operator.revox_conn_id))
    return settings.call_url.replace("{call_id}", quote(call_id, safe=""))


def _xcom(ti_key: Any, key: str) -> Any:
    return XCom.get_value(ti_key=ti_key, key=key)


def _or_nothing(name: str, find: Callable[[], object]) -> str:
    try:
        found = find()
        # What comes from outside is not to run as a script in the reader's browser.
        return found if isinstance(found, str) and urlsplit(found).scheme in ("http", "https") else ""
    except Exception as error:  # noqa: BLE001  a link that cannot be made must not trouble a task or a page
        log.info("No link %r: %s", name, type(error).__name__)
        return ""
