"""
What one look costs while many things are waited for, beside other people's triggers, and how well it is kept.

`python -m benchmarks.poll_cost --waits 100 --repeats 3 --only ours,airbyte`
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import surroundings
from benchmarks.options import names_of, whole_numbers
from benchmarks.results import report, table
from benchmarks.serving import RunningServer, running_server
from benchmarks.subjects import DISTRIBUTIONS, PEERS, SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Of one subject: a figure's name to its values, one for each repeat.
Figures = dict[str, list[Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, write the results and return an exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="revox-benchmark-") as directory, running_server(Path(directory)) as server:
        environment = _environment(Path(directory), server)
        sections = [
            _section(measure, waits, options, server, environment)
            for waits in options.waits
            for measure in options.measure
        ]
    text = "\n\n".join(_rendered(section) for section in sections)
    report(options.name, "Cost of a poll", {"sections": sections}, text, DISTRIBUTIONS)
    return 1 if any(sum(figures["failures"]) for section in sections for figures in section["subjects"].values()) else 0


def _section(
    measure: str, waits: int, options: argparse.Namespace, server: RunningServer, environment: dict[str, str]
) -> dict[str, Any]:
    subjects = [
        name
        for name in options.only
        if waits <= SUBJECTS[name].most_waits and not (options.plain and name in _TLS_ONLY)
    ]
    gathered: dict[str, Figures] = {name: defaultdict(list) for name in subjects}
    intervals = {name: _interval(name, waits, options.looks_per_second) for name in subjects}
    for repeat in range(options.repeats):
        for name in subjects:
            sys.stderr.write(f"{measure}, {waits} waits, repeat {repeat + 1}: {name}\n")
            figures = _measured(measure, name, waits, intervals[name], options, server, environment)
            for key, value in figures.items():
                gathered[name][key].append(value)
    return {
        "measure": measure,
        "waits": waits,
        "tls": not options.plain,
        "frozen": options.frozen,
        "repeats": options.repeats,
        "window_seconds": options.window,
        "intervals": intervals,
        "left_out": [name for name in options.only if name not in subjects],
        "subjects": gathered,
    }


#: dbt Cloud's hook writes `https://` itself.
_TLS_ONLY = ("dbt-cloud",)


def _interval(name: str, waits: int, looks_per_second: float | None) -> float:
    return max(_SHORTEST_INTERVAL, waits / (looks_per_second or SUBJECTS[name].looks_per_second))


#: Seconds; ours looks no more often, whatever it is told.
_SHORTEST_INTERVAL = 1.0


def _measured(
    measure: str,
    name: str,
    waits: int,
    interval: float,
    options: argparse.Namespace,
    server: RunningServer,
    environment: dict[str, str],
) -> dict[str, Any]:
    base_url = f"http://127.0.0.1:{server.http_port}" if options.plain else f"https://127.0.0.1:{server.https_port}"
    command = [sys.executable, "-m", "benchmarks.poll_subject", measure, name]
    command += ["--waits", str(waits), "--interval", str(interval), "--window", str(options.window)]
    command += ["--base-url", base_url, "--control-port", str(server.control_port)]
    command += ["--frozen"] if options.frozen else []
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    sys.stderr.write(f"  {output.splitlines()[-1]}\n")
    if figures["failures"]:
        sys.stderr.write(f"  {figures['failures']} waits failed, for instance {figures['first_failures']}\n")
    return figures


def _environment(directory: Path, server: RunningServer) -> dict[str, str]:
    """Return the subjects' environment: no log lines for looks, and the server's authority."""
    return surroundings(directory / "airflow") | {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "SSL_CERT_FILE": str(server.authorities),
        "REQUESTS_CA_BUNDLE": str(server.authorities),
    }


def _rendered(section: dict[str, Any]) -> str:
    over = "TLS" if section["tls"] else "plain HTTP"
    title = f"## {section['waits']:,} waits, {over}: {_TITLES[section['measure']]}"
    title += ", imported modules frozen" if section["frozen"] else ""
    render = _cost_table if section["measure"] == "cost" else _stall_table
    left_out = section["left_out"]
    note = f"Left out with so many waits: {', '.join(left_out)}." if left_out else ""
    return "\n\n".join(filter(None, [title, render(section), note]))


_TITLES = {"cost": "a look, a wait, an end", "stall": "all start in the same instant"}


def _cost_table(section: dict[str, Any]) -> str:
    cheapest = min(
        (
            statistics.median(section["subjects"][name]["cpu_us_per_look"])
            for name in PEERS
            if name in section["subjects"]
        ),
        default=None,
    )
    heads = ["subject", "interval", "looks/s", "CPU µs/look", "(lowest–highest)", "× cheapest peer"]
    heads += ["KB/wait", "most sockets", "opened/s", "lag median", "lag p99", "p99 − interval", "shown → event p99"]
    rows = []
    for name, figures in section["subjects"].items():
        costs = figures["cpu_us_per_look"]
        cost = statistics.median(costs)
        rows.append(
            [
                name,
                f"{section['intervals'][name]:g} s",
                _median(figures["looks_per_second"], "{:.0f}"),
                f"{cost:.0f}",
                f"{min(costs):.0f}–{max(costs):.0f}",
                f"{cost / cheapest:.3f}" if cheapest else "",
                _median(figures["bytes_per_wait"], "{:.1f}", 1 / 1024),
                f"{max(figures['most_sockets_open'])}",
                _median(figures["sockets_opened_in_window"], "{:.1f}", 1 / section["window_seconds"]),
                _median(figures.get("lag_median"), "{:.3f} s"),
                _median(figures.get("lag_p99"), "{:.3f} s"),
                _median(figures.get("lag_p99_beyond_interval"), "{:+.3f} s"),
                _median(figures.get("shown_to_event_p99"), "{:.1f} ms", 1000),
            ]
        )
    return table(heads, rows)


def _stall_table(section: dict[str, Any]) -> str:
    heads = ["subject", "interval", "worst stall starting", "worst stall after", "longest gc", "all looked at after"]
    heads += ["CPU until then", "most sockets", "failed"]
    rows = [
        [
            name,
            f"{section['intervals'][name]:g} s",
            _median(figures["worst_stall_starting"], "{:.1f} ms", 1000),
            _median(figures["worst_stall_after"], "{:.1f} ms", 1000),
            _median(figures["longest_collection"], "{:.1f} ms", 1000),
            _median(figures["all_looked_at_seconds"], "{:.2f} s"),
            _median(figures["starting_cpu_seconds"], "{:.2f} s"),
            f"{max(figures['most_sockets_open'])}",
            f"{sum(figures['failures'])}",
        ]
        for name, figures in section["subjects"].items()
    ]
    return table(heads, rows)


def _median(values: Iterable[float] | None, form: str, factor: float = 1.0) -> str:
    return form.format(statistics.median(values) * factor) if values else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poll_cost", description=__doc__)
    add = parser.add_argument
    add("--waits", type=whole_numbers, default=[100, 1000, 5000], help="on one loop (default: 100,1000,5000)")
    add("--repeats", type=int, default=3, help="interleaved; tables show medians (default: %(default)s)")
    add(
        "--only",
        type=names_of("subject", SUBJECTS),
        default=list(SUBJECTS),
        help=f"of {','.join(SUBJECTS)} (default: all)",
    )
    add(
        "--measure",
        type=names_of("measure", _TITLES),
        default=list(_TITLES),
        help="cost, stall, or both (default: both)",
    )
    add("--window", type=float, default=6.0, help="seconds in which CPU time is measured (default: %(default)s)")
    add("--looks-per-second", type=float, help="over all waits; sets the interval (default: what suits the subject)")
    add("--plain", action="store_true", help="without TLS")
    add("--frozen", action="store_true", help="with what was imported before kept from the garbage collector")
    add("--name", default="poll_cost", help="of the files in benchmarks/results/ (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
