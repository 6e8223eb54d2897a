"""A grid on Ray: the results of the grid here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rays import ENCODER, MARKS, TASK
from soundmark import benchmark, cells, farm
from soundmark.cli import main
from soundmark.tasks.base import Task

pytestmark = MARKS


def command(folder: Path, *more: str) -> list[str]:
    words = ["benchmark", "--tasks", TASK, "--encoders", ENCODER, "--poolings", "mean", "mean+std"]
    return [*words, "--heads", "logreg", "linear?epochs=3", *more, "--out", str(folder)]


def measured(folder: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def test_cells_are_those_of_the_local_engine(
    running_ray: Any, toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path / "local")) == 0
    assert main(command(tmp_path / "ray", "--engine", "ray")) == 0
    here, there = measured(tmp_path / "local"), measured(tmp_path / "ray")
    assert here.keys() == there.keys()
    assert len(here) == 4
    for name, cell in here.items():
        for key in ("headline", "metrics", "folds", "clips", "command", "protocol", "notes"):
            assert strip(there[name][key]) == strip(cell[key]), (name, key)
        one, other = (cells.read_answers(cells.answers_path(tmp_path / where / name)) for where in ("local", "ray"))
        assert one is not None
        assert other is not None
        assert one.clips == other.clips
        np.testing.assert_array_equal(one.predicted, other.predicted)
    # Both poolings were taken from one encoding.
    assert len(list((tmp_path / "ray" / ".benchmark" / "vectors").iterdir())) == 1
    assert (tmp_path / "ray" / "leaderboard.md").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray").glob("*.json")}
    capsys.readouterr()
    assert main(command(tmp_path / "ray", "--engine", "ray")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("%") == 3 * 4


def strip(said: Any) -> Any:
    """Without what takes another time each time."""
    if isinstance(said, dict):
        return {key: strip(value) for key, value in said.items() if "seconds" not in key}
    return [strip(each) for each in said] if isinstance(said, list) else said


def test_a_cell_that_cannot_be_measured_is_noted_and_the_others_go_on(
    running_ray: Any, toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(tmp_path, "--engine", "ray")
    words.insert(3, str(tmp_path / "gone.csv"))
    assert main(words) == 1
    said = capsys.readouterr()
    assert "4 of 8 cells could not be measured" in said.err
    assert "there is no task, folder or manifest" in said.err
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert len(list(tmp_path.glob("*.error.txt"))) == 4


def test_what_is_known_needs_no_ray(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    grid = benchmark.cells([TASK], [ENCODER], ["mean"], ["logreg"], [0], tmp_path)
    (done,) = benchmark.run(grid, progress=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    (again,) = farm.run(grid, progress=False)
    assert again.result == done.result
    assert not again.fresh
