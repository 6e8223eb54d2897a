"""Distances and alignments against closed forms, other ways to compute them, and their own laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark.analysis import measures
from soundmark.errors import SoundmarkError


def exact(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Vectors (n, dim) whose sample mean and sample covariance are these, to rounding."""
    drawn = np.random.default_rng(seed).normal(size=(n, len(mean)))
    drawn -= drawn.mean(axis=0)
    white = np.linalg.qr(drawn)[0] * np.sqrt(n - 1)
    return mean + white @ np.linalg.cholesky(covariance).T


def rotation(dim: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return measures.frechet(measures.gaussian(a), measures.gaussian(b))


# --- Divided --------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=40), st.integers(0, 5))
def test_halves_keep_groups_whole_and_take_every_clip_once(groups: list[str], seed: int) -> None:
    found = list(measures.halves(groups, 3, seed))
    kinds = {group or f"{i} alone" for i, group in enumerate(groups)}
    assert len(found) == (3 if len(kinds) > 1 else 0)
    for first, second in found:
        assert sorted([*first, *second]) == list(range(len(groups)))
        assert min(len(first), len(second)) > 0
        assert not {groups[i] for i in first} & {groups[i] for i in second} - {""}
        assert abs(len(first) - len(second)) <= max(groups.count(group) for group in groups if group or len(kinds) > 1)
    again = list(measures.halves(groups, 3, seed))
    assert all((a[0] == b[0]).all() for a, b in zip(found, again, strict=True))


def test_other_seeds_and_draws_divide_otherwise() -> None:
    one, two = measures.halves([""] * 30, 2, 0)
    (other,) = measures.halves([""] * 30, 1, 1)
    assert (one[0] != two[0]).any()
    assert (one[0] != other[0]).any()


# --- Fréchet distance --------------------------------------------------------------------------------------------


def test_distance_of_gaussians_whose_axes_agree() -> None:
    """|m1 - m2|² + Σ (√λ1 - √λ2)²."""
    a = exact(np.array([1.0, 0.0, 2.0]), np.diag([4.0, 9.0, 1.0]), 40, 1)
    b = exact(np.array([0.0, 2.0, 2.0]), np.diag([1.0, 1.0, 25.0]), 50, 2)
    assert distance(a, b) == pytest.approx((1 + 4) + (1 + 4 + 16))


def test_distance_of_gaussians_whose_axes_do_not() -> None:
    """In two dimensions the trace of the root is √(tr + 2√det) of the product, by its eigenvalues."""
    first, second = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([[1.0, -0.5], [-0.5, 4.0]])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    a, b = exact(np.zeros(2), first, 30, 1), exact(np.array([3.0, 4.0]), second, 30, 2)
    assert distance(a, b) == pytest.approx(25 + 5 + 5 - 2 * root)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_fewer_clips_than_components_are_no_trouble(n: int) -> None:
    """Covariances without full rank: moved by a known vector, scaled by a known number."""
    a = np.random.default_rng(n).normal(size=(n, 40))
    spread = np.trace(np.cov(a.T))
    assert distance(a, a + 0.5) == pytest.approx(0.25 * 40)
    assert distance(a - a.mean(0), 3 * (a - a.mean(0))) == pytest.approx(spread * (3 - 1) ** 2)
    far = np.zeros((n, 80))
    far[:, 40:] = a - a.mean(0)
    near = np.zeros((n, 80))
    near[:, :40] = far[:, 40:]
    assert distance(near, far) == pytest.approx(2 * spread), "no direction in common, nothing is shared"


sets = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(1, 9), st.integers(0, 2**31), st.floats(-6, 6))


@given(sets)
@settings(max_examples=60)
def test_distance_is_symmetric_never_negative_and_nothing_to_itself(given: tuple[int, int, int, int, float]) -> None:
    n, m, dim, seed, power = given
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dim)) * 10**power, rng.normal(1, 2, size=(m, dim)) * 10**power
    scale = np.square(a).sum() + np.square(b).sum()
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12 * scale)
    assert distance(a, b) >= 0
    assert distance(a, a) <= 1e-12 * scale
    turned = rotation(dim, seed)
    assert distance(a @ turned, b @ turned) == pytest.approx(distance(a, b), abs=1e-10 * scale)


def test_a_single_vector_has_no_covariance() -> None:
    with pytest.raises(SoundmarkError, match="two vectors or more, not 1"):
        measures.gaussian(np.zeros((1, 3)))


def test_halves_of_more_clips_lie_nearer() -> None:
    drawn = np.random.default_rng(0).normal(size=(400, 8))
    few, _ = measures.between_halves(drawn[:30], [""] * 30, 10, 0)
    many, spread = measures.between_halves(drawn, [""] * 400, 10, 0)
    assert few > 5 * many > 0
    assert 0 < spread < many
    assert distance(drawn[:200], drawn[200:]) == pytest.approx(many, rel=0.8)
    once = measures.between_halves(drawn, [""] * 400, 1, 0)
    assert once[0] > 0
    assert np.isnan(once[1])
    assert np.isnan(measures.between_halves(drawn, ["one"] * 400, 10, 0)).all()
    assert np.isnan(measures.between_halves(drawn[:3], [""] * 3, 10, 0)).all()


# --- Alignment ---------------------------------------------------------------------------------------------------


def by_hand(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """From kernel matrices, as the papers write it."""
    n = len(x)
    middle = np.eye(n) - 1 / n
    ones = np.ones(n)

    def plain(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ middle @ m @ middle))

    def unbiased(k: np.ndarray, m: np.ndarray) -> float:
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        both = ones @ k @ m @ ones
        return float(np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / (n - 1) / (n - 2) - 2 * both / (n - 2))

    k, m = x @ x.T, y @ y.T
    return tuple(h(k, m) / np.sqrt(h(k, k) * h(m, m)) for h in (plain, unbiased))


@pytest.mark.parametrize("dims", [(3, 5), (40, 3), (40, 60), (3, 500)])
def test_alignment_is_what_the_papers_write(dims: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_CHUNK_CELLS", 60)  # kernels in pieces of three rows
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, size=(20, dims[0]))
    y = np.hstack([x[:, :2] * 2, rng.normal(size=(20, dims[1]))])
    plain, debiased = measures.cka([x, y])
    assert (plain[0, 1], debiased[0, 1]) == pytest.approx(by_hand(x, y))


def test_nothing_in_common_is_nothing_once_debiased() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 300)), rng.normal(size=(100, 300))
    plain, debiased = measures.cka([x, y])
    assert plain[0, 1] > 0.7
    assert abs(debiased[0, 1]) < 0.05
    many = [measures.cka([rng.normal(size=(12, 6)), rng.normal(size=(12, 6))])[1][0, 1] for _ in range(300)]
    assert abs(np.mean(many)) < 0.05
    assert min(many) < 0 < max(many)


described = st.tuples(st.integers(4, 15), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**31))


@given(described, st.floats(-8, 8), st.floats(-3, 3))
@settings(max_examples=60)
def test_alignment_ignores_turns_moves_and_scale(given: tuple[int, int, int, int], power: float, move: float) -> None:
    n, first, second, seed = given
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, first)), rng.normal(size=(n, second))
    changed = 10**power * (x @ rotation(first, seed) + move)
    plain, debiased = measures.cka([x, y, changed])
    for found, least in ((plain, 0), (debiased, -1)):
        np.testing.assert_allclose(found, found.T)
        np.testing.assert_allclose(np.diagonal(found), 1)
        assert (found >= least).all()
        assert (found <= 1).all()
        assert found[0, 2] == pytest.approx(1, abs=1e-5)
        assert found[0, 1] == pytest.approx(found[2, 1], abs=1e-5)


def test_a_stretch_along_one_axis_is_a_change() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    plain, debiased = measures.cka([x, x * [10, 1, 1, 1]])
    assert plain[0, 1] < 0.8
    assert debiased[0, 1] < 0.8


@pytest.mark.parametrize("constant", [np.zeros((9, 3)), np.full((9, 3), 0.1, np.float32), np.empty((9, 0))])
def test_who_says_the_same_of_everything_is_aligned_with_nobody(constant: np.ndarray) -> None:
    plain, debiased = measures.cka([np.random.default_rng(0).normal(size=(9, 3)), constant])
    for found in (plain, debiased):
        assert found[0, 0] == pytest.approx(1)
        assert np.isnan(found[[0, 1, 1], [1, 0, 1]]).all()


def test_clips_that_are_all_equally_far_apart_leave_nothing_once_debiased() -> None:
    plain, debiased = measures.cka([np.eye(9), np.random.default_rng(0).normal(size=(9, 3))])
    assert plain[0, 0] == pytest.approx(1)
    assert np.isnan(debiased[0]).all()
    assert debiased[1, 1] == pytest.approx(1)


def test_too_few_or_other_clips_cannot_be_aligned() -> None:
    with pytest.raises(SoundmarkError, match="the same 4 clips or more in every description, not 3"):
        measures.cka([np.eye(3), np.eye(3)])
    with pytest.raises(SoundmarkError, match="not 4, 5"):
        measures.cka([np.eye(4), np.eye(5)])


def test_the_error_of_an_alignment_is_about_what_other_clips_give() -> None:
    def pair(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(200, 5))
        return [x, x + rng.normal(size=x.shape)]

    truth = np.std([measures.cka(pair(seed))[1][0, 1] for seed in range(60)])
    found = measures.alignment_error(pair(0), measures.cka(pair(0))[1], [""] * 200, 40, 0)
    assert found[0, 1] == found[1, 0] == pytest.approx(truth, rel=0.5)
    assert found[0, 0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(measures.alignment_error(pair(0), np.eye(2), ["one"] * 200, 40, 0)).all()
    assert np.isnan(measures.alignment_error([np.eye(5)[:, :2]] * 2, np.eye(2), [""] * 5, 9, 0)).all()


# --- Classes -----------------------------------------------------------------------------------------------------


def test_means_and_cosines_by_hand() -> None:
    vectors = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    members = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    means = measures.class_means(vectors, members)
    np.testing.assert_array_equal(means, [[3, 0], [0, 5], [-1, 0], [np.nan, np.nan]])
    found = measures.cosines(means)
    np.testing.assert_allclose(found[:3, :3], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]], atol=1e-15)
    assert np.isnan(found[3]).all()
    assert np.isnan(found[:, 3]).all()


def test_the_nearest_are_of_other_tasks_and_known() -> None:
    owner = np.array([0, 0, 1, 1, 1, 2])
    cosines = np.full((6, 6), np.nan)
    cosines[0] = [1, 0.99, 0.2, 0.9, np.nan, -0.5]
    assert measures.nearest(cosines, owner, 2) == [(0, 3, 1), (0, 2, 2), (0, 5, 1)]
    assert measures.nearest(cosines, owner, 1) == [(0, 3, 1), (0, 5, 1)]
    other = cosines.copy()
    other[0, 2] = 0.95
    nothing = np.full((6, 6), np.nan)
    found = measures.nearest(cosines, owner, 1)
    assert measures.kept([cosines, other, cosines, cosines, nothing], found, owner, 1) == [0.75, 1]
    assert measures.kept([nothing], found, owner, 1) == [None, None]
