"""Few clips per class: the draws, the curve, and a training that does not stumble over tiny classes."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import soundmark
from soundmark import audio, cli, fewshot, heads, protocol, runs, tasks
from soundmark.errors import SpecError
from soundmark.learners import Probe, probes
from soundmark.recipe import Recipe
from soundmark.tasks.base import Clip, Round, Task
from soundmark.tasks.toy import SOUNDS, synthesise

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16&precise=true"


def folder(root: Path, classes: int, clips: int) -> Path:
    for label in list(SOUNDS)[:classes]:
        for number in range(clips):
            audio.write(root / label / f"{number}.wav", synthesise(label, number, 0, 0.5), 16000)
    return root


def test_draws_come_from_different_groups_and_are_nested() -> None:
    clips = tuple(Clip(f"{i}.wav", ("a" if i < 8 else "b",), group=str(i // 2)) for i in range(16))
    task = Task("made", Path(), clips, ("a", "b"), "1 fold", (Round("1", tuple(range(2, 16)), (0, 1)),))
    draws = [fewshot.draw(task, task.rounds[0], k, np.random.default_rng(4)) for k in (1, 2, 3, 5, 20)]
    assert all(set(few) <= set(more) for few, more in itertools.pairwise(draws))
    for k, drawn in zip((1, 2, 3), draws, strict=False):
        assert [clips[i].label for i in drawn] == ["a"] * k + ["b"] * k
        assert len({clips[i].group for i in drawn}) == 2 * k
    assert draws[-1] == list(range(2, 16))
    assert draws[0] != fewshot.draw(task, task.rounds[0], 1, np.random.default_rng(5))


def test_a_clip_without_group_is_a_group_of_its_own() -> None:
    clips = tuple(Clip(f"{i}.wav", ("ab"[i % 2],)) for i in range(8))
    task = Task("made", Path(), clips, ("a", "b"), "1 fold", (Round("1", tuple(range(8)), ()),))
    assert len(fewshot.draw(task, task.rounds[0], 3, np.random.default_rng(0))) == 6


def test_more_clips_make_a_better_score(toy: Task) -> None:
    found = fewshot.curve(toy, probes(ENCODER, "mean+std", "prototype"), shots=(8, 1, 50), repeats=3, progress=False)
    one, eight, all_there_are = found["curve"]
    assert [row["shots"] for row in found["curve"]] == [1, 8, 50]
    assert eight["mean"] > one["mean"] > 0.2  # chance is 0.1
    assert eight["low"] <= eight["mean"] <= eight["high"]
    assert len(one["draws"]) == 15
    assert one["std"] > 0
    assert all_there_are["clips_per_class"] == {"min": 8, "max": 8}
    assert all_there_are["mean"] == eight["mean"]
    again = fewshot.curve(toy, probes(ENCODER, "mean+std", "prototype"), shots=[1], repeats=3, progress=False)
    assert again["curve"][0] == one
    other = fewshot.curve(toy, probes(ENCODER, "mean+std", "prototype"), shots=[1], repeats=3, seed=1, progress=False)
    assert other["curve"][0] != one


def test_a_draw_chooses_among_candidates_on_its_own_clips(toy: Task) -> None:
    found = fewshot.curve(toy, probes(ENCODER, "mean", "knn?k=1,3|prototype"), shots=(1, 4), repeats=1, progress=False)
    assert len(found["learner"]["candidates"]) == 3
    assert len(found["curve"]) == 2


@pytest.mark.parametrize(("shots", "repeats"), [((0,), 1), ((), 1), ((1,), 0)])
def test_no_shots_are_an_error(toy: Task, shots: tuple[int, ...], repeats: int) -> None:
    with pytest.raises(SpecError, match="from 1 up"):
        fewshot.curve(toy, probes(ENCODER, "mean", "knn"), shots=shots, repeats=repeats)


def test_the_verb_writes_what_it_prints(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "few.json"
    words = ["fewshot", toy.name, "--encoder", ENCODER, "--shots", "1", "20", "--repeats", "1", "-o", str(out)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    content = json.loads(out.read_text("utf-8"))
    assert f"{content['curve'][0]['mean']:.2%}" in printed
    assert "a class has 8 only" in printed
    assert content["command"].startswith("soundmark fewshot 'toy?clips=10&seconds=0.5' --encoder")
    assert content["environment"]["packages"]


@pytest.mark.filterwarnings(f"ignore:{heads.MANY_CLASSES}:UserWarning")  # pytest sets the filters anew
@pytest.mark.parametrize("head", [*heads.HEADS, "svm+prototype", "linear?epochs=auto"])
def test_every_head_learns_from_one_clip_of_many_classes(head: str) -> None:
    """scikit-learn warns where half the labels are classes, and nothing can be held out."""
    probe = Probe(ENCODER, "mean", head)
    clips = tuple(Clip(f"{i}.wav", (f"{i:02d}",), group=str(i)) for i in range(30))
    task = Task("made", Path(), clips, tuple(f"{i:02d}" for i in range(30)), "", ())
    probe.heard.vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    probe.heard.rows = {clip: i for i, clip in enumerate(clips)}
    probe.fit(task, 0)
    said = probe.predict_proba(task)
    assert np.isfinite(said).all()
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(("classes", "clips", "head"), [(2, 5, "svm"), (3, 2, "svm"), (3, 2, "logreg?C=0.1,1")])
def test_a_folder_with_a_handful_of_clips_becomes_a_model(tmp_path: Path, classes: int, clips: int, head: str) -> None:
    recipe = Recipe(task=str(folder(tmp_path / "sounds", classes, clips)), encoder=ENCODER, head=head)
    done = runs.run(recipe, tmp_path / "run", page=False, progress=False)
    assert done.metrics["clips"] == classes * clips
    assert done.metrics["headline"]["value"] >= 0.5
    recognise = soundmark.load(tmp_path / "run")
    assert len(recognise.labels) == classes


def test_alarms_of_tiny_classes_have_no_threshold_or_a_sound_one(tmp_path: Path) -> None:
    task = tasks.load(str(folder(tmp_path, 2, 2)))
    task = replace(task, positive=task.classes[0])
    measured = protocol.evaluate(task, [Probe(ENCODER, "mean", "svm")], progress=False)
    assert "alarm" not in measured.summary, "one clip per class and side: nothing to take a threshold from"
    task = replace(tasks.load(str(folder(tmp_path, 2, 5))), positive=task.classes[0])
    rows = protocol.evaluate(task, [Probe(ENCODER, "mean", "svm")], progress=False).summary["alarm"]
    assert [row["max_false_alarm"] for row in rows] == [0.05, 0.01]
