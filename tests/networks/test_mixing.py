"""Mixtures of clips: labels that sum to one, and weights that are heard as the labels say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augmented import FRONT, HEARD, QUICK, RATE, SOUNDS, always, rng, sounds
from soundmark.networks.augment import AUGMENTATIONS, parse
from soundmark.networks.mixing import Mix, loudest
from soundmark.spec import parse as spec

MIXTURES = [name for name, kind in AUGMENTATIONS.items() if kind.where == "clips"]


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("front", [FRONT, None])
@QUICK
@given(clips=st.integers(2, 7), p=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 2**31))
def test_labels_of_mixtures_sum_to_one(name, front, clips, p, seed):
    waves = sounds(clips, 0.1, seed)
    heard = waves if front is None else front(waves)
    before, targets = heard.clone(), torch.eye(clips)
    augment = always(name, p=p)
    after, labels = augment.mixed(heard, targets, front, rng(seed))
    assert torch.equal(heard, before)
    assert after.shape == heard.shape
    assert torch.isfinite(after).all()
    torch.testing.assert_close(labels.sum(1), torch.ones(clips))
    assert (labels >= 0).all()
    assert ((labels > 0).sum(1) <= 2).all()
    again, said = augment.mixed(heard, targets, front, rng(seed))
    assert torch.equal(again, after)
    assert torch.equal(said, labels)
    if p == 0:
        assert after is heard


@pytest.mark.parametrize("name", MIXTURES)
def test_a_share_of_the_clips_is_mixed_and_the_others_are_left(name):
    heard = HEARD[:, :5].repeat(200, 1, 1)
    targets = torch.eye(4).repeat(200, 1)
    after, labels = always(name, p=0.25, **({"alpha": 5} if name == "mixup" else {})).mixed(
        heard, targets, FRONT, rng()
    )
    # Every fourth partner is of the same class, and then the label tells nothing.
    mixed = (labels.amax(1) < 1).float().mean()
    assert mixed == pytest.approx(0.25 * 0.75, abs=0.05)
    left = labels.amax(1) == 1
    same = (after - heard).abs().amax((1, 2)) < 1e-3
    assert same[left].float().mean() > 0.7


def test_one_clip_alone_is_not_mixed():
    targets = torch.eye(1)
    heard, labels = parse("mix").mixed(HEARD[:1], targets, FRONT, rng())
    assert torch.equal(heard, HEARD[:1])
    assert labels is targets


@pytest.mark.parametrize("name", MIXTURES)
def test_everybody_is_mixed_with_somebody_else(name):
    targets = torch.eye(4)
    for seed in range(20):
        _, labels = always(name, **({"alpha": 50} if name == "mixup" else {})).mixed(HEARD, targets, FRONT, rng(seed))
        assert ((labels > 0).sum(1) == 2).all()
        assert (labels.diagonal() > 0).all()
        assert ((labels > 0).sum(0) == 2).all()  # and everybody serves once


def test_mixup_takes_the_mean_of_levels_by_the_weights_of_the_labels():
    after, labels = parse("mixup?alpha=2").mixed(HEARD, torch.eye(4), FRONT, rng())
    torch.testing.assert_close(after, torch.einsum("ij,jfb->ifb", labels, HEARD), rtol=1e-5, atol=1e-4)


def test_mixup_of_power_adds_sounds_by_the_weights_of_the_labels():
    after, labels = parse("mixup?alpha=2&domain=power").mixed(HEARD, torch.eye(4), FRONT, rng())
    wanted = torch.einsum("ij,jfb->ifb", labels, FRONT.power(HEARD))
    torch.testing.assert_close(FRONT.power(after), wanted, rtol=1e-3, atol=1e-5)
    waves, labels = parse("mixup?alpha=2").mixed(SOUNDS, torch.eye(4), None, rng())
    torch.testing.assert_close(waves, labels.sqrt() @ SOUNDS)


def test_mixup_weighs_as_a_beta_distribution_does():
    heard = HEARD[:2, :1].repeat(2000, 1, 1)
    _, labels = parse("mixup?alpha=0.3").mixed(heard, torch.eye(4000), FRONT, rng())
    own = labels.diagonal()
    assert own.mean() == pytest.approx(0.5, abs=0.03)
    assert own.var() == pytest.approx(1 / (4 * (2 * 0.3 + 1)), abs=0.01)


@QUICK
@given(ratio=st.floats(0.01, 0.99), first=st.floats(-60, 20), second=st.floats(-60, 20))
def test_mix_weighs_as_the_paper_says(ratio, first, second):
    """p = 1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r), and the sum over the root of p^2 + (1 - p)^2."""
    own, other = mixed_power = Mix(spec("mix")).weights(
        torch.tensor([ratio]), torch.tensor([10 ** (first / 10)]), torch.tensor([10 ** (second / 10)])
    )
    p = 1 / (1 + 10 ** ((first - second) / 20) * (1 - ratio) / ratio)
    assert float(own) == pytest.approx(p**2 / (p**2 + (1 - p) ** 2), rel=1e-3, abs=1e-9)
    assert float(sum(mixed_power)) == pytest.approx(1, rel=1e-5)
    # So the amplitudes that are heard stand in the ratio of the labels.
    heard = math.sqrt(float(own)) * 10 ** (first / 20), math.sqrt(float(other)) * 10 ** (second / 20)
    assert heard[0] / heard[1] == pytest.approx(ratio / (1 - ratio), rel=1e-2)


@pytest.mark.parametrize("front", [FRONT, None])
def test_a_mix_is_heard_in_the_ratio_of_its_labels(front):
    """Two tones, one 30 dB below the other: where each sounds alone, the loudness of the mixture tells its share."""
    times = torch.arange(RATE) / RATE
    waves = torch.sin(2 * math.pi * 1000 * times).repeat(2, 1)
    waves[0, RATE // 2 :] = 0
    waves[1, : RATE // 2] = 0
    waves[1] *= 10 ** (-30 / 20)
    heard = waves if front is None else front(waves)
    for seed in range(5):
        after, labels = parse("mix").mixed(heard, torch.eye(2), front, rng(seed))
        power = after.square() if front is None else front.power(after)
        middle = power.shape[1] // 2
        halves = power[0, 200 : middle - 200] if front is None else power[0, 10 : middle - 10].sum(1), power[0]
        first = halves[0].mean()
        second = (halves[1][middle + 200 :] if front is None else halves[1][middle + 10 :].sum(1)).mean()
        ratio = float((first / second).sqrt())
        assert ratio == pytest.approx(float(labels[0, 0] / labels[0, 1]), rel=0.05)


def test_mixing_with_silence_keeps_the_sound():
    waves = SOUNDS[:2].clone()
    waves[1] = 0
    for front in (FRONT, None):
        heard = waves if front is None else front(waves)
        after, labels = parse("mix").mixed(heard, torch.eye(2), front, rng())
        power = after.square() if front is None else front.power(after)
        whole = heard.square() if front is None else front.power(heard)
        own = labels[:, 0] ** 2 / (labels[:, 0] ** 2 + labels[:, 1] ** 2)
        assert torch.isfinite(after).all()
        torch.testing.assert_close(power.sum((1, 2) if front else 1), own * whole[0].sum(), rtol=1e-3, atol=1e-3)
        silent, _ = parse("mix").mixed(torch.stack([heard[1]] * 2), torch.eye(2), front, rng())
        torch.testing.assert_close(silent, torch.stack([heard[1]] * 2), rtol=0, atol=1e-4)


def test_loudness_follows_the_ear():
    times = torch.arange(RATE) / RATE
    tones = torch.sin(2 * math.pi * torch.tensor([[100.0], [1000.0]]) * times)
    loud = 10 * torch.log10(loudest(FRONT.power(FRONT(tones)), FRONT))
    assert float(loud[1]) == pytest.approx(10 * math.log10(0.5), abs=1)
    assert float(loud[1] - loud[0]) == pytest.approx(19.1, abs=2.5)
    burst = torch.zeros(1, RATE)
    burst[0, 4000:8000] = 1.0
    assert float(loudest(burst, None)) == pytest.approx(1.0)  # the loudest moment, not the mean
