from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import tasks
from soundmark.errors import DownloadError, TaskError
from soundmark.spec import Spec
from soundmark.tasks import check, urbansound8k
from trees import pack, plant

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"
# Of ten folds: one recording with two excerpts of dogs, one with an excerpt of a siren.
ROWS = [
    (fold, target, 1000 * fold + target, take) for fold in range(1, 11) for target, take in ((3, 0), (3, 1), (8, 0))
]


def name(row):
    _, target, recording, take = row
    return f"{recording}-{target}-0-{take}"


def line(row):
    fold, target, recording, _ = row
    return f"{name(row)}.wav,{recording},0.0,4.0,1,{fold},{target},{urbansound8k.CLASSES[target]}"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A data folder with an UrbanSound8K of thirty excerpts, which passes for the whole."""
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))

    def write(rows=ROWS, suffix=".wav"):
        monkeypatch.setattr(urbansound8k, "KNOWN", replace(urbansound8k.KNOWN, recordings=len(ROWS)))
        root = tmp_path / "UrbanSound8K"
        plant(root, [f"audio/fold{row[0]}/{name(row)}{suffix}" for row in rows])
        (root / "metadata").mkdir(exist_ok=True)
        (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join([HEADER, *map(line, rows)]))
        return root

    return write


def test_the_published_set_by_its_ten_folds(tree):
    root = tree()
    task = tasks.load("urbansound8k")
    assert (task.root, task.protocol, task.metric, task.official) == (root, "official 10 folds", "accuracy", True)
    assert task.over == "folds"
    assert task.classes == ("dog_bark", "siren")
    assert task.notes == ()
    assert [(each.name, len(each.train), len(each.test)) for each in task.rounds] == [
        (str(n), 27, 3) for n in range(1, 11)
    ]
    clip = task.clips[0]
    assert (clip.path, clip.label, clip.group, clip.fold) == ("audio/fold1/1003-3-0-0.wav", "dog_bark", "1003", "1")
    for each in task.rounds:
        assert not tasks.leaks(task, each, any_label=True)
        assert {task.clips[i].fold for i in each.test} == {each.name}
    assert check.check(task, workers=1, progress=False)["ok"]


def test_a_recording_in_two_folds_is_told(tree):
    tree([*ROWS[:-1], (10, 8, 1008, 0)])
    assert "The split leaks: 2 of 30 clips" in tasks.load("urbansound8k").notes[0]


def test_missing_excerpts_are_told_and_the_folds_stay(tree):
    root = tree(suffix=".flac")
    (root / "audio" / "fold2" / "2003-3-0-1.flac").unlink()
    with pytest.raises(TaskError, match=r"incomplete: 29 of 30 .*missing: audio/fold2/2003-3-0-1"):
        tasks.load("urbansound8k")
    task = tasks.load("urbansound8k", allow_partial=True)
    assert task.protocol == "official 10 folds, incomplete: 29 of 30 recordings"
    assert "not the published .wav but 29 .flac" in task.notes[1]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(kept=st.sets(st.sampled_from(range(len(ROWS))), min_size=4, max_size=14))
def test_a_few_excerpts_are_a_sample_without_leaks(kept):
    rows = [ROWS[i] for i in sorted(kept)]
    clips = tuple(
        tasks.Clip(f"{name(row)}.wav", (urbansound8k.CLASSES[row[1]],), group=str(row[2]), fold=str(row[0]))
        for row in rows
    )
    known = replace(urbansound8k.KNOWN, recordings=len(ROWS))
    found = tasks.published.Found(known, {clip.path: clip.path for clip in clips})
    whole = tasks.Task("u", tasks.Path("u"), clips, urbansound8k.CLASSES, "official 10 folds", (), official=True)
    groups = {label: len({clip.group for clip in clips if clip.label == label}) for label in ("dog_bark", "siren")}
    if min(groups.values()) < 2:
        with pytest.raises(TaskError, match="a task needs two classes of two groups"):
            tasks.published.settled(whole, found, tasks.published.by_folds)
        return
    task = tasks.published.settled(whole, found, tasks.published.by_folds)
    assert task.protocol.startswith("sample: ")
    for each in task.rounds:
        tasks.check_groups(task, each)


def test_without_data_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"soundmark data get urbansound8k.*zenodo.org.*UrbanSound8K into SOUND"):
        tasks.load("urbansound8k")


def test_another_table_is_refused(tree):
    table = tree() / "metadata" / "UrbanSound8K.csv"
    good = table.read_text()
    for bad, message in [
        ("", "should have the columns"),
        (good.replace("siren", "sirens"), "is not that of the published table"),
        (good.replace(",8,siren", ",9,siren"), "is not that of the published table"),
        (good.replace(",10,3,", ",11,3,"), r"10003-3-0-0.wav \(fold 11, classID 3, dog_bark\)"),
    ]:
        table.write_text(bad)
        with pytest.raises(TaskError, match=message):
            tasks.load("urbansound8k", allow_partial=True)


def test_the_archive_as_it_is_published(tree, serve, tmp_path, monkeypatch):
    pack(tree(), tmp_path / "web" / "UrbanSound8K.tar.gz", "UrbanSound8K")
    ask = {"url": f"{serve}/UrbanSound8K.tar.gz", "progress": False}
    with pytest.raises(DownloadError, match=r"its md5 is .* instead of 9aa69802bbf37fb986f71ec1483a196e"):
        urbansound8k.get(Spec("urbansound8k"), tmp_path / "sets", **ask)
    monkeypatch.setattr(urbansound8k, "ARCHIVES", tuple(replace(each, md5="") for each in urbansound8k.ARCHIVES))
    root = urbansound8k.get(Spec("urbansound8k"), tmp_path / "sets", **ask)
    assert root == tmp_path / "sets" / "UrbanSound8K"
    assert len(urbansound8k.load_from(root).clips) == 30


@pytest.mark.data
def test_the_sample_of_real_recordings(sample):
    task = sample("urbansound8k")
    assert task.classes == urbansound8k.CLASSES
    if task.official:
        assert len(task.clips) == 8732
        return
    assert task.protocol == "sample: 5 group folds"
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert {task.clips[i].label for i in each.test} == set(task.classes)
