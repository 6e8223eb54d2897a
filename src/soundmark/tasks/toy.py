"""A synthesised task: ten sound classes made from formulas in seconds, to try things without a data set.

It is no benchmark: no microphone, room or street was near it. The sounds vary in pitch, tempo, level and background, so
that a classifier has something to do and still gets most of them right.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from soundmark import audio
from soundmark.errors import SpecError
from soundmark.files import cache_dir
from soundmark.spec import Spec, take
from soundmark.tasks.base import Clip, Task, fold_rounds

VERSION = 1  # of the formulas: changing what any clip sounds like raises it
SAMPLE_RATE = 16000
FOLDS, TAKES = 5, 2
DEFAULTS = {"clips": 20, "seconds": 1.5, "seed": 0}

Synthesiser = Callable[[np.random.Generator, np.random.Generator, int], np.ndarray]


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task; clips that are not in the cache yet are made.

    Settings: `clips` per class (4 to 200; ten or more make five folds), `seconds` of a clip (0.5 to 10), `seed`
    (another collection of the same kind). Two clips are takes of one recipe (the same siren, heard twice), and a
    recipe is a group.

    Raises:
        SpecError: if a setting is unknown or out of range.
    """
    settings = take(spec, DEFAULTS)
    count, seconds, seed = settings["clips"], settings["seconds"], settings["seed"]
    if not (4 <= count <= 200 and 0.5 <= seconds <= 10 and 0 <= seed < 2**31):
        raise SpecError(f"{spec}: clips should be 4 to 200, seconds 0.5 to 10, and seed 0 or more")
    root = cache_dir() / "data" / f"toy-{VERSION}-{count}x{seconds:g}s-seed{seed}"
    there = set(os.listdir(root)) if root.is_dir() else set()
    clips = []
    for label, number in itertools.product(SOUNDS, range(count)):
        recipe, name = number // TAKES, f"{label}-{number:03d}.wav"
        if name not in there:
            # Written whole or not at all, and every process makes the same bytes, so two may be at this at once.
            audio.write(root / name, synthesise(label, recipe, number % TAKES, seconds, seed), SAMPLE_RATE)
        clips.append(Clip(name, (label,), group=f"{label}-{recipe:03d}", fold=str(recipe % FOLDS + 1)))
    rounds = fold_rounds(clips)
    changed = {key: str(value) for key, value in settings.items() if value != DEFAULTS[key]}
    return Task(
        name=str(Spec("toy", settings=changed)),
        root=root,
        clips=tuple(clips),
        classes=tuple(SOUNDS),
        protocol=f"{len(rounds)} folds of synthesised clips",
        rounds=rounds,
        title="Toy (synthesised sounds)",
        licence="CC0 1.0",
        source=f"synthesised by Soundmark, version {VERSION} of the formulas",
        notes=("The sounds are synthesised; scores on them say nothing about real recordings.",),
    )


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Make the clips, unless they are there. They always go to the cache, and nothing is fetched."""
    return Path(load(spec).root)


def synthesise(label: str, recipe: int, number: int, seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """One clip: its recipe sets pitch and tempo, its take sets timing, level and background.

    Returns:
        (samples,) float32 in [-1, 1] at 16 kHz.
    """
    key = (seed, list(SOUNDS).index(label), recipe)
    voice, moment = np.random.default_rng(key), np.random.default_rng((*key, number + 1))
    samples = round(seconds * SAMPLE_RATE)
    sound = SOUNDS[label](voice, moment, samples)
    sound = sound / max(float(np.sqrt(np.mean(sound**2))), 1e-6)
    noise = coloured_noise(moment, samples, voice.uniform(0, 2))
    hum = np.sin(2 * np.pi * voice.choice([50.0, 60.0]) * voice.integers(1, 4) * _time(samples))
    background = noise / float(noise.std()) + moment.uniform(0, 0.7) * hum
    mixed = sound + background * 10 ** (-moment.uniform(6, 24) / 20)
    peak = 10 ** (-moment.uniform(1, 16) / 20)
    return np.asarray(mixed / np.abs(mixed).max() * peak, dtype=np.float32)


def coloured_noise(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Gaussian noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20.0)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), samples)


def _time(samples: int) -> np.ndarray:
    return np.arange(samples) / SAMPLE_RATE


def _tone(frequency: np.ndarray | float, samples: int, phase: float = 0.0) -> np.ndarray:
    """A sine whose frequency in Hz may move."""
    turns = np.cumsum(np.broadcast_to(np.asarray(frequency, dtype=float), samples)) / SAMPLE_RATE
    return np.asarray(np.sin(2 * np.pi * (turns + phase)))


def _swing(rate: float, moment: np.random.Generator, samples: int) -> np.ndarray:
    """A slow sine of `rate` Hz, begun anywhere."""
    return _tone(rate, samples, moment.uniform())


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    """`sound` between two frequencies in Hz, with slopes of an octave."""
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), 1.0)
    gain = 1 / (1 + (low / frequency) ** 4) / (1 + (frequency / high) ** 4)
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))


def _place(events: list[tuple[float, np.ndarray]], samples: int) -> np.ndarray:
    """Events, each at its second, added up; what reaches past the end is cut."""
    sound = np.zeros(samples)
    for second, event in events:
        start = round(second * SAMPLE_RATE)
        piece = event[: max(samples - start, 0)]
        sound[start : start + len(piece)] += piece
    return sound


def _beat(rng: np.random.Generator, period: float, samples: int, jitter: float) -> list[float]:
    """Seconds of a pulse of `period` seconds, each moved by up to `jitter` periods."""
    seconds = np.arange(rng.uniform(0, 0.8) * period, samples / SAMPLE_RATE, period)
    return [max(0.0, float(second + rng.uniform(-jitter, jitter) * period)) for second in seconds]


def siren(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """A tone with overtones that rises and falls, or jumps between two pitches."""
    centre, depth, rate = voice.uniform(600, 1200), voice.uniform(0.15, 0.45), voice.uniform(0.5, 3.0)
    swing = _swing(rate, moment, samples)
    if voice.uniform() < 0.4:
        swing = np.tanh(12 * swing)
    pitch = centre * 2 ** (depth * swing)
    return sum((_tone(pitch * n, samples) / n ** voice.uniform(1, 2) for n in (1, 2, 3)), np.zeros(samples))


def beeps(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Slow pure tones of one pitch."""
    pitch, length = voice.uniform(500, 2800), voice.uniform(0.08, 0.3)
    size = round(length * SAMPLE_RATE)
    tone = _tone(pitch, size) * np.minimum(1, 40 * np.minimum(_time(size), _time(size)[::-1]))
    period = length + voice.uniform(0.15, 0.6)
    return _place([(second, tone) for second in _beat(moment, period, samples, 0.02)], samples)


def knocks(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Quick groups of short, dull strokes on wood."""
    size = round(0.12 * SAMPLE_RATE)
    body, decay = voice.uniform(150, 500), voice.uniform(30, 80)
    stroke = np.exp(-decay * _time(size)) * (
        _tone(body, size) + 0.6 * _tone(body * voice.uniform(1.5, 2.6), size)
    ) + 0.5 * _band(moment.standard_normal(size), 300, 2500) * np.exp(-3 * decay * _time(size))
    period = voice.uniform(0.13, 0.3)
    beats = [second for n, second in enumerate(_beat(moment, period, samples, 0.06)) if n % 6 < 4]
    return _place([(second, stroke * moment.uniform(0.5, 1)) for second in beats], samples)


def rain(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """A steady hiss with many small drops."""
    hiss = _band(
        coloured_noise(moment, samples, voice.uniform(0, 0.8)), voice.uniform(300, 1200), voice.uniform(4e3, 8e3)
    )
    size = round(0.01 * SAMPLE_RATE)
    drops = moment.poisson(voice.uniform(60, 400) * samples / SAMPLE_RATE)
    ticks = [
        (second, moment.exponential() * moment.standard_normal(size) * np.exp(-500 * _time(size)))
        for second in moment.uniform(0, samples / SAMPLE_RATE, drops)
    ]
    return hiss / float(hiss.std()) + 2 * voice.uniform(0.3, 1.5) * _place(ticks, samples)


def chirps(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Phrases of short, steep sweeps, as birds sing."""
    base, span, length = voice.uniform(2000, 4200), voice.uniform(-0.7, 0.7), voice.uniform(0.04, 0.14)
    size = round(length * SAMPLE_RATE)
    shape = np.hanning(size)
    events = []
    for n, second in enumerate(_beat(moment, length + voice.uniform(0.03, 0.2), samples, 0.15)):
        if n % 7 < 5:
            pitch = base * moment.uniform(0.85, 1.15) * 2 ** (span * np.linspace(-1, 1, size))
            events.append((second, shape * _tone(np.minimum(pitch, 7500), size) * moment.uniform(0.4, 1)))
    return _place(events, samples)


def engine(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """A low harmonic hum whose speed drifts, with the noise of its strokes."""
    base = voice.uniform(35, 140) * (1 + 0.08 * _swing(voice.uniform(0.1, 0.8), moment, samples))
    weights = voice.uniform(0.2, 1, 12) / np.arange(1, 13) ** voice.uniform(0.3, 1.2)
    hum = sum((w * _tone(base * (n + 1), samples) for n, w in enumerate(weights)), np.zeros(samples))
    strokes = np.maximum(0, _tone(base / 2, samples)) ** 4
    growl: np.ndarray = strokes * _band(moment.standard_normal(samples), 100, 3000)
    return hum + voice.uniform(0.2, 1.5) * growl


def alarm_clock(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Bursts of quick, buzzing pulses of a high tone with odd overtones."""
    pitch, rate = voice.uniform(1500, 3200), voice.uniform(7, 14)
    gate = (_swing(rate, moment, samples) > 0) & (_swing(voice.uniform(0.8, 2), moment, samples) > -0.4)
    return np.asarray(gate * (_tone(pitch, samples) + voice.uniform(0.1, 0.5) * _tone(min(3 * pitch, 7800), samples)))


def wind(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Low noise that swells, with a faint moving whistle."""
    gust = 1 + 0.8 * _swing(voice.uniform(0.2, 1.2), moment, samples)
    noise = _band(coloured_noise(moment, samples, voice.uniform(0.6, 1.6)), 60, voice.uniform(400, 2500))
    whistle = _band(moment.standard_normal(samples), 400, 900) * gust
    swell: np.ndarray = gust * noise / float(noise.std())
    return swell + voice.uniform(0, 0.4) * whistle


def footsteps(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Pairs of noisy thuds at walking or running pace."""
    size = round(0.15 * SAMPLE_RATE)
    grit, weight = voice.uniform(600, 4000), voice.uniform(60, 140)
    events = []
    for n, second in enumerate(_beat(moment, voice.uniform(0.25, 0.6), samples, 0.05)):
        thud = _tone(weight, size) * np.exp(-35 * _time(size))
        scrape = _band(moment.standard_normal(size), 150, grit) * np.exp(-voice.uniform(20, 25) * _time(size))
        events.append((second, (thud + (0.8 if n % 2 else 1.2) * scrape) * moment.uniform(0.7, 1)))
    return _place(events, samples)


def drips(voice: np.random.Generator, moment: np.random.Generator, samples: int) -> np.ndarray:
    """Single drops into water: a short tone that bends upwards."""
    size = round(0.09 * SAMPLE_RATE)
    base, bend = voice.uniform(700, 2200), voice.uniform(0.3, 1.0)
    events = []
    for second in _beat(moment, voice.uniform(0.2, 0.7), samples, 0.3):
        pitch = base * moment.uniform(0.8, 1.25) * 2 ** (bend * np.linspace(0, 1, size))
        events.append((second, _tone(pitch, size) * np.exp(-45 * _time(size)) * moment.uniform(0.5, 1)))
    return _place(events, samples)


SOUNDS: dict[str, Synthesiser] = {
    "siren": siren,
    "beeps": beeps,
    "knocks": knocks,
    "rain": rain,
    "chirps": chirps,
    "engine": engine,
    "alarm_clock": alarm_clock,
    "wind": wind,
    "footsteps": footsteps,
    "drips": drips,
}
