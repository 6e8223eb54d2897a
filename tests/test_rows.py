from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from soundmark import rows
from soundmark.rows import Rows


@pytest.fixture
def table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((500, 7)).astype(np.float32)


@pytest.fixture(params=["pread", "seek"])
def kept(request: pytest.FixtureRequest, table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Rows:
    if request.param == "seek":
        monkeypatch.delattr(os, "pread", raising=False)
    return Rows.of((table[i : i + 90] for i in range(0, 500, 90)), 7)


def test_rows_read_as_an_array_does(kept: Rows, table: np.ndarray) -> None:
    assert (kept.shape, len(kept), kept.nbytes) == (table.shape, 500, table.nbytes)
    random = np.random.default_rng(1).permutation(500)
    mask = table[:, 0] > 0
    for index in (random, random[:3], [4, 4, 2], slice(10, 20), slice(None), mask, np.arange(0), slice(0, 0)):
        np.testing.assert_array_equal(kept[index], table[index])
    np.testing.assert_array_equal(kept[3], table[3])
    np.testing.assert_array_equal(kept[-1], table[-1])


def test_views_choose_and_change(kept: Rows, table: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 4 * 7 * 16)
    some = kept.subset([7, 3, 400, *range(100, 140)])
    expected = table[[7, 3, 400, *range(100, 140)]]
    blocks = list(some.blocks())
    assert [len(block) for block in blocks] == [16, 16, 11]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
    twice = some.changed(lambda x: x * 2).changed(lambda x: x + 1)
    np.testing.assert_array_equal(twice[:], expected * 2 + 1)
    np.testing.assert_array_equal(twice.subset([2, 0])[:], expected[[2, 0]] * 2 + 1)


def test_threads_may_share_rows(kept: Rows, table: np.ndarray) -> None:
    orders = [np.random.default_rng(i).permutation(500) for i in range(20)]
    with ThreadPoolExecutor(4) as threads:
        for order, found in zip(orders, threads.map(lambda order: kept[order], orders), strict=True):
            np.testing.assert_array_equal(found, table[order])


def test_nothing_is_left_on_disk(table: np.ndarray, own_cache: Path) -> None:
    kept = Rows.of([table], 7)
    np.testing.assert_array_equal(kept[:], table)
    del kept
    assert list(own_cache.iterdir()) == []


def test_a_block_of_another_width_is_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="among rows of 8"):
        Rows.of([table], 8)
