"""`python -m benchmarks [name …]`: run benchmarks, all of them when none is named, one after the other."""

from __future__ import annotations

import importlib
import sys

#: Modules of this package with a `main(arguments)` that writes into benchmarks/results/ and returns an exit code.
BENCHMARKS = ("imports", "placing", "poll_cost", "triggerer")


def main(names: list[str]) -> int:
    """Run the benchmarks with these names at their defaults and return an exit code."""
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        sys.stderr.write(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    codes: list[int] = [importlib.import_module(f"benchmarks.{name}").main([]) for name in names or BENCHMARKS]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
