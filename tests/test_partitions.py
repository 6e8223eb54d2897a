from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from soundmark import embeddings, parted, partitions
from soundmark.cli import main
from soundmark.errors import AudioError, ResultsError, SoundmarkError
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


def write(task: Task, folder: Path, **more: object) -> partitions.Written:
    return partitions.write(task, ENCODER, "mean+std", folder, **{"part_clips": 30, "progress": False} | more)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in parted.parts(folder)}


def test_partitions_hold_the_vectors_of_the_task_in_its_order(toy: Task, tmp_path: Path) -> None:
    written = write(toy, tmp_path / "x")
    assert (written.rows, written.parts, written.made, written.bad) == (100, 4, 4, {})
    table = pyarrow.parquet.read_table(tmp_path / "x")  # as any tool would: what is ours in the folder is passed over
    assert table.column_names == ["clip", "label", "group", "fold", "error", "vector"]
    assert table["clip"].to_pylist() == [clip.key for clip in toy.clips]
    assert table["label"].to_pylist() == [clip.label for clip in toy.clips]
    assert table["fold"].to_pylist() == [clip.fold for clip in toy.clips]
    assert table["error"].null_count == 100
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[32]"
    expected = embeddings.embed(toy, ENCODER, "mean+std", cache=False, progress=False).vectors
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected)
    assert [part.num_rows for part in parted.tables(tmp_path / "x")] == [30, 30, 30, 10]


def test_partitions_are_the_same_however_many_threads_make_them(toy: Task, tmp_path: Path) -> None:
    write(toy, tmp_path / "one", workers=1)
    write(toy, tmp_path / "four", workers=4)
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_a_bad_clip_is_a_row_with_its_error(broken: Task, tmp_path: Path) -> None:
    written = write(broken, tmp_path / "x")
    bad = [broken.clips[i] for i in (0, 15, 27)]
    assert written.rows == 100
    assert list(written.bad) == [clip.key for clip in bad]
    table = pyarrow.parquet.read_table(tmp_path / "x")
    rows = table.to_pylist()
    assert [row["clip"] for row in rows if row["error"] is not None] == [clip.key for clip in bad]
    assert all(Path(row["clip"]).name in row["error"] for row in rows if row["error"] is not None)
    assert [row["clip"] for row in rows if row["vector"] is None] == [clip.key for clip in bad]
    expected = embeddings.embed(broken, ENCODER, "mean+std", cache=False, progress=False).vectors
    got = np.concatenate([parted.matrix(part, 32) for part in parted.tables(tmp_path / "x")])
    np.testing.assert_array_equal(got, expected)


def test_what_is_there_is_not_made_again(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(toy, tmp_path)
    before = contents(tmp_path)
    made: list[int] = []
    real = partitions.make
    monkeypatch.setattr(partitions, "make", lambda *given: (made.append(given[1].number), real(*given))[1])
    assert write(toy, tmp_path).made == 0
    (tmp_path / "part-00002.parquet").unlink()
    (tmp_path / "part-00001.parquet").write_bytes(before["part-00001.parquet"][:-9])  # no writer of ours leaves that
    assert write(toy, tmp_path).made == 2
    assert sorted(made) == [1, 2]
    assert contents(tmp_path) == before


def test_a_changed_recording_makes_its_partition_again(broken: Task, tmp_path: Path) -> None:
    assert len(write(broken, tmp_path / "x").bad) == 3
    (broken.root / broken.clips[15].path).write_bytes(broken.path(broken.clips[16]).read_bytes())
    again = write(broken, tmp_path / "x")
    assert (again.made, len(again.bad)) == (1, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooling": "mean"}, "pooling 'mean.std' there, 'mean' asked for"),
        ({"encoder": ENCODER.replace("bands=16", "bands=8")}, "bands=16.* there, .*bands=8"),
        ({"part_clips": 7}, "part_clips 30 there, 7 asked for"),
        ({"clips": 3}, "clips 100 there, 3 asked for"),
        ({"labels": "x"}, "its clips differ"),
    ],
)
def test_another_question_is_refused(toy: Task, tmp_path: Path, change: dict[str, object], said: str) -> None:
    write(toy, tmp_path)
    before = contents(tmp_path)
    task = toy
    if "clips" in change:
        task = toy.subset(range(3))
    if "labels" in change:
        task = replace(toy, clips=(replace(toy.clips[0], labels=("x",)), *toy.clips[1:]))
    with pytest.raises(ResultsError, match=f"(?s){said}.*name another folder, or delete"):
        partitions.write(
            task,
            str(change.get("encoder", ENCODER)),
            str(change.get("pooling", "mean+std")),
            tmp_path,
            part_clips=int(str(change.get("part_clips", 30))),
            progress=False,
        )
    assert contents(tmp_path) == before


def test_a_folder_of_other_things_is_refused(toy: Task, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ResultsError, match="not empty and holds no vectors of ours"):
        write(toy, tmp_path)
    with pytest.raises(ResultsError, match="is a file"):
        write(toy, tmp_path / "notes.txt")
    with pytest.raises(ResultsError, match="holds no vectors of ours"):
        parted.about(tmp_path)
    with pytest.raises(SoundmarkError, match="1 clip or more"):
        write(toy, tmp_path / "new", part_clips=0)
    assert sorted(os.listdir(tmp_path)) == ["notes.txt"]


def test_strict_stops_at_a_bad_clip_and_keeps_what_was_made(broken: Task, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"\.wav"):
        write(broken, tmp_path / "x", strict=True)
    write(broken, tmp_path / "x")
    with pytest.raises(AudioError, match=r"\.wav"):  # although nothing is left to be made
        write(broken, tmp_path / "x", strict=True)


def test_a_task_of_bad_clips_only_is_an_error(broken: Task, tmp_path: Path) -> None:
    with pytest.raises(SoundmarkError, match="could be encoded; the first says"):
        write(broken.subset([0, 15, 27]), tmp_path / "x")


def test_a_job_travels_as_text(toy: Task) -> None:
    clips = (toy.clips[0], replace(toy.clips[1], start=0.1, end=1 / 3, labels=("a", "b")))
    job = partitions.Job(7, clips, "stamp")
    assert partitions.Job.of(job.text()) == job


def test_the_command_writes_a_folder(broken: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", TASK, "--encoder", ENCODER, "-o", f"{tmp_path / 'x'}/", "--part-clips", "60"]
    assert main(words) == 0
    assert "100 rows in 2 partitions, 2 of them made now; 0 clips" in capsys.readouterr().out
    assert main([*words[:-3], str(tmp_path / "x"), "--part-clips", "60"]) == 0  # an existing folder needs no slash
    assert "0 of them made now" in capsys.readouterr().out
    assert main([*words, "--frames"]) == 1
    assert "--frames writes one table" in capsys.readouterr().err
    assert main([*words[:4], "-o", str(tmp_path / "x.csv"), "--part-clips", "60"]) == 1
    assert "--part-clips is for folders" in capsys.readouterr().err


def test_bad_clips_are_listed_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from soundmark import audio

    for label in "ab":
        for i in range(3):
            noise = np.random.default_rng(i).normal(0, 0.1, 8000 + i + (label == "b")).astype(np.float32)
            audio.write(tmp_path / "mine" / label / f"{i}.wav", noise, 16000)
    (tmp_path / "mine" / "a" / "0.wav").write_bytes(b"no sound")
    assert main(["embed", str(tmp_path / "mine"), "--encoder", ENCODER, "-o", f"{tmp_path}/x/"]) == 0
    said = capsys.readouterr()
    assert "soundmark: no vector of a/0.wav: " in said.err
    assert "6 rows in 1 partitions, 1 of them made now; 1 clips have an error" in said.out


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_killed_command_goes_on_where_it_was(toy: Task, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom soundmark import partitions\nfrom soundmark.cli import main\nreal = partitions.make\n"
        "def slow(order, job, threads):\n    time.sleep(0.2)\n    return real(order, job, threads)\n"
        "partitions.make = slow\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["embed", TASK, "--encoder", ENCODER, "--pooling", "mean+std", "-o", f"{tmp_path}/x/", "--part-clips", "5"]
    running = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "x").glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    there = contents(tmp_path / "x")
    assert 0 < len(there) < 20
    times = {name: (tmp_path / "x" / name).stat().st_mtime_ns for name in there}
    assert main(words) == 0
    assert {name: (tmp_path / "x" / name).stat().st_mtime_ns for name in there} == times
    write(toy, tmp_path / "whole", part_clips=5)
    assert contents(tmp_path / "x") == contents(tmp_path / "whole")
