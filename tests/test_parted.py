"""Vectors in a folder of partitions, as learners take them: in memory or from disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soundmark import embeddings, encoders, parted, partitions, protocol
from soundmark.cli import main
from soundmark.errors import AudioError, ResultsError, SoundmarkError
from soundmark.learners import Probe, probes
from soundmark.rows import Rows
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture
def folder(toy: Task, tmp_path: Path) -> Path:
    partitions.write(toy, ENCODER, "mean+std+max", tmp_path / "vectors", part_clips=32, progress=False)
    return tmp_path / "vectors"


@pytest.mark.parametrize("megabytes", ["256", "0"])
@pytest.mark.parametrize("pooling", ["mean+std+max", "std", "max+mean"])
def test_any_of_the_statistics_are_taken_from_memory_or_disk(
    toy: Task, folder: Path, pooling: str, megabytes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(parted.LIMIT, megabytes)
    found = parted.load(folder, toy, encoders.load(ENCODER), pooling)
    assert isinstance(found.vectors, Rows) == (megabytes == "0")
    assert found.clips == toy.clips
    expected = embeddings.embed(toy, ENCODER, pooling, progress=False).vectors
    np.testing.assert_array_equal(found.vectors[:], expected)


def test_clips_that_could_not_be_read_are_told_apart(broken: Task, tmp_path: Path) -> None:
    partitions.write(broken, ENCODER, "mean", tmp_path / "x", part_clips=16, progress=False)
    found = parted.load(tmp_path / "x", broken, encoders.load(ENCODER), "mean")
    assert list(found.bad) == [broken.clips[i] for i in (0, 15, 27)]
    expected = embeddings.embed(broken, ENCODER, "mean", progress=False)
    assert found.clips == expected.clips
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    (probe,) = probes(ENCODER, "mean", "logreg")
    probe.heard.folder = tmp_path / "x"
    assert probe.prepare(broken) == found.bad
    probe.heard.task = None
    with pytest.raises(AudioError, match=r"\.wav"):
        probe.prepare(broken, strict=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [("task", "of toy"), ("clips", "of other clips"), ("encoder", "by logmel"), ("pooling", "pooled by mean.std.max")],
)
def test_vectors_of_another_question_are_refused(toy: Task, folder: Path, change: str, said: str) -> None:
    task = {"task": replace(toy, name="other"), "clips": toy.subset(range(50))}.get(change, toy)
    name = ENCODER.replace("bands=16", "bands=8") if change == "encoder" else ENCODER
    with pytest.raises(ResultsError, match=f"{said}.*name another folder"):
        parted.load(folder, task, encoders.load(name), "min" if change == "pooling" else "mean")


def test_a_folder_that_is_not_complete_is_refused(toy: Task, folder: Path) -> None:
    (folder / "part-00001.parquet").unlink()
    with pytest.raises(ResultsError, match=r"not complete \(32 of 100 clips"):
        parted.load(folder, toy, encoders.load(ENCODER), "mean")
    (folder / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"part-00000\.parquet cannot be read .*; delete it"):
        parted.load(folder, toy, encoders.load(ENCODER), "mean")


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_the_limit_is_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parted.LIMIT, text)
    with pytest.raises(SoundmarkError, match="SOUNDMARK_VECTORS_MB should be a number of megabytes"):
        parted.most_bytes()


@pytest.mark.parametrize("head", ["linear?epochs=5", "logreg"])
def test_a_task_that_does_not_fit_is_measured_from_disk_with_the_same_outcome(
    head: str, toy: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = protocol.evaluate(toy, probes(ENCODER, "mean+std", head), progress=False)
    monkeypatch.setenv(parted.LIMIT, "0")
    (there,) = probes(ENCODER, "mean+std", head)
    measured = protocol.evaluate(toy, [there], progress=False)
    assert isinstance(there.heard.vectors, Rows)
    np.testing.assert_allclose(measured.predictions.probabilities, here.predictions.probabilities, atol=1e-5)
    assert measured.summary["headline"] == here.summary["headline"]
    (inside,) = probes(ENCODER, "mean+std", head)
    monkeypatch.setenv(parted.LIMIT, "256")
    inside.prepare(toy, progress=False)
    assert inside.fingerprint() == there.fingerprint()  # so that rounds go on whichever way they were begun


def test_training_takes_vectors_from_a_folder(
    toy: Task, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", TASK, "--encoder", ENCODER, "--pooling", "mean", "--head", "logreg", "--no-model", "--no-report"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    monkeypatch.setattr(embeddings, "outcomes", lambda *_, **__: pytest.fail("something was encoded"))
    assert main([*words, "--vectors", str(folder), "--out", str(tmp_path / "b")]) == 0
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text("utf-8"))["headline"] for name in "ab")
    assert a == b
    network = ["train", TASK, "--network", "cnn", "--vectors", str(folder), "--out", str(tmp_path / "c")]
    assert main([*network, "--no-model"]) == 1
    assert "leave --vectors out" in capsys.readouterr().err


def test_vectors_in_the_cache_follow_their_recordings(broken: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parted.LIMIT, "0")

    def heard() -> Probe:
        (probe,) = probes(ENCODER, "mean", "linear")
        probe.prepare(broken, progress=False)
        return probe

    before = heard()
    assert len(before.heard.bad) == 3
    (broken.root / broken.clips[15].path).write_bytes((broken.root / broken.clips[16].path).read_bytes())  # type: ignore[operator, union-attr]
    after = heard()
    assert len(after.heard.bad) == 2
    np.testing.assert_array_equal(after.vectors(broken.subset([15])), after.vectors(broken.subset([16])))
