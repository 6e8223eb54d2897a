"""Augmentation: what each one says it does, on spectrograms and on waveforms, and what it must leave alone."""

from __future__ import annotations

import pickle
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augmented import FRONT, HEARD, HOP, QUICK, RATE, SOUNDS, always, rng, sounds
from soundmark.encoders import mobilenet
from soundmark.errors import MissingExtra, SpecError
from soundmark.networks.augment import AUGMENTATIONS, parse
from soundmark.networks.augment_base import Acoustic
from soundmark.networks.ear import _KEPT, Ear, ear
from soundmark.networks.finetuned import MobileNetFront
from soundmark.networks.front import LogMel

CPU = torch.device("cpu")
MIXTURES = [name for name, kind in AUGMENTATIONS.items() if kind.where == "clips"]
LEVELS = [name for name in AUGMENTATIONS if name not in MIXTURES]
ACOUSTIC = [name for name, kind in AUGMENTATIONS.items() if issubclass(kind, Acoustic)]


# What a text says


def test_an_empty_text_does_nothing():
    nothing = parse("  ")
    targets = torch.eye(4)
    assert (nothing.text, nothing.needs_waveforms, nothing.parts) == ("", False, ())
    assert nothing.on_waveforms(SOUNDS, RATE, rng()) is SOUNDS
    assert nothing.on_levels(HEARD, FRONT, rng()) is HEARD
    heard, labels = nothing.mixed(HEARD, targets, FRONT, rng())
    assert heard is HEARD
    assert labels is targets
    nothing.check(None)


def test_the_text_is_canonical():
    asked = "gain?db=6.0+shift?cyclic=false&seconds=0.50+noise?snr=10&most=20+mix?p=0.3"
    augment = parse(asked)
    assert augment.text == "gain+shift?cyclic=false&seconds=0.5+noise?most=20+mix?p=0.3"
    assert parse(augment.text).text == augment.text
    assert repr(augment) == f"Augment({augment.text!r})"
    assert pickle.loads(pickle.dumps(augment)).text == augment.text
    assert parse("gain?db=1.23456789").text == "gain?db=1.23456789"


def test_only_waveform_parts_need_waveforms():
    assert not parse("+".join(AUGMENTATIONS)).needs_waveforms
    assert parse("timemask+pitch?on=waveform").needs_waveforms


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gian", "there is no augmentation called 'gian'; there are: bandshift, filter"),
        ("gain?decibels=3", "has no setting 'decibels'; its settings and defaults are: on=levels, p=1.0, db=6.0"),
        ("gain?db=loud", "should be of type float"),
        ("gain?db=99", r"db=99 in 'gain' is out of bounds: it must lie from 0 to 60"),
        ("gain?db=nan", "out of bounds"),
        ("mix?p=1.5", "it must lie from 0 to 1"),
        ("timemask?number=-1", "it must lie from 0 to 100"),
        ("timemask?fill=red", "fill=red in 'timemask': it is one of mean, silence"),
        ("timemask?on=waveform", "has no setting 'on'"),
        ("gain?on=disk", "it is one of levels, waveform"),
        ("noise?snr=30&most=20", "snr is the lowest signal-to-noise ratio"),
        ("gain:loud", "cannot read the augmentation"),
        ("gain+", "cannot read the name"),
    ],
)
def test_a_bad_text_is_explained(text, complaint):
    with pytest.raises(SpecError, match=complaint):
        parse(text)


def test_spectrograms_cannot_be_augmented_where_there_are_none():
    with pytest.raises(SpecError, match=r"pitch works on spectrograms.*or write pitch\?on=waveform"):
        parse("gain?on=waveform+pitch").check(None)
    with pytest.raises(SpecError, match=r"filter works on spectrograms.*leave it out$"):
        parse("filter").on_levels(HEARD, None, rng())
    parse("gain?on=waveform+mix").check(None)
    parse("filter").check(FRONT)


# What holds for every one


@pytest.mark.parametrize("name", LEVELS)
@QUICK
@given(clips=st.integers(1, 5), frames=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_levels_keep_their_shape_and_stay_finite(name, clips, frames, seed):
    levels = 60 * torch.rand(clips, frames, FRONT.bands, generator=rng(seed)) - 50
    before = levels.clone()
    augment = always(name)
    after = augment.on_levels(levels, FRONT, rng(seed))
    assert (after.shape, after.dtype) == (levels.shape, torch.float32)
    assert torch.isfinite(after).all()
    assert torch.equal(levels, before)
    assert torch.equal(augment.on_levels(levels, FRONT, rng(seed)), after)


@pytest.mark.parametrize("name", ACOUSTIC)
@pytest.mark.parametrize("samples", [1, 7, 400])
def test_waveforms_keep_their_shape_and_stay_finite(name, samples):
    waveforms = SOUNDS[:3, :samples].clone()
    augment = always(name, on="waveform")
    after = augment.on_waveforms(waveforms, RATE, rng(1))
    assert (after.shape, after.dtype) == (waveforms.shape, torch.float32)
    assert torch.isfinite(after).all()
    assert torch.equal(waveforms, SOUNDS[:3, :samples])
    assert torch.equal(augment.on_waveforms(waveforms, RATE, rng(1)), after)


@pytest.mark.parametrize("name", LEVELS)
def test_every_clip_has_draws_of_its_own(name):
    same = HEARD[:1].repeat(6, 1, 1)
    after = always(name).on_levels(same, FRONT, rng(3))
    different = sum(not torch.allclose(after[i], after[j], atol=1e-3) for i in range(6) for j in range(i))
    assert different >= 8, different  # of 15 pairs; some may draw the same whole number of bands


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("p", [1, 0.5])
def test_no_clip_hears_of_its_neighbours(name, p):
    others = HEARD.clone()
    others[1:] = FRONT(sounds(3, seed=5))
    augment = always(name, p=p)
    one, other = (augment.on_levels(heard, FRONT, rng(4)) for heard in (HEARD, others))
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", LEVELS)
def test_with_probability_0_nothing_is_done(name):
    assert always(name, p=0).on_levels(HEARD, FRONT, rng()) is HEARD
    if name in ACOUSTIC:
        assert always(name, p=0, on="waveform").on_waveforms(SOUNDS, RATE, rng()) is SOUNDS


def test_the_probability_is_a_share_of_the_clips():
    levels = HEARD[:1, :10].repeat(2000, 1, 1)
    after = parse("gain?p=0.3").on_levels(levels, FRONT, rng())
    changed = ((after - levels).abs().amax((1, 2)) > 1e-3).float().mean()
    assert changed == pytest.approx(0.3, abs=0.04)
    assert parse("gain?p=0.3&on=waveform").on_waveforms(SOUNDS, RATE, rng(8)).ne(SOUNDS).any(1).tolist().count(True) < 4


@pytest.mark.parametrize("name", LEVELS)
def test_silence_stays_silence(name):
    silence = FRONT(torch.zeros(3, 2000))
    after = always(name).on_levels(silence, FRONT, rng())
    torch.testing.assert_close(after, silence, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ACOUSTIC)
def test_silent_waveforms_stay_silent(name):
    silence = torch.zeros(2, 2000)
    assert torch.equal(always(name, on="waveform").on_waveforms(silence, RATE, rng()), silence)


def test_no_other_random_numbers_are_touched():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    augment = parse("+".join([f"{name}?p=1" for name in AUGMENTATIONS] + ["pitch?on=waveform", "noise?on=waveform"]))
    levels = augment.on_levels(FRONT(augment.on_waveforms(SOUNDS, RATE, rng())), FRONT, rng())
    augment.mixed(levels, torch.eye(4), FRONT, rng())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def test_any_front_end_will_do():
    front = MobileNetFront(mobilenet.LogMel())
    waves = sounds(3, 0.5).repeat_interleave(4, 1)  # at 32 kHz
    levels = front(waves)
    twin = front(parse("gain?on=waveform").on_waveforms(waves, 32_000, rng()))
    torch.testing.assert_close(parse("gain").on_levels(levels, front, rng()), twin, rtol=0, atol=1e-3)
    everything = parse("+".join(f"{name}?p=1" for name in AUGMENTATIONS))
    after, labels = everything.mixed(everything.on_levels(levels, front, rng()), torch.eye(3), front, rng())
    assert torch.isfinite(after).all()
    assert after.shape == levels.shape
    torch.testing.assert_close(labels.sum(1), torch.ones(3))


@pytest.mark.parametrize("name", ["pitch", "stretch"])
def test_a_missing_library_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(MissingExtra, match=r"pip install 'soundmark\[augment\]', or leave on=waveform out"):
        parse(f"{name}?on=waveform").on_waveforms(SOUNDS, RATE, rng())


@pytest.mark.parametrize("text", [f"{name}?p=1" for name in AUGMENTATIONS] + ["stretch?frames=drawn"])
def test_other_ears_draw_the_same(text):
    """What follows does not depend on how many frames, bands or samples there were: a teacher may hear other ones."""
    asked, after = parse(text), []
    for front, frames in ((FRONT, 101), (LogMel(32_000, 1024, 320, 64), 130)):
        generator = rng(5)
        heard = asked.on_levels(torch.zeros(4, frames, front.bands), front, generator)
        asked.mixed(heard, torch.eye(4), front, generator)
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)


@pytest.mark.parametrize("name", ["gain", "shift", "noise", "reverb"])
def test_other_rates_draw_the_same(name):
    after = []
    for rate in (8000, 32_000):
        generator = rng(5)
        always(name, on="waveform").on_waveforms(torch.zeros(4, rate), rate, generator)
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(*after)


# Devices


def test_nothing_is_left_behind_on_the_cpu():
    """The device `meta` computes nothing, and refuses numbers from another one, as a GPU would."""
    meta, front = torch.device("meta"), LogMel(RATE, 256, HOP, 40)
    known = [getattr(ear(front, CPU), name).to(meta) for name in Ear.__dataclass_fields__]
    _KEPT[front][meta] = Ear(*known)
    levels = torch.empty(4, 101, 40, device=meta)
    for p in (1, 0.5):
        for name in LEVELS:
            assert always(name, p=p).on_levels(levels, front, rng()).device == meta
        for name in MIXTURES:
            heard, labels = always(name, p=p).mixed(levels, torch.empty(4, 10, device=meta), front, rng())
            assert heard.device == labels.device == meta
        for name in ("gain", "shift", "noise", "reverb"):
            waves = torch.empty(4, 800, device=meta)
            assert always(name, p=p, on="waveform").on_waveforms(waves, RATE, rng()).device == meta
