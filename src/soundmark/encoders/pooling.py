"""Frames over time into one vector: statistics by name, joined with `+`.

mean  min  max              what they say
std                         population standard deviation (ddof=0), 0 for a single frame
p10, p97.5, ...             percentiles, with linear interpolation as in numpy
percentiles                 short for p5+p25+p50+p75+p95
dmean  dstd                 mean size of the first difference, and its standard deviation: how restless the clip is
modulation                  log magnitude of the change over time in eight octaves of its speed, from half the frame
                            rate down: slow for rain, fast for a rattle
cov                         upper triangle of the frames' covariance (population), row by row; for small dims
scene                       the encoder's own way; for encoders that have none, the mean
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from soundmark import frontends
from soundmark.errors import SpecError

ALIASES = {"percentiles": ("p5", "p25", "p50", "p75", "p95")}

_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,6})?)")
_OCTAVES = 8
_MODULATION_FLOOR = 0.1  # in the frames' own unit: a tenth of a decibel of swing counts as none
_COV_LIMIT = 512  # d(d+1)/2 components: beyond this a vector would hold more than 131,000 numbers


def _mean(frames: Tensor) -> Tensor:
    return frames.mean(1)


def _centred(frames: Tensor) -> Tensor:
    # Seen from the first frame, a constant is exactly zero. Seen from its mean it is rounding noise, which differs from
    # library to library, and which a scaler that has seen nothing but noise would blow up to size.
    shifted = frames - frames[:, :1]
    return shifted - shifted.mean(1, keepdim=True)


def _std(frames: Tensor) -> Tensor:
    # A third of the time of torch.std, and what the exported graph computes anyway.
    return _centred(frames).square().mean(1).sqrt()


def _count(frames: Tensor) -> Tensor:
    """Number of rows, at least one, so that what a single frame lacks (a difference) comes out as zero."""
    return torch.ones_like(frames[:, :, :1]).sum(1).clamp_min(1.0)


def _step_mean(frames: Tensor) -> Tensor:
    steps = frames.diff(dim=1)
    return steps.abs().sum(1) / _count(steps)


def _step_std(frames: Tensor) -> Tensor:
    steps = frames.diff(dim=1)
    count = _count(steps)
    centred = steps - (steps.sum(1) / count).unsqueeze(1)
    return (centred.square().sum(1) / count).sqrt()


def _covariance(frames: Tensor) -> Tensor:
    dim = frames.shape[2]
    centred = _centred(frames)
    covariance = centred.transpose(1, 2) @ centred / _count(centred).unsqueeze(2)
    upper = torch.from_numpy(np.flatnonzero(np.triu(np.ones((dim, dim), dtype=bool))))
    return covariance.flatten(1).index_select(1, upper.to(frames.device))


def _modulation(frames: Tensor) -> Tensor:
    """Octaves of the modulation spectrum, fastest first, each with all components: (batch, octaves * dim).

    Under a Hann window, so that a clip's two ends do not make a step. Octaves are of the frame rate, not of the clip's
    length; a clip too short to show the slow ones has the floor there.
    """
    centred = _centred(frames)
    count = _count(frames).mean()
    place = torch.ones_like(frames[0, :, 0]).cumsum(0) - 0.5
    hann = torch.sin(math.pi * place / count).square()
    spectrum = torch.fft.rfft((centred * hann.unsqueeze(1)).transpose(1, 2), dim=-1)
    magnitude = torch.view_as_real(spectrum).square().sum(-1).sqrt() * (2.0 / count)
    cycles = (torch.ones_like(magnitude[0, 0]).cumsum(0) - 1.0).unsqueeze(1) / count
    tops = (0.5 ** torch.arange(1, _OCTAVES + 1)).to(cycles)
    member = ((cycles <= tops) & (cycles > 0.5 * tops)).to(magnitude.dtype)
    octaves = magnitude @ (member / member.sum(0).clamp_min(1.0))
    return (octaves.transpose(1, 2).flatten(1) + _MODULATION_FLOOR).log()


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "max": lambda frames: frames.amax(1),
    "min": lambda frames: frames.amin(1),
    "std": _std,
    "dmean": _step_mean,
    "dstd": _step_std,
    "modulation": _modulation,
    "cov": _covariance,
    "scene": _mean,
}
"""(batch, frames, dim) → (batch, parts of the vector), by name; percentiles are parsed."""


class Pooling(nn.Module):
    """Statistics of frames over time, one after another in a vector.

    Args:
        text: names joined with `+`, such as `mean+std+max` or `mean+p10+p90`; see this module.

    Attributes:
        text: canonical form of it, aliases spelled out.
        names: the statistics, in the order of the vector.

    Raises:
        SpecError: for an unknown statistic, or one that stands twice.
    """

    quantiles: Tensor

    def __init__(self, text: str) -> None:
        super().__init__()
        parts = [part.strip() for part in text.split("+")]
        names = [name for part in parts for name in ALIASES.get(part) or (_canonical(part, text),)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"the pooling {text!r} holds {', '.join(twice)} twice: name each statistic once")
        self.names: tuple[str, ...] = tuple(names)
        self.text = "+".join(names)
        levels = [float(name[1:]) / 100 for name in names if _PERCENTILE.fullmatch(name)]
        self.register_buffer("quantiles", torch.tensor(levels), persistent=False)

    def extra_repr(self) -> str:
        """Shown inside a printed model."""
        return self.text

    def output_dim(self, dim: int) -> int:
        """Length of the vector for frames of `dim` components.

        Raises:
            SpecError: if `cov` is asked of frames too wide for it.
        """
        if "cov" in self.names and dim > _COV_LIMIT:
            raise SpecError(f"cov of {dim}-dimensional frames is too large (at most {_COV_LIMIT}): leave it out")
        sizes = {"cov": dim * (dim + 1) // 2, "modulation": dim * _OCTAVES}
        return sum(sizes.get(name, dim) for name in self.names)

    def feature_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of the vector's components from those of a frame's, such as `std of mel 440 Hz`."""
        listed: list[str] = []
        for statistic in self.names:
            if statistic == "cov":
                listed += [f"cov of {a} and {b}" for i, a in enumerate(names) for b in names[i:]]
            elif statistic == "modulation":
                listed += [f"modulation octave {octave} of {a}" for octave in range(1, _OCTAVES + 1) for a in names]
            else:
                listed += [f"{statistic} of {name}" for name in names]
        return tuple(listed)

    def forward(self, frames: Tensor, scene: Tensor | None = None) -> Tensor:
        """Vectors of (batch, frames, dim) frames: (batch, output_dim(dim)).

        Args:
            frames: what the encoder heard, moment by moment.
            scene: (batch, dim), what `scene` stands for; without it, the mean.
        """
        levels = iter(_quantiles(frames, self.quantiles).unbind(0) if len(self.quantiles) else ())
        parts = [
            next(levels)
            if _PERCENTILE.fullmatch(name)
            else scene
            if name == "scene" and scene is not None
            else STATISTICS[name](frames)
            for name in self.names
        ]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def _canonical(part: str, text: str) -> str:
    if part in STATISTICS:
        return part
    match = _PERCENTILE.fullmatch(part)
    if match and float(match[1]) <= 100:
        return f"p{float(match[1]):.10g}"
    known = ", ".join([*STATISTICS, "p0 to p100", *ALIASES])
    raise SpecError(f"there is no statistic {part!r} in the pooling {text!r}; there are: {known}")


def _quantiles(frames: Tensor, levels: Tensor) -> Tensor:
    """Quantiles over time, (levels, batch, dim): sorted once for all of them."""
    ordered = frontends.ascending(frames.transpose(1, 2))
    place = levels * (frames.shape[1] - 1)
    below = place.floor()
    low = ordered.index_select(2, below.long())
    high = ordered.index_select(2, place.ceil().long())
    return torch.lerp(low, high, place - below).permute(2, 0, 1)
