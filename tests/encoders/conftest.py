"""Sounds to listen to: synthesised ones everywhere, real ones where there are any."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from soundmark import audio
from soundmark.encoders import audiosep, panns

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


def _stand_in(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """What reference outputs were made with instead of a trained tensor: drawn from its name, scaled to keep size."""
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if key.endswith("running_var"):
        drawn = 1.0 + 0.1 * np.abs(noise)
    elif len(shape) == 1:
        drawn = float(key.endswith("weight")) + 0.1 * noise
    else:
        drawn = noise * np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(drawn, np.float32))


def _stand_ins(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Stand-ins for a whole checkpoint; fixed kernels and counters are zero."""
    fixed = ("stft.", "istft.", "spectrogram_extractor.", "logmel_extractor.", "num_batches_tracked")
    return {
        key: torch.zeros(value.shape, dtype=value.dtype)
        if any(part in key for part in fixed)
        else _stand_in(key, tuple(value.shape))
        for key, value in module.state_dict().items()
    }


@pytest.fixture(scope="session")
def stand_ins() -> Callable[[str], dict[str, torch.Tensor]]:
    """Make a checkpoint's tensors for one of PANNs, or for AudioSep's separator (without prefix), by name."""

    @functools.cache
    def made(name: str) -> dict[str, torch.Tensor]:
        return _stand_ins(audiosep.blank() if name == "audiosep" else panns.blank(name))

    return made


@pytest.fixture(scope="session")
def stand_in_file(
    stand_ins: Callable[[str], dict[str, torch.Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The same as a file, in the form that the publisher chose."""

    @functools.cache
    def written(name: str) -> Path:
        path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
        state = stand_ins(name)
        lightning = {"state_dict": {f"ss_model.{key}": value for key, value in state.items()}}
        torch.save(lightning if name == "audiosep" else {"model": state}, path)
        return path

    return written


@pytest.fixture(scope="session")
def probe() -> Callable[..., torch.Tensor]:
    """Make the sound that reference outputs were made from: a chirp with noise, a gap and a click, at 32 kHz."""

    def sound(seconds: float, seed: int = 0) -> torch.Tensor:
        count = round(seconds * 32000)
        time = np.arange(count) / 32000
        noise = np.convolve(
            np.random.Generator(np.random.PCG64(seed)).standard_normal(count), np.full(8, 1 / 8), "same"
        )
        wave = 0.4 * np.sin(2 * np.pi * (100 * time + 600 * time**2)) + 0.1 * noise
        wave[count // 3 : count // 3 + count // 10] = 0.0
        wave[count // 2] = 0.9
        return torch.from_numpy(wave.astype(np.float32))

    return sound
