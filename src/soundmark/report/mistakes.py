"""The surest mistakes of a run, to be looked at and listened to."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import matplotlib as mpl
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from soundmark import audio
from soundmark.errors import SoundmarkError
from soundmark.results import Predictions

MOST = 12
RATE = 22_050
SECONDS = 10.0
LOWEST = 60.0
DYNAMIC_RANGE_DB = 70.0
_WINDOW = 1024
_COLUMNS, _ROWS = 480, 132


@dataclass(frozen=True)
class Sound:
    """A recording for the page: encoded sound and picture as data URIs, and the axes of the picture.

    Attributes:
        audio: the sound, mono.
        picture: its spectrogram, logarithmic in frequency and level.
        seconds: how much of the clip is there.
        whole: whether that is all of it.
        frequencies: (words, height as a share) of the frequency axis' labels.
    """

    audio: str
    picture: str
    seconds: float
    whole: bool
    frequencies: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Mistake:
    """A clip that was predicted wrongly, and surely so.

    Attributes:
        clip: its key.
        fold: in which it was tested.
        truth: the true class.
        guesses: the most probable classes and their probabilities, best first.
        truth_probability: what the true class was given.
        sound: None where the recording is not at hand.
    """

    clip: str
    fold: str
    truth: str
    guesses: tuple[tuple[str, float], ...]
    truth_probability: float
    sound: Sound | None


def surest(predictions: Predictions, root: Path | None, *, most: int = MOST) -> list[Mistake]:
    """The mistakes made with the highest probability: one of each group, and of each confused pair its share of
    them, or two.

    Args:
        predictions: of a run.
        root: folder that the clips' paths start from, or None where the recordings are not at hand.
        most: how many.
    """
    return [_mistake(predictions, i, root) for i in _positions(predictions, most)]


def _positions(predictions: Predictions, most: int) -> Iterator[int]:
    p, said = predictions.probabilities, predictions.predicted()
    wrong = np.flatnonzero(said != predictions.targets)
    order = wrong[np.argsort(-p[wrong, said[wrong]], kind="stable")]
    of_a_pair = max(2, most // (len(predictions.classes) * (len(predictions.classes) - 1)))
    groups: set[str] = set()
    pairs: Counter[tuple[int, int]] = Counter()
    for i in order.tolist():
        group, pair = predictions.groups[i], (int(predictions.targets[i]), int(said[i]))
        if group in groups or pairs[pair] >= of_a_pair:
            continue
        groups |= {group} if group else set()
        pairs[pair] += 1
        yield i
        if pairs.total() == most:
            return


def _mistake(predictions: Predictions, i: int, root: Path | None) -> Mistake:
    p, truth = predictions.probabilities[i], int(predictions.targets[i])
    best = np.argsort(-p, kind="stable")[:3]
    path, start, end = predictions.paths[i], predictions.starts[i], predictions.ends[i]
    return Mistake(
        clip=predictions.clips[i],
        fold=predictions.folds[i],
        truth=predictions.classes[truth],
        guesses=tuple((predictions.classes[c], float(p[c])) for c in best),
        truth_probability=float(p[truth]),
        sound=None if root is None else listen(root, path, start, end),
    )


def listen(root: Path, path: str, start: float = 0.0, end: float | None = None) -> Sound | None:
    """Make a clip's first seconds fit for the page; None where it cannot be read.

    Args:
        root: folder of the recordings; a path that leads out of it is not followed.
        path: the clip's file.
        start: its first second.
        end: its last second, None for the file's end.
    """
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    try:
        file = audio.find_audio(root / relative)
        if file is None:
            return None
        last = audio.info(file).duration if end is None else end
        waveform, _ = audio.read(file, RATE, start=start, end=min(last, start + SECONDS))
    except (SoundmarkError, OSError, ValueError):
        return None
    return Sound(
        audio=encoded(waveform),
        picture=_picture(waveform),
        seconds=len(waveform) / RATE,
        whole=last <= start + SECONDS,
        frequencies=tuple((f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz", _height(hz)) for hz in (200, 1000, 5000)),
    )


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def encoded(waveform: NDArray[np.float32], rate: int = RATE, compression: float | None = None) -> str:
    """Sound as a data URI: MP3, which every browser plays; Ogg Vorbis where this libsndfile cannot write MP3.

    Args:
        waveform: (samples,), clipped to [-1, 1].
        rate: its sample rate in Hz.
        compression: from 0, the largest, towards 1, the smallest; None for libsndfile's own choice.
    """
    mp3 = "MP3" in soundfile.available_formats()
    content = io.BytesIO()
    soundfile.write(
        content, np.clip(waveform, -1, 1), rate, format="MP3" if mp3 else "OGG", compression_level=compression
    )
    return _uri("audio/mpeg" if mp3 else "audio/ogg", content.getvalue())


def _height(hz: float) -> float:
    return math.log(hz / LOWEST) / math.log(RATE / 2 / LOWEST)


def spectrogram(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """Level over time and frequency for the eye, both logarithmic.

    Args:
        waveform: (samples,) at `RATE`.

    Returns:
        (132, up to 480) in [0, 1], the highest frequency first; 1 is the loudest point, 0 is 70 dB below it.
    """
    padded = np.pad(waveform, _WINDOW // 2)
    hop = max(_WINDOW // 8, math.ceil(len(waveform) / _COLUMNS))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)).T ** 2
    wanted = np.geomspace(RATE / 2, LOWEST, _ROWS) * _WINDOW / RATE
    below = np.minimum(wanted.astype(int), len(power) - 2)
    part = (wanted - below)[:, None]
    level = (1 - part) * power[below] + part * power[below + 1]
    decibels: NDArray[np.float64] = 10 * np.log10(np.maximum(level, 1e-12) / max(float(level.max()), 1e-9))
    return np.asarray(np.clip(1 + decibels / DYNAMIC_RANGE_DB, 0, 1))


def _picture(waveform: NDArray[np.float32]) -> str:
    colours = (mpl.colormaps["magma"](spectrogram(waveform))[:, :, :3] * 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(colours).resize((_COLUMNS, _ROWS)).save(content, format="JPEG", quality=80)
    return _uri("image/jpeg", content.getvalue())
