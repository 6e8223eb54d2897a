from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import soundmark
from soundmark import audio, results, runs
from soundmark.cli import main
from soundmark.errors import NotExportable, ResultsError
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"
QUICK = Recipe(task=TASK, encoder=ENCODER, pooling="mean+std", head="logreg", seed=3)


def test_a_run_from_clips_to_a_portable_file(toy: Task, tmp_path: Path) -> None:
    done = runs.run(QUICK, tmp_path / "run", progress=False)
    for name in ("recipe.toml", "predictions.parquet", "predictions.csv", "metrics.json", "environment.json"):
        assert (tmp_path / "run" / name).is_file()
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert done.metrics["headline"]["value"] > 0.6
    assert done.metrics["model"]["fitted_on"] == 100

    classifier = soundmark.load(tmp_path / "run" / "model.onnx")
    assert tuple(classifier.labels) == toy.classes
    best = [classifier(toy.path(clip))[0]["label"] == clip.label for clip in toy.clips[::7]]
    assert np.mean(best) > 0.8  # clips it was fitted on

    again = runs.run(Recipe.read(tmp_path / "run"), tmp_path / "again", model=False, page=False, progress=False)
    assert again.predictions.clips == done.predictions.clips
    np.testing.assert_array_equal(again.predictions.probabilities, done.predictions.probabilities)
    compared = results.compare(done, again)
    assert compared["difference"] == 0


def test_the_same_folder_goes_on_and_another_recipe_is_refused(toy: Task, tmp_path: Path) -> None:
    runs.run(QUICK, tmp_path / "run", model=False, page=False, progress=False)
    before = (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns
    runs.run(QUICK, tmp_path / "run", model=False, page=False, progress=False)
    assert (tmp_path / "run" / "folds" / "1.json").stat().st_mtime_ns == before
    with pytest.raises(ResultsError, match="another recipe"):
        runs.run(Recipe(task=TASK, encoder=ENCODER), tmp_path / "run", progress=False)


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(ResultsError, match="not empty"):
        runs.run(QUICK, tmp_path, progress=False)
    with pytest.raises(ResultsError, match="is a file"):
        runs.run(QUICK, tmp_path / "thesis.txt", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_has_no_graph_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soundmark.encoders.spectral import SpectralEncoder

    monkeypatch.setattr(SpectralEncoder, "exportable", False)
    with pytest.raises(NotExportable):
        runs.run(QUICK, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_candidates_are_chosen_inside_and_the_winner_is_in_the_file(toy: Task, tmp_path: Path) -> None:
    many = Recipe(task=TASK, encoder=ENCODER, pooling="mean|mean+std", head="logreg?C=0.01,1")
    done = runs.run(many, tmp_path / "run", page=False, progress=False)
    assert len(done.metrics["selection"]) == 5
    assert len(done.metrics["selection"][0]["candidates"]) == 4
    written = soundmark.load(tmp_path / "run" / "model.onnx").metadata["learner"]
    assert " / ".join(written.values()) == done.metrics["model"]["learner"]


def test_your_own_folder_of_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        time = np.arange(8000) / 16000
        audio.write(tmp_path / "mine" / "hiss" / f"{i}.wav", rng.normal(0, 0.1, 8000).astype(np.float32), 16000)
        tone = 0.3 * np.sin(2 * np.pi * (300 + 40 * i) * time) + rng.normal(0, 0.001, 8000)
        audio.write(tmp_path / "mine" / "hum" / f"{i}.wav", tone.astype(np.float32), 16000)
    words = ["train", str(tmp_path / "mine"), "--encoder", ENCODER, "--head", "logreg", "--out", str(tmp_path / "run")]
    assert main([*words, "--no-report"]) == 0
    printed = capsys.readouterr().out
    assert "100.00%" in printed
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["classes"] == ["hiss", "hum"]
    assert soundmark.load(tmp_path / "run" / "model.onnx")(tmp_path / "mine" / "hum" / "3.wav")[0]["label"] == "hum"


def test_a_run_that_comes_to_nothing_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in "ab":
        for i in range(3):
            (tmp_path / "mine" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / label / f"{i}.wav").write_bytes(b"RIFF" + bytes([i]) * 50)
    assert main(["train", str(tmp_path / "mine"), "--out", str(tmp_path / "run")]) == 1
    assert "no clip of" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
