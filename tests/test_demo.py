"""The demo shows what it promises, says by its exit code whether that went well, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo.py"


def left_over(marker: Path) -> list[str]:
    """Return the processes that work in this directory, or have inherited it as their place for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            # Of the two, an environment can be overwritten by a process that gives itself a title.
            if str(marker) in process.cwd() or str(marker) in process.environ().get("TMPDIR", ""):
                found.append(f"{process.pid} {process.cmdline()}")
        except psutil.Error:
            continue
    return found


def start(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DEMO)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(300)
def test_the_demo_phones_each_person_once_and_clears_up(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        said, _ = demo.communicate()
    assert demo.returncode == 0, said
    for line in ("Answer", "+1415•••0154", "voicemail", "satisfaction: 9", "contact email:", "decision: confirmed"):
        assert line in said
    assert "Numbers phoned: 10 · orders at Revox: 10 · most orders for one number: 1" in said
    assert left_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(120)
def test_a_demo_that_is_stopped_clears_up(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        while "database" not in demo.stdout.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        demo.communicate()
    assert demo.returncode == 128 + signal.SIGTERM
    assert left_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
