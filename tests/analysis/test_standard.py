"""Vectors made comparable: one scale for every component, and directions."""

from __future__ import annotations

import numpy as np
import pytest

from soundmark.analysis.standard import directions, scale_of


def test_collections_are_standardised_together_and_count_the_same() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, (10, 2)) * [1, 1000], rng.normal(4, 1, (500, 2)) * [1, 1000]
    scale = scale_of(small, large)
    few, many = scale.apply(small), scale.apply(large)
    np.testing.assert_allclose(few.mean(axis=0), -many.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose((np.square(few).mean(axis=0) + np.square(many).mean(axis=0)) / 2, 1)


def test_one_collection_has_its_own_mean_and_deviation() -> None:
    vectors = np.random.default_rng(0).normal(3, 2, (50, 4))
    scale = scale_of(vectors)
    np.testing.assert_allclose(scale.mean, vectors.mean(axis=0))
    np.testing.assert_allclose(scale.deviation, vectors.std(axis=0))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_component_that_never_changes_is_nothing(constant: float) -> None:
    vectors = np.hstack([np.full((4, 1), constant, np.float32), np.arange(4.0)[:, None]])
    found = scale_of(vectors).apply(vectors)
    assert (found[:, 0] == 0).all()
    assert found[:, 1].std() == pytest.approx(1)


def test_what_is_no_number_does_not_count() -> None:
    vectors = np.array([[1.0, 2.0], [3.0, 6.0], [np.nan, 0.0], [np.inf, 0.0]])
    scale = scale_of(vectors)
    assert scale.mean.tolist() == [2.0, 4.0]
    assert (scale_of(vectors[2:]).apply(vectors[:2]) == 0).all()


def test_directions_have_length_one_whatever_their_size() -> None:
    vectors = np.array([[3.0, 4.0], [3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0], [np.nan, 1.0]])
    found = directions(vectors)
    np.testing.assert_allclose(found[:3], [[0.6, 0.8, 0.0]] * 3, rtol=1e-6)
    assert found[3].tolist() == [0.0, 0.0, 1.0]
    assert found[4].tolist() == [0.0, 0.0, 0.0]
