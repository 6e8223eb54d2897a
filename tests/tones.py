"""Recordings that are made for a test."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def wav(seconds: float = 1.0, level: float = 0.3, rate: int = 8000, channels: int = 1) -> bytes:
    """A tone, as a WAV file; to the tiny model it is loud beyond a level of 0.16."""
    times = np.arange(round(seconds * rate)) / rate
    tone = level * np.sin(2 * np.pi * 440 * times)
    target = io.BytesIO()
    soundfile.write(target, np.stack([tone] * channels, axis=1), rate, format="WAV")
    return target.getvalue()
