"""Augmentation to look at and listen to: spectrograms before and after as PNG, and the sound after as WAV.

The figures show exactly what a network would hear. What is done to a waveform is heard as it is. What is done to a
spectrogram has no waveform, so one is made that has about that spectrogram, in the way that spoils least:

- gain and shift: their versions on waveforms, with the same draws, which sound the same;
- filter: every bin of the transform is scaled as the bands around it are, and keeps its phase;
- masks, noise and reverb: where a band loses power its bins are scaled, and where it gains, noise is added;
- pitch, stretch and bandshift: bins by non-negative least squares from the bands, and phases by Griffin and Lim's
  method (librosa's). Bands know nothing of partials, so this sounds hoarse, as it would with no augmentation at all;
- mixtures: the two waveforms, with weights fitted to the power of the mixture.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundmark import audio
from soundmark.errors import MissingExtra, SpecError
from soundmark.files import atomic_path
from soundmark.frontends import mel_frequencies, mel_weights
from soundmark.networks.augment import AUGMENTATIONS, Augment, parse
from soundmark.networks.augment_base import Augmentation
from soundmark.networks.front import LogMel
from soundmark.networks.mixing import Mixing
from soundmark.spec import with_settings
from soundmark.tasks import show

MOST_SECONDS = 30.0
LEAST_SECONDS = 0.25
RATES = (8000, 192_000)
DECIBELS = 80.0
PLACES = {"waveform": 0, "levels": 1, "clips": 2}
_ITERATIONS = 32


@dataclass(frozen=True)
class Shot:
    """One augmentation of one recording.

    Attributes:
        name: of its files, without ending.
        text: the augmentation, as it was asked for.
        waveform: (samples,) float32, what it sounds like.
        levels: (frames, bands) dB, what a network hears.
        share: of the recording itself in the label, in percent; below 100 for mixtures.
    """

    name: str
    text: str
    waveform: np.ndarray
    levels: np.ndarray
    share: float


def draw(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], *, text: str = "", seed: int = 1,
    rate: int = 22050, partner: str | os.PathLike[str] | None = None,
) -> list[Path]:  # fmt: skip
    """Write what augmentations make of a recording: NAME.png and NAME.wav for each, and before.wav.

    Every one is done for certain, whatever its `p`. The waveforms share one scale, so they can be compared in loudness.

    Args:
        source: the recording; of a long one, the first 30 seconds.
        folder: where the files go.
        text: augmentations, drawn one by one and then all together (`all`); empty for every one there is, at its
            defaults.
        seed: of what they draw; every one begins with it anew.
        rate: Hz to hear it at; the front end is that of `cnn`, 64 mel bands every 20 ms.
        partner: what mixtures mix it with; without, the recording played backwards.

    Returns:
        The files written.

    Raises:
        AudioError: if a recording cannot be read.
        SpecError: for an augmentation that is unknown or out of bounds, or such a rate.
        MissingExtra: if audiomentations or librosa is needed and not installed.
    """
    front = _front(rate)
    chosen = _chosen(text)
    waveform = _read(source, rate)
    waveform = audio.fit(waveform, max(len(waveform), round(LEAST_SECONDS * rate)))
    other = _read(partner, rate) if partner is not None else waveform[::-1].copy()
    other = audio.fit(other, len(waveform), fill="loop")
    shots = [shot(name, augment, waveform, other, front, seed) for name, augment in chosen.items()]
    waves = {"before": waveform} | {each.name: each.waveform for each in shots}
    mixing = any(isinstance(part, Mixing) for augment in chosen.values() for part in augment.parts)
    if mixing:
        waves["with"] = other
    scale = min(1.0, 0.99 / max(1e-9, *(float(abs(wave).max()) for wave in waves.values())))
    written = []
    for name, wave in waves.items():
        written.append(Path(folder) / f"{name}.wav")
        audio.write(written[-1], wave * np.float32(scale), rate)
    heard = [front(torch.from_numpy(wave)[None])[0].numpy() for wave in (waveform, other)]
    with show._style():
        for each in shots:
            panels = [("before", heard[0]), ("with", heard[1]), (_after(each), each.levels)]
            if each.share == 100.0:
                panels.pop(1)
            written.append(Path(folder) / f"{each.name}.png")
            with atomic_path(written[-1]) as temporary:
                _figure(each.text, panels, front).savefig(temporary, dpi=160, metadata={"Software": None})
    return written


def shot(name: str, asked: Augment, waveform: np.ndarray, other: np.ndarray, front: LogMel, seed: int) -> Shot:
    """Augment one recording.

    Args:
        name: of the shot.
        asked: what is done, for certain, whatever its `p`.
        waveform: (samples,) float32 at the front end's rate.
        other: (samples,) for mixtures.
        front: what hears it.
        seed: of what is drawn.
    """
    augment = parse(with_settings(asked.text, p="1"))
    mixing = any(part.where == "clips" for part in augment.parts)
    waves = torch.from_numpy(np.stack([waveform, other] if mixing else [waveform]))
    with torch.no_grad():
        rng = torch.Generator().manual_seed(seed)
        levels = augment.on_levels(front(augment.on_waveforms(waves, front.sample_rate, rng)), front, rng)
        levels, labels = augment.mixed(levels, torch.eye(len(waves)), front, rng)
        rng, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
        for part in sorted(augment.parts, key=lambda part: PLACES[part.where]):
            waves = _audible(part, waves, front, rng, noise)
    return Shot(name, asked.text, waves[0].numpy(), levels[0].numpy(), 100.0 * float(labels[0, 0]))


def _chosen(text: str) -> dict[str, Augment]:
    """What to draw, by the names of its files."""
    whole = parse(text or "+".join(AUGMENTATIONS))
    found: dict[str, Augment] = {}
    seen: Counter[str] = Counter()
    for part in whole.parts:
        stem = f"{part.name}-waveform" if part.where == "waveform" else part.name
        seen[stem] += 1
        found[stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"] = Augment([part])
    if text and len(whole.parts) > 1:
        found["all"] = whole
    return found


def _front(rate: int) -> LogMel:
    if not RATES[0] <= rate <= RATES[1]:
        raise SpecError(f"a rate of {rate} Hz is out of bounds: it must lie from {RATES[0]} to {RATES[1]}")
    return LogMel(rate, 2 ** round(np.log2(0.046 * rate)), round(0.02 * rate), 64)


def _read(source: str | os.PathLike[str], rate: int) -> np.ndarray:
    length = audio.info(source).duration
    return audio.read(source, rate, end=min(MOST_SECONDS, length))[0]


def _audible(part: Augmentation, waves: Tensor, front: LogMel, rng: torch.Generator, noise: torch.Generator) -> Tensor:
    """(batch, samples) waveforms that sound as if `part` had been done to them; draws what it would draw."""
    alone = Augment([part])
    if part.where == "waveform":
        return alone.on_waveforms(waves, front.sample_rate, rng)
    if part.name in ("gain", "shift"):
        twin = parse(with_settings(part.text, on="waveform"))
        return twin.on_waveforms(waves, front.sample_rate, rng)
    before = front(waves)
    if part.where == "clips":
        after, _ = alone.mixed(before, torch.eye(len(waves)), front, rng)
        both = _mixture(waves, front.power(before), front.power(after))
        # The mean of levels is no sum of sounds: the nearest one is made louder and softer where it has to be.
        if part.domain == "power":
            return both
        return _louder_and_softer(both, front.power(front(both)), front.power(after), front, noise)
    after = alone.on_levels(before, front, rng)
    if part.name in ("pitch", "stretch", "bandshift"):
        return _rebuilt(front.power(after), front, waves.shape[1])
    if part.name == "filter":
        ratio = (front.power(after) + front.floor) / (front.power(before) + front.floor)
        return _inverse(_transform(waves, front) * _over_bins(ratio, front).sqrt(), front, waves.shape[1])
    return _louder_and_softer(waves, front.power(before), front.power(after), front, noise)


def _mixture(waves: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Sums of the waveforms whose power comes nearest to `after`, by least squares."""
    own = before.flatten(1).double()
    # Scaled, so that a clip whose power is a billionth of the other's still counts as a direction.
    size = own.norm(dim=1, keepdim=True).clamp_min(1e-30)
    weights: Tensor = torch.linalg.lstsq((own / size).T, after.flatten(1).double().T).solution / size
    return weights.T.clamp_min(0.0).sqrt().float() @ waves


def _louder_and_softer(waves: Tensor, before: Tensor, after: Tensor, front: LogMel, noise: torch.Generator) -> Tensor:
    """The waveforms, softer where a band has lost power, under noise of the power that it has gained."""
    kept = ((after + front.floor) / (before + front.floor)).clamp_max(1.0)
    gained = _over_bins((after - before).clamp_min(0.0) / _weights(front).sum(1), front)
    hiss = _transform(torch.randn(waves.shape, generator=noise), front)
    mean = front.spectrogram.hann.square().sum()
    sound = _transform(waves, front) * _over_bins(kept, front).sqrt() + hiss * (gained / mean).sqrt()
    return _inverse(sound, front, waves.shape[1])


def _rebuilt(power: Tensor, front: LogMel, samples: int) -> Tensor:
    """Waveforms of (batch, frames, bands) power, by librosa."""
    try:
        import librosa
    except ImportError:
        raise MissingExtra(
            "hearing pitch, stretch and bandshift of spectrograms needs librosa: pip install 'soundmark[augment]', or "
            "leave these out with --augment"
        ) from None
    found = []
    for clip in power.numpy():
        size = librosa.feature.inverse.mel_to_stft(
            clip.T, sr=front.sample_rate, n_fft=front.window, power=2.0, fmin=0.0, fmax=front.sample_rate / 2
        )
        wave = librosa.griffinlim(
            size, n_iter=_ITERATIONS, hop_length=front.hop, n_fft=front.window, length=samples, pad_mode="constant",
            random_state=0,
        )  # fmt: skip
        found.append(wave.astype(np.float32))
    return torch.from_numpy(np.stack(found))


def _weights(front: LogMel) -> Tensor:
    """(bands, bins) of the front end."""
    return mel_weights(front.sample_rate, front.window, front.bands, 0.0, front.sample_rate / 2)


def _over_bins(values: Tensor, front: LogMel) -> Tensor:
    """(batch, frames, bands) values, each bin taking the mean of the bands it counts in: (batch, bins, frames)."""
    weights = _weights(front)
    weights[0, :2] += 1e-6  # bins beyond the outermost bands go with these
    weights[-1, -2:] += 1e-6
    return (values @ (weights / weights.sum(0).clamp_min(1e-12))).transpose(1, 2)


def _transform(waves: Tensor, front: LogMel) -> Tensor:
    return torch.stft(
        waves, front.window, front.hop, front.window, front.spectrogram.hann, pad_mode="constant", return_complex=True
    )


def _inverse(spectrum: Tensor, front: LogMel, samples: int) -> Tensor:
    return torch.istft(spectrum, front.window, front.hop, front.window, front.spectrogram.hann, length=samples)


def _after(each: Shot) -> str:
    return "after" if each.share == 100.0 else f"after: {each.share:.0f} % before, {100 - each.share:.0f} % with"


def _figure(title: str, panels: Sequence[tuple[str, np.ndarray]], front: LogMel) -> Any:
    """Spectrograms side by side, on one scale of colours. All measures are inches."""
    left, right, top, bottom, gap, wide, high = 0.6, 0.75, 0.7, 0.5, 0.15, 3.6, 2.2
    width, height = left + len(panels) * (wide + gap) - gap + right, top + high + bottom
    figure = show._figure(width, height, constrained=False)
    figure.text(
        left / width,
        1 - 0.28 / height,
        show._short(title, 10 + 30 * len(panels)),
        weight="bold",
        fontsize=12,
        va="center",
    )
    loudest = max(float(levels.max()) for _, levels in panels)
    softest = max(loudest - DECIBELS, min(float(levels.min()) for _, levels in panels))
    marks = [mark for mark in (300, 1000, 3000, 10_000, 30_000) if mark < 0.48 * front.sample_rate]
    centres = mel_frequencies(front.bands, 0.0, front.sample_rate / 2)[1:-1]
    image = None
    for column, (name, levels) in enumerate(panels):
        x = left + column * (wide + gap)
        axes = figure.add_axes((x / width, bottom / height, wide / width, high / height))
        seconds = len(levels) * front.hop / front.sample_rate
        image = axes.imshow(
            levels.T, aspect="auto", origin="lower", cmap="magma", vmin=softest, vmax=max(loudest, softest + 1.0),
            extent=(0, seconds, -0.5, front.bands - 0.5), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(name, fontsize=9, fontweight="normal", color=show.MUTED, pad=4)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("seconds" if column == 0 else "")
        axes.set_yticks(np.interp(marks, centres, np.arange(front.bands)) if column == 0 else [])
        if column == 0:
            axes.set_yticklabels([f"{mark / 1000:g}k" if mark >= 1000 else str(mark) for mark in marks])
            axes.set_ylabel("Hz")
    bar = figure.add_axes(((width - right + 0.15) / width, bottom / height, 0.1 / width, high / height))
    figure.colorbar(image, cax=bar).outline.set_visible(False)
    bar.set_title("dB", fontsize=9, fontweight="normal", color=show.MUTED, pad=4, loc="center")
    return figure
