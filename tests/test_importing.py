"""Importing much while an event loop runs."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from airflow_provider_revox.importing import no_collections


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_nothing_is_collected_until_the_end_even_if_it_is_an_error() -> None:
    seen = []

    def fail() -> None:
        with no_collections():
            seen.append(gc.isenabled())
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert seen == [False]
    assert gc.isenabled()


def test_what_somebody_else_has_switched_off_is_left_off() -> None:
    gc.disable()
    with no_collections():
        assert not gc.isenabled()
    assert not gc.isenabled()


@pytest.mark.parametrize(
    "importing",
    [
        "from airflow_provider_revox.polling import preload; preload()",
        "from airflow_provider_revox.transport import quick_session; quick_session('https://localhost', ARGUMENTS)",
    ],
)
def test_what_looks_need_is_imported_without_a_collection(importing: str) -> None:
    code = f"""
import gc, sys
import httpx
import airflow_provider_revox.polling, airflow_provider_revox.transport
ARGUMENTS = {{"headers": {{}}, "timeout": httpx.Timeout(5), "limits": httpx.Limits(), "verify": True}}
before = len(sys.modules)
seen = []
gc.callbacks.append(lambda phase, info: seen.append(len(sys.modules)))
{importing}
imported = len(sys.modules) - before
assert imported > 10, imported
print(len(set(seen)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # After all imports, if at all, and not in the midst of them.
    assert int(done.stdout) <= 2, done.stdout
