import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from soundmark.errors import SoundmarkError, TaskError
from soundmark.tasks import published
from soundmark.tasks.base import Clip, Task, check_groups
from trees import plant

KNOWN = published.DataSet("birds", "Birds", ("Birds", "birds-1"), 8, ".wav", "1 GB", "CC0", "https://birds.example")


def task_of(clips, classes, root="root", **said):
    return Task("birds", root, tuple(clips), tuple(classes), "official folds", (), official=True, **said)


def found_of(clips, total):
    return published.Found(replace(KNOWN, recordings=total), {clip.path: clip.path for clip in clips})


def clips_of(rows):
    """Rows of class, group and fold."""
    return [Clip(f"{i}.wav", (label,), group=group, fold=fold) for i, (label, group, fold) in enumerate(rows)]


# Two classes, four groups, each group in one of two folds.
ROWS = [("tit", "a", "1"), ("tit", "b", "2"), ("owl", "c", "1"), ("owl", "d", "2")] * 2


def test_the_first_data_folder_that_has_it_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDMARK_DATA", f"{tmp_path / 'none'}:{tmp_path / 'one'}:{tmp_path / 'two'}")
    plant(tmp_path, ["one/other/x.wav", "two/birds-1/x.wav", "two/Birds/other.wav"])

    def is_root(place):
        return (place / "x.wav").is_file()

    assert published.find_root(KNOWN, is_root) == tmp_path / "two" / "birds-1"
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path / "one" / "other"))
    assert published.find_root(KNOWN, is_root) == tmp_path / "one" / "other"
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path / "none"))
    with pytest.raises(TaskError, match=r"none.*soundmark data get birds`.*1 GB.*birds.example.*SOUNDMARK_DATA"):
        published.find_root(KNOWN, is_root)
    with pytest.raises(TaskError, match=r"data get 'birds\?version=1'`"):
        published.find_root(replace(KNOWN, name="birds?version=1"), is_root)


def test_recordings_may_be_in_any_format_and_the_published_one_wins(tmp_path):
    plant(
        tmp_path, ["a/x.OGG", "a/y.flac", "a/y.wav", "a/y.mp3", "a/b.c/z.mp3", "top.wav", "a/.hid.wav", "a/.git/z.wav"]
    )
    (tmp_path / "a" / "notes.txt").touch()
    inside = {"a/x": "a/x.OGG", "a/y": "a/y.wav", "a/b.c/z": "a/b.c/z.mp3"}
    assert published.listing(tmp_path, ".wav", ["a"]) == inside
    assert published.listing(tmp_path, ".wav") == {**inside, "top": "top.wav"}
    assert published.listing(tmp_path, ".flac", ["a"])["a/y"] == "a/y.flac"
    with pytest.raises(TaskError, match=r"cannot list the recordings in .*nowhere"):
        published.listing(tmp_path, ".wav", ["nowhere"])


def test_a_whole_data_set_has_no_notes(tmp_path):
    there = {str(i): f"{i}.wav" for i in range(8)}
    found = published.match(KNOWN, tmp_path, [*there, *there], {**there, "more": "more.wav"})
    assert (found.paths, found.notes, found.gap, found.few) == (there, (), "", False)


def test_what_is_missing_is_an_error_unless_allowed(tmp_path):
    there = {str(i): f"{i}.flac" for i in range(4)}
    listed = list("01236789")
    with pytest.raises(TaskError, match=r"is incomplete: 4 of 8 recordings are there \(missing: 6, 7, 8, 9\)") as error:
        published.match(KNOWN, tmp_path, listed, there)
    assert "soundmark data get birds" in str(error.value)
    assert "--allow-partial" in str(error.value)
    found = published.match(KNOWN, tmp_path, listed, there, allow_partial=True)
    assert (found.gap, found.few) == ("4 of 8 recordings", False)
    assert found.notes == (
        "Incomplete: 4 of 8 recordings are there (missing: 6, 7, 8, 9).",
        "The audio files are not the published .wav but 4 .flac.",
    )
    few = published.match(KNOWN, tmp_path, list("0126789"), there, allow_partial=True)
    assert (few.few, few.notes[0]) == (True, "Incomplete: 3 of 8 recordings are there.")
    with pytest.raises(TaskError, match="0 of 8"):
        published.match(KNOWN, tmp_path, ["9"], there, allow_partial=True)


def test_a_whole_data_set_keeps_its_protocol():
    clips = clips_of(ROWS)
    task = published.settled(task_of(clips, ["owl", "tit", "crow"]), found_of(clips, 8), published.by_folds)
    assert (task.protocol, task.official, task.notes) == ("official folds", True, ())
    assert (task.title, task.licence, task.source) == ("Birds", "CC0", "https://birds.example")
    assert task.classes == ("owl", "tit")
    assert [(each.name, each.test) for each in task.rounds] == [("1", (0, 2, 4, 6)), ("2", (1, 3, 5, 7))]


def test_leaks_and_classes_that_are_never_tested_are_told():
    rows = [("tit", "a", "train"), ("tit", "a", "test"), ("owl", "c", "train"), ("owl", "d", "valid")]
    clips = clips_of(rows)
    task = published.settled(task_of(clips, ["owl", "tit"]), found_of(clips, 4), published.by_split)
    assert task.notes[0] == "Learnt but never tested: owl."
    assert "The split leaks: 1 of 4 clips" in task.notes[1]


def test_an_incomplete_one_keeps_the_official_rounds_and_says_so():
    clips = clips_of(ROWS)[:6]
    task = published.settled(task_of(clips, ["owl", "tit"]), found_of(clips, 8), published.by_folds)
    assert task.protocol == "official folds, incomplete: 6 of 8 recordings"
    assert task.official
    assert [len(each.test) for each in task.rounds] == [3, 3]


def test_less_than_half_is_a_sample_in_group_folds():
    clips = clips_of(ROWS)
    task = published.settled(task_of(clips, ["owl", "tit"]), found_of(clips, 17), published.by_folds)
    assert task.protocol == "sample: 2 group folds"
    assert not task.official
    assert task.notes[0] == (
        "A sample in folds made by Soundmark (8 of 17 recordings): its scores compare with no official ones."
    )
    assert [len(each.test) for each in task.rounds] == [4, 4]


@pytest.mark.parametrize(
    "rows",
    [
        [("tit", "a", "train"), ("tit", "b", "train"), ("owl", "c", "train"), ("owl", "d", "train")],  # nothing to test
        [("tit", "a", "train"), ("tit", "b", "train"), ("owl", "c", "test"), ("owl", "d", "test")],  # and never learnt
    ],
)
def test_what_is_too_lopsided_for_the_official_split_is_a_sample_too(rows):
    clips = clips_of(rows)
    task = published.settled(task_of(clips, ["owl", "tit"]), found_of(clips, 5), published.by_split)
    assert (task.protocol, task.official) == ("sample: 2 group folds", False)
    for each in task.rounds:
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}


def test_classes_of_a_single_group_are_dropped_and_listed():
    clips = clips_of([*ROWS, ("crow", "e", "1"), ("crow", "e", "2")])
    task = published.settled(task_of(clips, ["owl", "tit", "crow"]), found_of(clips, 100), published.by_folds)
    assert task.classes == ("owl", "tit")
    assert len(task.clips) == 8
    assert "Left out, having a single group: crow (1 of 3 classes)." in task.notes
    alone = [clip for clip in clips if clip.label != "tit"]
    with pytest.raises(TaskError, match=r"two classes of two groups or more.* here are 1, and 1 too small: crow"):
        published.settled(task_of(alone, ["owl", "tit", "crow"]), found_of(alone, 100), published.by_folds)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 6)), min_size=4, max_size=40),
    shared=st.booleans(),
)
def test_no_group_of_a_sample_is_on_both_sides(rows, shared):
    """Groups of one class, or, as with speakers who say many words, of several."""
    clips = clips_of([(label, f"g{group}" if shared else f"{label}{group}", "") for label, group in rows])
    groups = {label: {clip.group for clip in clips if clip.label == label} for label in "xyz"}
    large = {label for label in "xyz" if len(groups[label]) > 1}
    if len(large) < 2:
        with pytest.raises(TaskError, match="two classes of two groups"):
            published.settled(task_of(clips, "xyz"), found_of(clips, 1000), published.by_folds)
        return
    try:
        task = published.settled(task_of(clips, "xyz"), found_of(clips, 1000), published.by_folds)
    except TaskError:
        reject()  # such as groups so large that one holds nearly every clip
    assert set(task.classes) == large
    tested = Counter(i for each in task.rounds for i in each.test)
    assert set(tested.values()) == {1}
    assert 2 <= len(task.rounds) <= published.FOLDS
    for each in task.rounds:
        check_groups(task, each)
        assert sorted((*each.train, *each.test)) == list(range(len(task.clips)))
        assert not {task.clips[i].group for i in each.train} & {task.clips[i].group for i in each.test}
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}
        assert {task.clips[i].fold for i in each.test} == {each.name}


def test_group_folds_are_the_same_at_every_call():
    clips = clips_of([(label, f"{label}{i % 7}", "") for i in range(40) for label in "xy"])
    first = published.by_groups(clips, "xy")
    assert first == published.by_groups(clips, "xy")
    assert len(first[1]) == 5
    with pytest.raises(SoundmarkError, match="cannot hold out"):
        published.by_groups(clips_of([("x", "a", ""), ("y", "b", "")]), "xy")


def test_tables_that_cannot_be_read(tmp_path):
    path = tmp_path / "table.csv"
    with pytest.raises(TaskError, match=r"cannot read .*table.csv: No such file"):
        published.read_text(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="not UTF-8 text; fetch it again"):
        published.read_text(path)
    for text in ("", "a,b\n", "a,c\n1,2\n", "a,b\n1,2\n3\n"):
        path.write_text(text)
        with pytest.raises(TaskError, match="should have the columns a, b filled in every row"):
            published.read_csv(path, ("a", "b"))
    path.write_text("\ufeffa,b\n1,2\n", encoding="utf-8")
    assert json.dumps(published.read_csv(path, ("a", "b"))) == '[{"a": "1", "b": "2"}]'
