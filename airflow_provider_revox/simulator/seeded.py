"""Everything that looks random, derived from names alone: never from the wall clock or a global generator."""

from __future__ import annotations

import hashlib
import random
import uuid


def _digest(parts: tuple[object, ...]) -> bytes:
    return hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=16).digest()


def generator(*parts: object) -> random.Random:
    """Return a random generator that always says the same for the same parts."""
    return random.Random(int.from_bytes(_digest(parts), "big"))  # noqa: S311 - plays a part, guards nothing


def identifier(*parts: object) -> str:
    """Return an id in the shape of a UUID, unique as long as the parts are."""
    return str(uuid.UUID(bytes=_digest(parts), version=4))
