"""Classes left out: who is trained on what, thresholds of the training side, and what comes out."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import soundmark
from soundmark import cli, runs, unknown
from soundmark.errors import SpecError, TaskError
from soundmark.learners import Probe
from soundmark.recipe import Recipe
from soundmark.tasks.base import Clip, Task, fold_rounds
from soundmark.trained import Trained

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16&precise=true"


class Recorded(Probe):
    """A probe on vectors made up, which keeps what it was fitted on and asked of; its copies share the log."""

    log: list[tuple[frozenset[Clip], frozenset[Clip]]]

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        self.log = []
        return {}

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        self.trained = frozenset(task.clips)
        super().fit(task, seed)

    def predict_proba(self, task: Task) -> np.ndarray:
        self.log.append((self.trained, frozenset(task.clips)))
        return super().predict_proba(task)


def made(classes: int = 6, per_class: int = 20, noise: float = 0.5) -> tuple[Task, Recorded]:
    """Classes far apart in every direction: a stranger lies between the known ones."""
    names = tuple(f"class {i}" for i in range(classes))
    clips = tuple(
        Clip(f"{c}-{i:02d}.wav", (names[c],), group=f"{c}-{i // 2}", fold=str(i // 2 % 4))
        for i in range(per_class)
        for c in range(classes)
    )
    task = Task("made", Path(), clips, names, "4 folds", fold_rounds(clips))
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(classes)
    probe = Recorded(ENCODER, "mean", "logreg")
    probe.heard.vectors = (centres[task.targets()] + noise * rng.normal(size=(len(clips), classes))).astype(np.float32)
    probe.heard.rows = {clip: i for i, clip in enumerate(clips)}
    return task, probe


def test_strangers_score_below_known_classes() -> None:
    task, probe = made()
    found = unknown.measure(task, probe, parts=3, resamples=20, progress=False)
    assert sorted(label for part in found["parts"] for label in part) == sorted(task.classes)
    assert [len(part) for part in found["parts"]] == [2, 2, 2]
    assert found["accuracy"] > 0.95
    for name in unknown.SCORES:
        each = found["scores"][name]
        assert each["auroc"]["low"] <= each["auroc"]["value"] <= each["auroc"]["high"]
        assert each["auroc"]["value"] > 0.85
        assert len(each["auroc_by_part"]) == 3
        assert each["realised"]["known"]["value"] == pytest.approx(0.95, abs=0.06)
        assert each["realised"]["unknown"]["value"] < 0.5
    assert unknown.measure(task, probe, parts=3, resamples=20, progress=False) == found


def test_noise_cannot_be_told_from_noise() -> None:
    task, probe = made(noise=30.0)
    found = unknown.measure(task, probe, parts=2, resamples=20, progress=False)
    assert found["scores"]["nearness"]["auroc"]["value"] == pytest.approx(0.5, abs=0.12)


def test_nothing_of_the_left_out_classes_nor_of_the_test_side_is_learnt() -> None:
    task, probe = made()
    found = unknown.measure(task, probe, parts=3, resamples=20, progress=False)
    assert probe.log
    tests = [frozenset(task.clips[i] for i in each.test) for each in task.rounds]
    for trained, asked in probe.log:
        labels = {clip.label for clip in trained}
        assert any(labels.isdisjoint(part) for part in found["parts"])
        assert not {clip.group for clip in trained} & {clip.group for clip in asked}
        inner = asked not in tests
        assert any(not trained & test and (not inner or not asked & test) for test in tests)
        assert not inner or {clip.label for clip in asked} <= labels, "thresholds are taken from known classes"


def test_a_network_is_trained_once_for_each_part(
    toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[Task] = []
    real = Trained.fit
    monkeypatch.setattr(Trained, "fit", lambda self, task, *rest: (log.append(task), real(self, task, *rest))[1])
    out = tmp_path / "unknown.json"
    words = ["unknown", toy.name, "--network", "cnn?rate=16000&window=512&hop=256&bands=16&width=4"]
    words += ["--training", "adamw?epochs=2&batch=20&validate=false", "--device", "cpu", "--parts", "3", "-o", str(out)]
    assert cli.main(words) == 0
    found = json.loads(out.read_text("utf-8"))
    assert f"AUROC {found['scores']['nearness']['auroc']['value']:.3f}" in capsys.readouterr().out
    assert len(log) == len(found["parts"]) == 3
    for task, part, each in zip(log, found["parts"], toy.rounds, strict=False):
        assert {clip.label for clip in task.clips} == set(toy.classes) - set(part)
        assert not set(task.clips) & {toy.clips[i] for i in each.test}
        side = {toy.clips[i] for i in each.train if toy.clips[i].label not in part}
        assert set(task.clips) < side  # some of them tell the threshold
    assert shlex.split(found["command"]) == [
        "soundmark",
        *words[:4],
        *words[4:6],
        *words[8:10],
        "--accepted",
        "0.95",
        *words[10:],
    ]
    assert list(tmp_path.iterdir()) == [out]


def test_three_classes_leave_two_to_learn() -> None:
    task, probe = made(classes=3)
    assert [len(part) for part in unknown.measure(task, probe, parts=2, resamples=20, progress=False)["parts"]] == [
        1,
        1,
        1,
    ]


def test_what_cannot_be_measured_is_explained(tmp_path: Path) -> None:
    task, probe = made(classes=2)
    with pytest.raises(TaskError, match="three classes"):
        unknown.measure(task, probe)
    task, probe = made()
    with pytest.raises(SpecError, match="from 2 up"):
        unknown.measure(task, probe, parts=1)
    with pytest.raises(SpecError, match="between 0 and 1"):
        unknown.measure(task, probe, accepted=1.0)
    lame = replace(task, rounds=(replace(task.rounds[0], test=()),))
    with pytest.raises(TaskError, match="no readable clips"):
        unknown.measure(lame, probe, progress=False)
    assert cli.main(["unknown", "toy", "--head", "svm?C=1,10"]) == 1


def test_the_verb_writes_what_it_prints(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "unknown.json"
    words = ["unknown", toy.name, "--encoder", ENCODER, "--head", "prototype", "--parts", "2", "-o", str(out)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text("utf-8"))
    assert f"AUROC {found['scores']['probability']['auroc']['value']:.3f}" in printed
    assert found["command"].startswith("soundmark unknown 'toy?clips=10&seconds=0.5' --encoder")
    assert found["environment"]["packages"]


def test_a_trained_model_knows_below_which_score_a_sound_is_unknown(toy: Task, tmp_path: Path) -> None:
    recipe = Recipe(task=toy.name, encoder=ENCODER, head="logreg")
    done = runs.run(recipe, tmp_path / "run", page=False, progress=False)
    recognise = soundmark.load(tmp_path / "run")
    best = done.predictions.probabilities.max(axis=1)
    assert 0.95 <= (best >= recognise.unknown_below).mean() <= 0.96
    noise = np.random.default_rng(0).choice([-0.9, 0.9], 8000).astype(np.float32)
    answers = recognise((noise, 16000), unknown=True)
    assert (answers[0]["label"] == "unknown") == (recognise((noise, 16000))[0]["score"] < recognise.unknown_below)
