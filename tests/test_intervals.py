"""Resampling by groups, and paired tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from soundmark import intervals
from soundmark.metrics import accuracy


def right(share: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    named = np.zeros(n, dtype=int)
    named[int(share * n) :] = 1
    return np.zeros(n, dtype=int), np.eye(2)[named]


def test_whole_groups_are_drawn():
    groups = ["a", "a", "b", "c", "c", "c"]
    weights = np.concatenate(list(intervals.cluster_weights(groups, n=50)))
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_an_empty_group_is_a_clip_of_its_own():
    index, count = intervals.group_index(["", "x", "", "x"])
    assert count == 3
    assert index[0] != index[2]
    assert index[1] == index[3]
    assert intervals.count_groups(["", "x", "", "x"], np.array([True, True, False, True])) == 2


def test_draws_do_not_depend_on_how_they_are_divided(monkeypatch):
    groups = [str(i % 7) for i in range(20)]
    whole = np.concatenate(list(intervals.cluster_weights(groups, n=30, seed=3)))
    monkeypatch.setattr(intervals, "_CHUNK_CELLS", 60)
    parts = list(intervals.cluster_weights(groups, n=30, seed=3))
    assert len(parts) == 10
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_group_gives_a_point():
    targets, p = right(0.7, 10)
    assert intervals.interval(accuracy, targets, p, ["same"] * 10) == pytest.approx((0.7, 0.7))


def test_interval_is_that_of_the_binomial_for_lone_clips_and_wider_for_groups():
    targets, p = right(0.8, 500)
    low, high = intervals.interval(accuracy, targets, p, [str(i) for i in range(500)])
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 500)
    assert (low, high) == pytest.approx((0.8 - spread, 0.8 + spread), abs=0.006)
    by_ten = intervals.interval(accuracy, targets, p, [str(i // 10) for i in range(500)])
    assert by_ten[1] - by_ten[0] > 2.5 * (high - low)


def test_intervals_repeat_with_their_seed():
    targets, p = right(0.6, 40)
    groups = [str(i // 3) for i in range(40)]
    first, again, other = (intervals.interval(accuracy, targets, p, groups, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_bounds_leave_out_undefined_resamples():
    low, high = intervals.bounds(np.array([[np.nan, np.nan], [0.5, np.nan], [0.7, np.nan]]))
    assert 0.5 <= low[0] <= high[0] <= 0.7
    assert np.isnan(low[1])


def test_all_alike_is_clopper_and_pearson():
    wanted = stats.binomtest(20, 20).proportion_ci(0.95, "exact")
    assert intervals.all_alike(1.0, 20) == pytest.approx((wanted.low, wanted.high))
    wanted = stats.binomtest(0, 20).proportion_ci(0.95, "exact")
    assert intervals.all_alike(0.0, 20) == pytest.approx((wanted.low, wanted.high))
    assert intervals.all_alike(1.0, 0) == (0, 1)


def test_interval_of_contains_its_value():
    assert intervals.interval_of(0.4, 0.5, 0.6, None) == {"low": 0.4, "high": 0.6}
    assert intervals.interval_of(0.4, np.nan, np.nan, 3, "f1_") == {"f1_low": 0.4, "f1_high": 0.4}
    assert intervals.interval_of(np.nan, 0.5, 0.6, None) == {"low": None, "high": None}


def test_mcnemar_by_hand():
    # 6 clips only a gets right, 1 only b: exact 2 (1 + 7) / 2^7, mid-p less one 7 / 2^7
    a = np.array([1] * 6 + [0] + [1] * 5 + [0] * 2, dtype=bool)
    b = np.array([0] * 6 + [1] + [1] * 5 + [0] * 2, dtype=bool)
    found = intervals.mcnemar(a, b)
    assert found == {"only_a": 6, "only_b": 1, "exact": pytest.approx(16 / 128), "mid_p": pytest.approx(9 / 128)}
    assert found["exact"] == pytest.approx(stats.binomtest(1, 7).pvalue)
    assert intervals.mcnemar(a, a) == {"only_a": 0, "only_b": 0, "exact": 1.0, "mid_p": 1.0}


def test_permutation_is_exact_where_few_groups_differ():
    # gains +1 in three groups: of 8 swaps two are as large
    a = np.array([True, True, True, True])
    b = np.array([False, False, False, True])
    assert intervals.paired_permutation(a, b, list("wxyz")) == pytest.approx(2 / 8)
    assert intervals.paired_permutation(a, b, ["w", "w", "w", "z"]) == 1.0
    assert intervals.paired_permutation(a, a, list("wxyz")) == 1.0


def test_permutation_agrees_with_mcnemar_on_lone_clips():
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.72
    names = [str(i) for i in range(300)]
    assert intervals.paired_permutation(a, b, names) == pytest.approx(intervals.mcnemar(a, b)["exact"], abs=0.02)


def test_permutation_is_never_zero():
    a, b = np.ones(100, dtype=bool), np.zeros(100, dtype=bool)
    assert intervals.paired_permutation(a, b, [str(i) for i in range(100)], n=500) == pytest.approx(1 / 501)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_tests_are_probabilities_and_do_not_care_which_is_first(rows):
    a, b = (np.array([row[k] for row in rows]) for k in (0, 1))
    groups = [str(row[2]) for row in rows]
    p = intervals.paired_permutation(a, b, groups)
    assert 0 < p <= 1
    assert p == pytest.approx(intervals.paired_permutation(b, a, groups))
    for name in ("exact", "mid_p"):
        assert 0 < intervals.mcnemar(a, b)[name] <= 1
        assert intervals.mcnemar(a, b)[name] == pytest.approx(intervals.mcnemar(b, a)[name])


def test_holm_by_hand():
    """The smallest counts as often as there are questions, the next once less, and none less than one before it."""
    assert intervals.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert intervals.holm([0.6, 0.7]) == [1, 1]
    assert intervals.holm([0.02]) == [0.02]
    assert intervals.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_nothing_and_bonferroni(values: list[float]):
    adjusted = np.array(intervals.holm(values))
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(1, len(values) * np.array(values)) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(values, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("difference", [-1.0, -0.5, 0.0, 1.0])
def test_a_difference_that_all_groups_share_is_not_certain(difference: float):
    narrow, wide = intervals.unseen(difference, 30), intervals.unseen(difference, 2)
    for low, high in (narrow, wide):
        assert -1 <= low <= difference <= high <= 1
        assert low < high
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
    assert intervals.unseen(0.0, 9)[1] == intervals.all_alike(0.0, 9)[1]
