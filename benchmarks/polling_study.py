"""
Replay ten thousand order lives in virtual time: how often each way of polling looks, and how late it notices the end.

    python -m benchmarks.polling_study [--lives 10000] [--seed 7] [--out docs]

Ours is `airflow_provider_revox.polling.Watch` at its default intervals, jitter included; a fixed interval looks every so many
seconds; back-off begins at 15 s and grows, to 600 s at the most. Everybody looks first when the first pause is over. Prints
the tables as Markdown; with ``--out`` also writes ``images/polling-study.svg`` and ``.png``, which needs matplotlib.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from airflow_provider_revox.models import CallGlance
from airflow_provider_revox.polling import Again, Pace, Watch
from benchmarks.order_lives import CLASSES, draw_lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.order_lives import OrderLife

PACE = Pace()
FIXED_SECONDS = (5, 15, 60, 300)
OURS = "ours"
_LONGEST_WAIT = 400 * 86_400.0


@dataclass
class Sample:
    """What came of replaying lives in one way: for each life, the number of looks, and seconds from its end to the last."""

    polls: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def add(self, polls: int, delay: float) -> None:
        self.polls.append(polls)
        self.delays.append(delay)

    @property
    def mean_polls(self) -> float:
        return fmean(self.polls)

    def delay(self, share: float) -> float:
        """Return the delay that this share of the lives does not exceed, in seconds."""
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1))]


def replay_ours(life: OrderLife, chance: random.Random, pace: Pace = PACE) -> tuple[int, float]:
    """Return the number of looks and the delay, in seconds, through a `Watch`."""
    begins = [at for at, _ in life.states]
    glances: dict[int, CallGlance] = {}
    watch, looks, now = Watch(pace, None, trusted=True), 0, life.placed_at + pace.poke_interval
    while True:
        looks += 1
        index = bisect_right(begins, now) - 1
        if index not in glances:
            glances[index] = CallGlance.model_validate(life.states[index][1])
        step = watch.saw(glances[index], datetime.fromtimestamp(now, timezone.utc), chance.random())
        if not isinstance(step, Again):
            return looks, now - life.ended_at
        now += step.seconds


def replay_fixed(lives: Iterable[OrderLife], seconds: float) -> Sample:
    """Replay lives through looks every so many seconds."""
    sample = Sample()
    for life in lives:
        lasted = life.ended_at - life.placed_at
        looks = max(1, int(-(-lasted // seconds)))
        sample.add(looks, looks * seconds - lasted)
    return sample


def replay_backed_off(lives: Iterable[OrderLife], factor: float) -> Sample:
    """Replay lives through pauses that grow by a factor, from 15 s to 600 s."""
    pauses = [15.0]
    moments = [15.0]
    while moments[-1] < _LONGEST_WAIT:
        pauses.append(min(pauses[-1] * factor, 600.0))
        moments.append(moments[-1] + pauses[-1])
    sample = Sample()
    for life in lives:
        lasted = life.ended_at - life.placed_at
        index = bisect_left(moments, lasted)
        sample.add(index + 1, moments[index] - lasted)
    return sample


def interval_of_same_delay(lives: Sequence[OrderLife], delay: float) -> float:
    """Return the fixed interval, in seconds, whose delay at the 95th percentile comes closest to this without being less."""
    least, most = delay / 2, max(2 * delay, 1.0)
    for _ in range(16):
        middle = (least + most) / 2
        if replay_fixed(lives, middle).delay(0.95) < delay:
            least = middle
        else:
            most = middle
    return most


def study(lives: Sequence[OrderLife], seed: int) -> tuple[dict[str, Sample], dict[str, Sample], float]:
    """Return a sample for each way of polling, ours for each class, and the fixed interval of our delay in seconds."""
    chance = random.Random(f"jitter {seed}")
    ours, by_class = Sample(), {kind: Sample() for kind in CLASSES}
    for life in lives:
        seen = replay_ours(life, chance)
        ours.add(*seen)
        by_class[life.kind].add(*seen)
    same = interval_of_same_delay(lives, ours.delay(0.95))
    ways: dict[str, Sample] = {OURS: ours}
    ways[f"every {same:.1f} s (our p95)"] = replay_fixed(lives, same)
    ways |= {f"every {seconds} s": replay_fixed(lives, seconds) for seconds in FIXED_SECONDS}
    ways |= {f"back-off × {factor:g}": replay_backed_off(lives, factor) for factor in (1.5, 2.0)}
    return ways, by_class, same


# --- telling ----------------------------------------


def tables(lives: Sequence[OrderLife], ways: dict[str, Sample], by_class: dict[str, Sample], same: float) -> str:
    """Return the results in Markdown."""
    ours = ways[OURS]
    lines = ["| way | polls per order | median delay | p95 | worst |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | {_row(sample)} |" for name, sample in ways.items()]
    lines += [
        "",
        f"| class (ours) | lives | polls per order | median delay | p95 | worst | polls, every {same:.1f} s |",
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for kind, sample in by_class.items():
        if sample.polls:
            fixed = replay_fixed((life for life in lives if life.kind == kind), same)
            lines.append(f"| {kind} | {len(sample.polls)} | {_row(sample)} | {fixed.mean_polls:.1f} |")
    fewer = list(ways.values())[1].mean_polls / ours.mean_polls
    lines += ["", f"Fewer polls than the fixed interval with the same p95 delay: {fewer:.1f} ×"]
    return "\n".join(lines)


def _row(sample: Sample) -> str:
    delays = " | ".join(f"{sample.delay(share):.1f} s" for share in (0.5, 0.95, 1.0))
    return f"{sample.mean_polls:.1f} | {delays}"


def plot(ways: dict[str, Sample], folder: Path) -> list[Path]:
    """Draw polls per order against delay; return the files, the same bytes for the same samples and matplotlib."""
    import matplotlib as mpl  # only here: nothing else needs it

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "polling-study", "svg.fonttype": "path", "font.size": 10})
    figure, axes = plt.subplots(figsize=(8, 5), dpi=110)
    for name, sample in ways.items():
        if "our p95" in name:
            continue  # close to one of the others
        median, late, worst = (max(sample.delay(share), 0.1) for share in (0.5, 0.95, 1.0))
        colour = "tab:red" if name == OURS else "tab:gray" if name.startswith("every") else "tab:blue"
        axes.plot([median, worst], [sample.mean_polls] * 2, color=colour, linewidth=1, alpha=0.5)
        axes.plot([median, worst], [sample.mean_polls] * 2, "|", color=colour)
        axes.plot(late, sample.mean_polls, "o", color=colour)
        below = name == "back-off × 2"
        axes.annotate(
            name, (late, sample.mean_polls), xytext=(0, -14 if below else 6), textcoords="offset points", ha="center"
        )
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("seconds from the end of the order to its being noticed: median |, p95 ●, worst |")
    axes.set_ylabel("polls per order, mean")
    axes.set_title(f"Looks at an order, and how late they notice its end ({len(ways[OURS].polls):,} orders)")
    axes.grid(visible=True, which="major", alpha=0.3)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"polling-study.{kind}" for kind in ("svg", "png")]
    save: Callable[..., None] = figure.savefig
    save(written[0], metadata={"Date": None, "Creator": None})
    save(written[1], metadata={"Software": None})
    plt.close(figure)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--lives", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="a folder for the plot, under images/")
    arguments = parser.parse_args()
    lives = list(draw_lives(arguments.lives, arguments.seed))
    ways, by_class, same = study(lives, arguments.seed)
    print(tables(lives, ways, by_class, same))
    if arguments.out:
        for path in plot(ways, arguments.out / "images"):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
