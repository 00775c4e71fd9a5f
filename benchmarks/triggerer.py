"""
What waits cost a real `airflow triggerer`, beside as many of Airflow's own that do nothing.

`python -m benchmarks.triggerer --waits 1000 --only idle,ours-bulk`
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.deferred import SUBJECTS
from benchmarks.deployment import Database, Triggerer, environment, raise_file_limit, until
from benchmarks.options import names_of, whole_numbers
from benchmarks.results import report, table
from benchmarks.serving import RunningServer, ServerControl, running_server

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Its figures are what the others' are compared with.
_IDLE = "idle"
_DISTRIBUTIONS = ("apache-airflow", "apache-airflow-providers-standard", "httpx", "aiohttp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, write the results and return an exit code: 1 if an end was not delivered."""
    options = _parser().parse_args(arguments)
    # Whoever ends this ends the triggerer with it, which has a session of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    files = raise_file_limit()
    sections = [{"waits": waits, "subjects": _measured_all(waits, options)} for waits in options.waits]
    conditions = {"window_seconds": options.window, "open_files_limit": files, "database": "SQLite"}
    text = "\n\n".join(f"## {each['waits']:,} waits\n\n{_rendered(each, options.window)}" for each in sections)
    report(options.name, "A whole triggerer", {**conditions, "sections": sections}, text, _DISTRIBUTIONS)
    undelivered = [
        name
        for section in sections
        for name, measured in section["subjects"].items()
        if measured.get("delivered", section["waits"]) < section["waits"]
    ]
    return 1 if undelivered else 0


def _measured_all(waits: int, options: argparse.Namespace) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for name in options.only:
        sys.stderr.write(f"{waits} waits: {name}\n")
        measured[name] = _measured(name, waits, options)
    return measured


def _measured(subject: str, waits: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="revox-benchmark-") as directory, running_server(Path(directory)) as server:
        home = Path(directory) / "airflow"
        home.mkdir()
        surroundings = environment(home, subject, waits, server)
        for command in (["airflow", "db", "migrate"], ["benchmarks.deferred", subject, str(waits)]):
            _run(command, surroundings)
        return _stages(subject, waits, options, home, surroundings, server)


def _run(command: list[str], surroundings: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-3000:]}")


def _stages(
    subject: str,
    waits: int,
    options: argparse.Namespace,
    home: Path,
    surroundings: dict[str, str],
    server: RunningServer,
) -> dict[str, Any]:
    control = ServerControl(server.control_port)
    triggerer = Triggerer(home, surroundings)
    try:
        figures: dict[str, Any] = _shown(triggerer.until_all_run(waits, options.within))
        figures |= _shown(_waiting(subject, waits, options.window, triggerer, control))
        triggerer.kill()
        blocked = triggerer.blocked()
        triggerer = Triggerer(home, surroundings)
        figures["recovery"] = _shown(triggerer.until_all_run(waits, options.within))
        if subject != _IDLE:
            figures |= _shown(_ends(waits, options.within, Database(home), control))
        return figures | {"blocked": blocked + triggerer.blocked()}
    finally:
        triggerer.kill()


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    sys.stderr.write(f"  {json.dumps(figures)}\n")
    return figures


def _waiting(subject: str, waits: int, window: float, triggerer: Triggerer, control: ServerControl) -> dict[str, Any]:
    if subject != _IDLE:
        # The first looks are spread; what follows is the steady state.
        until(lambda: control.ask("counts")["looks"] >= waits, f"{waits} first looks", 120)
    blocked_before = len(triggerer.blocked())
    before, cpu_before, begin = control.ask("counts"), triggerer.cpu_seconds(), time.monotonic()
    time.sleep(window)
    seconds, cpu = time.monotonic() - begin, triggerer.cpu_seconds() - cpu_before
    after = control.ask("counts")
    resident = triggerer.resident_bytes()
    return {
        "cpu_share": cpu / seconds,
        "blocked_while_waiting": triggerer.blocked()[blocked_before:],
        "looks_per_second": (after["looks"] - before["looks"]) / seconds,
        "searches": after["searches"] - before["searches"],
        "most_sockets_open": after["most_open"],
        "resident_bytes": sum(resident),
        "resident_bytes_of_processes": resident,
    }


def _ends(waits: int, within: float, database: Database, control: ServerControl) -> dict[str, Any]:
    """Let all orders end in one instant."""
    until(lambda: control.ask("counts")["looks"] >= waits, f"{waits} looks", 120)
    begin = time.monotonic()
    control.ask(f"end {begin} 0 {waits}")
    first = 0.0

    def all_gone() -> bool:
        nonlocal first
        left = database.deferred()
        if left < waits and not first:
            first = time.monotonic() - begin
        return not left

    until(all_gone, f"{waits} ends", within)
    seconds = time.monotonic() - begin
    return {
        "first_end_seconds": first,
        "all_ended_seconds": seconds,
        "events_per_second": waits / seconds,
        "delivered": database.delivered(),
    }


def _rendered(section: dict[str, Any], window: float) -> str:
    waits, subjects = section["waits"], section["subjects"]
    idle = subjects.get(_IDLE)
    heads = [
        "subject",
        "all run after",
        f"CPU over {window:g} s",
        "above idle",
        "looks/s",
        "resident",
        "KB/wait above idle",
    ]
    heads += [
        "blocked while waiting",
        "in all",
        "after SIGKILL: first",
        "all run",
        "× idle",
        "ends: all after",
        "events/s",
        "delivered",
    ]
    rows = []
    for name, figures in subjects.items():
        recovery = figures["recovery"]
        above = idle and name != _IDLE
        rows.append(
            [
                name,
                f"{figures['all_run_seconds']:.1f} s",
                f"{figures['cpu_share']:.1%}",
                f"{figures['cpu_share'] - idle['cpu_share']:+.1%}" if above else "",
                f"{figures['looks_per_second']:.0f}",
                f"{figures['resident_bytes'] / 2**20:.0f} MB",
                f"{(figures['resident_bytes'] - idle['resident_bytes']) / waits / 1024:.1f}" if above else "",
                f"{len(figures['blocked_while_waiting'])}",
                f"{len(figures['blocked'])}",
                f"{recovery['first_runs_seconds']:.1f} s",
                f"{recovery['all_run_seconds']:.1f} s",
                f"{recovery['all_run_seconds'] / idle['recovery']['all_run_seconds']:.2f}" if above else "",
                f"{figures['all_ended_seconds']:.1f} s" if "delivered" in figures else "",
                f"{figures['events_per_second']:.0f}" if "delivered" in figures else "",
                f"{figures['delivered']}" if "delivered" in figures else "",
            ]
        )
    return table(heads, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triggerer", description=__doc__)
    add = parser.add_argument
    add("--waits", type=whole_numbers, default=[1000, 5000], help="of one triggerer (default: 1000,5000)")
    add(
        "--only",
        type=names_of("subject", SUBJECTS),
        default=list(SUBJECTS),
        help=f"of {','.join(SUBJECTS)} (default: all)",
    )
    add("--window", type=float, default=45.0, help="seconds in which CPU time is measured (default: %(default)s)")
    add("--within", type=float, default=300.0, help="seconds, the most each stage may take (default: %(default)s)")
    add("--name", default="triggerer", help="of the files in benchmarks/results/ (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
