"""Sounds to listen to: synthesised ones everywhere, real ones where there are any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from soundmark import audio

RATE = 44100


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for one another on a busy machine take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sounds() -> dict[str, np.ndarray]:
    """Synthesised clips of unlike lengths, float32 at 44.1 kHz."""
    rng = np.random.default_rng(1)
    time = np.arange(int(1.2 * RATE)) / RATE
    noise = rng.standard_normal(len(time))
    beats = 0.05 * noise + 0.6 * noise * (np.mod(time, 0.4) < 0.05)
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6)) / 4
    clips = {
        "noise": 0.3 * noise[: RATE + 123],
        "sweep": 0.7 * np.sin(2 * np.pi * (80 + 4000 * time) * time) + 1e-4 * noise,
        "beats": beats,
        "chord fading out": (chord + 1e-4 * noise) * np.exp(-time),
        "burst in silence": np.where((time > 0.5) & (time < 0.6), 0.5 * noise, 0.0),
    }
    return {name: np.clip(clip, -1, 1).astype(np.float32) for name, clip in clips.items()}


@pytest.fixture
def real_sounds(esc50_files: list[Path]) -> dict[str, np.ndarray]:
    """Four real clips of unlike classes, float32 at 44.1 kHz."""
    return {path.name: audio.read(path, RATE)[0] for path in esc50_files[7 :: len(esc50_files) // 4][:4]}


@pytest.fixture(scope="session")
def relative() -> Callable[[np.ndarray, np.ndarray], float]:
    """Relative L2 distance of ours from theirs."""

    def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
        assert ours.shape == theirs.shape
        return float(np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs))

    return distance
