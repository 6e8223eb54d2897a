"""What the tests of augmentation begin with: some sounds, what a small front end hears of them, and draws."""

from __future__ import annotations

import math

import torch
from hypothesis import settings
from torch import Tensor

from soundmark.networks.augment import Augment, parse
from soundmark.networks.front import LogMel

RATE, HOP = 8000, 80
FRONT = LogMel(RATE, 256, HOP, 40)
QUICK = settings(max_examples=8, deadline=None, derandomize=True)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sounds(clips: int = 4, seconds: float = 1.0, seed: int = 0) -> Tensor:
    """Tones that fade out, each under some noise of its own."""
    times = torch.arange(round(seconds * RATE)) / RATE
    pitches = torch.linspace(300, 1500, clips)[:, None]
    noise = torch.randn(clips, len(times), generator=rng(seed))
    return (0.3 * torch.sin(2 * math.pi * pitches * times) + 0.03 * noise) * torch.exp(-2 * times)


def always(name: str, **given: object) -> Augment:
    said = "&".join(f"{key}={value}" for key, value in ({"p": 1} | given).items())
    return parse(f"{name}?{said}")


SOUNDS = sounds()
HEARD = FRONT(SOUNDS)
