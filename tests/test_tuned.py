from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soundmark
from soundmark import export, protocol, runs, trials, tuned
from soundmark.errors import NotExportable, SoundmarkError, SpecError
from soundmark.learners import Probe, describe
from soundmark.networks import training
from soundmark.networks.lesson import Course
from soundmark.networks.machine import Machine
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task
from soundmark.trained import Trained
from soundmark.tuned import Tuned, candidates_of

pytest.importorskip("optuna", reason="SKIPPED FOR WANT OF OPTUNA: searches are not tested")

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"
PROBE = Recipe(task=TASK, encoder=ENCODER, pooling="mean|mean+std", head="logreg?C=0.001..10", trials=6)
NETWORK = Recipe(
    task=TASK,
    network="cnn?rate=16000&window=512&hop=256&bands=16&width=2..4",
    augment="gain?db=0..6",
    training="adamw?rate=0.002..0.2&epochs=4..6&batch=20,40",
    trials=5,
)


def made(recipe: Recipe, task: Task, machine: Machine | None = None) -> Tuned:
    (learner,) = candidates_of(recipe, machine=machine or Machine("cpu"))
    assert isinstance(learner, Tuned)
    assert learner.prepare(task, progress=False) == {}
    return learner


def sides(task: Task) -> tuple[Task, Task]:
    return task.subset(task.rounds[0].train), task.subset(task.rounds[0].test)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What is so small is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every training that was begun."""
    seen: list[Any] = []
    real = training.train
    monkeypatch.setattr(training, "train", lambda net, lesson, **o: (seen.append(lesson), real(net, lesson, **o))[1])
    return seen


@pytest.mark.parametrize("recipe", [PROBE, NETWORK], ids=["probe", "network"])
def test_it_finds_settings_and_answers_like_what_it_found(toy: Task, recipe: Recipe) -> None:
    learner = made(recipe, toy)
    train, test = sides(toy)
    learner.fit(train, seed=0)
    said = learner.predict_proba(test)
    assert said.shape == (len(test.clips), 10)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-6)
    assert learner.winner is not None
    assert learner.classes == toy.classes
    assert ".." not in describe(learner)
    found = learner.training()["tuned"]
    assert (found["trials"], found["failed"], found["held_out"]) == (recipe.trials, 0, len(train.clips) // 5 + 4)
    assert found["score"] == max(each["score"] for each in found["searched"] if each["state"] == "complete")
    assert found["best"] in [each["settings"] for each in found["searched"] if each["score"] == found["score"]]
    json.dumps(found, allow_nan=False)

    alone = learner.winner.fresh()  # fitted with these settings from the start
    alone.fit(train, seed=0)
    np.testing.assert_array_equal(alone.predict_proba(test), said)


@pytest.mark.parametrize("recipe", [PROBE, NETWORK], ids=["probe", "network"])
def test_equal_seeds_find_the_same(toy: Task, recipe: Recipe) -> None:
    train, test = sides(toy)
    found = []
    for seed in (0, 0, 1):
        learner = made(replace(recipe, trials=3), toy)
        learner.fit(train, seed=seed)
        found.append((learner.training()["tuned"]["searched"], learner.predict_proba(test)))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][0] != found[2][0]


def test_a_fresh_copy_is_unfitted_and_says_what_is_searched(toy: Task) -> None:
    learner = made(PROBE, toy)
    before = describe(learner)
    assert before.endswith("mean|mean+std / logreg?C=0.001..10 / 6 trials")
    learner.fit(toy, seed=0)
    assert describe(learner) != before
    other = learner.fresh()
    assert (other.winner, other.training(), describe(other)) == (None, {}, before)
    assert other.fingerprint() == learner.fingerprint()


# --- Honesty -------------------------------------------------------------------------------------------------------


def test_a_probe_touches_no_clip_but_those_it_was_given(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[set[str]] = []
    judged: list[set[str]] = []
    for name, seen in (("fit", fitted), ("predict_proba", judged)):
        real = getattr(Probe, name)

        def spy(self: Probe, task: Task, *args: Any, real: Any = real, seen: Any = seen, **more: Any) -> Any:
            seen.append({clip.group for clip in task.clips})
            return real(self, task, *args, **more)

        monkeypatch.setattr(Probe, name, spy)
    train, test = sides(toy)
    made(PROBE, toy).fit(train, seed=0)
    given = {clip.group for clip in train.clips}
    assert not given & {clip.group for clip in test.clips}
    assert len(judged) == len(fitted) - 1 == 6
    assert fitted[-1] == given
    assert all(one | other == given and not one & other for one, other in zip(fitted, judged, strict=False))
    assert len({frozenset(each) for each in judged}) == 1  # all trials are judged on the same clips


def test_a_network_touches_no_clip_but_those_it_was_given(toy: Task, lessons: list[Any]) -> None:
    learner = made(NETWORK, toy)
    train, _ = sides(toy)
    learner.fit(train, seed=0)
    winner = learner.winner
    assert isinstance(winner, Trained)
    group = dict(zip(winner.bank.positions(toy.clips).tolist(), [clip.group for clip in toy.clips], strict=True))
    given = set(winner.bank.positions(train.clips).tolist())
    *searched, last = lessons  # the winner's own trial told its number of epochs: no other training is run for that
    assert len(searched) == NETWORK.trials
    for lesson in searched:
        inner, outer = set(lesson.train.tolist()), set(lesson.watch[0].tolist())
        assert inner | outer == given
        assert not {group[i] for i in inner} & {group[i] for i in outer}
    assert set(last.train.tolist()) == given
    assert last.watch is None
    chosen = [row for row in learner.training()["history"] if row["stage"] == "choose"]
    assert last.epochs == Course(chosen).best


def test_every_fold_searches_its_own_training_side(toy: Task) -> None:
    summary = protocol.evaluate(toy, [made(replace(PROBE, trials=2), toy)], progress=False).summary
    assert [each["fold"] for each in summary["tuned"]] == ["1", "2", "3", "4", "5"]
    assert all(each["trials"] == 2 for each in summary["tuned"])
    assert "training" not in summary
    assert summary["learner"]["head"] == "logreg?C=0.001..10"


def test_where_nothing_can_be_held_out_the_middle_is_taken(toy: Task) -> None:
    lone = replace(toy, clips=tuple(replace(clip, group=clip.label) for clip in toy.clips), rounds=())
    learner = made(replace(PROBE, pooling="mean|std"), lone)
    learner.fit(lone, seed=0)
    found = learner.training()["tuned"]
    assert (found["trials"], found["score"]) == (0, None)
    assert found["best"] == {"pooling": "mean", "logreg.C": "0.1"}


# --- Trials --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fourth training is interrupted after its second epoch."""
    begun = 0
    real = training.train

    def train(network: Any, lesson: Any, *, told: Any = None, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        fourth = begun == 4

        def interrupting(row: dict[str, Any]) -> bool:
            if fourth and row["epoch"] == 2:
                raise KeyboardInterrupt
            return bool(told(row)) if told else True

        return real(network, lesson, told=interrupting, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", train)
        yield


def test_a_stopped_search_goes_on_where_it_was(toy: Task, tmp_path: Path, lessons: list[Any], stopped: None) -> None:
    train, test = sides(toy)
    place = tmp_path / "training" / "1"
    with pytest.raises(KeyboardInterrupt):
        made(NETWORK, toy).fit(train, 0, place)
    assert sorted(path.name for path in place.iterdir()) == ["trial4", "trials.json"]
    del lessons[:]
    again = made(NETWORK, toy)
    again.fit(train, 0, place)
    assert len(lessons) == 3  # two trials, of which one goes on from its checkpoint, and the winner
    whole = made(NETWORK, toy)
    whole.fit(train, 0, tmp_path / "training" / "2")
    assert again.training()["tuned"]["searched"] == whole.training()["tuned"]["searched"]
    np.testing.assert_array_equal(again.predict_proba(test), whole.predict_proba(test))
    third = made(NETWORK, toy)
    third.fit(train, 0, place)
    assert len(lessons) == 3 + 6 + 1  # nothing is tried again


def test_other_clips_or_another_seed_do_not_take_up_trials(toy: Task, tmp_path: Path) -> None:
    train, other = sides(toy)[0], toy.subset(toy.rounds[1].train)
    recipe = replace(PROBE, trials=2)
    made(recipe, toy).fit(train, 0, tmp_path)
    first = (tmp_path / "trials.json").read_text(encoding="utf-8")
    made(replace(recipe, trials=3), toy).fit(train, 0, tmp_path)  # of the same search more
    more = json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))
    assert more["trials"][:2] == json.loads(first)["trials"]
    for task, seed in ((other, 0), (train, 1)):
        made(recipe, toy).fit(task, seed, tmp_path)
        assert json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))["identity"] != more["identity"]


def test_a_training_that_does_poorly_is_given_up(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "BEFORE_PRUNING", 2)
    wide = replace(NETWORK, training="adamw?rate=0.0000001..0.05&epochs=10&batch=20", augment="", trials=6)
    learner = made(wide, toy)
    learner.fit(toy, seed=0)
    found = learner.training()["tuned"]
    lost = [each for each in found["searched"] if each["state"] == "pruned"]
    assert len(lost) == found["pruned"] > 0
    assert all(each["score"] is None for each in lost)
    assert [each["state"] for each in found["searched"][:2]] == ["complete"] * 2
    assert found["best"] not in [each["settings"] for each in lost]


def test_several_devices_train_every_trial_to_its_end(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training.train

    def alone(network: Any, lesson: Any, *, machine: Machine, told: Any, **options: Any) -> Any:
        assert (machine.devices, told) == (2, None)  # another process could not ask Optuna
        return real(network, lesson, machine=Machine("cpu"), told=None, **options)

    monkeypatch.setattr(training, "train", alone)
    learner = made(NETWORK, toy, Machine("cpu", 2))
    learner.fit(toy, seed=0)
    assert {each["state"] for each in learner.training()["tuned"]["searched"]} == {"complete"}


def test_settings_that_were_tried_are_not_tried_again(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    real = Probe.fit
    monkeypatch.setattr(Probe, "fit", lambda self, *args: (fits.append(self.head_name), real(self, *args))[1])
    learner = made(replace(PROBE, pooling="mean", head="logreg?C=0.01,1", trials=8), toy)
    learner.fit(toy, seed=0)
    assert len(fits) == 3
    assert learner.training()["tuned"]["trials"] == 8


def test_a_trial_that_fails_is_none_that_wins(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Probe.fit

    def fit(self: Probe, task: Task, seed: int, place: Path | None = None) -> None:
        if self.pooling_name == "mean":
            raise SoundmarkError("mean fails")
        real(self, task, seed, place)

    monkeypatch.setattr(Probe, "fit", fit)
    learner = made(PROBE, toy)
    learner.fit(toy, seed=0)
    found = learner.training()["tuned"]
    assert 0 < found["failed"] < 6
    assert found["best"]["pooling"] == "mean+std"
    with pytest.raises(SoundmarkError, match="all 2 trials failed; the first says: mean fails"):
        made(replace(PROBE, pooling="mean", trials=2), toy).fit(toy, seed=0)


def test_a_network_that_runs_away_is_a_failed_trial(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training.train

    def train(network: Any, lesson: Any, **options: Any) -> Any:
        if lesson.training.rate == 100:
            lesson = replace(lesson, bank=replace(lesson.bank, values=lesson.bank.values * float("inf")))
        return real(network, lesson, **options)

    monkeypatch.setattr(training, "train", train)
    learner = made(replace(NETWORK, training="adamw?rate=0.01,100&epochs=2", trials=4), toy)
    learner.fit(toy, seed=0)
    found = learner.training()["tuned"]
    assert found["failed"] > 0
    assert found["best"]["adamw.rate"] == "0.01"
    json.dumps(found, allow_nan=False)


def test_settings_may_change_how_clips_are_heard(toy: Task) -> None:
    recipe = replace(NETWORK, network="cnn?rate=16000&window=512&hop=256&bands=16..40&width=2", augment="", trials=6)
    learner = made(recipe, toy)
    train, test = sides(toy)
    learner.fit(train, seed=0)
    assert len(learner.banks) <= tuned.HEARD_AT_ONCE
    assert learner.predict_proba(test).shape == (20, 10)
    probe = made(replace(PROBE, encoder="logmel?rate=16000&bands=16..40"), toy)
    probe.fit(train, seed=0)
    assert len(probe.heard) <= tuned.HEARD_AT_ONCE
    assert probe.predict_proba(test).shape == (20, 10)


# --- Recipes and files ---------------------------------------------------------------------------------------------


def test_ranges_and_trials_need_each_other() -> None:
    with pytest.raises(SpecError, match="holds a range: find the best of it with soundmark tune"):
        candidates_of(replace(PROBE, trials=0))
    with pytest.raises(SpecError, match="there is nothing to tune in logmel"):
        candidates_of(Recipe(task=TASK, head="logreg?C=1", trials=3))
    assert len(candidates_of(Recipe(task=TASK, head="logreg?C=1,10", trials=3))) == 1  # a list can be searched too
    assert len(candidates_of(Recipe(task=TASK, head="logreg?C=1,10"))) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"network": "cnn?dropout=0..2"},
        {"network": "cnn?widht=1..2"},
        {"augment": "gain?db=0..6+nosie"},
        {"training": "adamw?epochs=0.5..20"},
        {"training": "adamw?rate=0.1..0.01"},
    ],
)
def test_a_mistake_at_either_end_is_an_error_before_anything_is_done(changed: dict[str, str]) -> None:
    with pytest.raises(SpecError):
        candidates_of(replace(NETWORK, **changed))


def test_what_may_have_no_graph_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    (learner,) = candidates_of(NETWORK)
    export.check_exportable(learner)
    from soundmark.networks.cnn import Cnn

    monkeypatch.setattr(Cnn, "exportable", False)
    with pytest.raises(NotExportable):
        export.check_exportable(learner)


@pytest.mark.parametrize("recipe", [PROBE, NETWORK], ids=["probe", "network"])
def test_a_run_writes_the_winner(toy: Task, tmp_path: Path, recipe: Recipe) -> None:
    recipe = replace(recipe, folds="1,2", trials=3)
    done = runs.run(recipe, tmp_path / "run", page=False, progress=False, machine=Machine("cpu"))
    assert done.metrics["command"].startswith("soundmark tune 'toy?clips=10&seconds=0.5' ")
    assert "--trials 3" in done.metrics["command"]
    assert [each["trials"] for each in done.metrics["tuned"]] == [3, 3]
    assert (tmp_path / "run" / "history.csv").exists() == bool(recipe.network)
    found = Recipe.read(tmp_path / "run" / "tuned.toml")
    assert found.trials == 0
    (plain,) = candidates_of(found, machine=Machine("cpu"))
    metadata = soundmark.load(tmp_path / "run" / "model.onnx").metadata
    assert metadata["learner"] == dict(plain.describe())
    assert done.metrics["model"]["learner"] == describe(plain)
    assert not (tmp_path / "run" / "training").exists()

    again = runs.run(recipe, tmp_path / "run", model=False, page=False, progress=False, machine=Machine("cpu"))
    assert again.metrics["tuned"] == done.metrics["tuned"]
    with_one = Recipe.read(tmp_path / "run")
    assert with_one == recipe


def test_a_fitted_search_can_be_exported_itself(toy: Task, tmp_path: Path) -> None:
    learner = made(replace(PROBE, trials=2), toy)
    learner.fit(toy, seed=0)
    said = {"labels": list(toy.classes), "clip_seconds": {"median": 0.5, "max": 0.5}}
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    export.export(learner, tmp_path / "model.onnx", metadata=said, waveforms=[waveform])
    assert soundmark.load(tmp_path / "model.onnx").labels == toy.classes
