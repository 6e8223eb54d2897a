"""Nearest clips and near duplicates: against plain loops, with vectors that have no direction, and as commands."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundmark import audio, cli, embeddings
from soundmark.analysis import neighbours
from soundmark.analysis.neighbours import Apart, close_pairs, nearest
from soundmark.analysis.standard import directions, scale_of
from soundmark.errors import AudioError, SoundmarkError, SpecError
from soundmark.tasks.base import Clip, Round, Task, fold_rounds

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16&precise=true"
COARSE = {"encoder": ENCODER, "pooling": "mean+std", "progress": False}
WORDS = ["--encoder", ENCODER, "--pooling", "mean+std"]


def made(clips: list[Clip], rounds: tuple[Round, ...] | None = None) -> Task:
    classes = tuple(sorted({clip.label for clip in clips}))
    return Task("made", Path(), tuple(clips), classes, "", fold_rounds(clips) if rounds is None else rounds)


def drawn(count: int, seed: int, dim: int = 3) -> tuple[Task, np.ndarray]:
    """A task of small random vectors, among them equal ones, zeros and NaN, in random folds and groups."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (count, dim)).astype(np.float32)
    vectors[rng.random(count) < 0.1] = np.nan
    clips = [
        Clip(f"{i}.wav", ("a",), group=str(rng.integers(4)) if rng.random() < 0.8 else "", fold=str(rng.integers(2)))
        for i in range(count)
    ]
    sides = rng.integers(0, 3, (2, count))
    rounds = tuple(
        Round(str(r), tuple(np.flatnonzero(side == 1).tolist()), tuple(np.flatnonzero(side == 2).tolist()))
        for r, side in enumerate(sides)
    )
    return made(clips, rounds), vectors


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """By the definition; two vectors of zeros are alike, one with NaN is like nothing."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else float(not a.any() and not b.any())


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 5))
def test_products_of_directions_are_cosines(seed: int, count: int, dim: int) -> None:
    _, vectors = drawn(count, seed, dim)
    found = directions(vectors)
    wanted = [[cosine(a, b) for b in vectors] for a in vectors]
    np.testing.assert_allclose(found @ found.T, wanted, atol=1e-6)


def test_directions_do_not_depend_on_length() -> None:
    vectors = np.array([[3e-30, 4e-30], [3e30, 4e30], [np.inf, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(directions(vectors), [[0.6, 0.8, 0], [0.6, 0.8, 0], [0, 0, 0]], rtol=1e-6)


def test_a_component_that_does_not_vary_says_nothing() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 100, 0] + [0, 5, 0.1]
    vectors = np.vstack([vectors, [[np.nan, 0, 0]]]).astype(np.float32)
    scaled = scale_of(vectors).apply(vectors)
    np.testing.assert_allclose(scaled[:-1].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[:-1].std(axis=0), [1, 1, 0], atol=1e-5)
    assert not scale_of(vectors[-1:]).apply(vectors[:5]).any(), "nothing finite to scale by"


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 50), st.integers(1, 200))
def test_the_nearest_are_those_of_a_full_sort(seed: int, count: int, top: int, held: int) -> None:
    _, vectors = drawn(count, seed)
    units = directions(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_HELD", held)
        found, alike = nearest(units[:3], units, top)
    full = units[:3] @ units.T
    assert found.shape == alike.shape == (min(3, count), min(top, count))
    np.testing.assert_allclose(alike, -np.sort(-full, axis=1)[:, :top], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(full, found, axis=1), alike, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in found.tolist())


@given(st.integers(0, 2**31), st.integers(2, 40), st.sampled_from([0.2, 0.7, 0.99, 1.0]), st.integers(1, 300))
def test_pairs_are_those_of_two_plain_loops(seed: int, count: int, above: float, held: int) -> None:
    task, vectors = drawn(count, seed)
    units = directions(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_HELD", held)
        found = close_pairs(units, Apart(task.clips, task), above, most=10_000)
        few = close_pairs(units, Apart(task.clips, task), above, most=3)
    wanted, leaking, tested = set(), 0, set()
    for i, j in itertools.combinations(range(count), 2):
        a, b = task.clips[i], task.clips[j]
        leaks = [(i, j, r) for r in task.rounds if i in r.train and j in r.test]
        leaks += [(j, i, r) for r in task.rounds if j in r.train and i in r.test]
        apart = bool(leaks) or a.fold != b.fold or a.group != b.group or not a.group
        if apart and cosine(vectors[i], vectors[j]) > above - 1e-5:
            wanted.add((i, j))
            leaking += bool(leaks)
            tested |= {told for _, told, _ in leaks}
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == wanted
    assert (found.total, found.leaking, found.tested) == (len(wanted), leaking, len(tested))
    assert (np.diff(found.likeness) <= 0).all()
    assert (few.total, few.leaking, few.tested) == (found.total, found.leaking, found.tested)
    np.testing.assert_array_equal(few.likeness, found.likeness[:3])


@pytest.fixture
def leaky(toy: Task, tmp_path: Path) -> Task:
    """The toy with a clip of fold 1 copied over one of fold 2, and over another of its own group."""
    root = tmp_path / "leaky"
    shutil.copytree(toy.root, root)
    shutil.copyfile(root / "rain-000.wav", root / "rain-002.wav")
    shutil.copyfile(root / "rain-000.wav", root / "rain-001.wav")
    samples, rate = audio.read(root / "siren-000.wav")
    audio.write(root / "wind-004.wav", 0.9 * samples, rate)
    return replace(toy, root=root)


def test_copies_across_folds_are_found_and_said_to_be_so(leaky: Task) -> None:
    found = neighbours.duplicates(leaky, above=0.999, **COARSE)
    rows = {tuple(clip["clip"] for clip in pair["clips"]): pair for pair in found["pairs"]}
    assert set(rows) == {("rain-000.wav", "rain-002.wav"), ("rain-001.wav", "rain-002.wav")}, "one group is no leak"
    for pair in rows.values():
        assert pair["same_file"]
        assert pair["same_label"]
        assert pair["across"] == ["train/test", "folds", "groups"]
        assert pair["rounds"] == ["1", "2"], "each tests one and trains on the other"
        assert pair["similarity"] == pytest.approx(1, abs=1e-5)
        assert [clip["fold"] for clip in pair["clips"]] == ["1", "2"]
        assert pair["clips"][1]["path"] == str(leaky.root / "rain-002.wav")
    assert (found["total"], found["leaking"], found["tested"]) == (2, 2, 3)
    text = neighbours.duplicates_table(found)
    assert "2 of them across a round's training and test side: 3 clips tested" in text
    assert text.count("same file, across train/test, folds, groups") == 2


def test_a_quieter_copy_is_alike_and_not_the_same_file(leaky: Task) -> None:
    """Levels in decibels are all shifted by one constant, so the copy is near; its bytes are others."""
    found = neighbours.duplicates(leaky, above=0.9, most=8, **COARSE)
    (pair,) = (
        pair for pair in found["pairs"] if [clip["clip"] for clip in pair["clips"]] == ["siren-000.wav", "wind-004.wav"]
    )
    assert not pair["same_file"]
    assert not pair["same_label"]
    assert "alike, across train/test, folds, groups; labels differ" in neighbours.duplicates_table(found)


def test_all_the_same_are_all_duplicates(toy: Task, tmp_path: Path) -> None:
    """Standardised they are all zeros, which have no direction."""
    for i in range(4):
        shutil.copyfile(toy.path(toy.clips[0]), tmp_path / f"{i}.wav")
    clips = [Clip(f"{i}.wav", ("a" if i < 2 else "b",), fold=str(i % 2)) for i in range(4)]
    found = neighbours.duplicates(replace(made(clips), root=tmp_path), **COARSE)
    assert found["total"] == 6
    assert all(pair["same_file"] and pair["similarity"] == 1 for pair in found["pairs"])


def test_clips_that_cannot_be_read_are_left_out(broken: Task) -> None:
    found = neighbours.duplicates(broken, above=0.5, most=5, **COARSE)
    assert {bad["clip"] for bad in found["left_out"]} == {broken.clips[i].key for i in (0, 15, 27)}
    assert found["clips"] == 97
    assert len(found["pairs"]) == 5
    for pair in found["pairs"]:
        folds = [clip["fold"] for clip in pair["clips"]]
        assert pair["rounds"] == (sorted(folds) if folds[0] != folds[1] else [])
    assert f"and {found['total'] - 5} more, less alike" in neighbours.duplicates_table(found)


def test_a_clip_is_nearest_to_itself(toy: Task, tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    shutil.copyfile(toy.path(toy.clips[33]), copy)
    found = neighbours.similar(toy, [copy, toy.path(toy.clips[7])], top=4, **COARSE)
    first, second = found["recordings"]
    assert first["file"] == str(copy)
    for each, clip in ((first, toy.clips[33]), (second, toy.clips[7])):
        rows = each["nearest"]
        assert len(rows) == 4
        assert rows[0] | {"similarity": 1} == {
            "similarity": 1, "same_file": True, "clip": clip.key, "label": clip.label, "group": clip.group,
            "fold": clip.fold, "path": str(toy.path(clip)),
        }  # fmt: skip
        assert rows[0]["similarity"] == pytest.approx(1, abs=1e-5)
        assert not any(row["same_file"] for row in rows[1:])
        assert [row["similarity"] for row in rows] == sorted((row["similarity"] for row in rows), reverse=True)
    # The two takes of a recipe sound alike.
    assert second["nearest"][1]["group"] == toy.clips[7].group
    known = embeddings.embed(toy, ENCODER, "mean+std", progress=False)
    scaled = (known.vectors - known.vectors.mean(axis=0)) / known.vectors.std(axis=0)
    assert second["nearest"][3]["similarity"] == pytest.approx(
        sorted(cosine(scaled[7], row) for row in scaled)[-4], abs=1e-4
    )


def test_a_part_of_a_file_is_not_the_same_file(toy: Task) -> None:
    clips = tuple(replace(clip, end=0.5) for clip in toy.clips)
    found = neighbours.similar(replace(toy, clips=clips), [toy.path(toy.clips[0])], top=1, **COARSE)
    (row,) = found["recordings"][0]["nearest"]
    assert row["similarity"] > 0.999
    assert not row["same_file"]


def test_the_verb_prints_a_table_and_json(toy: Task, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(toy.path(toy.clips[0]))
    assert cli.main(["similar", file, "--in", toy.name, *WORDS, "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: nearest of 100 clips of {toy.name}"
    assert lines[1].split() == ["similarity", "label", "fold", "path"]
    assert lines[2].split() == ["1.0000", "siren", "1", file, "(same", "file)"]
    assert len(lines) == 5
    assert cli.main(["similar", file, "--in", toy.name, *WORDS, "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in found["recordings"][0]["nearest"]] == [line.split()[3] for line in lines[2:]]
    assert (
        cli.main(["similar", "--in", toy.name, *WORDS, "--duplicates", "--above", "0.9", "--top", "2", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found["pairs"]) == 2 <= found["total"]
    assert cli.main(["similar", "--in", toy.name, *WORDS, "--duplicates", "--above", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{toy.name}: 0 pairs of 100 clips at 1 or above that lie apart"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give recordings to compare, or --duplicates"),
        (["x.wav", "--duplicates"], "leave the recordings out"),
        (["x.wav", "--above", "0.9"], "--above is for --duplicates"),
        (["x.wav"], "x.wav"),
        (["x.wav", "--top", "0"], "1 or more, not 0"),
        (["--duplicates", "--above", "0"], "above 0 and up to 1, not 0"),
        (["--duplicates", "--above", "nan"], "above 0 and up to 1, not nan"),
        (["--duplicates", "--top", "0"], "1 or more, not 0"),
        (["--duplicates", "--encoder", "no-such"], "no-such"),
        (["--duplicates", "--pooling", "no-such"], "no-such"),
    ],
)
def test_bad_words_are_explained(toy: Task, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["similar", *words[:1], "--in", toy.name, *WORDS, *words[1:]]) == 1
    error = capsys.readouterr().err
    assert error.startswith("soundmark: error: ")
    assert said in error


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda task: neighbours.similar(task, []), SpecError),
        (lambda task: neighbours.similar(task, ["x.wav"], top=0), SpecError),
        (lambda task: neighbours.similar(task, [task.root]), AudioError),
        (lambda task: neighbours.duplicates(task, above=1.01), SpecError),
        (lambda task: neighbours.duplicates(made([], ())), SoundmarkError),
    ],
)
def test_what_cannot_be_is_an_error(toy: Task, call: Callable[[Task], Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        call(toy)
