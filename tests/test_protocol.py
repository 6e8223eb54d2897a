from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundmark import detection, protocol
from soundmark.errors import LeakError, ResultsError, SoundmarkError, TaskError
from soundmark.learners import Probe
from soundmark.tasks.base import Clip, Round, Task, fold_rounds

CLASSES = ("safe", "danger")


def made_task(per_group: int = 2, groups: int = 30) -> Task:
    """Two classes, five folds, groups of clips that share a fold; the names carry what the oracle below needs."""
    clips = tuple(
        Clip(f"{g:03d}-{i}.wav", (CLASSES[g % 2],), group=f"g{g}", fold=str(g % 5 + 1))
        for g in range(groups)
        for i in range(per_group)
    )
    return Task("made", Path(), clips, CLASSES, "5 folds", fold_rounds(clips), positive="danger")


class Oracle:
    """A learner that is right with a stated skill, and remembers what it was shown."""

    threads = 2
    content = "as recorded"

    def __init__(self, name: str = "oracle", skill: float = 1.0, log: list[Any] | None = None) -> None:
        self.name, self.skill = name, skill
        self.log: list[Any] = [] if log is None else log
        self.trained: set[Clip] = set()

    def describe(self) -> Mapping[str, str]:
        return {"encoder": self.name, "pooling": "mean", "head": "none"}

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        return {}

    def fingerprint(self) -> str:
        return self.content

    def fresh(self) -> Oracle:
        return Oracle(self.name, self.skill, self.log)

    def training(self) -> dict[str, Any]:
        return {}

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        self.trained = set(task.clips)
        assert task.rounds == ()  # a learner never sees the protocol

    def predict_proba(self, task: Task) -> np.ndarray:
        assert not self.trained & set(task.clips), "tested on what it was trained on"
        self.log.append((self.name, frozenset(self.trained), frozenset(task.clips)))
        draw = np.random.default_rng(len(task.clips)).random(len(task.clips))
        target = np.asarray(task.targets())
        said = np.where(draw < self.skill, target, 1 - target)
        return np.stack([1 - said, said], axis=1) * 0.8 + 0.1


def test_every_clip_is_tested_once_by_a_learner_that_did_not_meet_its_group() -> None:
    task, oracle = made_task(), Oracle()
    measured = protocol.evaluate(task, [oracle], progress=False)
    assert list(measured.predictions.clips) == [clip.key for clip in task.clips]
    assert measured.summary["headline"]["value"] == 1.0
    for _, trained, tested in oracle.log:
        assert not {clip.group for clip in trained} & {clip.group for clip in tested}


def test_the_choice_uses_the_training_side_only() -> None:
    task, log = made_task(), []  # type: ignore[var-annotated]
    candidates = [Oracle("poor", 0.5, log), Oracle("good", 1.0, log), Oracle("fair", 0.7, log)]
    measured = protocol.evaluate(task, candidates, progress=False)
    assert [each["chosen"] for each in measured.summary["selection"]] == ["good / mean / none"] * 5
    for each in task.rounds:
        tests = frozenset(task.clips[i] for i in each.test)
        whole = frozenset(task.clips[i] for i in each.train)
        met = [(name, trained) for name, trained, tested in log if tests & tested and trained == whole]
        assert met == [("good", whole)]  # the winner alone, refitted on the whole training side, once
    inner = [(trained, tested) for name, trained, tested in log if name == "poor"]
    assert inner
    sides = [frozenset(task.clips[i] for i in each.train) for each in task.rounds]
    assert all(any(trained | tested <= side for side in sides) for trained, tested in inner)


def test_ties_go_to_the_first_candidate() -> None:
    chosen, scores = protocol.choose(made_task(), [Oracle("a"), Oracle("b")], seed=0)
    assert chosen == 0
    assert scores == [1.0, 1.0]


def test_thresholds_come_from_the_training_side() -> None:
    task, oracle = made_task(), Oracle(skill=0.8)
    measured = protocol.evaluate(task, [oracle], progress=False)
    rows = {row["max_false_alarm"]: row for row in measured.summary["alarm"]}
    assert set(rows) == set(detection.FALSE_ALARM_RATES)
    for row in rows.values():
        assert set(row["thresholds"]) == {"1", "2", "3", "4", "5"}
        assert 0 <= row["realised"] <= 1
        assert row["low"] <= row["recall"] <= row["high"]
    # With another test side, the thresholds of a fold stay: nothing of the test side went into them.
    first = task.rounds[0]
    flipped = tuple(
        replace(clip, labels=(CLASSES[1 - CLASSES.index(clip.label)],)) if i in first.test else clip
        for i, clip in enumerate(task.clips)
    )
    again = protocol.evaluate(replace(task, clips=flipped, rounds=(first,)), [Oracle(skill=0.8)], progress=False)
    assert again.summary["alarm"][0]["thresholds"]["1"] == rows[0.05]["thresholds"]["1"]


def test_a_group_on_both_sides_is_an_error_that_names_it() -> None:
    task = made_task()
    moved = tuple(replace(clip, fold="3") if clip.path == "000-1.wav" else clip for clip in task.clips)
    with pytest.raises(LeakError, match="g0"):
        protocol.evaluate(replace(task, clips=moved, rounds=fold_rounds(moved)), [Oracle()], progress=False)


def test_a_round_without_clips_on_one_side_is_an_error() -> None:
    task = made_task()
    with pytest.raises(TaskError, match="no readable clips"):
        protocol.evaluate(replace(task, rounds=(Round("1", (), (0, 1)),)), [Oracle()], progress=False)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(SoundmarkError, match="at least one learner"):
        protocol.evaluate(made_task(), [], progress=False)


def test_a_stopped_run_goes_on_from_the_finished_folds(tmp_path: Path) -> None:
    class Stops(Oracle):
        def fresh(self) -> Stops:
            return Stops(self.name, self.skill, self.log)

        def predict_proba(self, task: Task) -> np.ndarray:
            if {clip.fold for clip in task.clips} == {"4"}:
                raise KeyboardInterrupt
            return super().predict_proba(task)

    task = replace(made_task(), positive="")
    with pytest.raises(KeyboardInterrupt):
        protocol.evaluate(task, [Stops(skill=0.8)], folder=tmp_path, progress=False)
    kept = {path.name for path in (tmp_path / "folds").glob("[!.]*")}  # fold 5 may be under way, even half-written
    assert kept - {"5.json"} == {"1.json", "2.json", "3.json"}
    rest = Oracle(skill=0.8)
    resumed = protocol.evaluate(task, [rest], folder=tmp_path, progress=False)
    tested_again = [{clip.fold for clip in tested} for _, _, tested in rest.log]
    assert {"4"} in tested_again
    assert all(folds in ({"4"}, {"5"}) for folds in tested_again)
    whole = protocol.evaluate(task, [Oracle(skill=0.8)], progress=False)
    np.testing.assert_array_equal(resumed.predictions.probabilities, whole.predictions.probabilities)


def test_a_saved_fold_is_not_taken_for_another_question(tmp_path: Path) -> None:
    task = made_task()
    protocol.evaluate(task, [Oracle()], folder=tmp_path, seed=0, progress=False)
    other = Oracle()
    protocol.evaluate(task, [other], folder=tmp_path, seed=1, progress=False)
    assert other.log


def test_a_saved_fold_is_not_taken_for_other_recordings_of_the_same_names(tmp_path: Path) -> None:
    protocol.evaluate(made_task(), [Oracle()], folder=tmp_path, progress=False)
    other = Oracle()
    other.content = "recorded anew"
    protocol.evaluate(made_task(), [other], folder=tmp_path, progress=False)
    assert other.log


def test_folds_whose_files_would_share_a_name_are_kept_apart(tmp_path: Path) -> None:
    task = made_task()
    names = {"1": "a/b", "2": "a b"}
    clips = tuple(replace(clip, fold=names.get(clip.fold, clip.fold)) for clip in task.clips)
    task = replace(task, clips=clips, rounds=fold_rounds(clips), positive="")
    for _ in range(2):
        measured = protocol.evaluate(task, [Oracle()], folder=tmp_path, progress=False)
        assert measured.summary["headline"]["value"] == 1.0


def test_a_mistake_in_one_fold_waits_for_the_others(tmp_path: Path) -> None:
    class Fails(Oracle):
        threads = 1

        def fresh(self) -> Fails:
            return Fails(self.name, self.skill, self.log)

        def predict_proba(self, task: Task) -> np.ndarray:
            if task.clips[0].fold == "1":
                raise TaskError("no good")
            time.sleep(0.05)
            return super().predict_proba(task)

    with pytest.raises(TaskError, match="no good"):
        protocol.evaluate(replace(made_task(), positive=""), [Fails()], folder=tmp_path, progress=False)
    left = sorted(tmp_path.rglob("*"))
    time.sleep(0.1)
    assert sorted(tmp_path.rglob("*")) == left


def test_probabilities_that_are_no_numbers_are_an_error() -> None:
    class Broken(Oracle):
        def fresh(self) -> Broken:
            return Broken(self.name, self.skill, self.log)

        def predict_proba(self, task: Task) -> np.ndarray:
            return super().predict_proba(task) * np.nan

    with pytest.raises(ResultsError, match="not finite in fold"):
        protocol.evaluate(replace(made_task(), positive=""), [Broken()], progress=False)


def test_a_broken_saved_fold_is_named(tmp_path: Path) -> None:
    protocol.evaluate(made_task(), [Oracle()], folder=tmp_path, progress=False)
    (tmp_path / "folds" / "2.json").write_text("{", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"2\.json"):
        protocol.evaluate(made_task(), [Oracle()], folder=tmp_path, progress=False)


def test_unreadable_clips_are_left_out_and_listed(broken: Task) -> None:
    probe = Probe("logmel?rate=16000&window=512&hop=256&bands=16", "mean+std", "logreg")
    measured = protocol.evaluate(broken, [probe], progress=False)
    assert len(measured.predictions.clips) == 97
    assert {row["clip"] for row in measured.summary["bad_clips"]} == {broken.clips[i].key for i in (0, 15, 27)}
    assert measured.summary["clips"] == 97


def test_the_summary_is_json(toy: Task) -> None:
    probe = Probe("logmel?rate=16000&window=512&hop=256&bands=16", "mean+std", "logreg")
    summary = protocol.evaluate(toy, [probe], progress=False).summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["headline"]["value"] > 0.6
    assert any("synthesised" in note for note in summary["notes"])
