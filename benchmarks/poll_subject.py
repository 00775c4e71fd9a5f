"""
One subject in a process of its own: many waits on one event loop. Prints what it measured as one line of JSON.

`cost` starts the waits one after another over one interval, then measures a window in which all of them are looked at
steadily, then lets the server end them one after another over one interval and notes when each wait has noticed.
`stall` starts them all in the same instant and measures how late the event loop gets.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving import ServerControl, end_position
from benchmarks.subjects import SUBJECTS, Subject

#: Waits that run before memory is read for the first time: enough for every socket of a pool to be open.
_FEW = 32
_TICK_SECONDS = 0.002


@dataclass
class Waits:
    """The waits of one subject, and how each ended."""

    subject: Subject
    noticed: dict[int, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def _wait(self, number: int) -> None:
        try:
            await self.subject.wait(number)
            self.noticed[number] = time.monotonic()
        except Exception as error:  # noqa: BLE001  counted, and shown with the figures
            self.failures.append(f"{type(error).__name__}: {error}"[:300])

    def start(self, number: int) -> None:
        """Start one wait."""
        self.tasks.append(asyncio.create_task(self._wait(number)))

    async def start_over(self, numbers: range, seconds: float) -> None:
        """Start these waits at even distances."""
        begin = time.monotonic()
        for position, number in enumerate(numbers):
            due = begin + seconds * position / len(numbers)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.start(number)
        await asyncio.sleep(max(0.0, begin + seconds - time.monotonic()))

    async def stop(self) -> None:
        """Cancel what still waits."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Lateness:
    """
    How late the event loop comes to what is due, in seconds, and the longest of the garbage collections in it.

    With Airflow imported, looking through everything for garbage is a stall of its own.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self.longest_collection = 0.0
        self._collecting_since = 0.0
        gc.callbacks.append(self._collection)
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self.worst = max(self.worst, time.monotonic() - due)

    def _collection(self, phase: str, _: dict[str, int]) -> None:
        now = time.monotonic()
        if phase == "start":
            self._collecting_since = now
        else:
            self.longest_collection = max(self.longest_collection, now - self._collecting_since)

    def stop(self) -> float:
        """Return the worst lateness."""
        gc.callbacks.remove(self._collection)
        self._task.cancel()
        return self.worst


async def cost(subject: Subject, waits: int, window: float, control: ServerControl) -> dict[str, Any]:
    """Measure CPU time for a look, sockets, memory for a wait, and how late ends are noticed."""
    running = Waits(subject)
    few = min(_FEW, waits // 2)
    await running.start_over(range(few), min(1.0, subject.interval))
    await _until_looked(control, few, subject.interval)
    memory_of_few = _resident_bytes()
    await running.start_over(range(few, waits), subject.interval)
    await _until_looked(control, waits, subject.interval)
    memory_of_all = _resident_bytes()

    before, cpu_before, begin = control.ask("counts"), time.process_time(), time.monotonic()
    await asyncio.sleep(window)
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu_before
    after = control.ask("counts")
    looks = after["looks"] - before["looks"]
    figures = {
        "looks": looks,
        "looks_per_second": looks / seconds,
        "requests": after["requests"] - before["requests"],
        "searches": after["searches"] - before["searches"],
        "cpu_us_per_look": cpu / looks * 1e6,
        "cpu_share": cpu / seconds,
        "bytes_per_wait": (memory_of_all - memory_of_few) / (waits - few),
        "resident_bytes": memory_of_all,
        "sockets_opened_in_window": after["accepted"] - before["accepted"],
        "most_sockets_open": after["most_open"],
    }
    if subject.can_end:
        figures |= await _lags(running, waits, control)
    await running.stop()
    return figures | {"failures": len(running.failures), "first_failures": running.failures[:3]}


async def _lags(running: Waits, waits: int, control: ServerControl) -> dict[str, float]:
    interval = running.subject.interval
    begin, step = time.monotonic() + 0.1, interval / waits
    control.ask(f"end {begin} {step} {waits}")
    await asyncio.wait(running.tasks, timeout=3 * interval + 10)
    shown = {int(number): at for number, at in control.ask("ended").items()}
    lags = sorted(at - begin - end_position(number, waits) * step for number, at in running.noticed.items())
    if len(lags) < 2:
        return {"noticed": len(lags)}
    return {
        "noticed": len(lags),
        "lag_median": statistics.median(lags),
        "lag_p99": _p99(lags),
        # What the interval cannot explain.
        "lag_p99_beyond_interval": _p99(lags) - interval,
        "shown_to_event_p99": _p99(sorted(at - shown[number] for number, at in running.noticed.items())),
    }


async def stall(subject: Subject, waits: int, window: float, control: ServerControl) -> dict[str, Any]:
    """Measure the worst lateness of the event loop while all waits start in one instant, and after."""
    running = Waits(subject)
    lateness = Lateness()
    await asyncio.sleep(0.1)
    begin, cpu_before = time.monotonic(), time.process_time()
    for number in range(waits):
        running.start(number)
        # So does the triggerer, which starts triggers one by one without letting time pass.
        await asyncio.sleep(0)
    await _until_looked(control, waits, subject.interval)
    looked, starting = time.monotonic() - begin, lateness.worst
    cpu = time.process_time() - cpu_before
    lateness.worst = 0.0
    await asyncio.sleep(window)
    counts = control.ask("counts")
    figures = {
        "all_looked_at_seconds": looked,
        "starting_cpu_seconds": cpu,
        "worst_stall_starting": starting,
        "worst_stall_after": lateness.stop(),
        "longest_collection": lateness.longest_collection,
        "most_sockets_open": counts["most_open"],
    }
    await running.stop()
    return figures | {"failures": len(running.failures), "first_failures": running.failures[:3]}


async def _until_looked(control: ServerControl, waits: int, interval: float) -> None:
    """Wait until there were as many looks as waits; ours may put off the first one to spread a herd."""
    give_up = time.monotonic() + 2 * interval + 60
    while control.ask("counts")["looks"] < waits and time.monotonic() < give_up:
        await asyncio.sleep(0.05)


def _resident_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def main() -> None:
    """Measure one subject."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", choices=("cost", "stall"))
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--waits", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True, help="seconds between two looks at the same thing")
    parser.add_argument("--window", type=float, required=True, help="seconds")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--frozen", action="store_true")
    options = parser.parse_args()
    control = ServerControl(options.control_port)
    subject = SUBJECTS[options.subject](options.base_url, options.interval)
    gc.collect()
    if options.frozen:
        # What is Airflow's is then no part of a collection.
        gc.freeze()
    control.ask("reset")
    measure = cost if options.measure == "cost" else stall
    figures = asyncio.run(measure(subject, options.waits, options.window, control))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
