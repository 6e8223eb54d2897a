"""What other people's encoders do not say of themselves, found out by listening; and windows for those of one length.

A stranger's network states neither its hop nor how short a clip it takes, and often it takes one length only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from soundmark.errors import SoundmarkError, SpecError

SHORTEST = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds that are tried, one after the other, for the shortest clip that an encoder takes."""

_STEPS = 4  # frames over which a hop is measured, so that hops of quarters of a sample come out too


def noise(samples: int, clips: int = 1) -> Tensor:
    """(clips, samples) of quiet white noise, always the same."""
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(samples))


def shortest(listen: Callable[[Tensor], Tensor], rate: int, name: str) -> float:
    """Seconds of the shortest clip, of those in `SHORTEST`, from which `listen` makes a frame.

    Args:
        listen: (1, samples) waveforms to (1, frames, dim) frames; may raise anything where a clip is too short.
        rate: Hz.
        name: of the encoder, for the error.

    Raises:
        SpecError: if it takes none of them; the message holds what it says about the longest.
    """
    said = "it gives no frames"
    for seconds in SHORTEST:
        try:
            if listen(noise(round(seconds * rate))).shape[1]:
                return seconds
        except SoundmarkError:
            raise
        except Exception as error:  # code of strangers: no telling what it raises
            said = first_line(error)
    raise SpecError(f"{name} cannot listen, not even to {SHORTEST[-1]:g} s of noise at {rate} Hz: {said}")


def hop_samples(count: Callable[[int], int], rate: int, start: int) -> float:
    """Samples between frames, measured by where clips of growing length gain frames; 0 if they hardly do.

    Args:
        count: samples of a clip to the number of its frames, which never falls.
        rate: Hz.
        start: samples of the shortest clip to count the frames of.
    """
    few = count(start)
    for span in (2 * rate, 20 * rate):
        gained = count(start + span) - few
        if gained > 1:
            break
    else:
        return 0.0

    def gains(frames: int, low: int, high: int) -> int:
        """Fewest samples, in (low, high], that make so many frames."""
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if count(middle) >= frames else (middle, high)
        return high

    steps, step = min(_STEPS, gained - 1), math.ceil(span / gained) + 1
    first = gains(few + 1, start, min(start + 2 * step, start + span))
    last = gains(few + 1 + steps, first, min(first + (steps + 1) * step, start + span))
    return (last - first) / steps


def windows(waveforms: Tensor, window: int, advance: int, shortest: int = 1) -> Iterator[Tensor]:
    """Parts of (batch, samples) clips for a listener that takes `window` samples at most.

    The last part is as short as what is left of the clip, or filled up to `shortest` with silence.

    Args:
        waveforms: (batch, samples).
        window: samples of a part.
        advance: samples between the beginnings of parts, at most `window`.
        shortest: samples that a part has at least.
    """
    for begin in range(0, waveforms.shape[1], advance):
        part = waveforms[:, begin : begin + window]
        yield nn.functional.pad(part, (0, max(0, shortest - part.shape[1])))


def end_to_end(parts: Sequence[Tensor], advance: int, hop: float, samples: int) -> Tensor:
    """Frames of whole clips from those of their windows; frames that would begin after the clip's end are left out.

    Args:
        parts: (batch, frames, dim) of each window; what reaches into the next one is dropped.
        advance: samples between the beginnings of windows, a whole number of hops.
        hop: samples between frames.
        samples: length of the clips.
    """
    kept = max(1, round(advance / hop))
    return torch.cat([part[:, :kept] for part in parts], dim=1)[:, : math.ceil(samples / hop - 1e-6)]


def digest(values: Mapping[str, object]) -> str:
    """A short name for tensors and settings, by which equal ones are known to be equal: 32 hexadecimal digits."""
    sum_up = hashlib.blake2b(digest_size=16)
    for name, value in sorted(values.items()):
        sum_up.update(name.encode())
        if isinstance(value, Tensor):
            sum_up.update(f"{value.dtype}{tuple(value.shape)}".encode())
            plain = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            sum_up.update(plain)  # type: ignore[arg-type]  # arrays are buffers
        else:
            sum_up.update(repr(value).encode())
    return sum_up.hexdigest()


def first_line(error: BaseException) -> str:
    """What an exception of someone else's code says, in one line."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
