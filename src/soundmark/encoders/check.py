"""The encoder contract, executable: what every encoder must do before anything is measured with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from soundmark import encoders
from soundmark.encoders.base import Encoder
from soundmark.errors import SoundmarkError


class ContractError(SoundmarkError, AssertionError):
    """An encoder or a network breaks its contract; the message lists every way in which it does."""


@dataclass(frozen=True)
class Report:
    """What an encoder that keeps the contract turned out to be.

    Attributes:
        spec: its name.
        dim: components of a frame.
        frames_per_second: how many frames a second of sound has.
        milliseconds: time it took for 5 s of sound, alone, on the threads there are.
        checks: what was checked.
    """

    spec: str
    dim: int
    frames_per_second: float
    milliseconds: float
    checks: tuple[str, ...]


def check_encoder(encoder: Encoder, *, tolerance: float = 1e-6) -> Report:
    """Check everything that the rest of Soundmark takes for granted about an encoder.

    Args:
        encoder: any encoder, ours or yours.
        tolerance: how far, relative L2, a clip's frames may differ with other clips beside it.

    Raises:
        ContractError: listing all that is wrong.
    """
    faults = [f"attributes: {fault}" for fault in _attributes(encoder)]
    if faults:  # without these nothing else can be asked
        raise ContractError(_message(encoder, faults))
    state = {name: value.clone() for name, value in _state(encoder).items()}
    modes = (encoder.training, torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state())
    with torch.no_grad():
        for name, check in _CHECKS.items():
            try:
                faults += [f"{name}: {fault}" for fault in check(encoder, tolerance)]
            except Exception as error:  # an encoder may raise anything, and the others are still to be checked
                faults.append(f"{name}: raised {type(error).__name__}: {error}")
    after = (encoder.training, torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state())
    if not (modes[:3] == after[:3] and torch.equal(modes[3], after[3])):
        faults.append("state: listening changes the training mode, gradients, threads or random numbers")
    now = _state(encoder)
    if state.keys() != now.keys() or not all(torch.equal(state[name], now[name]) for name in state):
        faults.append("state: listening changes the encoder's parameters or buffers")
    if faults:
        raise ContractError(_message(encoder, faults))
    return Report(
        encoder.spec,
        encoder.dim,
        1.0 / encoder.hop_seconds,
        _milliseconds(encoder),
        ("attributes", *_CHECKS, "state"),
    )


def _message(encoder: Encoder, faults: list[str]) -> str:
    name = getattr(encoder, "spec", type(encoder).__name__)
    return f"the encoder {name} breaks the contract in {len(faults)} way(s):\n" + "\n".join(
        f"  - {fault}" for fault in faults
    )


def _attributes(encoder: Encoder) -> Iterator[str]:
    wanted: dict[str, Callable[[object], bool]] = {
        "spec": lambda value: isinstance(value, str) and bool(value),
        "sample_rate": lambda value: isinstance(value, int) and value > 0,
        "dim": lambda value: isinstance(value, int) and value > 0,
        "hop_seconds": lambda value: isinstance(value, float) and 0 < value < math.inf,
        "min_seconds": lambda value: isinstance(value, int | float) and 0 <= value <= 600,
        "feature_names": lambda value: isinstance(value, tuple) and all(isinstance(name, str) for name in value),
        "exportable": lambda value: isinstance(value, bool),
    }
    for name, fits in wanted.items():
        value = getattr(encoder, name, None)
        if not fits(value):
            yield f"{name} is {value!r}"
    names = getattr(encoder, "feature_names", None) or ()
    if names and len(names) != getattr(encoder, "dim", None):
        yield f"there are {len(names)} feature_names for a dim of {getattr(encoder, 'dim', None)}"
    if len(set(names)) < len(names):
        yield "feature_names holds a name twice"


def _frozen(encoder: Encoder, _: float) -> Iterator[str]:
    if encoder.training:
        yield "it is in training mode: call eval()"
    learning = [name for name, value in encoder.named_parameters() if value.requires_grad]
    if learning:
        yield f"parameters require gradients: {', '.join(learning[:5])}"
    if encoder.encode(_noise(encoder, encoder.min_samples)).requires_grad:
        yield "frames require gradients"


def _shapes(encoder: Encoder, _: float) -> Iterator[str]:
    rate, counts = encoder.sample_rate, {}
    for seconds in (encoder.min_seconds, encoder.min_seconds + 0.05, 0.7, 1.0, 1.37, 2.5):
        samples = max(encoder.min_samples, 1, round(seconds * rate))
        frames = encoder.encode(_noise(encoder, samples, clips=2))
        if frames.dim() != 3 or frames.shape[0] != 2 or frames.shape[1] < 1 or frames.shape[2] != encoder.dim:
            yield f"{samples} samples give the shape {tuple(frames.shape)}, not (2, frames, {encoder.dim})"
        elif frames.dtype != torch.float32:
            yield f"frames are {frames.dtype}, not float32"
        else:
            counts[samples] = frames.shape[1]
    if counts:
        # Encoders pad in their own ways, which shifts the count; only its growth tells the hop.
        grown = counts[max(counts)] - counts[min(counts)]
        expected = (max(counts) - min(counts)) / rate / encoder.hop_seconds
        if abs(grown - expected) > 2:
            yield f"a hop of {encoder.hop_seconds:g} s means {expected:.1f} more frames, but there were {grown}"


def _finite(encoder: Encoder, _: float) -> Iterator[str]:
    samples = max(encoder.min_samples, encoder.sample_rate)
    for name, waveform in signals(samples, encoder.sample_rate).items():
        frames = encoder.encode(waveform[None])
        if not torch.isfinite(frames).all():
            yield f"{name} gives frames that are not finite"


def _deterministic(encoder: Encoder, _: float) -> Iterator[str]:
    waveforms = _noise(encoder, max(encoder.min_samples, encoder.sample_rate), clips=2)
    before = waveforms.clone()
    if not torch.equal(encoder.encode(waveforms), encoder.encode(waveforms)):
        yield "the same clip gives other frames the second time"
    if not torch.equal(encoder(waveforms), encoder.encode(waveforms)):
        yield "calling it differs from encode"
    if not torch.equal(before, waveforms):
        yield "it changes the waveforms it is given"


def _neighbours(encoder: Encoder, tolerance: float) -> Iterator[str]:
    clips = signals(max(encoder.min_samples, encoder.sample_rate), encoder.sample_rate)
    together = encoder.encode(torch.stack(list(clips.values())))
    for (name, waveform), frames in zip(clips.items(), together, strict=True):
        alone = encoder.encode(waveform[None])[0]
        difference = float((frames - alone).norm() / alone.norm().clamp_min(1e-12))
        if not difference <= tolerance:
            yield f"frames of {name} change by {difference:.1e} (relative L2) with other clips in the batch"


def _short(encoder: Encoder, _: float) -> Iterator[str]:
    brief = torch.full((max(1, encoder.min_samples // 3),), 0.1)
    filled = encoder.policy.prepare(brief.numpy(), encoder.sample_rate)
    frames = encoder.encode(torch.from_numpy(filled)[None])
    if not (frames.shape[1] >= 1 and torch.isfinite(frames).all()):
        yield "a short clip, filled as its policy says, gives no frames or frames that are not finite"
    if encoder.min_samples > 1 and not _refuses(encoder, torch.zeros(1, encoder.min_samples - 1)):
        yield f"it takes clips shorter than its min_seconds of {encoder.min_seconds:g} without a SoundmarkError"
    if not _refuses(encoder, torch.zeros(max(encoder.min_samples, encoder.sample_rate))):
        yield "it takes a waveform without a batch without a SoundmarkError"


def _refuses(encoder: Encoder, waveforms: Tensor) -> bool:
    try:
        encoder.encode(waveforms)
    except SoundmarkError:
        return True
    except Exception:  # refused, but not in words meant for a user
        return False
    return False


def _canonical(encoder: Encoder, _: float) -> Iterator[str]:
    names = [part.partition("?")[0].partition("@")[0].partition(":")[0] for part in encoder.spec.split("+")]
    if not set(names) <= {*encoders.ENCODERS, *encoders.ADAPTERS}:
        return  # not ours to load by name
    again = encoders.load(encoder.spec)
    if again.spec != encoder.spec:
        yield f"loading its spec gives the spec {again.spec}"
    waveform = _noise(encoder, max(encoder.min_samples, encoder.sample_rate // 2))
    if not torch.equal(again.encode(waveform), encoder.encode(waveform)):
        yield "loading its spec gives other frames"


_CHECKS: dict[str, Callable[[Encoder, float], Iterator[str]]] = {
    "frozen": _frozen,
    "shapes": _shapes,
    "finite": _finite,
    "deterministic": _deterministic,
    "neighbours": _neighbours,
    "short clips": _short,
    "canonical spec": _canonical,
}


def _state(encoder: Encoder) -> dict[str, Tensor]:
    return {name: value for group in (encoder.named_parameters(), encoder.named_buffers()) for name, value in group}


def _noise(encoder: Encoder, samples: int, clips: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 0.1 * torch.randn(clips, max(1, samples), generator=generator)


def signals(samples: int, rate: int) -> dict[str, Tensor]:
    """One clip of each kind that has broken a listener somewhere, each (samples,) float32 at `rate` Hz."""
    generator = torch.Generator().manual_seed(0)
    clicks = torch.zeros(samples)
    clicks[:: max(1, rate // 4)] = 1.0
    time_axis = torch.arange(samples) / rate
    noise = torch.randn(samples, generator=generator)
    return {
        "silence": torch.zeros(samples),
        "noise": (0.1 * noise).clamp(-1, 1),
        "noise below 16 bits": 1e-6 * noise,
        "clicks": clicks,
        "a full-scale square wave": torch.sign(torch.sin(2 * math.pi * 110.0 * time_axis) + 1e-6),
        "a constant": torch.full((samples,), 0.5),
        "a burst in silence": torch.where(time_axis < time_axis[-1] / 4, 0.5 * noise.clamp(-1, 1), 0.0),
    }


def _milliseconds(encoder: Encoder) -> float:
    waveform = _noise(encoder, max(encoder.min_samples, 5 * encoder.sample_rate))
    with torch.no_grad():
        took = []
        for _ in range(3):
            start = time.perf_counter()
            encoder.encode(waveform)
            took.append(time.perf_counter() - start)
    return 1e3 * min(took)
