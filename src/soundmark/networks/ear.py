"""How the bands of a front end hear, found by playing it tones, clicks and noise.

A level says nothing about Hz, and the power of the same noise differs from band to band and from one front end to the
next. Augmentation needs both: where a band moves when a sound is tuned, how loud noise is in it, and how loud a clip is
as a whole. Measuring serves any front end, whatever its scale and its filters; it takes some tenths of a second, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from soundmark.networks.front import Front

SILENT = 1e-9
"""Share of the loudness of full-scale white noise below which a clip is silent: -90 dB."""

_NOISE_SECONDS = 20.0
_TONE_SECONDS = 0.125
_TONES_AT_ONCE = 128
_KEPT: WeakKeyDictionary[Front, dict[torch.device, Ear]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ear:
    """What is known of a front end's bands; every tensor is float32.

    Attributes:
        centres: (bands,) Hz, increasing.
        white: (bands,) mean power of white noise of variance 1.
        noise: (frames, bands) power of such noise from moment to moment, 20 seconds of it.
        loudness: (bands,) weights that sum a frame's power to the variance of what was heard, whatever its colour.
        perceived: (bands,) the same under A-weighting, for how loud people find it.
    """

    centres: Tensor
    white: Tensor
    noise: Tensor
    loudness: Tensor
    perceived: Tensor


def ear(front: Front, device: torch.device) -> Ear:
    """The bands of a front end, measured the first time it is asked for.

    Args:
        front: the front end; its buffers lie on `device`.
        device: where the tensors are wanted.
    """
    kept = _KEPT.setdefault(front, {})
    if device not in kept:
        # What is kept must be of use in training, even if it was measured during inference.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            kept[device] = _listen(front, device)
    return kept[device]


def _listen(front: Front, device: torch.device) -> Ear:
    centres = _centres(front, device)
    white = _white(front, device)
    rng = torch.Generator().manual_seed(0)
    hiss = torch.randn(1, round(_NOISE_SECONDS * front.sample_rate), generator=rng)
    noise = front.power(front(hiss.to(device)))[0].float()
    # Half the way to the band on either side belongs to a band: the sum over bands is then an integral over Hz.
    width = torch.gradient(centres)[0]
    loudness = width / (white * width.sum())
    perceived = loudness * 10.0 ** (0.1 * a_weighting(centres))
    found = (centres, white, noise, loudness, perceived)
    return Ear(*(tensor.float().to(device).contiguous() for tensor in found))


def _centres(front: Front, device: torch.device) -> Tensor:
    """(bands,) float64 on the CPU: the mean frequency of what a band answers to, of all tones, by how much it does."""
    rate, count = front.sample_rate, max(512, 4 * front.bands)
    # As dense as ears are: evenly spaced to 1 kHz and ever wider above, so that no band falls between two tones.
    top = math.asinh(rate / 2 / 500.0)
    tones = 500.0 * torch.sinh(torch.linspace(0.0, top, count + 1, dtype=torch.float64)[1:])
    step = torch.gradient(tones)[0]
    times = torch.arange(round(_TONE_SECONDS * rate), dtype=torch.float64) / rate
    answers = []
    for some in torch.split(tones, _TONES_AT_ONCE):
        waves = torch.sin(2.0 * math.pi * some[:, None] * times).float()
        power = front.power(front(waves.to(device)))
        answers.append(power[:, power.shape[1] // 2].cpu().double())
    # Squared, since what leaks through a window into far bands is weak but wide.
    weights = torch.cat(answers).square() * step[:, None]
    centres = (weights * tones[:, None]).sum(0) / weights.sum(0).clamp_min(1e-300)
    centres = torch.cummax(centres, 0).values
    return centres + torch.arange(len(centres)) * 1e-3  # two that fall together remain in order


def _white(front: Front, device: torch.device) -> Tensor:
    """(bands,) float64 on the CPU: a click is as white as noise is, and leaves nothing to chance."""
    places, hop = 16, front.hop
    waves = torch.zeros(places, round(_TONE_SECONDS * front.sample_rate) + hop)
    for place in range(places):
        waves[place, waves.shape[1] // 2 + place * hop // places] = 1.0
    power = front.power(front(waves.to(device))).cpu().double()
    return (power.sum(1).mean(0) * hop).clamp_min(1e-30)


def a_weighting(frequencies: Tensor) -> Tensor:
    """How much louder a tone of some frequency seems than one of 1 kHz, dB.

    Source: IEC 61672-1, the curve A.

    Args:
        frequencies: Hz, of any shape.
    """
    f = frequencies.double().square()
    ratio = (
        12194.0**2 * f.square()
        / ((f + 20.6**2) * ((f + 107.7**2) * (f + 737.9**2)).sqrt() * (f + 12194.0**2))
    )  # fmt: skip
    return 20.0 * torch.log10(ratio.clamp_min(1e-20)) + 2.0
