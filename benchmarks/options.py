"""What the command lines of several benchmarks take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def names_of(what: str, known: Collection[str]) -> Callable[[str], list[str]]:
    """Return a reader of names with commas between them, of which each must be known."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"no {what} named {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return read


def whole_numbers(text: str) -> list[int]:
    """Read whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]
