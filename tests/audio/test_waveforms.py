"""Resampling, fitting to a length, and the window policy."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark.audio.waveforms import Window, WindowPolicy, alike, fit, resample, resample_blocks
from soundmark.errors import AudioError, ModelError

quick = settings(max_examples=60, deadline=None, derandomize=True)
rates = st.sampled_from([100, 4000, 7999, 8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 192_000])


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


@quick
@given(samples=st.integers(1, 3000), from_rate=rates, to_rate=rates)
def test_resampled_length(samples: int, from_rate: int, to_rate: int) -> None:
    resampled = resample(noise(samples), from_rate, to_rate)
    assert resampled.dtype == np.float32
    assert len(resampled) == math.ceil(samples * to_rate / from_rate)


@quick
@given(samples=st.integers(1, 6000), from_rate=rates, to_rate=rates, block=st.integers(1, 2500))
def test_blocks_resample_as_the_whole(samples: int, from_rate: int, to_rate: int, block: int) -> None:
    waveform = noise(samples)
    blocks = (waveform[begin : begin + block] for begin in range(0, samples, block))
    streamed = np.concatenate(list(resample_blocks(blocks, from_rate, to_rate)))
    np.testing.assert_allclose(streamed, resample(waveform, from_rate, to_rate), atol=1e-6)


def test_no_blocks_resample_to_nothing() -> None:
    assert not sum(map(len, resample_blocks(iter([]), 8000, 16_000)))


def test_a_tone_stays_a_tone() -> None:
    times = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    np.testing.assert_allclose(resample(tone, 16_000, 22_050)[1000:-1000], expected[1000:-1000], atol=1e-4)


def test_equal_rates_change_nothing() -> None:
    waveform = noise(10)
    assert resample(waveform, 8000, 8000) is waveform


@pytest.mark.parametrize(("from_rate", "to_rate"), [(0, 8000), (8000, 0), (8000, 10**7), (8000.5, 8000), (-1, 8000)])
def test_impossible_rates_are_refused(from_rate: Any, to_rate: Any) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        resample(noise(10), from_rate, to_rate)


@quick
@given(
    samples=st.integers(1, 60),
    wanted=st.integers(1, 200),
    fill=st.sampled_from(["zero", "loop"]),
    position=st.sampled_from(["start", "centre"]),
)
def test_fit(samples: int, wanted: int, fill: Any, position: Any) -> None:
    waveform = np.arange(1, samples + 1, dtype=np.float32)
    fitted = fit(waveform, wanted, fill=fill, position=position)
    assert fitted.shape == (wanted,)
    assert fitted.dtype == np.float32
    spare = abs(samples - wanted) // 2 if position == "centre" else 0
    if samples >= wanted:
        np.testing.assert_array_equal(fitted, waveform[spare : spare + wanted])
        return
    np.testing.assert_array_equal(fitted[spare : spare + samples], waveform)
    around = np.concatenate([fitted[:spare], fitted[spare + samples :]])
    if fill == "zero":
        assert not around.any()
    else:  # one sample further on, it says the next thing, round and round
        np.testing.assert_array_equal(fitted[1:], fitted[:-1] % samples + 1)


@pytest.mark.parametrize(
    ("samples", "wanted", "words", "message"),
    [
        (0, 5, {}, "at least 1"),
        (5, 0, {}, "at least 1"),
        (5, -3, {}, "at least 1"),
        (5, 9, {"fill": "noise"}, "zero or loop"),
        (5, 9, {"position": "end"}, "start or centre"),
    ],
)
def test_impossible_fits_are_refused(samples: int, wanted: int, words: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        fit(noise(samples), wanted, **words)


def test_policy_fills_but_never_cuts() -> None:
    policy = WindowPolicy(min_seconds=0.5, fill="loop")
    assert len(policy.prepare(noise(10), 100)) == 50
    assert len(policy.prepare(noise(70), 100)) == 70
    assert len(WindowPolicy(min_seconds=0.5, window_seconds=0.8).prepare(noise(10), 100)) == 80
    assert len(WindowPolicy().prepare(noise(1), 100)) == 1
    assert len(WindowPolicy(min_seconds=0.0101).prepare(noise(1), 1000)) == 11
    assert len(WindowPolicy(min_seconds=0.7).prepare(noise(1), 10)) == 7, "no sample too many by rounding of 0.7 * 10"
    np.testing.assert_array_equal(policy.prepare(noise(20), 100)[20:40], noise(20))
    with pytest.raises(AudioError, match="at least 1"):
        policy.prepare(noise(0), 100)


def test_policy_as_plain_data() -> None:
    policy = WindowPolicy(0.5, 2.0, 1.0, "loop", "max")
    assert WindowPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
    assert WindowPolicy.from_dict({}) == WindowPolicy()


@pytest.mark.parametrize(
    "values",
    [
        {"min_seconds": -1},
        {"min_seconds": math.nan},
        {"window_seconds": math.inf},
        {"window_seconds": 601},
        {"window_seconds": 1e-9},
        {"hop_seconds": 1e-9, "window_seconds": 1},
        {"hop_seconds": "1"},
        {"hop_seconds": None},
        {"hop_seconds": True},
        {"hop_seconds": [1]},
        {"fill": "noise"},
        {"fill": ["zero"]},
        {"combine": "median"},
        {"combine": {}},
        {"surprise": 1},
        {7: 1},
        [],
        None,
        "policy",
        3.0,
    ],
)
def test_rubbish_is_no_policy(values: Any) -> None:
    with pytest.raises(ModelError, match="window policy"):
        WindowPolicy.from_dict(values)
    if isinstance(values, dict) and not set(values) - set(WindowPolicy().to_dict()):
        with pytest.raises(AudioError, match="window policy"):
            WindowPolicy(**values)


def test_windows_of_one_length_go_together():
    lengths = [5, 5, 5, 5, 3, 5, 7, 7, 7]
    windows = [Window(float(place), place + 1.0, np.zeros(length)) for place, length in enumerate(lengths)]
    groups = list(alike(windows, lambda samples: 2 if samples == 7 else 3))
    assert [[len(window.waveform) for window in group] for group in groups] == [[5, 5, 5], [5], [3], [5], [7, 7], [7]]
    assert [window.start for group in groups for window in group] == list(range(9))
    assert list(alike([], lambda samples: 1)) == []
