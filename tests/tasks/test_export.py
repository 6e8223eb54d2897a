import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from soundmark import audio, tasks
from soundmark.errors import TaskError
from soundmark.tasks.export import export


@pytest.fixture
def toy():
    return tasks.load("toy:danger?clips=4&seconds=0.5")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_per_class_named_by_the_view(toy, tmp_path):
    folders = tasks.load_view("danger", "toy").folders
    done = export(toy, tmp_path / "out", folders=folders, progress=False)
    assert done["classes"] == {"Danger": 8, "Safe": 32}
    assert (done["written"], done["found"]) == (40, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "Danger", "Safe", "manifest.csv", "soundmark-export.json"
    ]  # fmt: skip
    copy = tmp_path / "out" / "Danger" / "siren-000.wav"
    assert copy.read_bytes() == (toy.root / "siren-000.wav").read_bytes()


def test_a_stopped_export_goes_on(toy, tmp_path):
    out = tmp_path / "out"
    export(toy, out, progress=False)
    (out / "danger" / "siren-000.wav").unlink()
    (out / "danger" / "siren-001.wav").write_bytes(b"cut off")
    before = (out / "danger" / "siren-002.wav").stat().st_mtime_ns
    done = export(toy, out, progress=False)
    assert (done["written"], done["found"]) == (2, 38)
    assert (out / "danger" / "siren-002.wav").stat().st_mtime_ns == before


def test_a_folder_with_other_things_is_left_alone(toy, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(toy, out, progress=False)
    with pytest.raises(TaskError, match="holds an export of toy:danger"):
        export(tasks.load("toy?clips=4&seconds=0.5"), out, progress=False)
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "beach.jpg").touch()
    with pytest.raises(TaskError, match=r"holds other things \(beach.jpg.*--force"):
        export(toy, other, progress=False)
    assert names(other) == ["beach.jpg"]
    export(toy, other, force=True, progress=False)
    assert "beach.jpg" in names(other)
    with pytest.raises(TaskError, match="is a file: name a folder"):
        export(toy, other / "beach.jpg", progress=False)
    (other / "soundmark-export.json").write_text("[]")
    with pytest.raises(TaskError, match="holds other things"):
        export(toy, other, progress=False)


def test_the_manifest_is_a_task_with_the_same_protocol(toy, tmp_path):
    toy = replace(toy, over="folds")
    export(toy, tmp_path / "out", progress=False)
    task = tasks.load(str(tmp_path / "out" / "manifest.csv"))
    assert [clip.label for clip in task.clips] == [clip.label for clip in toy.clips]
    assert [clip.group for clip in task.clips] == [clip.group for clip in toy.clips]
    for name in ("rounds", "classes", "metric", "over", "positive", "protocol", "official", "licence", "title"):
        assert getattr(task, name) == getattr(toy, name)
    assert task.notes == ("Exported from toy:danger?clips=4&seconds=0.5.", *toy.notes)
    assert tasks.load(str(tmp_path / "out")).classes == ("danger", "safe")


def test_a_manifest_that_was_changed_is_no_longer_official(toy, tmp_path):
    clips = tuple(replace(clip, group="same") if clip.path.startswith("rain") else clip for clip in toy.clips)
    export(replace(toy, clips=clips, official=True), tmp_path / "out", progress=False)
    manifest = tmp_path / "out" / "manifest.csv"
    assert tasks.load(str(manifest)).official
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(tasks.base.LeakError):
        tasks.load(str(manifest))


@pytest.mark.parametrize("key", ["task", "classes", "official", "manifest", "notes"])
def test_an_account_that_makes_no_sense_is_ignored(toy, tmp_path, key):
    export(toy, tmp_path / "out", progress=False)
    account = tmp_path / "out" / "soundmark-export.json"
    account.write_text(json.dumps(json.loads(account.read_text()) | {key: 7}))
    assert tasks.load(str(tmp_path / "out" / "manifest.csv")).protocol == "2 given folds"


def test_class_names_that_no_folder_can_have(toy, tmp_path):
    renamed = {"danger": "../a/b:c", "safe": "con"}
    task = replace(
        toy,
        classes=tuple(renamed.values()),
        clips=tuple(replace(clip, labels=(renamed[clip.label],)) for clip in toy.clips),
    )
    done = export(task, tmp_path / "out", progress=False)
    assert set(done["classes"]) == {"_a_b_c", "_con"}
    same = export(toy, tmp_path / "same", folders={"danger": "X", "safe": "x"}, progress=False)
    assert set(same["classes"]) == {"X", "x-2"}
    empty = export(toy, tmp_path / "empty", folders={"danger": "..", "safe": "manifest.csv"}, progress=False)
    assert set(empty["classes"]) == {"_", "manifest.csv-2"}


def test_parts_are_cut_out_and_equal_names_kept_apart(tmp_path, toy):
    for place in ("one", "two"):
        audio.write(tmp_path / place / "a.wav", np.linspace(-1, 1, 1600).astype(np.float32), 16000)
    clips = (
        tasks.Clip("one/a.wav", ("x",), fold="train"),
        tasks.Clip("two/a.wav", ("x",), fold="test"),
        tasks.Clip("one/a.wav", ("x",), start=0.05, fold="train"),
        tasks.Clip("two/a.wav", ("y",), start=0.01, end=0.03, fold="test"),
    )
    task = tasks.Task("t", tmp_path, clips, ("x", "y"), "split", ())
    for _ in range(2):
        export(task, tmp_path / "out", progress=False)
    assert [name for name in names(tmp_path / "out") if "/" in name] == [
        "x/a-2.wav", "x/a.wav", "x/a_0.05-end.wav", "y/a_0.01-0.03.wav"
    ]  # fmt: skip
    part, rate = audio.read(tmp_path / "out" / "y" / "a_0.01-0.03.wav")
    assert (len(part), rate) == (320, 16000)
    assert np.allclose(part, np.linspace(-1, 1, 1600)[160:480], atol=1e-4)
    with open(tmp_path / "out" / "manifest.csv") as stream:
        assert next(csv.reader(stream)) == ["path", "label", "group", "split"]


def test_a_missing_file_stops_the_export(toy, tmp_path):
    task = replace(toy, root=tmp_path / "nowhere")
    with pytest.raises(TaskError, match=r"cannot export .*siren-000.wav"):
        export(task, tmp_path / "out", progress=False)


def test_nothing_to_write_a_manifest_of_folds_with(tmp_path, toy):
    task = replace(toy, clips=tuple(replace(clip, fold="") for clip in toy.clips))
    export(task, tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "manifest.csv").read_text().startswith("path,label,group\n")


@pytest.mark.data
def test_the_real_danger_view(esc50_root, tmp_path):
    view = tasks.load_view("danger-4v5", "esc50")
    done = export(tasks.load("esc50:danger-4v5"), tmp_path / "out", folders=view.folders, progress=False)
    assert done["classes"] == {"Safe": 200, "Danger": 160}
    copy = tasks.load(str(tmp_path / "out" / "manifest.csv"))
    assert copy.rounds == tasks.load("esc50:danger-4v5").rounds
    assert copy.official
