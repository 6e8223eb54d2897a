from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundmark import benchmark
from soundmark.cli import main
from soundmark.errors import ResultsError
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


def test_a_grid_measures_only_what_is_missing(
    toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", "--tasks", TASK, "--encoders", ENCODER, "--poolings", "mean", "mean+std"]
    words += ["--heads", "logreg", "--out", str(tmp_path)]
    measured = []
    real = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", lambda recipe: (measured.append(recipe), real(recipe))[1])
    assert main(words) == 0
    assert len(measured) == 2
    assert main([*words, "--seeds", "2"]) == 0
    assert len(measured) == 4
    assert {recipe.seed for recipe in measured[2:]} == {1}
    assert capsys.readouterr().out.count("%") == 3 * (2 + 4)
    cell = json.loads(next(iter(sorted(tmp_path.iterdir()))).read_text(encoding="utf-8"))
    assert cell["command"].startswith("soundmark train")
    assert cell["learner"]["head"] == "logreg"
    assert {"headline", "folds", "metrics", "environment", "protocol"} <= cell.keys()


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"x\.json"):
        benchmark.read(tmp_path / "x.json")


def test_cells_have_different_files(tmp_path: Path) -> None:
    grid = benchmark.cells(
        ["toy", "esc50:danger"], ["logmel", "mfcc"], ["mean"], ["svm?C=1", "svm?C=2"], [0, 1], tmp_path
    )
    assert len({cell.path for cell in grid}) == len(grid) == 16
