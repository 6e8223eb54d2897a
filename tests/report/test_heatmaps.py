"""Heat maps: any shape, any label, numbers where they fit."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from soundmark.report.heatmaps import Panel, heatmaps


def drawn(values: np.ndarray, folder: Path | None = None, names: str = "class", **how) -> str:
    rows, columns = ([f"{names} {i}" for i in range(n)] for n in values.shape)
    return heatmaps([Panel("One table", values, rows, columns)], "map", "Title", "what it is", folder, **how).svg


def test_small_tables_say_their_numbers(tmp_path: Path) -> None:
    drawn(np.array([[1.0, -0.25], [np.nan, 0.5]]), tmp_path, full=1.0)
    text = " ".join(ElementTree.parse(tmp_path / "map.svg").getroot().itertext())
    assert all(word in text for word in ("1.00", "-0.25", "–", "0.50", "class 0", "One table", "Title", "what it is"))
    with Image.open(tmp_path / "map.png") as image:
        assert image.width > 50


def cells(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        counted = image.convert("RGB").getcolors(1 << 20)
    return {colour for _, colour in counted}


def test_larger_is_darker_and_negative_another_colour(tmp_path: Path) -> None:
    drawn(np.array([[1.0, -1.0], [0.0, 0.0]]), tmp_path, form="", full=1.0)
    assert {(11, 102, 184), (207, 82, 0), (238, 241, 245)} <= cells(tmp_path / "map.png")
    drawn(np.array([[1.0, -1.0], [0.0, 0.0]]), tmp_path, form="", full=2.0)
    assert not {(11, 102, 184), (207, 82, 0)} & cells(tmp_path / "map.png")
    drawn(np.array([[30.0, 15.0], [0.0, 0.0]]), tmp_path)
    assert (11, 102, 184) in cells(tmp_path / "map.png")


@pytest.mark.parametrize(("shape", "numbers", "labels"), [((12, 3), True, True), ((13, 3), False, True),
                                                          ((3, 60), False, True), ((3, 61), False, False)])  # fmt: skip
def test_large_tables_leave_numbers_out_then_labels(shape: tuple[int, int], numbers: bool, labels: bool) -> None:
    svg = drawn(np.full(shape, 0.125), form=".3f", full=1.0)
    assert ("0.125" in svg) == numbers
    assert (f"class {shape[1] - 1}<" in svg) == labels
    assert f"class {min(shape) - 1}<" in svg


def test_a_table_of_nothing_and_odd_names(tmp_path: Path) -> None:
    drawn(np.full((2, 2), np.nan), tmp_path, names="$\\frac{1}{0}$ <script> \x00 ü")
    assert "<script>" not in (tmp_path / "map.svg").read_text("utf-8")
