"""Augmentations that could have happened in the air: gain, shift, noise, reverb, pitch and stretch.

Each has two versions that draw the same numbers from the same seed. On levels they are sums and moves of power, all
batched, with nothing but torch. On waveforms, gain, shift, noise and reverb are batched torch as well: a product, a
move, a sum and a convolution, which a library would do clip by clip. Pitch and stretch are left to audiomentations,
whose Signalsmith Stretch is better and quicker than a phase vocoder of ours would be; it takes the clips one by one, on
the CPU.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from soundmark.errors import MissingExtra, SpecError
from soundmark.networks.augment_base import Acoustic, Draw, moved, over
from soundmark.networks.ear import ear
from soundmark.networks.front import Front
from soundmark.spec import Spec


class Gain(Acoustic):
    """Louder or softer by up to `db`. Waveforms may leave [-1, 1]: clipping would be another sound."""

    defaults: ClassVar = {"db": 6.0}
    limits: ClassVar = {"db": (0.0, 60.0)}

    def _decibels(self, draw: Draw) -> Tensor:
        return draw.uniform(-self.given["db"], self.given["db"])

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        return waveforms * over(10.0 ** (self._decibels(draw) / 20.0), waveforms)

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        return heard * over(10.0 ** (self._decibels(draw) / 10.0), heard)


class Shift(Acoustic):
    """Earlier or later by up to `seconds`, 0 for anywhere. Whole frames on levels.

    What leaves at one end comes back at the other; with `cyclic=false` silence follows instead, and at least half of
    the clip stays.
    """

    defaults: ClassVar = {"seconds": 0.0, "cyclic": True}
    limits: ClassVar = {"seconds": (0.0, 3600.0)}

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.domain = "either" if self.given["cyclic"] else "power"

    def _shifted(self, heard: Tensor, per_second: float, draw: Draw) -> Tensor:
        size = heard.shape[1]
        most = min(self.given["seconds"] * per_second or math.inf, size / 2)
        offset = draw.uniform(-most, most).round().long()
        source = torch.arange(size, device=heard.device) - offset[:, None]
        found = moved(heard, source.remainder(size))
        if self.given["cyclic"]:
            return found
        inside = (source >= 0) & (source < size)
        return found * inside.reshape(*inside.shape, *[1] * (heard.dim() - 2))

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        return self._shifted(waveforms, rate, draw)

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        return self._shifted(heard, front.frames_per_second, draw)


class Noise(Acoustic):
    """White noise under the clip, from `snr` dB below its mean power to `most` dB below. Silence stays silent.

    On levels the noise is what the front end heard of real noise, so that it flickers as noise does; a random stretch
    of 20 seconds of it is added in power. Where sound and noise are equally strong they would also beat with each
    other, which power does not know.
    """

    defaults: ClassVar = {"snr": 10.0, "most": 40.0, "p": 0.5}
    limits: ClassVar = {"snr": (-30.0, 120.0), "most": (-30.0, 120.0)}

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        if self.given["snr"] > self.given["most"]:
            raise SpecError(
                f"snr={self.given['snr']:g} in '{spec}' lies above most={self.given['most']:g}: snr is the lowest "
                "signal-to-noise ratio in dB, and most the highest"
            )

    def _ratio(self, draw: Draw) -> Tensor:
        return 10.0 ** (-0.1 * draw.uniform(self.given["snr"], self.given["most"]))

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        power = waveforms.square().mean(1) * self._ratio(draw)
        return waveforms + power.sqrt()[:, None] * draw.apart().normal(waveforms.shape[1])

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        known = ear(front, heard.device)
        power = (heard.mean(1) @ known.loudness) * self._ratio(draw)
        count = len(known.noise)
        first = (draw.uniform(0.0, 1.0) * count).long()
        places = (first[:, None] + torch.arange(heard.shape[1], device=heard.device)).remainder(count)
        noise = known.noise.index_select(0, places.flatten()).view(heard.shape)
        return torch.addcmul(heard, noise, over(power, heard))


class Reverb(Acoustic):
    """A room: a tail that decays by 60 dB within up to `seconds`, with up to `wet` times the power of the sound itself.

    The room's response is the sound itself and exponentially decaying noise (Polack's model of late reverberation,
    without early reflections); the sum keeps the clip's power. On levels, power decays from frame to frame.
    """

    defaults: ClassVar = {"seconds": 0.5, "wet": 1.0, "p": 0.5}
    limits: ClassVar = {"seconds": (0.01, 10.0), "wet": (0.0, 100.0)}

    def _room(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Decay time in seconds, from a fifth of the longest on, and wetness."""
        seconds = self.given["seconds"]
        return draw.uniform(0.2 * seconds, seconds), draw.uniform(0.0, self.given["wet"])

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        seconds, wet = self._room(draw)
        size = max(2, min(round(self.given["seconds"] * rate), waveforms.shape[1]))
        times = torch.arange(size, device=waveforms.device) / rate
        tail = draw.apart().normal(size) * (-3.0 * math.log(10.0) * times / seconds[:, None]).exp()
        tail[:, 0] = 0.0  # there the sound itself stands
        tail = tail * (wet / tail.square().sum(1).clamp_min(1e-20)).sqrt()[:, None]
        tail[:, 0] = 1.0
        length = waveforms.shape[1] + size - 1
        step = 1 << max(0, length.bit_length() - 4)
        length = math.ceil(length / step) * step  # up to 16 times a power of two, which transforms are quick at
        spectrum = torch.fft.rfft(waveforms, length) * torch.fft.rfft(tail, length)
        echoing: Tensor = torch.fft.irfft(spectrum, length)[:, : waveforms.shape[1]]
        return echoing / (1.0 + wet).sqrt()[:, None]

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        seconds, wet = self._room(draw)
        decay = 10.0 ** (-6.0 / (front.frames_per_second * seconds))
        # The sum over decaying echoes, doubled in reach with every pass: five passes do for 32 frames, where a loop
        # from frame to frame would take as many as there are frames.
        tail, reach = heard * over(1.0 - decay, heard), 1
        wanted = min(heard.shape[1], 1.2 * self.given["seconds"] * front.frames_per_second)
        while reach < wanted:
            added = tail[:, :-reach] * over(decay**reach, heard)
            tail = torch.cat([tail[:, :reach], tail[:, reach:] + added], 1)
            reach *= 2
        return (heard + over(wet, heard) * tail) / over(1.0 + wet, heard)


class Pitch(Acoustic):
    """Higher or lower by up to `semitones`, at the same speed.

    On levels every band takes the power from where its pitch was, between two bands' centres in Hz; the ends are filled
    with what the last band holds.
    """

    defaults: ClassVar = {"semitones": 2.0}
    limits: ClassVar = {"semitones": (0.0, 24.0)}

    def _semitones(self, draw: Draw) -> Tensor:
        return draw.uniform(-self.given["semitones"], self.given["semitones"])

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        most = self.given["semitones"]
        transform = _audiomentations("pitch").PitchShift(-most, most, p=1.0)
        return _one_by_one(waveforms, rate, transform, "num_semitones", self._semitones(draw), lambda wave, clip: wave)

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        known = ear(front, heard.device)
        ratio = 2.0 ** (self._semitones(draw)[:, None] / 12.0)
        wanted = known.centres / ratio
        below = (torch.searchsorted(known.centres, wanted) - 1).clamp(0, heard.shape[2] - 2)
        low, high = known.centres[below], known.centres[below + 1]
        share = ((wanted - low) / (high - low)).clamp(0.0, 1.0)
        # Bands differ in width, and power spreads out with pitch: what moves is the density, in units of white noise.
        scale = known.white / ratio
        least = (1.0 - share) * scale / known.white[below]
        most = share * scale / known.white[below + 1]
        place = below[:, None].expand_as(heard)
        return torch.addcmul(heard.gather(2, place) * least[:, None], heard.gather(2, place + 1), most[:, None])


class Stretch(Acoustic):
    """Slower or faster by up to the share `by`, at the same pitch, in the same time.

    A slowed clip is cut to a random part. A quickened one begins anew where it ends, so that neither silence nor the
    share of time that is filled says how fast it was.

    On levels a moment between two frames is a blend of both, which flickers less than the frames of a whole clip do.
    With `frames=drawn` it is one of the two, by chance and the likelier the nearer, and flickers as much.
    """

    defaults: ClassVar = {"by": 0.2, "frames": "blended"}
    limits: ClassVar = {"by": (0.0, 0.5), "frames": ("blended", "drawn")}

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        if self.where == "waveform" and self.given["frames"] == "drawn":
            raise SpecError(
                f"'{spec}' stretches waveforms, which have no frames to draw: leave out frames or on=waveform"
            )

    def _speed(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Speed, above 1 for faster, and where in the spare part of a slowed clip to begin, from 0 to 1."""
        return draw.uniform(1.0 - self.given["by"], 1.0 + self.given["by"]), draw.uniform(0.0, 1.0)

    def on_waveforms(self, waveforms: Tensor, rate: int, draw: Draw) -> Tensor:
        """See `Augmentation.on_waveforms`."""
        speed, begin = self._speed(draw)
        by, size, share = self.given["by"], waveforms.shape[1], begin.cpu().numpy()
        transform = _audiomentations("stretch").TimeStretch(1.0 - by, 1.0 + by, leave_length_unchanged=False, p=1.0)

        def fitted(wave: np.ndarray, clip: int) -> np.ndarray:
            first = int(share[clip] * max(len(wave) - size, 0))
            return np.resize(wave[first:], size)  # repeats

        return _one_by_one(waveforms, rate, transform, "rate", speed, fitted)

    def on_levels(self, heard: Tensor, front: Front, draw: Draw) -> Tensor:
        """See `Augmentation.on_levels`."""
        speed, begin = self._speed(draw)
        count = heard.shape[1]
        spare = (count - 1) * (1.0 - speed).clamp_min(0.0)
        place = (begin * spare)[:, None] + torch.arange(count, device=heard.device) * speed[:, None]
        below = place.floor()
        first, share = below.long().remainder(count), place - below
        second = (first + 1).remainder(count)
        if self.given["frames"] == "drawn":
            return moved(heard, torch.where(draw.apart().uniform(0.0, 1.0, count) < share, second, first))
        return torch.lerp(moved(heard, first), moved(heard, second), share[:, :, None])


def _audiomentations(name: str) -> Any:
    try:
        return importlib.import_module("audiomentations")
    except ImportError:
        raise MissingExtra(
            f"{name}?on=waveform needs audiomentations: pip install 'soundmark[augment]', or leave on=waveform out: "
            "then spectrograms are augmented instead"
        ) from None


def _one_by_one(
    waveforms: Tensor, rate: int, transform: Any, key: str, values: Tensor, fitted: Callable[[np.ndarray, int], Any]
) -> Tensor:
    """Every clip through a transform of audiomentations, with our draws in place of its own global ones."""
    given, found = waveforms.detach().cpu().numpy(), []
    for clip, value in enumerate(values.tolist()):
        transform.parameters = {"should_apply": True, key: value}
        found.append(fitted(transform.apply(np.ascontiguousarray(given[clip], np.float32), rate), clip))
    return torch.from_numpy(np.stack(found).astype(given.dtype, copy=False)).to(waveforms.device)
