"""Masks, shifted bands and filters: what they change, and what they leave."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augmented import FRONT, HEARD, QUICK, rng
from soundmark.networks.augment import parse


@pytest.mark.parametrize(("name", "axis"), [("timemask", 1), ("freqmask", 2)])
@pytest.mark.parametrize("fill", ["mean", "silence"])
@QUICK
@given(seed=st.integers(0, 2**31), number=st.integers(0, 3), widest=st.floats(0, 1))
def test_masks_replace_what_they_say_and_nothing_else(name, axis, fill, seed, number, widest):
    after = parse(f"{name}?number={number}&widest={widest}&fill={fill}").on_levels(HEARD, FRONT, rng(seed))
    filling = HEARD.mean((1, 2)) if fill == "mean" else FRONT.levels(torch.zeros(4))
    changed = after != HEARD
    torch.testing.assert_close(after[changed], filling[:, None, None].expand_as(HEARD)[changed])
    lines = changed.any(3 - axis)
    assert torch.equal(changed.all(3 - axis), lines)  # whole frames, or whole bands
    assert (lines.sum(1) <= number * int(widest * HEARD.shape[axis] + 1e-9)).all()
    starts = (lines.int().diff(dim=1, prepend=torch.zeros(4, 1, dtype=torch.int)) == 1).sum(1)
    assert (starts <= number).all()
    if fill == "silence":
        assert (after <= HEARD).all()


def test_masks_reach_their_widest_and_every_place():
    levels = HEARD[:1].repeat(3000, 1, 1)[:, :20]
    covered = (parse("timemask?number=1&widest=0.2").on_levels(levels, FRONT, rng()) != levels).any(2)
    assert set(covered.sum(1).tolist()) == {0, 1, 2, 3, 4}
    assert covered.any(0).all()


@QUICK
@given(bands=st.integers(0, 60), seed=st.integers(0, 2**31))
def test_a_band_shift_moves_bands_and_repeats_the_last(bands, seed):
    after = parse(f"bandshift?bands={bands}").on_levels(HEARD, FRONT, rng(seed))
    size, reach = FRONT.bands, min(bands, FRONT.bands)
    for before, now in zip(HEARD[:, :5], after[:, :5], strict=True):
        possible = (before[:, (torch.arange(size) - by).clamp(0, size - 1)] for by in range(-reach, reach + 1))
        assert any(torch.equal(each, now) for each in possible)


@QUICK
@given(db=st.floats(0, 20), pieces=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_a_filter_is_bounded_and_the_same_at_every_moment(db, pieces, seed):
    levels = 20 + 20 * torch.rand(3, 10, FRONT.bands, generator=rng(seed))
    change = parse(f"filter?db={db}&pieces={pieces}").on_levels(levels, FRONT, rng(seed)) - levels
    assert change.abs().max() <= db + 1e-3
    assert change.std(1).max() < 1e-3


def test_a_filter_of_one_piece_is_smooth():
    levels = torch.full((20, 2, FRONT.bands), 20.0)
    curve = (parse("filter?db=10&pieces=1").on_levels(levels, FRONT, rng()) - levels)[:, 0]
    steps = curve.diff(dim=1)
    assert ((steps >= -1e-4).all(1) | (steps <= 1e-4).all(1)).all()
    assert steps.abs().max() < 20 / FRONT.bands * math.pi / 2 + 0.1
    assert curve.abs().amax(1).mean() > 3
