import os
import shutil
import sys
import zlib

import numpy as np
import pytest

from soundmark import audio, tasks
from soundmark.errors import LeakError, SpecError, TaskError


@pytest.fixture
def sound(tmp_path):
    """Write a recording of its own (by seed) at a path below tmp_path."""

    def write(path, seed=None, samples=160):
        rng = np.random.default_rng(zlib.crc32(path.encode()) if seed is None else seed)
        path = tmp_path / path
        audio.write(path, rng.uniform(-0.5, 0.5, samples).astype(np.float32), 16000)
        return path

    return write


@pytest.fixture
def collection(tmp_path, sound):
    """Two classes of six recordings each."""
    for i in range(6):
        sound(f"set/dog/{i}.wav", seed=i)
        sound(f"set/rain/{i}.wav", seed=100 + i)
    return tmp_path / "set"


def manifest(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_a_folder_per_class(collection):
    task = tasks.load(str(collection))
    assert task.classes == ("dog", "rain")
    assert [clip.path for clip in task.clips][:2] == ["dog/0.wav", "dog/1.wav"]
    assert task.protocol == "5 stratified group folds, made by Soundmark (seed 0)"
    assert sorted(i for part in task.rounds for i in part.test) == list(range(12))
    assert all({task.clips[i].label for i in part.test} == {"dog", "rain"} for part in task.rounds)
    assert (task.title, task.notes) == ("set", ())
    assert task.path(task.clips[0]).is_file()


def test_the_folds_are_the_same_every_time_and_the_users_to_change(collection):
    task = tasks.load(str(collection))
    assert tasks.load(str(collection)).clips == task.clips
    other = tasks.load(f"{collection}?folds=3&seed=7")
    assert len(other.rounds) == 3
    assert other.name.endswith("set?folds=3&seed=7")
    assert tasks.load(other.full_name).clips == other.clips
    with pytest.raises(SpecError, match="no setting 'fold'"):
        tasks.load(f"{collection}?fold=3")
    with pytest.raises(TaskError, match="folds should be at least 2"):
        tasks.load(f"{collection}?folds=1")


def test_two_classes_may_name_the_one_that_matters(collection, sound):
    task = tasks.load(f"{collection}?positive=dog")
    assert task.positive == "dog"
    assert tasks.load(task.name).positive == "dog"
    with pytest.raises(TaskError, match="positive=cat should name one of two classes; the classes are: dog, rain"):
        tasks.load(f"{collection}?positive=cat")
    for i in range(3):
        sound(f"set/wind/{i}.wav", seed=200 + i)
    with pytest.raises(TaskError, match="one of two classes"):
        tasks.load(f"{collection}?positive=dog")


def test_what_is_no_recording_is_left_out_and_noted(collection, sound):
    sound("set/dog/deeper/über/7.wav")
    sound("set/.hidden/8.wav")
    sound("set/dog/.hidden.wav")
    sound("set/dog/.cache/9.wav")
    sound("set/__MACOSX/dog/0.wav")
    sound("set/loose.wav")
    (collection / "dog" / "notes.txt").touch()
    (collection / "dog" / "Thumbs.DB").touch()
    (collection / "empty").mkdir()
    (collection / "table.csv").touch()
    task = tasks.load(str(collection))
    assert task.classes == ("dog", "rain")
    assert "dog/deeper/über/7.wav" in {clip.path for clip in task.clips}
    assert len(task.clips) == 13
    assert task.notes == (
        "Not read: table.csv; to go by it, name the table instead of the folder.",
        "Left out, lying in no class's folder: 1 recording (loose.wav).",
        "Left out, being no recordings by their endings: 1 .db, 1 .txt.",
        "Left out, holding no recordings: 1 folder (empty).",
    )


def test_copies_are_one_group(collection):
    shutil.copy(collection / "dog" / "0.wav", collection / "dog" / "copy of 0.wav")
    shutil.copy(collection / "dog" / "0.wav", collection / "dog" / "again.flac")
    task = tasks.load(str(collection))
    group = {clip.path: clip.group for clip in task.clips}
    fold = {clip.path: clip.fold for clip in task.clips}
    for table in (group, fold):
        assert table["dog/0.wav"] == table["dog/copy of 0.wav"] == table["dog/again.flac"]
    assert len(set(group.values())) == 12
    assert "3 files of 1 recording (dog/0.wav = dog/again.flac = dog/copy of 0.wav)" in task.notes[0]


def test_copies_under_two_labels_are_told(collection):
    shutil.copy(collection / "dog" / "0.wav", collection / "rain" / "dog.wav")
    task = tasks.load(str(collection))
    assert "Under several labels, of which one at most is right: 1 recording" in task.notes[1]
    assert "dog/0.wav = rain/dog.wav" in task.notes[1]
    assert len({clip.fold for clip in task.clips if clip.path in ("dog/0.wav", "rain/dog.wav")}) == 1


def test_bad_files_are_no_copies_of_each_other(collection):
    for i in range(4):
        (collection / "dog" / f"{i}.wav").write_bytes(b"")
    task = tasks.load(str(collection))
    assert task.notes == ()
    assert len({clip.group for clip in task.clips}) == 12


def test_files_that_may_not_be_read_do_not_stop_the_rest(collection, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(tasks.folder, "file_digest", refuse)
    assert len(tasks.load(str(collection)).clips) == 12


def test_few_recordings_make_few_folds(tmp_path, sound):
    for name in ("a/1", "a/2", "b/1", "b/2"):
        sound(f"few/{name}.wav")
    task = tasks.load(str(tmp_path / "few"))
    assert len(task.rounds) == 2
    assert task.notes == ("The groups allow 2 folds instead of 5.",)


def test_a_class_with_one_recording_cannot_be_measured(collection, sound):
    sound("set/cat/only.wav")
    with pytest.raises(TaskError, match=r"at least two recordings .* too few in: cat"):
        tasks.load(str(collection))


@pytest.mark.parametrize("names", [[], ["a/1.wav", "a/2.wav"], ["1.wav"]])
def test_fewer_than_two_classes_are_no_task(tmp_path, sound, names):
    (tmp_path / "set").mkdir()
    for name in names:
        sound(f"set/{name}")
    with pytest.raises(TaskError, match="two classes or more"):
        tasks.load(str(tmp_path / "set"))


def test_train_and_test_folders_are_a_split(tmp_path, sound):
    for name in ("train/a/1", "train/b/1", "val/a/2", "val/b/2", "test/a/3", "test/b/3"):
        sound(f"set/{name}.wav")
    task = tasks.load(str(tmp_path / "set"))
    assert task.classes == ("a", "b")
    assert task.protocol == "given split into train and test"
    assert [(len(part.train), len(part.test)) for part in task.rounds] == [(4, 2)]


def test_train_and_test_are_classes_where_recordings_lie_in_them(tmp_path, sound):
    for name in ("train/1", "train/2", "test/1", "test/2"):
        sound(f"set/{name}.wav")
    assert tasks.load(str(tmp_path / "set")).classes == ("test", "train")


def test_esc50_itself_is_pointed_out(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").touch()
    with pytest.raises(TaskError, match="is ESC-50: put its parent"):
        tasks.load(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not text exist on Linux only")
def test_a_name_that_is_not_text_is_explained(collection, sound):
    source = os.fsencode(collection / "dog" / "0.wav")
    shutil.copy(source, os.fsencode(collection / "dog") + b"/\xff.wav")
    with pytest.raises(TaskError, match="is not UTF-8"):
        tasks.load(str(collection))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_dead_links_do_not_hold_us_up(collection):
    os.mkfifo(collection / "dog" / "pipe.wav")
    (collection / "dog" / "dead.wav").symlink_to("nowhere.wav")
    assert len(tasks.load(str(collection)).clips) == 12


def test_a_file_that_is_no_table(tmp_path):
    with pytest.raises(TaskError, match="neither a folder nor a table"):
        tasks.load(str(manifest(tmp_path, "x", "x.txt")))


# Manifests


def rows(pattern, count=4):
    return "".join(pattern.format(i=i, label="ab"[i % 2]) + "\n" for i in range(count))


def test_a_manifest_without_folds(collection, tmp_path):
    path = manifest(tmp_path, "Path,LABEL\n" + rows("set/dog/{i}.wav,{label}", 6))
    task = tasks.load(str(path))
    assert task.classes == ("a", "b")
    assert task.root == tmp_path
    assert len(task.rounds) == 3


def test_a_manifest_with_folds_and_groups(collection, tmp_path):
    text = "file,class,fold,group\n" + "".join(f"set/dog/{i}.wav,{'ab'[i % 2]},{i // 2}.0,g{i}\n" for i in range(6))
    task = tasks.load(str(manifest(tmp_path, text)))
    assert task.protocol == "3 given folds"
    assert [part.name for part in task.rounds] == ["0", "1", "2"]
    assert task.clips[0].group == "g0"
    assert task.name == (tmp_path / "table.csv").as_posix()


def test_a_manifest_with_a_split(collection, tmp_path):
    parts = ["Training", "train", "dev", "TEST", "test", "train"]
    for column in ("split", "fold"):
        text = f"path,label,{column}\n" + "".join(f"set/dog/{i}.wav,{'ab'[i % 2]},{parts[i]}\n" for i in range(6))
        task = tasks.load(str(manifest(tmp_path, text)))
        assert [(part.train, part.test) for part in task.rounds] == [((0, 1, 2, 5), (3, 4))]


def test_a_group_that_straddles_given_folds_is_an_error(collection, tmp_path):
    text = "path,label,fold,group\n" + "".join(f"set/dog/{i}.wav,{'ab'[i % 2]},{i // 2},{i % 5}\n" for i in range(6))
    with pytest.raises(LeakError, match=r"1 group on both sides of round '0': 0 \(1 test clip\)"):
        tasks.load(str(manifest(tmp_path, text)))


def test_a_copy_on_the_other_side_of_given_folds_is_an_error(collection, tmp_path):
    shutil.copy(collection / "dog" / "0.wav", collection / "dog" / "5.wav")
    text = "path,label,fold\n" + "".join(f"set/dog/{i}.wav,{'ab'[i % 2]},{i // 2}\n" for i in range(6))
    with pytest.raises(LeakError, match=r"set/dog/0.wav .*copies of one recording are one group"):
        tasks.load(str(manifest(tmp_path, text)))


def test_parts_of_a_file_are_clips_of_one_group(collection, tmp_path):
    text = "path,label,onset,offset\n" + "".join(
        f"set/dog/{i}.wav,a,0,0.005\nset/dog/{i}.wav,b,0.005,\n" for i in range(4)
    )
    task = tasks.load(str(manifest(tmp_path, text)))
    assert task.clips[0].key == "set/dog/0.wav#0-0.005"
    assert (task.clips[1].start, task.clips[1].end) == (0.005, None)
    assert task.clips[0].group == task.clips[1].group
    assert len(task.rounds) == 4


def test_tables_as_spreadsheets_write_them(collection, tmp_path):
    text = "\ufeffpath;label;comment\r\n" + rows(r'set\rain\{i}.wav;{label};"a; b"').replace("\n", "\r\n") + ";;\r\n"
    path = manifest(tmp_path, "")
    path.write_bytes(text.encode())
    assert tasks.load(str(path)).clips[1].path == "set/rain/1.wav"
    path.write_bytes(text.lstrip("\ufeff").encode("utf-16"))
    assert len(tasks.load(str(path)).clips) == 4
    tsv = manifest(tmp_path, "path\tlabel\n" + rows("set/dog/{i}.wav\t{label}"), "t.tsv")
    assert len(tasks.load(str(tsv)).clips) == 4


def test_paths_may_be_absolute_and_named_by_another_ending(collection, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    text = "path,label\n" + rows(f"{collection.as_posix()}/dog/{{i}}.flac,{{label}}")
    task = tasks.load(str(manifest(tmp_path / "elsewhere", text)))
    assert task.clips[0].path == f"{collection.as_posix()}/dog/0.wav"
    assert task.path(task.clips[0]) == collection / "dog" / "0.wav"
    text = "path,label\n" + rows("../set/dog/{i}.wav,{label}")
    assert tasks.load(str(manifest(tmp_path / "elsewhere", text))).clips[0].path == "../set/dog/0.wav"


def test_a_parquet_manifest(collection, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = {
        "path": [f"set/dog/{i}.wav" for i in range(4)],
        "label": [1, 2, 1, 2],
        "fold": [1.0, 1.0, 2.0, 2.0],
        "group": [None, None, "x", "y"],
        "other": [0] * 4,
    }
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pa.table(table), path)
    task = tasks.load(str(path))
    assert task.classes == ("1", "2")
    assert [clip.fold for clip in task.clips] == ["1", "1", "2", "2"]
    assert [clip.group for clip in task.clips] == ["set/dog/0.wav", "set/dog/1.wav", "x", "y"]
    path.write_bytes(b"PAR1 nothing of the kind")
    with pytest.raises(TaskError, match="cannot read the table"):
        tasks.load(str(path))


def test_missing_files_are_listed_or_left_out(collection, tmp_path):
    path = manifest(tmp_path, "path,label\n" + rows("set/dog/{i}.wav,{label}", 8))
    with pytest.raises(TaskError, match=r"2 of 8 files are missing: set/dog/6.wav, set/dog/7.wav; paths start from"):
        tasks.load(str(path))
    task = tasks.load(str(path), allow_partial=True)
    assert len(task.clips) == 6
    assert task.notes[0].startswith("2 of 8 files are missing")
    path.write_text("path,label\nno.wav,a\n")
    with pytest.raises(TaskError, match="1 of 1 files are missing"):
        tasks.load(str(path), allow_partial=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column path or file .*; the columns are: none"),
        ("path,label\n", "the table has no rows"),
        ("path\nx.wav\n", "no column label or class or category; the columns are: path"),
        ("path,label,file\n", r"two columns mean path \(path or file"),
        ("path,label,fold,split\n", "columns fold and split; keep the one"),
        ("path,label\nset/dog/0.wav\n", "row 2: 1 cells, but the header has 2"),
        ("path,label\nset/dog/0.wav,a,b\n", "row 2: 3 cells"),
        ("path,label\n,a\n", "row 2: the path is empty"),
        ("path,label\nset/dog/0.wav, \n", "row 2: the label is empty"),
        ("path,label,fold\nset/dog/0.wav,a,\n", "row 2: the fold is empty"),
        ("path,label,split\nset/dog/0.wav,a,holdout\n", "the split 'holdout' is none of train"),
        ("path,label,start\nset/dog/0.wav,a,soon\n", "start should be seconds, not 'soon'"),
        ("path,label,start,end\nset/dog/0.wav,a,2,1\n", "0 <= start < end, not 2 and 1"),
        ("path,label,start\nset/dog/0.wav,a,-1\n", "0 <= start < end"),
        ("path,label,start\nset/dog/0.wav,a,inf\n", "0 <= start < end"),
        ("path,label,end\nset/dog/0.wav,a,nan\n", "0 <= start < end"),
        ("path,label\nset/dog/0.wav,a\nset/dog/0.wav,b\n", "more than once: set/dog/0.wav"),
        ("path,label\nset/dog/0.wav,a\nset/dog/1.wav,a\n", r"one class only \(a\)"),
        ("path,label\nset/dog,a\n", "1 of 1 files are missing"),
        ("path,label\n" + "x" * 5000 + ",a\n", "1 of 1 files are missing"),
        ("path,label\na\0b.wav,a\n", "missing"),
        ('path,label\n"set/dog/0.wav,a\n', "row [23]: 1 cells|not CSV"),
        ("path,label,fold\nset/dog/0.wav,a,1\nset/dog/1.wav,b,1\n", "at least two folds, and the table names 1"),
        ("path,label,fold\nset/dog/0.wav,a,1\nset/dog/1.wav,b,2\n", "in round '1' the classes a are tested but never"),
        ("path,label,split\nset/dog/0.wav,a,train\nset/dog/1.wav,b,valid\n", "one side is empty"),
    ],
)
def test_a_malformed_manifest_is_explained(collection, tmp_path, text, message):
    with pytest.raises(TaskError, match=message):
        tasks.load(str(manifest(tmp_path, text)))


def test_a_table_that_is_not_text(tmp_path):
    path = tmp_path / "table.csv"
    for content in (b"path,label\n\xe9.wav,a\n", b"\xff\xfe\x00", b"PK\x03\x04\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(TaskError, match="is not UTF-8 text"):
            tasks.load(str(path))
    path.write_bytes(b'path,label\n"' + b"x" * 200_000 + b'",a\n')
    with pytest.raises(TaskError, match="row 2: this is not CSV"):
        tasks.load(str(path))
