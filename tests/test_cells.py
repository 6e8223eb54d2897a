from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handmade import put, said
from soundmark import cells
from soundmark.errors import ResultsError


def test_answers_are_read_as_they_were_written_and_are_small(tmp_path: Path) -> None:
    predictions = said([1, 2])
    cells.write_answers(tmp_path / "a.json", predictions)
    answers = cells.read_answers(tmp_path / "a.parquet")
    assert answers is not None
    assert answers.clips == tuple(predictions.clips)
    assert answers.groups == tuple(predictions.groups)
    assert answers.folds == tuple(predictions.folds)
    assert answers.classes == predictions.classes
    np.testing.assert_array_equal(answers.targets, predictions.targets)
    np.testing.assert_array_equal(answers.predicted, predictions.predicted())
    assert (tmp_path / "a.parquet").stat().st_size < 5000
    assert cells.read_answers(tmp_path / "b.parquet") is None


def test_damaged_answers_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ResultsError, match=r"a\.parquet"):
        cells.read_answers(tmp_path / "a.parquet")


def test_cells_know_their_recipe_and_what_they_may_be_compared_with(tmp_path: Path) -> None:
    put(tmp_path, encoder="logmel?bands=64", seed=3)
    (done,) = cells.load([tmp_path, tmp_path])  # named twice, it is one folder all the same
    assert done.learner == ("logmel?bands=64", "mean", "svm")
    assert done.recipe.seed == 3
    assert done.question == ("esc50", "official 3 folds", 60)
    assert done.part == ""


def test_clips_that_could_not_be_read_are_of_the_question(tmp_path: Path) -> None:
    put(tmp_path, n=57, bad_clips=[{"clip": str(i), "error": "empty"} for i in range(3)])
    (done,) = cells.load([tmp_path])
    assert done.clips == 60


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"protocol": "sample: 5 group folds"}, "sample"),
        ({"protocol": "official 5 folds, incomplete: 1500 of 2000 clips"}, "incomplete"),
        ({"protocol": "official 5 folds, fold 1 only"}, "some folds"),
        ({"protocol": "official 5 folds, folds 1, 2 only"}, "some folds"),
        ({"protocol": "3 folds", "notes": ["2 of 40 files are missing: a.wav, b.wav."]}, "incomplete"),
        ({"protocol": "split by chapter inside each speaker, made by Soundmark"}, ""),
    ],
)
def test_parts_of_a_data_set_are_known_as_such(more: dict[str, object], part: str, tmp_path: Path) -> None:
    put(tmp_path, **more)  # type: ignore[arg-type]
    (done,) = cells.load([tmp_path])
    assert done.part == part


def test_half_written_files_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / ".x.123.part.json").write_text("{", encoding="utf-8")
    assert len(cells.load([tmp_path])) == 1


def test_equal_cells_of_two_machines_are_one_and_answers_are_preferred(tmp_path: Path) -> None:
    put(tmp_path / "a", answers=False)
    there = put(tmp_path / "b")
    (done,) = cells.load([tmp_path / "a", tmp_path / "b"])
    assert done.path == there


def test_a_conflict_names_both_files(tmp_path: Path) -> None:
    here, there = put(tmp_path / "a"), put(tmp_path / "b", wrong=[0])
    with pytest.raises(ResultsError) as caught:
        cells.load([tmp_path / "a", tmp_path / "b"])
    assert str(here) in str(caught.value)
    assert str(there) in str(caught.value)
    assert "0.9833" in str(caught.value)


def test_the_order_of_settings_makes_no_other_cell(tmp_path: Path) -> None:
    put(tmp_path / "a", encoder="logmel?bands=64&hop=256")
    there = put(tmp_path / "b", encoder="logmel?hop=256&bands=64")
    content = json.loads(there.read_text(encoding="utf-8"))
    content["learner"]["encoder"] = "logmel?bands=64&hop=256"  # as the protocol writes it
    there.write_text(json.dumps(content), encoding="utf-8")
    assert len(cells.load([tmp_path / "a", tmp_path / "b"])) == 1


def test_candidates_are_told_apart_by_their_recipe(tmp_path: Path) -> None:
    among = {"candidates": "2", "chosen": "on the training side of every fold"}
    put(tmp_path, head="svm?C=1,10", learner=among)
    put(tmp_path, head="knn?k=1,5", learner=among)
    assert {done.learner[2] for done in cells.load([tmp_path])} == {"svm?C=1,10", "knn?k=1,5"}


def test_equal_cells_must_agree_in_their_recipe(tmp_path: Path) -> None:
    put(tmp_path / "a")
    there = put(tmp_path / "b")
    content = json.loads(there.read_text(encoding="utf-8"))
    whole = content["command"]
    there.write_text(json.dumps(content | {"command": f"{whole} --allow-partial"}), encoding="utf-8")
    assert len(cells.load([tmp_path / "a", tmp_path / "b"])) == 1
    there.write_text(json.dumps(content | {"command": f"{whole} --inner-folds 3"}), encoding="utf-8")
    with pytest.raises(ResultsError, match="different recipes"):
        cells.load([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    "spoilt",
    [
        {"headline": {"metric": "accuracy", "value": "high", "low": 0, "high": 1}},
        {"headline": {"metric": "accuracy", "value": 0.5}},
        {"folds": [{"fold": "1"}]},
        {"protocol": None},
        {"command": "soundmark"},
        {"command": "soundmark train esc50 --no-such-option x"},
        {"command": "soundmark train esc50 --seed zero"},
        {"command": "soundmark train 'esc50"},
    ],
)
def test_what_is_no_cell_is_named(spoilt: dict[str, object], tmp_path: Path) -> None:
    path = put(tmp_path)
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | spoilt), encoding="utf-8")
    with pytest.raises(ResultsError, match="is not a result of a benchmark") as caught:
        cells.load([tmp_path])
    assert str(path) in str(caught.value)


def test_folders_without_cells_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no cells"):
        cells.load([tmp_path])
    with pytest.raises(ResultsError, match="no such folder"):
        cells.load([tmp_path / "x"])


def test_the_cells_of_this_repository_are_readable() -> None:
    folder = Path(__file__).resolve().parents[1] / "results" / "grid"
    found = cells.load([folder])
    assert len(found) == len(list(folder.glob("*.json")))
    assert all(done.part == "" for done in found)
