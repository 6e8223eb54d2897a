"""Tasks, encoders and classes held against each other: what is written, what is noted, what is refused."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundmark import cli, embeddings, encoders, tasks
from soundmark.analysis import measures, similarity
from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError, TaskError
from soundmark.report import drawing
from soundmark.tasks.base import Clip, Task

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"
OTHER = "logmel?rate=16000&window=512&hop=256&bands=8"


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "DPI", 30)


@pytest.fixture
def small() -> Task:
    """Another toy: five clips a class, from another seed."""
    return tasks.load("toy?clips=5&seconds=0.5&seed=3")


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def made(name: str, labels: str, classes: tuple[str, ...], groups: str = "") -> Task:
    clips = tuple(Clip(f"{i}.wav", (label,), group=groups[i] if groups else "") for i, label in enumerate(labels))
    return Task(name, Path(), clips, classes, "", ())


def heard_as(monkeypatch: pytest.MonkeyPatch, vectors: dict[str, Any]) -> None:
    """Have every task, or encoder, by its name, heard as these vectors."""

    def embed(task: Task, encoder: Encoder, pooling: str, **_: Any) -> embeddings.Embeddings:
        found = vectors[task.name] if task.name in vectors else vectors[encoder.spec]
        return embeddings.Embeddings(task.clips, np.asarray(found, dtype=np.float32))

    monkeypatch.setattr(embeddings, "embed", embed)


# --- Tasks -------------------------------------------------------------------------------------------------------


def test_the_verb_measures_tasks(toy: Task, small: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tasks"
    words = ["similarity", "tasks", toy.name, small.name, "--encoder", ENCODER, "--draws", "3", "-o", str(out)]
    assert cli.main(words) == 0
    assert named(out) == ["tasks.csv", "tasks.json", "tasks.png", "tasks.svg"]
    content, table = read(out / "tasks.json"), rows(out / "tasks.csv")
    assert table[0] == ["task", toy.name, small.name]
    assert float(table[1][2]) == pytest.approx(content["distances"][0][1], rel=1e-5)
    vectors = [embeddings.embed(task, ENCODER, "mean").vectors for task in (toy, small)]
    a, b = map(measures.gaussian, vectors)
    assert content["distances"][0][1] == content["distances"][1][0] == pytest.approx(measures.frechet(a, b))
    assert content["distances"][0][0] == content["halves"][0]["mean"] > 0
    assert [each["clips"] for each in content["tasks"]] == [100, 50]
    assert content["dim"] == 16
    assert content["environment"]["packages"]
    assert content["command"].startswith("soundmark similarity tasks 'toy?clips=10&seconds=0.5' 'toy?clips=5")
    assert (content["draws"], content["seed"], content["standardised"]) == (3, 0, False)
    assert f"{content['distances'][0][1]:.4g}" in capsys.readouterr().out
    assert not [note for note in content["notes"] if "fill a covariance" in note]
    assert cli.main([*shlex.split(content["command"])[1:-1], str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again" / "tasks.json")["distances"] == content["distances"]


def test_standardised_distances_have_no_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 3)), rng.normal(1, 2, size=(20, 3))
    pair = [made("one", "a" * 30, ("a",)), made("two", "a" * 20, ("a",))]
    found = {}
    for scale in (1, 1000):
        heard_as(monkeypatch, {"one": a * [1, 1, scale], "two": b * [1, 1, scale]})
        for standardise in (False, True):
            content = similarity.between_tasks(
                pair, ENCODER, "mean", tmp_path, standardise=standardise, draws=2, progress=False
            )
            found[scale, standardise] = content["distances"][0][1]
    assert found[1, True] == pytest.approx(found[1000, True], rel=1e-4)
    assert found[1000, False] > 1000 * found[1, False]


def test_few_clips_and_a_single_group_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heard_as(monkeypatch, {"few": rng.normal(size=(8, 16)), "one": rng.normal(size=(20, 16))})
    pair = [replace(made("few", "a" * 8, ("a",)), notes=("A caveat.",)), made("one", "a" * 20, ("a",), "g" * 20)]
    content = similarity.between_tasks(pair, ENCODER, "mean", tmp_path, draws=2, progress=False)
    assert content["notes"][0] == "few: A caveat."
    assert content["notes"][1].startswith("few: 8 clips for 16 components")
    assert content["notes"][2].startswith("one cannot be divided")
    assert len(content["notes"]) == 3
    assert content["distances"][1][1] is None
    assert content["halves"][1] == {"task": "one", "mean": None, "std": None}
    assert rows(tmp_path / "tasks.csv")[2][2] == ""


def test_bad_clips_are_left_out_and_listed(toy: Task, broken: Task, tmp_path: Path) -> None:
    other = replace(broken, name="broken")
    content = similarity.between_tasks([toy, other], ENCODER, "mean", tmp_path, draws=1, progress=False)
    assert [each["clips"] for each in content["tasks"]] == [100, 97]
    assert {(bad["task"], bad["clip"]) for bad in content["bad_clips"]} == {
        ("broken", toy.clips[i].key) for i in (0, 15, 27)
    }
    alike = similarity.between_encoders(broken, [ENCODER, OTHER], "mean", tmp_path, draws=1, progress=False)
    assert alike["clips"] == 97
    assert [bad["encoder"] for bad in alike["bad_clips"]] == [ENCODER] * 3 + [OTHER] * 3
    near = similarity.between_classes([toy, other], ENCODER, "mean", tmp_path, draws=1, progress=False)
    assert sum(row["clips"] for row in near["classes"]) == 197
    assert len(near["bad_clips"]) == 3


# --- Encoders ----------------------------------------------------------------------------------------------------


def test_the_verb_measures_encoders(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["similarity", "encoders", ENCODER, OTHER, "--task", toy.name, "--standardise", "--draws", "2", "-o"]
    assert cli.main([*words, str(tmp_path)]) == 0
    assert named(tmp_path) == ["encoders.csv", "encoders.json", "encoders.png", "encoders.svg"]
    content = read(tmp_path / "encoders.json")
    assert [each["dim"] for each in content["encoders"]] == [16, 8]
    assert content["cka"][0][0] == content["debiased"][1][1] == pytest.approx(1)
    assert 0.5 < content["debiased"][0][1] < 1, "half as many bands hear much the same"
    assert 0 < content["std"][0][1] < 0.1
    header, row = rows(tmp_path / "encoders.csv")
    assert header == ["encoder", "other", "cka", "debiased", "std"]
    assert row[:2] == [ENCODER, OTHER]
    assert float(row[3]) == pytest.approx(content["debiased"][0][1], rel=1e-5)
    assert "--standardise" in content["command"]
    assert f"{content['debiased'][0][1]:.3f}" in capsys.readouterr().out


def test_an_encoder_that_says_nothing_and_one_group_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task, third = made("one", "a" * 9, ("a",), "g" * 9), OTHER.replace("=8", "=9")
    vectors = {ENCODER: np.arange(18).reshape(9, 2), OTHER: np.ones((9, 2)), third: np.eye(9)}
    heard_as(monkeypatch, {encoders.load(name).spec: rows for name, rows in vectors.items()})
    content = similarity.between_encoders(task, [ENCODER, OTHER, third], "mean", tmp_path, progress=False)
    assert content["debiased"] == [[pytest.approx(1), None, None], [None] * 3, [None] * 3]
    assert content["cka"][2] == [pytest.approx(content["cka"][0][2]), None, pytest.approx(1)]
    assert content["std"] == [[None] * 3] * 3
    assert "no standard error" in content["notes"][0]
    assert content["notes"][1].startswith(f"{OTHER} says the same of every clip")
    assert content["notes"][2].startswith(f"{third} sets all clips equally far apart")


def test_encoders_need_four_clips_in_common(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard_as(monkeypatch, {"three": np.eye(3)})
    with pytest.raises(TaskError, match="three has 3 clips that every encoder can read"):
        similarity.between_encoders(made("three", "aaa", ("a",)), [ENCODER, OTHER], "mean", tmp_path)


# --- Classes -----------------------------------------------------------------------------------------------------


def test_the_verb_finds_the_same_sound_in_another_task(
    toy: Task, small: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["similarity", "classes", toy.name, small.name, "--encoder", ENCODER, "--pooling", "mean+std"]
    assert cli.main([*words, "--top", "2", "--draws", "4", "-o", str(tmp_path)]) == 0
    names = ["classes.csv", "classes.json", "classes.png", "classes.svg", "nearest.csv"]
    assert named(tmp_path) == names
    content = read(tmp_path / "classes.json")
    first = [row for row in content["nearest"] if row["rank"] == 1]
    assert len(first) == 20
    assert len(content["nearest"]) == 40
    assert sum(row["label"] == row["other_label"] for row in first) >= 16  # chance is 2
    assert all(row["task"] != row["other_task"] for row in content["nearest"])
    assert all(0 <= row["kept"] <= 1 for row in content["nearest"])
    table = rows(tmp_path / "classes.csv")
    assert table[0][2:4] == [f"{toy.name} {label}" for label in toy.classes[:2]]
    assert len(table) == 21
    best = next(row for row in first if (row["task"], row["label"]) == (toy.name, toy.classes[0]))
    column = table[0].index(f"{best['other_task']} {best['other_label']}")
    assert float(table[1][column]) == pytest.approx(best["cosine"], rel=1e-5)
    assert rows(tmp_path / "nearest.csv")[1][:5] == [toy.name, toy.classes[0], "1", small.name, best["other_label"]]
    assert "in the first 2 of" in capsys.readouterr().out


def test_of_three_tasks_each_is_asked_for_its_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unit directions: `a` is `x` in the second task and opposed to all in the third, whose class y has no clips."""
    east, north = [1.0, 0.0], [0.0, 1.0]
    heard_as(monkeypatch, {
        "one": [east, east, north, north], "two": [north, north, east, east], "three": [[-1, -0.2], [-1, -0.1]],
    })  # fmt: skip
    three = [
        made("one", "aabb", ("a", "b")), made("two", "yyxx", ("x", "y")), made("three", "xx", ("x", "y"), "gg"),
    ]  # fmt: skip
    content = similarity.between_classes(three, ENCODER, "mean", tmp_path, top=1, draws=2, progress=False)
    nearest = {(row["task"], row["label"], row["other_task"]): row["other_label"] for row in content["nearest"]}
    assert (nearest["one", "a", "two"], nearest["one", "b", "two"]) == ("x", "y")
    assert (nearest["one", "a", "three"], nearest["two", "y", "one"]) == ("x", "b")
    assert ("three", "y", "one") not in nearest
    assert {row["kept"] for row in content["nearest"]} == {None}
    assert [row["clips"] for row in content["classes"]] == [2, 2, 2, 2, 2, 0]
    assert content["notes"] == [
        "three: y has no clips that can be read.",
        "A task has one group only, so there are no halves in which to look again.",
    ]


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks", "toy"], "name two tasks or more, not 1"),
        (["tasks", "toy", "toy"], "name each task once: toy came several times"),
        (["classes", "toy", "esc5O"], "esc5O"),
        (["encoders", "logmel", "--task", "toy"], "name two encoders or more"),
        (["encoders", "logmel", "logmel?bands=64", "--task", "toy"], "name each encoder once"),
        (["encoders", "logmel", "logmell", "--task", "toy"], "logmell"),
        (["tasks", "toy", "toy:danger", "--draws", "0"], "draws should be 1 or more"),
        (["tasks", "toy", "toy:danger", "--seed", "-1"], "seed 0 or more"),
        (["classes", "toy", "toy:danger", "--top", "0"], "1 nearest class or more"),
    ],
)
def test_the_verb_says_what_is_wrong(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["similarity", *words, "-o", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_task_of_one_clip_has_no_spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard_as(monkeypatch, {"one": np.eye(1, 2), "two": np.eye(2)})
    with pytest.raises(TaskError, match="one has one clip"):
        similarity.between_tasks([made("one", "a", ("a",)), made("two", "aa", ("a",))], ENCODER, "mean", tmp_path)


def test_a_pooling_that_is_none_is_an_error(toy: Task, small: Task, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="meen"):
        similarity.between_tasks([toy, small], ENCODER, "meen", tmp_path, progress=False)
