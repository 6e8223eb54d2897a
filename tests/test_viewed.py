"""Runs seen through views: what is summed, what is left out, and where thresholds come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soundmark import cli
from soundmark.detection import choose_threshold
from soundmark.errors import ResultsError, TaskError
from soundmark.results import Predictions, Run
from soundmark.viewed import through

CLASSES = ("siren", "glass", "rain", "birds")
VIEW = """title = "Danger or safe"
positive = "danger"
metric = "balanced_accuracy"
[map]
siren = "danger"
glass = "danger"
"""


def made(folder: Path, clips: int = 60, task: str = "mine") -> Run:
    """A run of four classes on three folds, right two times of three."""
    rng = np.random.default_rng(4)
    targets = np.arange(clips) % len(CLASSES)
    scores = rng.random((clips, len(CLASSES))) + 0.8 * np.eye(len(CLASSES))[targets]
    predictions = Predictions(
        clips=[f"{i}.wav" for i in range(clips)], paths=[f"{i}.wav" for i in range(clips)], starts=[0.0] * clips,
        ends=[None] * clips, groups=[f"g{i // 2}" for i in range(clips)], folds=[str(1 + i % 3) for i in range(clips)],
        targets=targets, probabilities=scores / scores.sum(1, keepdims=True), classes=CLASSES,
    )  # fmt: skip
    from soundmark import metrics

    found = metrics.summary(predictions, metric="accuracy", n=20)
    found |= {"task": task, "title": "Mine", "protocol": "3 folds", "learner": {"network": "cnn"}, "seed": 0}
    run = Run(folder, {"task": task}, predictions, found | {"notes": ["of mine"], "bad_clips": []}, {"commit": "abc"})
    folder.mkdir(parents=True)
    run.write()
    return run


@pytest.fixture
def view(tmp_path: Path) -> str:
    file = tmp_path / "alarm.toml"
    file.write_text(VIEW + 'rain = "safe"\nbirds = "safe"\n')
    return str(file)


def test_probabilities_of_joined_classes_are_summed(tmp_path: Path, view: str) -> None:
    run = made(tmp_path / "run")
    done = through(run, view, tmp_path / "seen")
    assert done.predictions.classes == ("danger", "safe")
    danger = run.predictions.probabilities[:, :2].sum(1)
    np.testing.assert_allclose(done.predictions.probabilities, np.column_stack([danger, 1 - danger]))
    assert done.predictions.targets.tolist() == [int(target > 1) for target in run.predictions.targets]
    assert done.metrics["headline"]["metric"] == "balanced_accuracy"
    assert done.metrics["learner"] == {"network": "cnn"}
    assert done.metrics["notes"][0] == "of mine"
    again = Run.read(tmp_path / "seen")
    assert again.metrics == json.loads(json.dumps(done.metrics))
    assert again.environment == {"commit": "abc"}


def test_a_folds_threshold_has_seen_none_of_its_clips(tmp_path: Path, view: str) -> None:
    run = made(tmp_path / "run")
    done = through(run, view, tmp_path / "seen")
    rows = {row["max_false_alarm"]: row for row in done.metrics["alarm"]}
    danger, folds = done.predictions.probabilities[:, 0], np.asarray(done.predictions.folds)
    for rate, row in rows.items():
        assert row["thresholds"] == {
            fold: choose_threshold(danger[folds != fold], done.predictions.targets[folds != fold] == 0, rate)
            for fold in ("1", "2", "3")
        }
    turned = run.predictions.probabilities.copy()
    turned[folds == "1"] = turned[folds == "1"][:, ::-1]
    other = replace(run, predictions=replace(run.predictions, probabilities=turned))
    found = {row["max_false_alarm"]: row for row in through(other, view, tmp_path / "other").metrics["alarm"]}
    assert found[0.05]["thresholds"]["1"] == rows[0.05]["thresholds"]["1"]
    assert found[0.05]["thresholds"]["2"] != rows[0.05]["thresholds"]["2"]


def test_clips_of_classes_left_out_are_left_out(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    file = tmp_path / "some.toml"
    file.write_text(VIEW + 'rain = "safe"\n')
    done = through(run, str(file), tmp_path / "seen")
    kept = run.predictions.targets < 3
    assert len(done.predictions.clips) == kept.sum()
    assert done.predictions.clips == [clip for clip, here in zip(run.predictions.clips, kept, strict=True) if here]
    np.testing.assert_allclose(done.predictions.probabilities[:, 1], run.predictions.probabilities[kept, 2])


def test_one_fold_has_no_other_to_take_a_threshold_from(tmp_path: Path, view: str) -> None:
    run = made(tmp_path / "run")
    one = replace(run, predictions=replace(run.predictions, folds=["1"] * len(run.predictions.clips)))
    assert "alarm" not in through(one, view, tmp_path / "seen").metrics


def test_what_cannot_be_seen_so_is_explained(tmp_path: Path, view: str) -> None:
    run = made(tmp_path / "run")
    with pytest.raises(ResultsError, match="run of the view 'danger' already"):
        through(made(tmp_path / "viewed", task="esc50:danger"), view, tmp_path / "seen")
    with pytest.raises(ResultsError, match="holds something else already"):
        through(run, view, tmp_path / "run")
    assert Run.read(tmp_path / "run").metrics["task"] == "mine"
    with pytest.raises(TaskError, match="has no view 'dusk'"):
        through(run, "dusk", tmp_path / "seen")
    assert not (tmp_path / "seen").exists()


def test_the_command_writes_and_prints_it(
    tmp_path: Path, view: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "run")
    assert cli.main(["report", str(tmp_path / "run"), "--view", view, "--no-audio"]) == 0
    said = capsys.readouterr().out
    assert "recall at 5% false alarms" in said
    page = (tmp_path / "run-alarm" / "report.html").read_text("utf-8")
    assert "Thresholds come from the test clips of all other folds;" in page
    assert (tmp_path / "run-alarm" / "report.html").exists()
    first = Run.read(tmp_path / "run-alarm").metrics
    assert cli.main(["report", str(tmp_path / "run"), "--view", view, "--no-audio"]) == 0  # its own may be renewed
    assert Run.read(tmp_path / "run-alarm").metrics == first
    assert cli.main(["report", str(tmp_path / "run"), "--out", "x"]) == 1
    assert "--out is the folder of one run" in capsys.readouterr().err
    with monkeypatch.context() as patch:  # where the run is does not belong into what is published of it
        patch.chdir(tmp_path)
        assert cli.main(["report", "run", "--view", view, "--no-audio"]) == 0
        assert Run.read("run-alarm").metrics["command"].endswith("--out run-alarm")
        patch.chdir(tmp_path / "run")
        assert cli.main(["report", ".", "--view", view, "--no-audio"]) == 0
