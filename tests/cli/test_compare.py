from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundmark import runs
from soundmark.cli import main
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture
def two_runs(toy: Task, tmp_path: Path) -> list[str]:
    for name, pooling in (("a", "mean"), ("b", "mean+std+max")):
        recipe = Recipe(task=TASK, encoder=ENCODER, pooling=pooling, head="lda")
        runs.run(recipe, tmp_path / name, model=False, page=False, progress=False)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_two_runs_are_compared_on_the_same_clips(two_runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *two_runs]) == 0
    assert "McNemar" in capsys.readouterr().out
    assert main(["compare", "--json", *two_runs]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["run"] == two_runs[1]
    assert row["low"] <= row["difference"] <= row["high"]
    assert 0 <= row["permutation"]["p"] <= 1


def test_every_class_has_its_line(two_runs: list[str], toy: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *two_runs, "--per-class"]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(i for i, line in enumerate(lines) if "p (Holm)" in line)
    table = [line.split() for line in lines[header + 1 :]]
    assert {words[0] for words in table} == set(toy.classes)
    changes = [float(words[4].rstrip("%")) for words in table]
    assert changes == sorted(changes)
    assert main(["compare", "--json", "--per-class", *two_runs]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert [each["label"] for each in row["per_class"]] == list(toy.classes)
    assert sum(len(each["won"]) for each in row["per_class"]) == row["only_b"]


def test_one_run_cannot_be_compared(two_runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", two_runs[0]]) == 1
    assert "at least two" in capsys.readouterr().err
