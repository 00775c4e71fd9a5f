"""
Take each guarding line of "never dial twice" out, in a copy of the tree, and see the system tests turn red.

``python scripts/guards.py`` tries all, ``python scripts/guards.py no-intent late`` some; `--list` tells which there are. A guard
whose tests stay green, or turn red elsewhere than it says, is told in the end, and the exit code is 1. Takes some two hours.
tests/test_guards.py sees to it that every line that is named here is still there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from guard_table import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "airflow_provider_revox"


def break_in(tree: Path, guard: Guard) -> None:
    """Take a guard out of a copy of the tree. :raises ValueError: when the line is not there, or there twice."""
    for name, text, instead in guard.edits:
        path = tree / PACKAGE.name / name
        source = path.read_text()
        if source.count(text) != 1:
            raise ValueError(f"{name} has {source.count(text)} times: {text.strip()}")
        path.write_text(source.replace(text, instead))


def copy_of_tree(to: Path) -> None:
    """Copy what is under version control, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def arguments(guard: Guard) -> list[str]:
    """Split the arguments of pytest; an expression after ``-k`` is one."""
    paths, _, chosen = guard.tests.partition(" -k ")
    return [*paths.split(), *(["-k", chosen] if chosen else [])]


def try_out(name: str, guard: Guard, logs: Path) -> str | None:
    """Run a guard's tests without it; return what is wrong, None when they turn red as they should."""
    python = ROOT / ".venv" / "matrix" / guard.airflow / "bin" / "python" if guard.airflow else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="revox-guard-") as directory:
        tree = Path(directory)
        copy_of_tree(tree)
        break_in(tree, guard)
        options = ["--no-cov", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "no:anyio", "-W", "ignore"]
        command = [str(python), "-m", "pytest", *options, *arguments(guard)]
        environment = {**os.environ, **dict(guard.environment), "COLUMNS": "250"}
        log = logs / f"{name}.log"
        with log.open("w") as output:
            subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    said = log.read_text(errors="replace")
    red = re.findall(r"^FAILED \S*?::(.+?)(?: - .*)?$", said, re.MULTILINE)
    print(f"  {len(red)} red; {said.strip().splitlines()[-1]}", flush=True)
    green = [part for part in guard.red if not any(part in test for test in red)]
    return f"stayed green: {', '.join(green)}; see {log}" if green else None


def main() -> None:
    """Try the guards that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guards", nargs="*", metavar="guard", help="default: all")
    parser.add_argument("--list", action="store_true", help="tell which there are, and end")
    parser.add_argument("--logs", type=Path, help="keep what the tests said here; default: a new directory")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name}: {guard.without}" for name, guard in GUARDS.items()))
        return
    logs = given.logs or Path(tempfile.mkdtemp(prefix="revox-guards-"))
    logs.mkdir(parents=True, exist_ok=True)
    wrong = {}
    for name in given.guards or GUARDS:
        began = time.monotonic()
        print(f"{name}: {GUARDS[name].without}", flush=True)
        problem = try_out(name, GUARDS[name], logs)
        if problem:
            wrong[name] = problem
        print(f"  {problem or 'as it should be'} ({time.monotonic() - began:.0f} s)", flush=True)
    print("\n".join(f"{name} {problem}" for name, problem in wrong.items()) or "every line is guarded")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
