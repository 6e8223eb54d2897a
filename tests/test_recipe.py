from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from soundmark import runs
from soundmark.cli import main
from soundmark.errors import SoundmarkError, SpecError
from soundmark.recipe import Recipe

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
