"""Importing much while an event loop runs."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_collections() -> Iterator[None]:
    """
    Have Python collect no garbage meanwhile; for imports of some tenths of a second, in a thread beside an event loop.

    What they make would set off a collection of everything there is, and with Airflow imported all threads stand still for 0.1
    to 0.2 s then: see docs/performance.md.
    """
    if not gc.isenabled():
        # Whoever switched it off switches it on again, another thread in here included.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
