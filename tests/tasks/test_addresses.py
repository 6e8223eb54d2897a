"""Collections at addresses are the tasks they would be on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundmark import audio, embeddings, parted, remote, tasks
from soundmark.cli import main
from soundmark.errors import LeakError, TaskError
from soundmark.tasks import addresses
from soundmark.tasks.export import export

fsspec = pytest.importorskip(
    "fsspec", reason="SKIPPED FOR WANT OF FSSPEC: pip install 'soundmark[remote]'; addresses are not tested"
)
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))


@pytest.fixture
def memory() -> Iterator[Any]:
    """Fsspec's file system in memory, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def mine(serve: str, tmp_path: Path) -> Path:
    """Recordings on disk, below what the local server serves: two classes of four, of different contents."""
    for number in range(8):
        noise = np.random.default_rng(number).normal(0, 0.1, 8000).astype(np.float32)
        audio.write(tmp_path / "web" / "mine" / f"class {'ab'[number % 2]}" / f"{number}.wav", noise, 16000)
    return tmp_path / "web" / "mine"


def copied(mine: Path, memory: Any, to: str = "/bucket/mine") -> None:
    for path in sorted(mine.rglob("*")):
        if path.is_file():
            memory.pipe(f"{to}/{path.relative_to(mine).as_posix()}", path.read_bytes())


def same(one: Any, other: Any) -> None:
    assert one.classes == other.classes
    assert [(clip.labels, clip.fold, clip.key) for clip in one.clips] == [
        (clip.labels, clip.fold, clip.key) for clip in other.clips
    ]
    assert one.rounds == other.rounds
    vectors = [embeddings.embed(task, ENCODER, "mean", progress=False).vectors for task in (one, other)]
    np.testing.assert_array_equal(*vectors)


def test_a_folder_in_memory_is_the_folder_on_disk(serve: str, mine: Path, memory: Any) -> None:
    copied(mine, memory)
    there = tasks.load("memory://bucket/mine?folds=2")
    same(there, tasks.load(f"{mine}?folds=2"))
    assert there.name == "memory://bucket/mine?folds=2"
    assert there.title == "mine"
    assert any("Copies were not looked for among 8 recordings" in note for note in there.notes)


def test_a_folder_of_a_web_server_is_the_folder_on_disk(serve: str, mine: Path) -> None:
    there = tasks.load(f"{serve}/mine?folds=2")
    here = tasks.load(f"{mine}?folds=2")
    assert there.classes == here.classes == ("class a", "class b")
    assert [clip.path for clip in there.clips] == [clip.path.replace(" ", "%20") for clip in here.clips]
    vectors = [embeddings.embed(task, ENCODER, "mean", progress=False).vectors for task in (here, there)]
    np.testing.assert_array_equal(*vectors)


def test_a_split_into_folders_is_found(memory: Any) -> None:
    for path in (
        "train/a/1.wav",
        "train/b/2.wav",
        "test/a/3.wav",
        "test/b/4.wav",
        "test/.hidden/x.wav",
        "test/b/n.txt",
    ):
        memory.pipe(f"/s/{path}", path.encode())
    task = tasks.load("memory://s")
    assert task.protocol == "given split into train and test"
    assert {clip.path: (clip.label, clip.fold) for clip in task.clips} == {
        "train/a/1.wav": ("a", "train"),
        "train/b/2.wav": ("b", "train"),
        "test/a/3.wav": ("a", "test"),
        "test/b/4.wav": ("b", "test"),
    }
    assert any("being no recordings by their endings: 1 .txt" in note for note in task.notes)


def test_copies_are_found_by_the_marks_of_a_store(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("a/1", "a/2", "a/3", "b/1", "b/2", "b/3")):
        memory.pipe(f"/c/{name}.wav", str(number).encode())
    marks = {"a/1.wav": "x", "a/2.wav": "x", "b/1.wav": "y"}
    assert addresses.copies(["a/1.wav", "a/2.wav", "b/1.wav"], marks) == ([["a/1.wav", "a/2.wav"]], [])
    listed = dict.fromkeys(("a/1.wav", "a/2.wav", "a/3.wav", "b/1.wav", "b/2.wav", "b/3.wav"), "")
    monkeypatch.setattr(remote, "listing", lambda root: {p: "m" if p in ("a/1.wav", "a/2.wav") else p for p in listed})
    task = tasks.load("memory://c?folds=2")
    groups = {clip.path: clip.group for clip in task.clips}
    assert groups["a/1.wav"] == groups["a/2.wav"] != groups["a/3.wav"]
    assert any(
        note.startswith("Copies, each recording with its copies being one group: 2 files") for note in task.notes
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_at_an_address_is_the_manifest_on_disk(kind: str, serve: str, mine: Path, memory: Any) -> None:
    rows = [(f"class {'ab'[n % 2]}/{n}.wav", "ab"[n % 2], str(n // 4 + 1)) for n in range(8)]
    text = "path,label,fold\n" + "".join(",".join(row) + "\n" for row in rows)
    path = mine / f"clips.{kind}"
    if kind == "csv":
        path.write_text(text, encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet

        columns = dict(zip(("path", "label", "fold"), map(list, zip(*rows, strict=True)), strict=True))
        pyarrow.parquet.write_table(pa.table(columns), path)
    copied(mine, memory)
    here = tasks.load(str(path))
    same(tasks.load(f"memory://bucket/mine/clips.{kind}"), here)
    same(tasks.load(f"{serve}/mine/clips.{kind}"), here)


def test_a_manifest_on_disk_may_name_addresses(serve: str, mine: Path, memory: Any, tmp_path: Path) -> None:
    copied(mine, memory)
    text = "path,label,fold\n"
    for n in range(8):
        place = (f"memory://bucket/mine/class {'ab'[n % 2]}/{n}.wav", f"web/mine/class {'ab'[n % 2]}/{n}.wav")[
            n % 3 == 0
        ]
        text += f"{place},{'ab'[n % 2]},{n // 4 + 1}\n"
    (tmp_path / "clips.csv").write_text(text + f"{serve}/mine/gone.wav,a,2\n", encoding="utf-8")
    task = tasks.load(str(tmp_path / "clips.csv"))
    found = embeddings.embed(task, ENCODER, "mean", progress=False)
    assert [clip.path for clip in found.bad] == [f"{serve}/mine/gone.wav"]
    assert "there is no file" in next(iter(found.bad.values()))
    plain = tasks.load(str(mine))
    plainly = embeddings.embed(plain, ENCODER, "mean", progress=False)
    by_name = {clip.path.rpartition("/")[2]: row for clip, row in zip(plainly.clips, plainly.vectors, strict=True)}
    for clip, row in zip(found.clips, found.vectors, strict=True):
        np.testing.assert_array_equal(row, by_name[clip.path.rpartition("/")[2]])


def test_an_exported_task_keeps_its_protocol_at_an_address(toy: Any, tmp_path: Path, memory: Any) -> None:
    export(toy, tmp_path / "toy", progress=False)
    copied(tmp_path / "toy", memory, "/toy")
    task = tasks.load("memory://toy/manifest.csv")
    assert task.protocol == toy.protocol
    assert task.notes[0].startswith("Exported from toy")


def test_a_group_on_both_sides_is_an_error_there_too(memory: Any) -> None:
    rows = "path,label,fold,group\na.wav,a,1,g\nb.wav,b,1,h\nc.wav,a,2,g\nd.wav,b,2,i\n"
    memory.pipe("/m/clips.csv", rows.encode())
    with pytest.raises(LeakError, match="g "):
        tasks.load("memory://m/clips.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory://nowhere/at/all", "nothing below memory://nowhere/at/all|there is no file"),
        ("memory://nowhere/clips.csv", "cannot read the table: there is no file memory://nowhere/clips.csv"),
        ("http://127.0.0.1:9/clips.csv", "cannot be read .*: check the address"),
        ("nonesuch://x/clips.csv", "nothing here reads nonesuch://"),
        ("memory://m/absolute.csv", "row 2: /home/a.wav is a path of one machine; write it from memory://m/ on"),
        ("memory://m/one", "one class only"),
    ],
)
def test_errors_say_what_and_where(text: str, said: str, memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    memory.pipe("/m/absolute.csv", b"path,label\n/home/a.wav,a\n")
    memory.pipe("/m/one/a/x.wav", b"x")
    with pytest.raises(TaskError, match=said):
        tasks.load(text)
    assert main(["embed", text, "-o", "x.parquet"]) == 1
    assert "soundmark: error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://h:80/x/clips.csv?folds=3&seed=1", ("https://h:80/x/clips.csv", "", "folds=3&seed=1")),
        ("https://h/x/clips.csv?key=a/b", ("https://h/x/clips.csv?key=a/b", "", "")),
        ("https://h/x/clips.csv?key=a?folds=2", ("https://h/x/clips.csv?key=a", "", "folds=2")),
        ("folder:s3://b/x/:quiet.toml?folds=2", ("s3://b/x/", "quiet.toml", "folds=2")),
        ("s3://b", ("s3://b", "", "")),
        ("http://localhost:8000", ("http://localhost:8000", "", "")),
    ],
)
def test_an_address_is_told_from_view_and_settings(text: str, parts: tuple[str, str, str]) -> None:
    address, view, settings = tasks._split_address(text)
    assert (str(address), view, settings) == parts


def test_partitions_are_written_from_addresses(serve: str, mine: Path, tmp_path: Path) -> None:
    (mine / "class a" / "0.wav").write_bytes(b"no sound")
    assert main(["embed", f"{serve}/mine", "--encoder", ENCODER, "-o", f"{tmp_path}/x/", "--part-clips", "3"]) == 0
    assert main(["embed", str(mine), "--encoder", ENCODER, "-o", f"{tmp_path}/y/", "--part-clips", "3"]) == 0
    there, here = (
        np.concatenate([parted.matrix(part, 16) for part in parted.tables(tmp_path / name)]) for name in "xy"
    )
    np.testing.assert_array_equal(there, here)
    assert len(here) == 7
    assert list(parted.errors(tmp_path / "x")) == ["class%20a/0.wav"]
