"""Gain, shift, noise, reverb, pitch and stretch: what they say, and that both versions of each do it alike."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from augmented import FRONT, HEARD, HOP, QUICK, RATE, SOUNDS, always, rng, sounds
from soundmark.errors import SpecError
from soundmark.networks.augment import parse
from soundmark.networks.augment_base import Draw
from soundmark.networks.ear import ear

CPU = torch.device("cpu")
EXACT = "donot_use_mm_for_euclid_dist"


@QUICK
@given(db=st.floats(0, 30), seed=st.integers(0, 2**31))
def test_gain_moves_levels_by_what_was_drawn(db, seed):
    after = parse(f"gain?db={db}").on_levels(HEARD, FRONT, rng(seed))
    wanted = Draw(rng(seed), 4, CPU).uniform(-db, db)
    moved = 10 * torch.log10(FRONT.power(after) / FRONT.power(HEARD).clamp_min(1e-12))
    loud = (HEARD > -20) & (after > -20)
    torch.testing.assert_close(moved[loud], wanted[:, None, None].expand_as(moved)[loud], rtol=0, atol=0.02)


def test_gain_is_the_same_on_waveforms_and_on_levels():
    on_wave = FRONT(parse("gain?on=waveform").on_waveforms(SOUNDS, RATE, rng()))
    torch.testing.assert_close(parse("gain").on_levels(HEARD, FRONT, rng()), on_wave, rtol=0, atol=5e-3)


@QUICK
@given(seed=st.integers(0, 2**31), seconds=st.sampled_from([0, 0.05, 0.3]))
def test_a_cyclic_shift_keeps_every_frame(seed, seconds):
    after = parse(f"shift?seconds={seconds}").on_levels(HEARD, FRONT, rng(seed))
    reach = round(seconds * FRONT.frames_per_second) or HEARD.shape[1]
    for before, now in zip(HEARD, after, strict=True):
        rolls = [by for by in range(-reach, reach + 1) if torch.equal(before.roll(by, 0), now)]
        assert rolls


def test_a_cyclic_shift_of_a_waveform_rolls_it():
    after = parse("shift?on=waveform").on_waveforms(SOUNDS, RATE, rng(1))
    for before, now in zip(SOUNDS, after, strict=True):
        by = int(now.abs().argmax() - before.abs().argmax())
        assert torch.equal(before.roll(by), now)


def test_a_shift_lands_where_the_one_on_waveforms_does():
    clicks = torch.zeros(8, RATE)
    clicks[:, 3000] = 1.0
    frame = FRONT(parse("shift?on=waveform").on_waveforms(clicks, RATE, rng())).mean(2).argmax(1)
    other = parse("shift").on_levels(FRONT(clicks), FRONT, rng()).mean(2).argmax(1)
    assert (frame - other).abs().max() <= 1
    assert len(set(frame.tolist())) > 4


def test_a_shift_that_is_not_cyclic_leaves_silence_and_half_the_clip():
    silence = FRONT.levels(torch.zeros(1))
    after = parse("shift?cyclic=false").on_levels(HEARD[:1].repeat(50, 1, 1), FRONT, rng())
    silent = ((after - silence).abs() < 1e-3).all(2).sum(1)
    assert 30 < silent.max() <= math.ceil(HEARD.shape[1] / 2)
    waves = parse("shift?cyclic=false&on=waveform").on_waveforms(torch.ones(50, 100), RATE, rng())
    assert (waves.sum(1) >= 50).all()
    assert waves.sum(1).min() < 60
    assert set(waves.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("snr", [0, 15])
def test_noise_lies_as_far_below_the_sound_as_it_should(snr):
    text = f"noise?snr={snr}&most={snr}&p=1"
    after = parse(f"{text}&on=waveform").on_waveforms(SOUNDS, RATE, rng())
    ratio = SOUNDS.square().mean(1) / (after - SOUNDS).square().mean(1)
    torch.testing.assert_close(10 * torch.log10(ratio), torch.full((4,), float(snr)), rtol=0, atol=0.3)
    added = FRONT.power(parse(text).on_levels(HEARD, FRONT, rng())) - FRONT.power(HEARD)
    heard = FRONT.power(FRONT(after - SOUNDS))
    assert (added > -1e-3).all()
    torch.testing.assert_close(added.mean((1, 2)), heard.mean((1, 2)), rtol=0.25, atol=0)
    # It flickers as real noise does.
    torch.testing.assert_close(added.log().std((1, 2)), heard[:, 3:-3].log().std((1, 2)), rtol=0.15, atol=0)


def test_a_reverb_decays_by_60_db_in_its_time():
    power = torch.zeros(3, 200, FRONT.bands)
    power[:, 50] = 1e6
    after = FRONT.power(parse("reverb?seconds=1&p=1").on_levels(FRONT.levels(power), FRONT, rng()))
    seconds = Draw(rng(), 3, CPU).uniform(0.2, 1.0)
    slope = 10 * torch.log10(after[:, 70, 0] / after[:, 60, 0]) / 10 * FRONT.frames_per_second
    torch.testing.assert_close(slope, -60 / seconds, rtol=1e-3, atol=0)
    assert after[:, :50].max() < 1e-3  # nothing comes before the sound
    torch.testing.assert_close(after.sum((1, 2)), power.sum((1, 2)), rtol=0.01, atol=0)


def test_a_reverb_of_a_waveform_is_a_decaying_tail_of_the_same_power():
    clicks = torch.zeros(20, 3 * RATE)
    clicks[:, 100] = 1.0
    after = parse("reverb?seconds=1&wet=2&p=1&on=waveform").on_waveforms(clicks, RATE, rng())
    draw = Draw(rng(), 20, CPU)
    seconds, wet = draw.uniform(0.2, 1.0), draw.uniform(0.0, 2.0)
    assert after[:, :100].abs().max() < 1e-6
    torch.testing.assert_close(after[:, 100], (1 + wet).rsqrt())
    torch.testing.assert_close(after.square().sum(1), torch.ones(20), rtol=1e-3, atol=0)
    early, late = (after[:, 101 + begin :][:, :400].square().mean(1) for begin in (0, 800))
    decay = 10 * torch.log10(early / late)
    torch.testing.assert_close(decay, 60 * 0.1 / seconds, rtol=0.15, atol=1.5)


def test_both_pitches_move_a_tone_alike():
    times = torch.arange(RATE) / RATE
    tones = torch.sin(2 * math.pi * 1000 * times).repeat(6, 1)
    semitones = Draw(rng(), 6, CPU).uniform(-6, 6)
    centres = ear(FRONT, CPU).centres
    levels = parse("pitch?semitones=6").on_levels(FRONT(tones), FRONT, rng())[:, 10:-10]
    waves = FRONT(parse("pitch?semitones=6&on=waveform").on_waveforms(tones, RATE, rng()))[:, 10:-10]
    for heard in (levels, waves):
        found = centres[heard.mean(1).argmax(1)]
        assert (12 * (found / 1000).log2() - semitones).abs().max() < 1.0  # bands are 1.2 semitones wide there
    power = [FRONT.power(heard).mean(1) @ ear(FRONT, CPU).loudness for heard in (levels, waves)]
    torch.testing.assert_close(power[0], torch.full((6,), 0.5), rtol=0.15, atol=0)
    torch.testing.assert_close(power[0], power[1], rtol=0.2, atol=0)


def test_pitch_keeps_white_noise_white():
    noise = FRONT(torch.randn(4, 4 * RATE, generator=rng()))
    after = parse("pitch?semitones=4").on_levels(noise, FRONT, rng())
    change = (
        FRONT.power(after).mean(1)
        / FRONT.power(noise).mean(1)
        * 2 ** (Draw(rng(), 4, CPU).uniform(-4, 4)[:, None] / 12)
    )
    assert (10 * change.log10()).abs().max() < 1.0


def test_both_stretches_move_a_click_alike_and_begin_anew():
    speed = Draw(rng(1), 6, CPU).uniform(0.6, 1.4)
    clicks = torch.zeros(6, 2 * RATE)
    clicks[:, 9000:9020] = 1.0
    waves = FRONT(parse("stretch?by=0.4&on=waveform").on_waveforms(clicks, RATE, rng(1)))
    levels = parse("stretch?by=0.4").on_levels(FRONT(clicks), FRONT, rng(1))
    for number in range(6):
        loud = [heard[number].mean(1) for heard in (waves, levels)]
        places = [int(each.argmax()) for each in loud]
        assert abs(places[0] - places[1]) <= 3
        if speed[number] > 1:
            assert places[1] == pytest.approx(9000 / HOP / speed[number], abs=1.5)


def test_a_stretch_wraps_around():
    ramp = torch.arange(100.0)[None, :, None].expand(30, 100, FRONT.bands) / 10
    draw = Draw(rng(), 30, CPU)
    speed = draw.uniform(0.5, 1.5)
    after = parse("stretch?by=0.5").on_levels(ramp, FRONT, rng())[:, :, 0]
    fast, slow = speed > 1.05, speed < 0.95
    assert ((after[fast].diff(dim=1) < -1).sum(1) >= 1).all()
    assert (after[slow].diff(dim=1) > -1e-4).all()
    assert (after[slow][:, 0] > 0.5).any()  # it begins anywhere


def test_drawn_frames_are_frames_of_the_clip_and_as_rough():
    noise = FRONT(torch.randn(8, 4 * RATE, generator=rng()))
    blended, drawn = (parse(f"stretch?by=0.4{more}").on_levels(noise, FRONT, rng(1)) for more in ("", "&frames=drawn"))
    for before, after in zip(noise, drawn, strict=True):
        assert (
            torch.cdist(after, before, compute_mode=EXACT).amin(1).max() < 1e-3
        )  # each is one of them; a blend is not
    assert (torch.cdist(blended[0], noise[0], compute_mode=EXACT).amin(1) > 1.0).float().mean() > 0.5
    rough, smooth, were = (float(each.std(1).mean()) for each in (drawn, blended, noise))
    assert rough == pytest.approx(were, rel=0.05)
    assert smooth < 0.9 * were


def test_drawn_frames_are_the_neighbours_of_their_moment():
    ramp = torch.arange(101.0)[None, :, None].expand(40, 101, FRONT.bands) / 10
    blended, drawn = (
        parse(f"stretch?by=0.5{more}").on_levels(ramp, FRONT, rng())[:, :, 0] for more in ("", "&frames=drawn")
    )
    slow = Draw(rng(), 40, CPU).uniform(0.5, 1.5) < 1.0  # these do not begin anew
    assert 10 < slow.sum() < 30
    off = (drawn - blended)[slow]
    assert off.abs().max() <= 0.1 + 1e-3
    assert abs(float(off.mean())) < 0.005  # the nearer one the likelier
    assert off.abs().mean() > 0.02


def test_waveforms_have_no_frames_to_draw():
    with pytest.raises(SpecError, match="no frames to draw"):
        parse("stretch?frames=drawn&on=waveform")


@pytest.mark.parametrize(
    ("name", "given", "closer"),
    [
        ("shift", {}, 0.3),
        ("noise", {"snr": 0, "most": 10}, 0.2),
        ("reverb", {"seconds": 2, "wet": 10}, 0.5),
        ("pitch", {"semitones": 6}, 0.5),
        ("stretch", {"by": 0.4}, 0.5),
    ],
)
def test_the_versions_are_nearer_to_each_other_than_to_nothing(name, given, closer):
    waves = sounds(4) + 0.2 * sounds(4, seed=3).flip(0, 1)
    waves[:, : RATE // 8] = 0
    waves[:, RATE // 2 :] = 0
    heard = FRONT(waves)
    on_wave = FRONT(always(name, on="waveform", **given).on_waveforms(waves, RATE, rng(2)))
    on_levels = always(name, **given).on_levels(heard, FRONT, rng(2))

    def coarse(levels: Tensor) -> Tensor:  # since what is random is not the same
        return FRONT.levels(FRONT.power(levels[:, :100]).reshape(4, 10, 10, 20, 2).mean((2, 4)))

    between, without = ((coarse(each) - coarse(on_wave)).abs().mean() for each in (on_levels, heard))
    assert between < closer * without
