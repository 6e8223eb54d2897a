"""Windows over sound that goes on: those of a recording, however the blocks come; gaps; memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from soundmark import audio, model
from soundmark.audio.live import LiveWindows
from soundmark.audio.waveforms import Resampler, Window
from soundmark.errors import AudioError


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def cut(sound: np.ndarray, rate: int, blocks: list[int], target: int, window: float, hop: float) -> list[Window]:
    live, said, first, turn = LiveWindows(target, window, hop), [], 0, 0
    while first < len(sound):
        part = sound[first : first + blocks[turn % len(blocks)]]
        said += live.push(part, rate, first / rate)
        first, turn = first + len(part), turn + 1
    return said + live.finish()


@pytest.mark.parametrize("samples", [300, 8000, 8001, 8079, 8081, 19_999, 40_000])
@pytest.mark.parametrize(("rate", "hop"), [(8000, 0.3), (8000, 1.0), (11_025, 0.25)])
def test_windows_are_those_of_a_recording(
    tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, samples: int, rate: int, hop: float
) -> None:
    sound = noise(samples * rate // 8000)
    heard: list[np.ndarray] = []
    classifier = model.load(tiny_model())
    monkeypatch.setattr(
        model.Classifier, "predict_proba", lambda self, rows: heard.extend(rows) or np.zeros((len(rows), 2))
    )
    wanted = [(start, end) for start, end, _ in classifier.windows((sound, rate), 1.0, hop)]
    found = cut(sound, rate, [700, 1, 2500], 8000, 1.0, hop)
    assert [(window.start, window.end) for window in found] == wanted
    for window, waveform in zip(found, heard, strict=True):
        np.testing.assert_allclose(window.waveform, waveform, atol=1e-6)


def test_a_gap_ends_what_was_before_and_times_go_on_behind_it() -> None:
    live = LiveWindows(1000, 1.0, 0.5)
    said = live.push(noise(1700), 1000, 0.0) + live.push(noise(1200), 1000, 5.0) + live.finish()
    spans = [(window.start, window.end) for window in said]
    assert spans == [(0.0, 1.0), (0.5, 1.5), (0.7, 1.7), (5.0, 6.0), (5.2, 6.2)]


def test_another_rate_is_a_gap_and_a_small_difference_of_clocks_is_none() -> None:
    live = LiveWindows(8000, 1.0, 1.0)
    assert live.push(noise(7200), 8000, 0.0) == []
    (short,) = live.push(noise(16_000), 16_000, 0.9)
    assert len(short.waveform) == 7200
    (whole,) = live.push(noise(16_000), 16_000, 1.92)  # the resampler keeps some back
    assert (whole.start, len(whole.waveform)) == (0.9, 8000)


def test_nothing_heard_is_no_window() -> None:
    live = LiveWindows(1000, 1.0, 0.5)
    assert live.finish() == []
    assert live.push(noise(0), 1000, 0.0) == []
    assert live.finish() == []


@pytest.mark.parametrize("rate", [1000, 44_100])
def test_memory_is_that_of_a_window(rate: int) -> None:
    live, most = LiveWindows(1000, 1.0, 0.5), 0
    for k in range(2000):
        live.push(noise(rate // 10), rate, k / 10)
        most = max(most, len(live._held))
    assert most <= 1000 + 500 + 100


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(AudioError, match="sample rate of 7"):
        LiveWindows(1000, 1.0, 0.5).push(noise(10), 7, 0.0)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44_100, 22_050), (8000, 44_100), (8000, 8000)])
def test_blocks_resampled_are_the_whole_resampled(from_rate: int, to_rate: int) -> None:
    sound = noise(from_rate)
    resampler = Resampler(from_rate, to_rate)
    parts = [resampler.push(part) for part in np.array_split(sound, 13)]
    whole = np.concatenate([*parts, resampler.finish()])
    np.testing.assert_allclose(whole, audio.resample(sound, from_rate, to_rate), atol=1e-6)
