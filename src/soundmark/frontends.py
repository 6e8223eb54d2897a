"""Spectrograms as torch modules: one definition for training, features and the exported graph.

Frames are centred: frame `i` looks at `window` samples around sample `i * hop`, and outside the clip there is silence
(librosa's `center=True, pad_mode="constant"`). Frames are made of a clip's own samples only, never of its neighbours in
the batch, and everything can be traced into an ONNX graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from soundmark.errors import SpecError

POWER_FLOOR = 1e-10
"""Power below which a band counts as silent; -100 dB, as in librosa's `power_to_db`."""

_BLOCK_BYTES = 3 << 19  # of frames in work at once: about what fits the second-level cache of a core
_BLOCKS_AT_ONCE = 3  # described together: fewer calls, while the power still fits the third-level cache
_COLUMNS = 16  # one AVX-512 register of float32: matrix kernels slow down when a block's width is not a multiple of it


class PowerSpectrogram(nn.Module):
    """Squared magnitude of the short-time Fourier transform under a Hann window.

    Args:
        window: samples under the window.
        hop: samples between frames.
        length: samples transformed, with zeros around the window; 0 takes the window's own.
        pad_mode: what lies beyond the clip's ends: `constant` (silence), `reflect`, or `none` for frames that start at
            the first sample and end at the last.
        precise: whether to transform in double precision, for what looks into spectral holes: single precision leaves a
            floor of rounding noise 130 dB below the loudest bin, above what many lossy recordings hold in their top
            octave. It takes twice the time.
        periodic: whether the window is periodic, as is usual, or symmetric.
    """

    hann: Tensor

    def __init__(
        self,
        window: int,
        hop: int,
        *,
        length: int = 0,
        pad_mode: str = "constant",
        precise: bool = False,
        periodic: bool = True,
    ) -> None:
        super().__init__()
        self.window, self.hop, self.pad_mode, self.precise = window, hop, pad_mode, precise
        self.length = length or window
        self.bins = self.length // 2 + 1
        hann = torch.hann_window(window, periodic=periodic, dtype=torch.float64)
        self.register_buffer("hann", hann if precise else hann.float(), persistent=False)
        left = (self.length - window) // 2
        self._window = np.pad(self.hann.numpy(), (left, self.length - window - left))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Power of (batch, samples) waveforms, of the same type, as (batch, frames, bins).

        There are `1 + samples // hop` frames (if the length is odd, `1 + (samples - 1) // hop`; without padding,
        `1 + (samples - length) // hop`).
        """
        return self._power(self._padded(waveforms))

    def map(self, waveforms: Tensor, describe: Callable[[Tensor], Tensor]) -> Tensor:
        """What `describe` makes of the frames' power, block by block: (batch, frames, size), in little memory.

        `describe` takes (batch, frames, bins) to (batch, frames, size), each frame by itself; or, where only a sum over
        time is wanted, to (batch, 1, size), which then comes once for each block.

        The power is held for one block at a time, small enough for the processor's cache. Holding all of it costs more
        than the arithmetic: what the allocator hands back to the system after a clip is mapped in again page by page.
        """
        if not plain(waveforms):
            return describe(self(waveforms))
        padded = self._padded(waveforms)
        frames = 1 + (padded.shape[1] - self.length) // self.hop
        room = _BLOCK_BYTES // (self.hann.element_size() * self.length)
        clips = max(1, room // frames)
        step = max(1, room // clips)
        work = np.empty((min(clips, len(padded)), min(step, frames), self.length), self._window.dtype)
        outer = step * _BLOCKS_AT_ONCE
        return _joined(
            [
                _joined(
                    [
                        describe(self._blocks(part, range(first, min(first + outer, frames), step), frames, work))
                        for first in range(0, frames, outer)
                    ],
                    dim=1,
                )
                for part in torch.split(padded, clips)
            ],
            dim=0,
        )

    def _blocks(self, padded: Tensor, starts: range, frames: int, work: NDArray[np.floating]) -> Tensor:
        """`_power` of the blocks of frames that begin at `starts`: the same numbers, in fewer passes over memory."""
        heard = np.lib.stride_tricks.sliding_window_view(padded.numpy(), self.length, axis=1)[:, :: self.hop]
        stop = min(starts[-1] + starts.step, frames)
        power = np.empty((len(padded), stop - starts.start, self.bins), np.float32)
        for start in starts:
            block = heard[:, start : min(start + starts.step, stop)]
            windowed = np.multiply(block, self._window, out=work[: block.shape[0], : block.shape[1]])
            squares = torch.view_as_real(torch.fft.rfft(torch.from_numpy(windowed))).numpy()
            into = power[:, start - starts.start :][:, : block.shape[1]]
            with np.errstate(over="ignore"):  # absurd samples have infinite power, which is reported where it matters
                np.square(squares, out=squares)
                np.add(squares[..., 0], squares[..., 1], out=into, casting="same_kind")
        return torch.from_numpy(power).to(padded.dtype)

    def _padded(self, waveforms: Tensor) -> Tensor:
        if self.pad_mode == "none":
            return waveforms
        return functional.pad(waveforms, (self.length // 2, self.length // 2), mode=self.pad_mode)

    def _power(self, padded: Tensor) -> Tensor:
        spectrum = torch.stft(
            padded.to(self.hann.dtype), self.length, self.hop, self.window, self.hann, center=False, return_complex=True
        )
        # torch keeps a frame's bins side by side under a transposed view, so turning it back costs nothing; and
        # squaring the whole block first is three times quicker than squaring two strided halves.
        squares = torch.view_as_real(spectrum.transpose(1, 2)).square()
        return (squares[..., 0] + squares[..., 1]).to(padded.dtype)


class Filterbank(nn.Module):
    """Bands as weighted sums of bins: a product with a matrix most of whose entries are zero.

    Neighbouring bands are multiplied together as one small dense block over the bins they reach, which skips most of
    the zeros: three times quicker than the full product for 64 mel bands.

    Args:
        weights: (bands, bins), not negative.
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.bands, self.bins = weights.shape
        self.ranges: list[tuple[int, int]] = []
        for first in range(0, self.bands, _COLUMNS):
            block = weights[first : first + _COLUMNS]
            reached = block.ne(0).any(0).nonzero().flatten()
            low, high = int(reached[0]), int(reached[-1]) + 1
            block = functional.pad(block[:, low:high].T, (0, _COLUMNS - block.shape[0])).contiguous()
            self.register_buffer(f"block{len(self.ranges)}", block, persistent=False)
            self.ranges.append((low, high))

    def forward(self, power: Tensor) -> Tensor:
        """Bands of (batch, frames, bins) as (batch, frames, bands)."""
        blocks = [
            power[..., low:high] @ self.get_buffer(f"block{index}") for index, (low, high) in enumerate(self.ranges)
        ]
        bands = _joined(blocks, dim=-1)
        return bands if bands.shape[-1] == self.bands else bands[..., : self.bands]


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of up to 24 MB for the next clip, rather than unmap and map them again.

    glibc takes the largest block yet unmapped for its measure of what to keep, so one is unmapped here; it is never
    touched and so never takes memory. Elsewhere this does nothing.
    """
    block = torch.empty(24 << 20, dtype=torch.uint8)
    del block


def decibels(power: Tensor, floor: float = POWER_FLOOR) -> Tensor:
    """`10 log10(max(power, floor))`: librosa's `power_to_db(ref=1, amin=floor, top_db=None)`."""
    return 10.0 * torch.log10(power.clamp_min(floor))


def relative(levels: Tensor, *, to_loudest: bool, top_db: float) -> Tensor:
    """Levels in dB against the loudest of their clip, as librosa's `power_to_db` does with `ref=np.max` and `top_db`.

    Args:
        levels: (batch, frames, bands) dB.
        to_loudest: subtract the clip's loudest level.
        top_db: raise what lies further under the loudest to there; 0 leaves all as it is.
    """
    if not (to_loudest or top_db):
        return levels
    loudest = levels.amax((1, 2), keepdim=True)
    bounded = torch.maximum(levels, loudest - top_db) if top_db else levels
    return bounded - loudest if to_loudest else bounded


def plain(values: Tensor) -> bool:
    """Whether numpy may take over: nothing traces these numbers and they are in ordinary memory."""
    return not (torch.compiler.is_exporting() or values.requires_grad or values.device.type != "cpu")


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return torch.cat(parts, dim) if len(parts) > 1 else parts[0]


def moving_mean(signal: Tensor, window: int, hop: int) -> Tensor:
    """Mean of every `window` samples, `hop` apart, of (batch, samples) signals: (batch, frames)."""
    return signal.unfold(-1, window, hop).mean(-1)


def ascending(rows: Tensor) -> Tensor:
    """`rows` in increasing order along the last axis."""
    if plain(rows):
        # The same numbers in a twentieth of the time: numpy sorts float32 with vector instructions, torch does not.
        return torch.from_numpy(np.sort(rows.contiguous().numpy(), axis=-1))
    return rows.sort(dim=-1).values


def extremes(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` lowest and the `count` highest numbers of every row, each in no stated order."""
    if plain(rows):
        ordered = ascending(rows)
        return ordered[..., :count], ordered[..., -count:]
    return rows.topk(count, largest=False, sorted=False).values, rows.topk(count, sorted=False).values


def bin_frequencies(rate: int, window: int) -> NDArray[np.float64]:
    """Centre of every bin of a transform of `window` samples, Hz."""
    return np.arange(window // 2 + 1, dtype=np.float64) * (rate / window)


def mel_frequencies(bands: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Edges and centres of `bands` overlapping mel bands, Hz: `bands + 2` points even on Slaney's scale.

    The scale (Auditory Toolbox, 1998) has 3 mel to 200 Hz up to 1 kHz, and above it 27 mel to every factor of 6.4.
    """

    def mel(hertz: float) -> float:
        return 0.015 * hertz if hertz < 1000.0 else 15.0 + 27.0 * math.log(hertz / 1000.0, 6.4)

    points = np.linspace(mel(fmin), mel(fmax), bands + 2)
    return np.where(points < 15.0, points / 0.015, 1000.0 * 6.4 ** ((points - 15.0) / 27.0))


def mel_weights(rate: int, window: int, bands: int, fmin: float, fmax: float) -> Tensor:
    """Triangles on Slaney's mel scale, each of unit area: librosa's `filters.mel` at its defaults.

    Returns:
        (bands, bins) float32.

    Raises:
        SpecError: if a band is so narrow that no bin falls under it.
    """
    points = mel_frequencies(bands, fmin, fmax)[:, None]
    below, centres, above = points[:-2], points[1:-1], points[2:]
    bins = bin_frequencies(rate, window)
    triangles = np.minimum((bins - below) / (centres - below), (above - bins) / (above - centres))
    return _no_band_empty(np.maximum(0.0, triangles) * 2.0 / (above - below), rate, window)


def log_frequencies(rate: int, bands: int, fmin: float, fmax: float, per_octave: int) -> NDArray[np.float64]:
    """Centres `fmin * 2 ** (k / per_octave)`, Hz; with `bands=0` as many as stay, with the next one, within `fmax`.

    Raises:
        SpecError: if the bands asked for reach beyond `fmax`.
    """
    fitting = math.floor(per_octave * math.log2(fmax / fmin) + 1e-9)
    if bands > fitting or fitting < 1:
        raise SpecError(
            f"{bands or 1} bands of 1/{per_octave} octave from {fmin:g} Hz reach beyond {fmax:g} Hz: "
            f"use at most bands={fitting}, a lower fmin or a higher rate"
        )
    return fmin * 2.0 ** (np.arange(bands or fitting) / per_octave)


def log_frequency_weights(rate: int, window: int, bands: int, fmin: float, fmax: float, per_octave: int) -> Tensor:
    """Triangles evenly spaced in log frequency, each the weighted mean of the bins under it.

    Band k rises from the centre before it to its own and falls to the next one. Where bands are closer than bins (the
    lowest octaves), the triangle is widened to one bin's spacing on either side, which interpolates between
    the two nearest bins, so that no band is empty.

    Returns:
        (bands, bins) float32; every row sums to one.
    """
    centres = log_frequencies(rate, bands, fmin, fmax, per_octave)[:, None]
    step = 2.0 ** (1.0 / per_octave)
    spacing = rate / window
    below = np.maximum(centres - centres / step, spacing)
    above = np.maximum(centres * step - centres, spacing)
    offset = bin_frequencies(rate, window) - centres
    weights = np.maximum(0.0, 1.0 - np.where(offset < 0, -offset / below, offset / above))
    return _no_band_empty(weights / weights.sum(1, keepdims=True), rate, window)


def linear_range(rate: int, window: int, fmin: float, fmax: float) -> tuple[int, int]:
    """First bin and one past the last bin within [fmin, fmax]."""
    inside = np.flatnonzero(
        (bin_frequencies(rate, window) >= fmin) & (bin_frequencies(rate, window) <= fmax * (1 + 1e-9))
    )
    if not inside.size:
        raise SpecError(f"no bin of a window of {window} samples lies between {fmin:g} and {fmax:g} Hz")
    return int(inside[0]), int(inside[-1]) + 1


def linear_weights(rate: int, window: int, bands: int, fmin: float, fmax: float) -> Tensor:
    """Bands of equal width in Hz: the bins within [fmin, fmax] cut into `bands` runs as even as can be, each averaged.

    Returns:
        (bands, bins) float32; every row sums to one. With `bands=0` every bin is its own band.

    Raises:
        SpecError: if there are more bands than bins.
    """
    low, high = linear_range(rate, window, fmin, fmax)
    bands = bands or high - low
    if bands > high - low:
        raise SpecError(f"{bands} bands do not fit {high - low} bins: use fewer bands or a longer window")
    edges = np.rint(np.linspace(low, high, bands + 1)).astype(int)
    weights = np.zeros((bands, window // 2 + 1))
    for band, (start, end) in enumerate(itertools.pairwise(edges)):
        weights[band, start:end] = 1.0 / (end - start)
    return torch.from_numpy(weights.astype(np.float32))


def chroma_weights(rate: int, window: int) -> Tensor:
    """Twelve pitch classes from C, A at 440 Hz: librosa's `filters.chroma` at its defaults, without tuning.

    Every bin gives to the classes near it under a Gaussian of the bin's own width (at least a semitone) and unit
    energy, and counts less the further, in octaves, it lies from 880 Hz. Source: Ellis, "Chroma feature analysis and
    synthesis" (2007).

    Returns:
        (12, bins) float32.
    """
    # Semitones above 27.5 Hz, the lowest A. The bin at 0 Hz is put 1.5 octaves under the first, which spreads it.
    semitones = 12.0 * np.log2(np.arange(1, window // 2 + 2) * (rate / window) / 27.5)
    semitones = np.concatenate([[semitones[0] - 18.0], semitones])
    width = np.maximum(np.diff(semitones), 1.0)
    semitones = semitones[:-1]
    distance = np.remainder(semitones - np.arange(12)[:, None] + 6.0, 12.0) - 6.0
    weights = np.exp(-0.5 * (2.0 * distance / width) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * ((semitones / 12.0 - 5.0) / 2.0) ** 2)
    return torch.from_numpy(np.roll(weights, -3, axis=0).astype(np.float32))


def cosine_weights(bands: int, coefficients: int) -> Tensor:
    """The orthonormal type-II cosine transform that turns log bands into cepstral coefficients.

    Returns:
        (bands, coefficients) float32, to be multiplied from the right.
    """
    band = np.arange(bands)[:, None] + 0.5
    weights = np.cos(np.pi / bands * band * np.arange(coefficients)) * np.sqrt(2.0 / bands)
    weights[:, 0] /= np.sqrt(2.0)
    return torch.from_numpy(weights.astype(np.float32))


def _no_band_empty(weights: NDArray[np.floating], rate: int, window: int) -> Tensor:
    empty = np.flatnonzero(weights.max(axis=1) <= 0)
    if empty.size:
        raise SpecError(
            f"{empty.size} of {len(weights)} bands are narrower than the bins of a window of {window} samples at "
            f"{rate} Hz and would hear nothing: use fewer bands or a longer window"
        )
    return torch.from_numpy(weights.astype(np.float32))
