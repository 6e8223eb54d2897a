from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soundmark import runs
from soundmark.cli import main
from soundmark.cli.tune import winners
from soundmark.recipe import Recipe

pytest.importorskip("optuna", reason="SKIPPED FOR WANT OF OPTUNA: searches are not tested")

TASK = "toy?clips=10&seconds=0.5"
PROBE = ["--encoder", "logmel?rate=16000&window=512&hop=256&bands=16", "--head", "logreg?C=0.01..10"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that would have been followed."""
    seen: list[Recipe] = []
    metrics = {
        "headline": {"metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6}, "tuned": [], "task": "toy",
        "protocol": "5 folds", "clips": 1, "groups": 1,
    }  # fmt: skip
    monkeypatch.setattr(
        runs, "run", lambda recipe, *_, **__: (seen.append(recipe), SimpleNamespace(metrics=metrics))[1]
    )
    return seen


def test_it_ends_with_the_score_the_winners_and_where_things_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", TASK, *PROBE, "--trials", "3", "--out", str(tmp_path / "run"), "--no-report", "--folds", "1,2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"accuracy: \d+\.\d+%", lines[1])
    for fold in (1, 2):
        (line,) = (line for line in lines if line.startswith(f"fold {fold}: "))
        assert re.fullmatch(rf"fold {fold}: logreg\.C = \S+ \(\d+\.\d+% on 20 clips held out; 3 trials\)", line)
    assert f"settings:    {tmp_path / 'run' / 'tuned.toml'}" in lines
    before = (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns
    assert main([*words, "--no-model"]) == 0  # what is measured already is not measured again
    assert (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns == before

    again = ["train", "--recipe", str(tmp_path / "run"), "--no-model", "--no-report", "--out", str(tmp_path / "run")]
    assert main(again) == 0  # the recipe says how many trials
    found = Recipe.read(tmp_path / "run" / "tuned.toml")
    assert re.fullmatch(r"logreg\?C=[\d.]+", found.head)


def test_a_recipe_is_taken_with_what_is_to_be_tuned(asked: list[Recipe], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('task = "toy"\nnetwork = "cnn"\naugment = "gain"\n', encoding="utf-8")
    words = ["tune", "--recipe", str(tmp_path / "recipe.toml"), "--training", "adamw?rate=0.001..0.01"]
    assert main(words) == 0
    assert main([*words, "--trials", "7", "--out", str(tmp_path / "x")]) == 0
    first, second = asked
    assert (first.network, first.augment, first.training) == ("cnn", "gain", "adamw?rate=0.001..0.01")
    assert (first.trials, second.trials) == (30, 7)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", TASK, "--head", "logreg?C=1"], "there is nothing to tune"),
        (["tune", TASK, "--head", "logreg?C=1..", "--trials", "3"], "cannot read the range"),
        (["tune", TASK, *PROBE, "--trials", "0"], "--trials should be 1 or more"),
        (["train", TASK, *PROBE], "soundmark tune"),
    ],
)
def test_mistakes_are_explained(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_optuna_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", TASK, *PROBE]) == 1
    assert "pip install 'soundmark[tune]'" in capsys.readouterr().err


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--recipes"]) == 0
    assert "small-cnn" in capsys.readouterr().out


def test_what_was_found_is_said_in_a_line() -> None:
    best: dict[str, Any] = {"best": {"adamw.rate": "0.003", "cnn.width": "16"}, "score": 0.85, "held_out": 320}
    counts = {"trials": 30, "pruned": 12, "failed": 1}
    none = {"trials": 0, "pruned": 0, "failed": 0, "score": None, "held_out": 0}
    assert list(winners({"tuned": [{"fold": "1"} | best | counts, {"fold": "2"} | best | none]})) == [
        "fold 1: adamw.rate = 0.003, cnn.width = 16 (85.00% on 320 clips held out; 30 trials, 12 given up early, "
        "1 failed)",
        "fold 2: adamw.rate = 0.003, cnn.width = 16 (nothing could be held out to choose by)",
    ]
