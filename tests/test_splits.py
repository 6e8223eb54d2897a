import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark.errors import SoundmarkError
from soundmark.splits import inner_splits


@st.composite
def collections(draw):
    """Classes and groups of a small collection: lumpy groups, rare classes, groups that mix classes."""
    size = draw(st.integers(1, 60))
    targets = draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    groups = draw(st.lists(st.sampled_from(["", *"abcdefghijkl"]), min_size=size, max_size=size))
    return targets, groups


@settings(max_examples=60, deadline=None)
@given(collections(), st.integers(2, 6), st.integers(0, 2**32))
def test_groups_stay_whole_and_every_class_can_be_learnt(collection, k, seed):
    targets, groups = collection
    try:
        splits = inner_splits(targets, groups, k, seed)
    except SoundmarkError as error:
        assert "cannot" in str(error)  # noqa: PT017
        return
    assert 2 <= len(splits) <= k
    y = np.array(targets)
    held = np.concatenate([test for _, test in splits])
    assert len(held) == len(set(held.tolist()))
    for train, test in splits:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
        assert len(test)
        assert not {groups[i] for i in train if groups[i]} & {groups[i] for i in test if groups[i]}
        assert set(y[train]) == set(y)
    names = [group or f"#{i}" for i, group in enumerate(groups)]
    pinned = {
        names[i] for i in range(len(y)) if len({n for n, t in zip(names, targets, strict=True) if t == y[i]}) == 1
    }
    assert set(range(len(y))) - set(held.tolist()) == {i for i, name in enumerate(names) if name in pinned}
    again = inner_splits(targets, groups, k, seed)
    assert all(
        np.array_equal(a, b) for one, two in zip(splits, again, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_classes_are_spread_evenly():
    targets = np.repeat(np.arange(4), 20)
    splits = inner_splits(targets, [f"g{i // 2}" for i in range(80)], 5, seed=3)
    assert [np.bincount(targets[test]).tolist() for _, test in splits] == [[4, 4, 4, 4]] * 5


def test_another_seed_splits_otherwise():
    targets, groups = [0, 1] * 20, [str(i) for i in range(40)]
    one, two = (inner_splits(targets, groups, 4, seed)[0][1] for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_few_groups_give_fewer_folds():
    assert len(inner_splits([0, 0, 0, 1, 1, 1], list("aabccd"), 5)) == 2


def test_a_class_of_one_group_is_always_learnt_and_never_tested():
    splits = inner_splits([0, 0, 0, 1, 1, 1, 2, 2], list("abcdefgg"), 3)
    assert all({6, 7} <= set(train.tolist()) for train, _ in splits)


@pytest.mark.parametrize(
    ("targets", "groups", "k", "message"),
    [
        ([0, 0, 1, 1], ["a", "a", "b", "b"], 5, "every class has a single group"),
        ([], [], 5, "cannot hold out"),
        ([0, 1], ["a", "b"], 1, "ask for at least two"),
        ([0, 1], ["a"], 2, "2 clips with 1 groups"),
    ],
)
def test_what_cannot_be_split_is_explained(targets, groups, k, message):
    with pytest.raises(SoundmarkError, match=message):
        inner_splits(targets, groups, k)
