"""The two studies, on toy sounds and a small spectrogram: tables, scores side by side, figures."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from soundmark import cli, embeddings, study
from soundmark.errors import SpecError
from soundmark.learners import Probe
from soundmark.tasks.base import Task

ENCODER = "logmel?rate=16000&window=1024&hop=800&bands=16"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def small() -> str:
    return "forest?trees=20"


def test_moments_against_their_mean(toy: Task, tmp_path: Path, small: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "pooling", toy.name, "--encoder", ENCODER, "--heads", small, "logreg", "-o", str(tmp_path)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "pooling.json").read_text("utf-8"))
    moments, merged = rows(tmp_path / study.MOMENTS), rows(tmp_path / study.MERGED)
    assert found["moments"] == len(moments) > 10 * len(merged)
    assert [row["clip"] for row in merged] == [clip.key for clip in toy.clips]
    # A clip's merged row is the mean of its moments, and what pooling by mean gives.
    known = embeddings.embed(toy, ENCODER, "mean", progress=False).vectors
    names = list(merged[0])[4:]
    np.testing.assert_allclose([[float(row[name]) for name in names] for row in merged], known, rtol=1e-4, atol=1e-4)
    for head in (small, "logreg"):
        by_level = found["heads"][head]
        assert by_level["moments"]["clips"] == len(moments)
        assert by_level["votes"]["clips"] == by_level["pooled"]["clips"] == 100
        assert by_level["votes"]["headline"]["value"] >= by_level["moments"]["headline"]["value"] > 0.2
        for level in by_level.values():
            assert np.sum(level["confusion"]) == level["clips"]
            assert level["groups"] == 50
            assert f"{level['headline']['value']:.2%}" in printed
    assert (tmp_path / "confusion-logreg.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "confusion-forest-trees-20.svg").is_file()
    table = rows(tmp_path / "pooling.csv")
    assert [(row["head"], row["rows"]) for row in table[:3]] == [
        (small, name) for name in ("moments", "votes", "pooled")
    ]
    assert found["command"].startswith("soundmark study pooling 'toy?clips=10&seconds=0.5' --encoder")


def test_the_pooled_side_is_what_the_protocol_measures(toy: Task, tmp_path: Path) -> None:
    from soundmark import protocol

    found = study.pooling(toy, ENCODER, ["logreg"], tmp_path, seed=0, progress=False)
    usual = protocol.evaluate(toy, [Probe(ENCODER, "mean", "logreg")], seed=0, progress=False)
    assert found["heads"]["logreg"]["pooled"]["headline"]["value"] == pytest.approx(
        usual.summary["headline"]["value"], abs=0.02
    )


def test_no_moment_of_a_tested_clip_or_its_group_is_learnt(toy: Task, tmp_path: Path) -> None:
    owner = np.repeat(np.arange(len(toy.clips)), 3)
    moments = study._task_of_moments(toy, owner, np.tile([0.0, 0.1, 0.2], len(toy.clips)), 0.1)
    assert Counter(clip.path for clip in moments.clips) == {clip.path: 3 for clip in toy.clips}
    for each, original in zip(moments.rounds, toy.rounds, strict=True):
        assert {moments.clips[i].path for i in each.test} == {toy.clips[i].path for i in original.test}
        learnt = {moments.clips[i].group for i in each.train}
        assert not learnt & {moments.clips[i].group for i in each.test}


def test_votes_count_heads_and_the_mean_parts_equals() -> None:
    from soundmark.results import Predictions
    from soundmark.tasks.base import Clip, Round

    clips = (Clip("a.wav", ("x",), fold="1"), Clip("b.wav", ("y",), fold="1"))
    task = Task("made", Path(), clips, ("x", "y"), "", (Round("1", (), (0, 1)),))
    owner = np.array([0, 0, 0, 1, 1])
    moments = study._task_of_moments(task, owner, np.arange(5) * 0.1, 0.1)
    said = np.array([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0], [0.9, 0.1], [0.0, 1.0]])
    single = Predictions(
        [clip.key for clip in moments.clips], [clip.path for clip in moments.clips], [0.0] * 5, [None] * 5,
        [clip.group for clip in moments.clips], ["1"] * 5, np.array([0, 0, 0, 1, 1]), said, ("x", "y"),
    )  # fmt: skip
    votes = study._votes(task, owner, moments, single)
    assert list(votes.predicted()) == [0, 1], "two of three, though the mean says otherwise; then the mean of equals"


def test_probes_over_several_seeds(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linear, deep = "linear?epochs=5", "three-layer?epochs=2&hidden=16"
    words = ["study", "heads", toy.name, "--encoder", ENCODER, "--heads", linear, deep, "--seeds", "2"]
    assert cli.main([*words, "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "heads.json").read_text("utf-8"))
    for head in (linear, deep):
        each = found["heads"][head]
        values = [row["value"] for row in each["values"]]
        assert [row["seed"] for row in each["values"]] == [42, 43]
        assert each["mean"] == pytest.approx(np.mean(values))
        assert each["std"] == pytest.approx(np.std(values, ddof=1))
        assert f"{each['mean']:.2%}" in printed
    assert [row["seed"] for row in rows(tmp_path / "heads.csv")[:4]] == ["42", "43", "mean", "std"]
    assert (tmp_path / "confusion-heads.png").is_file()
    assert found["command"].endswith(f"--seeds 2 -o {tmp_path}")


def test_clips_that_cannot_be_read_are_left_out_and_listed(broken: Task, tmp_path: Path) -> None:
    found = study.pooling(broken, ENCODER, ["logreg"], tmp_path, progress=False)
    assert len(found["bad_clips"]) == 3
    assert found["heads"]["logreg"]["pooled"]["clips"] == 97
    found = study.heads(broken, ENCODER, ["linear?epochs=1"], tmp_path, seeds=[1], progress=False)
    assert len(found["bad_clips"]) == 3
    assert found["heads"]["linear?epochs=1"]["std"] is None


def test_what_cannot_be_studied_is_explained(toy: Task, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="one value per setting"):
        study.pooling(toy, ENCODER, ["svm?C=1,10"], tmp_path)
    with pytest.raises(SpecError, match="at least one seed"):
        study.heads(toy, ENCODER, ["linear"], tmp_path, seeds=[])
    assert cli.main(["study", "heads", toy.name, "--encoder", ENCODER, "--seeds", "0", "-o", str(tmp_path)]) == 1
    assert cli.main(["study", "pooling", toy.name, "--encoder", "logmell", "-o", str(tmp_path)]) == 1
