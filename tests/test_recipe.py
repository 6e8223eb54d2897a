from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import soundmark
from soundmark import audio, recipe, results
from soundmark.cli import main
from soundmark.errors import NotExportable, ResultsError, SpecError
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task

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
    monkeypatch.setattr(recipe, "run", lambda given, folder, **_: asked.append(given) or pytest.skip.Exception)  # type: ignore[func-returns-value]
    words = shlex.split(QUICK.command())
    assert words[0] == "soundmark"
    with pytest.raises(AttributeError):  # the stand-in gives no run to print
        main(words[1:])
    assert asked == [QUICK]


def test_folder_names_differ_by_recipe() -> None:
    assert QUICK.folder_name != Recipe(**asdict(QUICK) | {"seed": 4}).folder_name
    assert all(c.isalnum() or c in "._-" for c in QUICK.folder_name)


def test_a_run_from_clips_to_a_portable_file(toy: Task, tmp_path: Path) -> None:
    done = recipe.run(QUICK, tmp_path / "run", progress=False)
    for name in ("recipe.toml", "predictions.parquet", "predictions.csv", "metrics.json", "environment.json"):
        assert (tmp_path / "run" / name).is_file()
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert done.metrics["headline"]["value"] > 0.6
    assert done.metrics["model"]["fitted_on"] == 100

    classifier = soundmark.load(tmp_path / "run" / "model.onnx")
    assert tuple(classifier.labels) == toy.classes
    best = [classifier(toy.path(clip))[0]["label"] == clip.label for clip in toy.clips[::7]]
    assert np.mean(best) > 0.8  # clips it was fitted on

    again = recipe.run(Recipe.read(tmp_path / "run"), tmp_path / "again", model=False, page=False, progress=False)
    assert again.predictions.clips == done.predictions.clips
    np.testing.assert_array_equal(again.predictions.probabilities, done.predictions.probabilities)
    compared = results.compare(done, again)
    assert compared["difference"] == 0


def test_the_same_folder_goes_on_and_another_recipe_is_refused(toy: Task, tmp_path: Path) -> None:
    recipe.run(QUICK, tmp_path / "run", model=False, page=False, progress=False)
    before = (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns
    recipe.run(QUICK, tmp_path / "run", model=False, page=False, progress=False)
    assert (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns == before
    with pytest.raises(ResultsError, match="another recipe"):
        recipe.run(Recipe(task=TASK, encoder=ENCODER), tmp_path / "run", progress=False)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(ResultsError, match="not empty"):
        recipe.run(QUICK, tmp_path, progress=False)
    with pytest.raises(ResultsError, match="is a file"):
        recipe.run(QUICK, tmp_path / "thesis.txt", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_has_no_graph_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soundmark.encoders.spectral import SpectralEncoder

    monkeypatch.setattr(SpectralEncoder, "exportable", False)
    with pytest.raises(NotExportable):
        recipe.run(QUICK, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_candidates_are_chosen_inside_and_the_winner_is_in_the_file(toy: Task, tmp_path: Path) -> None:
    many = Recipe(task=TASK, encoder=ENCODER, pooling="mean|mean+std", head="logreg?C=0.01,1")
    done = recipe.run(many, tmp_path / "run", page=False, progress=False)
    assert len(done.metrics["selection"]) == 5
    assert len(done.metrics["selection"][0]["candidates"]) == 4
    written = soundmark.load(tmp_path / "run" / "model.onnx").metadata["learner"]
    assert " / ".join(written.values()) == done.metrics["model"]["learner"]


def test_your_own_folder_of_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        time = np.arange(8000) / 16000
        audio.write(tmp_path / "mine" / "hiss" / f"{i}.wav", rng.normal(0, 0.1, 8000).astype(np.float32), 16000)
        tone = 0.3 * np.sin(2 * np.pi * (300 + 40 * i) * time)
        audio.write(tmp_path / "mine" / "hum" / f"{i}.wav", tone.astype(np.float32), 16000)
    words = ["train", str(tmp_path / "mine"), "--encoder", ENCODER, "--head", "logreg", "--out", str(tmp_path / "run")]
    assert main([*words, "--no-report"]) == 0
    printed = capsys.readouterr().out
    assert "100.00%" in printed
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["classes"] == ["hiss", "hum"]
    assert soundmark.load(tmp_path / "run" / "model.onnx")(tmp_path / "mine" / "hum" / "3.wav")[0]["label"] == "hum"
