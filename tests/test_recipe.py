from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from soundmark import encoders, heads, networks, runs, tasks
from soundmark.cli import main
from soundmark.encoders import weights
from soundmark.errors import SoundmarkError, SpecError
from soundmark.networks import augment
from soundmark.networks.settings import parse_training
from soundmark.recipe import Recipe, shipped
from soundmark.spec import candidates, corners, parse

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"
QUICK = Recipe(task=TASK, encoder=ENCODER, pooling="mean+std", head="logreg", seed=3)


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(QUICK.to_toml(), encoding="utf-8")
    assert Recipe.read(tmp_path) == Recipe.read(tmp_path / "recipe.toml") == QUICK


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no task"),
        ("task = 3", "should be str"),
        ('task = "toy"\nseed = "a"', "should be int"),
        ('task = "toy"\nseed = true', "should be int"),
        ('task = "toy"\nhaed = "svm"', "haed"),
        ('task = "toy"\nseed = -1', "seed should be from 0"),
        ('task = "toy"\ninner_folds = 1', "inner_folds should be 2"),
        ('task = "toy"\ntrials = -1', "trials should be 0 or more"),
        ('task = "toy"\nnetwork = "cnn"\nhead = "logreg"', "both a network and head"),
        ('task = "toy"\naugment = "gain"', "augment and no network"),
        ("task = ", "cannot read"),
    ],
)
def test_a_bad_recipe_says_what_is_wrong_and_where(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=words) as caught:
        Recipe.read(file)
    assert "mine.toml" in str(caught.value)


def test_the_command_line_says_the_same_as_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(given: Recipe, folder: Path, **_: object) -> None:
        asked.append(given)
        raise SoundmarkError("far enough")

    monkeypatch.setattr(runs, "run", stand_in)
    words = shlex.split(QUICK.command(tmp_path))
    assert words[0] == "soundmark"
    assert main(words[1:]) == 1
    assert asked == [QUICK]


def test_folder_names_differ_by_recipe() -> None:
    assert QUICK.folder_name != Recipe(**asdict(QUICK) | {"seed": 4}).folder_name
    assert all(c.isalnum() or c in "._-" for c in QUICK.folder_name)


NETWORK = Recipe(
    task=TASK, network="cnn?width=4", augment="gain+mix", training="adamw?rate=0.01", folds="2", teacher="small-cnn"
)


def test_a_file_holds_what_its_kind_of_learner_needs() -> None:
    assert "head" not in NETWORK.to_toml()
    assert "network" not in QUICK.to_toml()
    assert 'folds = "2"' in NETWORK.to_toml()
    assert "\nfolds" not in QUICK.to_toml()


def test_a_network_survives_its_file_and_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.toml").write_text(NETWORK.to_toml(), encoding="utf-8")
    assert Recipe.read(tmp_path) == NETWORK
    asked = []

    def stand_in(given: Recipe, folder: Path, **_: object) -> None:
        asked.append(given)
        raise SoundmarkError("far enough")

    monkeypatch.setattr(runs, "run", stand_in)
    assert main(shlex.split(NETWORK.command(tmp_path))[1:]) == 1
    assert main(["train", "--recipe", str(tmp_path), "--encoder", "mfcc"]) == 1
    assert asked == [NETWORK, Recipe(task=TASK, encoder="mfcc", folds="2")]


@pytest.mark.parametrize("name", shipped())
def test_recipes_that_come_along_name_what_there_is(name: str) -> None:
    recipe = Recipe.read(name)
    assert shipped()[name]
    assert recipe.task.partition(":")[0] in tasks.TASKS
    if not recipe.network:
        assert all(parse(each).name in encoders.ENCODERS for each in candidates(recipe.encoder))
        assert [heads.build(each) for each in candidates(recipe.head)]
        return
    (first, *_), (settled, *_) = corners(recipe.network), corners(recipe.training)
    parse_training(settled)
    if parse(first).name not in weights.CHECKPOINTS or weights.located(parse(first).name):
        augment.parse(recipe.augment).check(networks.build(first, 2).front)


def test_an_unknown_recipe_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match="small-cnn"):
        Recipe.read("smal-cnn")
    assert main(["train", "--recipes"]) == 0
    assert "small-cnn" in capsys.readouterr().out
