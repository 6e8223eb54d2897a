from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import soundmark
from soundmark import audio, protocol, results, runs
from soundmark.audio import WindowPolicy
from soundmark.cli import main
from soundmark.errors import NotExportable, ResultsError, SoundmarkError, SpecError
from soundmark.learners import describe
from soundmark.networks.machine import Machine
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task
from soundmark.trained import Trained, trained
from soundmark.tuned import candidates_of

TASK = "toy?clips=10&seconds=0.5"
NETWORK = "cnn?rate=16000&window=512&hop=256&bands=16&width=4"
HOW = "adamw?rate=0.02&epochs=4&batch=20"
RECIPE = Recipe(task=TASK, network=NETWORK, augment="gain+mix", training=HOW)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Maps this small are slower on two threads than on one, and tests run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(training: str = HOW, network: str = NETWORK, augment: str = "") -> Trained:
    return Trained(network, augment, training, Machine("cpu"), progress=False)


def sides(task: Task) -> tuple[Task, Task]:
    return task.subset(task.rounds[0].train), task.subset(task.rounds[0].test)


def test_it_learns_and_answers_in_the_order_of_classes(toy: Task) -> None:
    learner = made("adamw?rate=0.02&epochs=25&batch=20&validate=false")
    assert learner.prepare(toy, progress=False) == {}
    train, test = sides(toy)
    learner.fit(train, seed=0)
    said = learner.predict_proba(test)
    assert said.shape == (len(test.clips), 10)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-9)
    assert (said.argmax(1) == test.targets()).mean() > 0.5  # chance is 0.1


def test_the_epochs_are_found_inside_the_clips_it_was_given(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    from soundmark.networks import training

    lessons: list[Any] = []
    real = training.train
    monkeypatch.setattr(
        training, "train", lambda network, lesson, **o: (lessons.append(lesson), real(network, lesson, **o))[1]
    )
    learner = made()
    learner.prepare(toy, progress=False)
    train, _ = sides(toy)
    learner.fit(train, seed=0)
    choose, fit = lessons
    group = dict(zip(learner.bank.positions(toy.clips).tolist(), [clip.group for clip in toy.clips], strict=True))
    given = set(learner.bank.positions(train.clips).tolist())
    inner, outer = set(choose.train.tolist()), set(choose.watch[0].tolist())
    assert inner | outer == given
    assert not {group[i] for i in inner} & {group[i] for i in outer}
    assert set(fit.train.tolist()) == given
    assert fit.watch is None
    told = learner.training()
    found = [row for row in told["history"] if row["stage"] == "choose"]
    least = min(row["valid_loss"] for row in found)
    best = max(row["epoch"] for row in found if row["valid_loss"] - row["valid_error"] <= least)
    assert fit.epochs == fit.span == told["epochs"] == best
    assert [row["epoch"] for row in told["history"] if row["stage"] == "fit"] == list(range(1, best + 1))


def test_fitting_twice_gives_the_same_and_a_fresh_copy_is_unfitted(toy: Task) -> None:
    learner = made(augment="gain+shift+mix")
    learner.prepare(toy, progress=False)
    train, test = sides(toy)
    learner.fit(train, seed=1)
    first = learner.predict_proba(test)
    other = learner.fresh()
    assert other.network is None
    assert other.training() == {}
    other.fit(train, seed=1)
    np.testing.assert_array_equal(other.predict_proba(test), first)
    other.fit(train, seed=2)
    assert not np.array_equal(other.predict_proba(test), first)


def test_candidates_that_hear_alike_share_their_clips(toy: Task) -> None:
    first, second, third = trained(
        "cnn?rate=16000&window=512&hop=256&bands=16&width=4,8",
        "",
        "adamw?rate=0.01",
        machine=Machine("cpu"),
        progress=False,
    ) + trained("cnn?rate=16000&window=512&hop=128&bands=16", "", "adamw", machine=Machine("cpu"))
    first.prepare(toy, progress=False)
    second.prepare(toy, progress=False)
    third.prepare(toy, progress=False)
    assert first.bank is second.bank
    assert third.bank.values.shape != first.bank.values.shape
    assert describe(first) == "cnn?bands=16&hop=256&rate=16000&width=4&window=512 / adamw?rate=0.01"


def test_waveforms_are_kept_where_augmentation_asks_for_them(toy: Task) -> None:
    levels, waves = made(), made(augment="gain?on=waveform")
    for learner in (levels, waves):
        learner.prepare(toy, progress=False)
    assert levels.bank.values.dim() == 2
    assert waves.bank.values.dim() == 1
    train, test = sides(toy)
    for learner in (levels, waves):
        learner.fit(train, seed=0)
        assert learner.predict_proba(test).shape == (len(test.clips), 10)


def test_the_policy_says_how_short_clips_are_filled(toy: Task) -> None:
    learner = made(f"{HOW}&crop=0.3&fill=loop")
    learner.prepare(toy, progress=False)
    assert learner.policy == WindowPolicy(min_seconds=0.3, fill="loop")
    usual = made()
    usual.prepare(toy, progress=False)
    assert usual.policy == WindowPolicy(min_seconds=0.5)


@pytest.mark.parametrize(
    ("network", "augment", "training"),
    [("cnnn", "", "adamw"), ("cnn?depth=3", "", "adamw"), ("cnn", "gian", "adamw"), ("cnn", "", "adamww")],
)
def test_a_misspelt_name_is_an_error_at_once(network: str, augment: str, training: str) -> None:
    with pytest.raises(SpecError):
        made(training, network, augment)


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """A recipe of a network that hears otherwise."""
    file = tmp_path / "teacher.toml"
    hears = "cnn?rate=16000&window=512&hop=128&bands=32&width=6"
    file.write_text(Recipe(task=TASK, network=hears, training="adamw?rate=0.02&epochs=3&validate=false").to_toml())
    return str(file)


def test_a_teacher_learns_first_from_the_same_clips(
    toy: Task, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soundmark.networks import training

    lessons: list[Any] = []
    real = training.train
    monkeypatch.setattr(
        training, "train", lambda network, lesson, **o: (lessons.append(lesson), real(network, lesson, **o))[1]
    )
    (learner,) = candidates_of(replace(RECIPE, teacher=teacher), machine=Machine("cpu"))
    assert learner.describe()["teacher"] == teacher
    learner.prepare(toy, strict=False, progress=False)
    train, _ = sides(toy)
    learner.fit(train, 0, tmp_path / "kept")
    first, choose, second, fit = lessons
    assert choose.watch is not None
    assert len(first.train) == len(choose.train)  # what the pupil is watched on, the teacher has not heard either
    assert len(second.train) == len(fit.train) == len(train.clips)
    assert first.teacher is second.teacher is None
    for taught in (choose, fit):
        assert taught.teacher.bank.crop == 1 + 2 * (taught.bank.crop - 1)
        names = {place: clip for clip, place in taught.teacher.bank.places.items()}
        ours = {place: clip for clip, place in taught.bank.places.items()}
        assert [names[i] for i in taught.teacher.train.tolist()] == [ours[i] for i in taught.train.tolist()]
    told = learner.training()
    assert told["teacher"]["network"].startswith("cnn?rate=16000&window=512&hop=128")
    assert (told["teacher"]["epochs"], told["teacher"]["parameters"]) != (told["epochs"], told["parameters"])


def test_another_teacher_is_another_question(toy: Task, teacher: str, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(Path(teacher).read_text().replace("epochs=3", "epochs=2"))
    (plain,) = candidates_of(RECIPE, machine=Machine("cpu"))
    found = [plain]
    for name in (teacher, str(other)):
        found += candidates_of(replace(RECIPE, teacher=name), machine=Machine("cpu"))
    for learner in found:
        learner.prepare(toy, strict=False, progress=False)
    assert len({learner.fingerprint() for learner in found}) == 3


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"trials": 3, "training": "adamw?rate=0.1..0.2"}, "cannot teach"),
        ({"training": "adamw?rate=0.1,0.2"}, "cannot teach"),
        ({"training": "adamw?keep=false"}, "have to hear the same"),
        ({"augment": "gain?on=waveform"}, "have to hear the same"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path: Path, entries: dict[str, Any], words: str) -> None:
    file = tmp_path / "teacher.toml"
    file.write_text(Recipe(**({"task": TASK, "network": NETWORK} | entries)).to_toml())
    with pytest.raises(SpecError, match=words):
        candidates_of(replace(RECIPE, teacher=str(file)), machine=Machine("cpu"))


def test_one_class_cannot_be_learnt(toy: Task) -> None:
    learner = made()
    learner.prepare(toy, progress=False)
    with pytest.raises(SoundmarkError, match="at least two classes"):
        learner.fit(toy.subset(i for i, clip in enumerate(toy.clips) if clip.label == toy.classes[0]), seed=0)


def test_unreadable_clips_are_left_out_and_listed(broken: Task) -> None:
    measured = protocol.evaluate(broken, [made()], progress=False)
    assert len(measured.summary["bad_clips"]) == 3
    assert len(measured.predictions.clips) == 97


def test_a_run_from_clips_to_a_portable_file(toy: Task, tmp_path: Path) -> None:
    done = runs.run(RECIPE, tmp_path / "run", progress=False, machine=Machine("cpu"))
    folder = tmp_path / "run"
    assert Recipe.read(folder) == RECIPE
    assert [fold["fold"] for fold in done.metrics["training"]] == ["1", "2", "3", "4", "5"]
    assert (folder / "history.csv").read_text().count("\n") > 5 * 5
    for figure in ("loss", "accuracy", "rate"):
        assert (folder / "figures" / f"{figure}.png").is_file()
    assert not (folder / "training").exists()
    assert "How it was trained" in (folder / "report.html").read_text()

    classifier = soundmark.load(folder / "model.onnx")
    assert classifier.labels == toy.classes
    assert classifier.metadata["learner"] == dict(done.metrics["learner"])
    assert classifier.policy.min_seconds == 0.5
    assert done.metrics["model"]["check"]["probabilities"] < 1e-4
    answers = classifier(toy.path(toy.clips[0]))
    assert sum(answer["score"] for answer in classifier(toy.path(toy.clips[0]), top_k=None)) == pytest.approx(
        1, abs=1e-4
    )
    assert answers[0]["score"] >= answers[1]["score"]

    again = runs.run(Recipe.read(folder), tmp_path / "again", model=False, page=False, progress=False)
    np.testing.assert_array_equal(again.predictions.probabilities, done.predictions.probabilities)
    assert results.compare(done, again)["difference"] == 0


def test_a_network_of_a_fixed_length_is_exported_with_its_window(toy: Task, tmp_path: Path) -> None:
    recipe = replace(RECIPE, network="mlp?rate=16000&window=512&hop=256&bands=16&seconds=0.4&hidden=8", augment="")
    done = runs.run(recipe, tmp_path / "run", page=False, progress=False)
    classifier = soundmark.load(tmp_path / "run" / "model.onnx")
    assert classifier.policy.window_seconds == 0.4
    said = [classifier.combine([p for _, _, p in classifier.windows(toy.path(clip))]) for clip in toy.clips[:10]]
    assert np.shape(said) == (10, 10)
    assert done.metrics["headline"]["value"] > 0.1


def test_clips_can_be_heard_in_windows_of_a_crop(toy: Task, tmp_path: Path) -> None:
    how = "adamw?rate=0.02&epochs=2&batch=20&validate=false&crop=0.3"
    train, test = sides(toy)
    said = {}
    for training in (how, f"{how}&windows=true"):
        learner = made(training)
        learner.prepare(toy, progress=False)
        learner.fit(train, seed=0)
        said[training] = learner.predict_proba(test)
        network, bank = learner.network, learner.bank
    assert not np.allclose(*said.values())
    assert network is not None
    heard = bank.whole(bank.positions(test.clips[:1]), torch.device("cpu"))
    rows, last = bank.crop, heard.shape[1] - bank.crop
    firsts = [*range(0, last, rows), last]
    with torch.inference_mode():
        parts = [network.head(network.vectors(heard[:, first : first + rows])).softmax(1) for first in firsts]
    np.testing.assert_allclose(said[f"{how}&windows=true"][0], torch.stack(parts).mean(0)[0], atol=1e-5)
    recipe = replace(RECIPE, training=f"{how}&windows=true")
    runs.run(recipe, tmp_path / "run", page=False, progress=False)
    assert soundmark.load(tmp_path / "run" / "model.onnx").policy.window_seconds == 0.3


def test_folds_can_be_measured_one_after_the_other(toy: Task, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    one = runs.run(replace(RECIPE, folds="5"), folder, model=False, page=False, progress=False)
    assert one.metrics["protocol"].endswith("fold 5 only")
    assert set(one.predictions.folds) == {"5"}
    before = (folder / "folds" / "5.json").stat().st_mtime_ns
    whole = runs.run(RECIPE, folder, model=False, page=False, progress=False)
    assert (folder / "folds" / "5.json").stat().st_mtime_ns == before
    assert len(whole.predictions.clips) == 100
    assert Recipe.read(folder).folds == ""
    with pytest.raises(SoundmarkError, match="has no fold 6"):
        runs.run(replace(RECIPE, folds="6"), tmp_path / "other", model=False, page=False, progress=False)


def test_what_another_process_keeps_of_another_fold_is_left_alone(toy: Task, tmp_path: Path) -> None:
    theirs = tmp_path / "run" / "training" / "2" / "choose.ckpt"
    runs.run(replace(RECIPE, folds="1"), tmp_path / "run", model=False, page=False, progress=False)
    assert not (tmp_path / "run" / "training").exists()
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    runs.run(replace(RECIPE, folds="5"), tmp_path / "run", model=False, page=False, progress=False)
    assert theirs.read_bytes() == b"theirs"
    assert sorted(path.name for path in (tmp_path / "run" / "training").iterdir()) == ["2"]


def test_two_processes_never_work_on_one_fold(toy: Task, tmp_path: Path) -> None:
    import filelock

    folder = tmp_path / "run"
    (folder / "training").mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE.to_toml())
    with filelock.FileLock(folder / "training" / "1.lock"), pytest.raises(ResultsError, match="another process"):
        runs.run(RECIPE, folder, model=False, page=False, progress=False)
    assert not (folder / "folds").exists()  # the folds after it were not begun


def test_what_has_no_graph_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundmark.networks.cnn.Cnn.exportable", False)
    with pytest.raises(NotExportable, match="no ONNX graph"):
        runs.run(RECIPE, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_candidates_are_chosen_inside(toy: Task, tmp_path: Path) -> None:
    recipe = replace(RECIPE, augment="", training="adamw?rate=0.000001,0.02&epochs=3&batch=20&validate=false")
    recipe = replace(recipe, inner_folds=2, folds="1,2")
    done = runs.run(recipe, tmp_path / "run", model=False, page=False, progress=False)
    assert all("rate=0.02" in each["chosen"] for each in done.metrics["selection"])


def test_a_two_class_task_gets_its_thresholds(toy_cache: Path, toy: Task, tmp_path: Path) -> None:
    recipe = replace(RECIPE, task="toy:danger?clips=10&seconds=0.5", inner_folds=2, folds="1", augment="")
    done = runs.run(recipe, tmp_path / "run", model=False, page=False, progress=False)
    assert [row["max_false_alarm"] for row in done.metrics["alarm"]] == [0.05, 0.01]


def test_probes_and_networks_come_from_one_recipe() -> None:
    (network,) = candidates_of(RECIPE, machine=Machine("cpu"))
    assert isinstance(network, Trained)
    assert list(network.describe()) == ["network", "augment", "training"]
    (probe,) = candidates_of(Recipe(task=TASK, encoder="logmel?bands=16", head="logreg"))
    assert list(probe.describe()) == ["encoder", "pooling", "head"]


def test_the_command_line_trains_a_network(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", TASK, "--network", NETWORK, "--training", HOW, "--folds", "1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "run"), "--no-model", "--no-report"]) == 0
    assert "fold 1 only" in capsys.readouterr().out
    assert main([*words, "--encoder", "mfcc", "--out", str(tmp_path / "other")]) == 1
    assert "both a network and encoder" in capsys.readouterr().err
    assert main(["train", TASK, "--augment", "gain", "--out", str(tmp_path / "other")]) == 1
    assert "no network" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_9_costs_one_epoch_at_most_and_changes_nothing(toy: Task, toy_cache: Path, tmp_path: Path) -> None:
    """The command is killed in the middle of a training, run again to its end, and held against one never stopped."""
    recipe = replace(RECIPE, training="adamw?rate=0.02&epochs=24&batch=10", folds="1")
    folder = tmp_path / "killed"
    words = [sys.executable, "-m", "soundmark", *recipe.command(folder).split(" ")[1:], "--no-model", "--no-report"]
    words = [word.strip("'") for word in words]
    same = {"SOUNDMARK_CACHE": str(toy_cache), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(words, env=os.environ | same, stderr=subprocess.PIPE)
    checkpoint = folder / "training" / "1" / "choose.ckpt"
    try:
        until = time.monotonic() + 60
        while not checkpoint.exists():
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.communicate()
    assert not (folder / "folds").exists()
    resumed = runs.run(recipe, folder, model=False, page=False, progress=False)
    whole = runs.run(recipe, tmp_path / "whole", model=False, page=False, progress=False)
    np.testing.assert_array_equal(resumed.predictions.probabilities, whole.predictions.probabilities)
    losses = [[row["train_loss"] for row in run.metrics["training"][0]["history"]] for run in (resumed, whole)]
    assert losses[0] == losses[1]
    assert json.loads((folder / "folds" / "1.json").read_text())["name"] == "1"


def test_recordings_of_other_lengths_are_heard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        for label, wave in (
            ("hiss", rng.normal(0, 0.1, 4000 + 700 * i)),
            ("hum", np.sin(np.arange(4000 + 300 * i) / 9)),
        ):
            audio.write(tmp_path / "mine" / label / f"{i}.wav", 0.3 * wave, 16000)
    recipe = Recipe(task=str(tmp_path / "mine"), network=NETWORK, training="adamw?rate=0.02&epochs=8&batch=6")
    done = runs.run(recipe, tmp_path / "run", page=False, progress=False)
    assert done.metrics["headline"]["value"] > 0.8
    assert soundmark.load(tmp_path / "run")(tmp_path / "mine" / "hum" / "3.wav")[0]["label"] == "hum"
