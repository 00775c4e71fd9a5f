"""Recordings: a short tone as a WAV file, different for each attempt."""

from __future__ import annotations

import io
import math
import struct
import wave

from airflow_provider_revox.simulator.seeded import generator

_RATE = 8000
_SECONDS = 0.5


def recording(attempt_id: str) -> bytes:
    """Return half a second of a tone whose pitch tells the attempt."""
    pitch = generator("recording", attempt_id).uniform(220.0, 880.0)
    samples = [int(8000 * math.sin(2 * math.pi * pitch * index / _RATE)) for index in range(int(_RATE * _SECONDS))]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE)
        out.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return file.getvalue()
