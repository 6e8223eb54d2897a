from __future__ import annotations

import numpy as np
import pytest
import torch

from soundmark.encoders.pooling import STATISTICS, Pooling
from soundmark.errors import SpecError

FRAMES = torch.randn(3, 41, 5, generator=torch.Generator().manual_seed(0)) * 10 - 40
ROWS = FRAMES.numpy().astype(np.float64)


def _covariance(rows):
    return np.array([np.cov(clip.T, ddof=0)[np.triu_indices(rows.shape[2])] for clip in rows])


def _modulation(rows):
    """Magnitude of the spectrum over time under a Hann window, averaged in octaves of the frame rate, in logarithms."""
    frames = rows.shape[1]
    hann = np.sin(np.pi * (np.arange(frames) + 0.5) / frames) ** 2
    spectrum = np.fft.rfft((rows - rows.mean(1, keepdims=True)) * hann[:, None], axis=1)
    cycles = np.fft.rfftfreq(frames)
    octaves = [(cycles <= 0.5**octave) & (cycles > 0.5 ** (octave + 1)) for octave in range(1, 9)]
    means = [np.abs(spectrum[:, octave]).mean(1) if octave.any() else 0 * rows[:, 0] for octave in octaves]
    return np.log(np.concatenate(means, axis=1) * 2 / frames + 0.1)


EXPECTED = {
    "mean": ROWS.mean(1),
    "scene": ROWS.mean(1),
    "max": ROWS.max(1),
    "min": ROWS.min(1),
    "std": ROWS.std(1),
    "p0": np.percentile(ROWS, 0, axis=1),
    "p10": np.percentile(ROWS, 10, axis=1),
    "p50": np.median(ROWS, axis=1),
    "p97.5": np.percentile(ROWS, 97.5, axis=1),
    "p100": np.percentile(ROWS, 100, axis=1),
    "dmean": np.abs(np.diff(ROWS, axis=1)).mean(1),
    "dstd": np.diff(ROWS, axis=1).std(1),
    "modulation": _modulation(ROWS),
    "cov": _covariance(ROWS),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_statistics_are_numpys(name):
    np.testing.assert_allclose(Pooling(name)(FRAMES), EXPECTED[name], rtol=2e-5, atol=1e-4)


def test_every_statistic_is_tested():
    assert set(STATISTICS) <= set(EXPECTED)


def test_joined_in_the_order_of_the_names():
    text = "+".join(EXPECTED)
    pooling = Pooling(text)
    assert pooling.names == tuple(EXPECTED)
    assert pooling.text == text
    vectors = pooling(FRAMES)
    assert vectors.shape == (3, pooling.output_dim(5))
    assert torch.equal(vectors, torch.cat([Pooling(name)(FRAMES) for name in EXPECTED], dim=1))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_few_frames(frames):
    rows = FRAMES[:, :frames]
    for name in EXPECTED:
        vectors = Pooling(name)(rows)
        assert torch.isfinite(vectors).all(), name
        if frames == 1 and name in ("std", "dmean", "dstd", "cov"):
            assert not vectors.any(), name
        if frames == 1 and name in ("mean", "max", "min", "p10", "p50", "p100"):
            assert torch.equal(vectors, rows[:, 0]), name


def test_aliases_and_spelling():
    assert Pooling("percentiles").names == ("p5", "p25", "p50", "p75", "p95")
    assert Pooling(" mean + p05.0").text == "mean+p5"


@pytest.mark.parametrize("text", ["", "median", "p101", "p", "mean+", "mean,std", "Mean", "p1e1"])
def test_unknown_statistics_are_refused(text):
    with pytest.raises(SpecError, match=r"there is no statistic .* there are: mean"):
        Pooling(text)


@pytest.mark.parametrize("text", ["mean+std+mean", "percentiles+p50", "p5+p5.0"])
def test_a_statistic_stands_once(text):
    with pytest.raises(SpecError, match="twice"):
        Pooling(text)


def test_output_dim():
    assert Pooling("mean+std+p10").output_dim(64) == 192
    assert Pooling("mean+cov").output_dim(20) == 20 + 210
    assert Pooling("modulation").output_dim(20) == 160
    with pytest.raises(SpecError, match="cov of 1025"):
        Pooling("cov").output_dim(1025)


def test_feature_names_follow_the_vector():
    pooling = Pooling("mean+cov+p10")
    names = pooling.feature_names(["a", "b"])
    assert names == (
        "mean of a",
        "mean of b",
        "cov of a and a",
        "cov of a and b",
        "cov of b and b",
        "p10 of a",
        "p10 of b",
    )
    assert len(names) == pooling.output_dim(2)
    names = Pooling("modulation").feature_names(["a", "b"])
    assert names[:3] == ("modulation octave 1 of a", "modulation octave 1 of b", "modulation octave 2 of a")


def test_gradients_pass_through():
    frames = FRAMES.clone().requires_grad_()
    Pooling("+".join(EXPECTED))(frames).sum().backward()
    assert torch.isfinite(frames.grad).all()


def test_prints_what_it_does():
    assert "mean+max" in repr(Pooling("mean+max"))
