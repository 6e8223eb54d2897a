from pathlib import Path

import pytest

from soundmark.errors import LeakError, TaskError
from soundmark.tasks import Clip, Round, Task, check_groups, fold_rounds, leak_notes, leaks, split_rounds


def task_of(rows, official=False):
    clips = tuple(Clip(f"{i}.wav", (label,), group=group, fold=fold) for i, (label, group, fold) in enumerate(rows))
    classes = tuple(sorted({clip.label for clip in clips}))
    return Task("t", Path("root"), clips, classes, "folds", fold_rounds(clips), official=official)


def test_the_folds_are_each_tested_once_by_what_the_others_taught():
    task = task_of([("a", "g0", "2"), ("b", "g1", "10"), ("a", "g2", "1")])
    assert [r.name for r in task.rounds] == ["1", "2", "10"]
    assert task.rounds[1] == Round("2", (1, 2), (0,))


def test_one_fold_is_no_protocol():
    with pytest.raises(TaskError, match="at least two folds, and the table names 1: x"):
        fold_rounds([Clip("a", ("a",), fold="x")])


def test_a_fixed_split_trains_on_validation_clips_too():
    clips = [Clip(fold, ("a",), fold=fold) for fold in ("train", "test", "valid", "test")]
    assert split_rounds(clips) == (Round("test", (0, 2), (1, 3)),)
    with pytest.raises(TaskError, match="one side is empty"):
        split_rounds(clips[::2])


def test_a_group_leaks_when_its_label_is_on_both_sides():
    task = task_of([("a", "g", "1"), ("a", "g", "2"), ("b", "h", "1"), ("a", "h", "2"), ("b", "", "1"), ("b", "", "2")])
    assert leaks(task, task.rounds[0]) == {"g": (0,)}
    assert leaks(task, task.rounds[1]) == {"g": (1,)}
    assert leaks(task, task.rounds[1], any_label=True) == {"g": (1,), "h": (3,)}


def test_a_leak_of_our_own_making_is_an_error_and_an_official_one_a_note():
    rows = [("a", "g", "1"), ("a", "g", "2"), ("b", "h", "1"), ("b", "i", "2")]
    with pytest.raises(LeakError, match=r"1 group on both sides of round '1': g \(1 test clip\)"):
        check_groups(task_of(rows), task_of(rows).rounds[0])
    official = task_of(rows, official=True)
    check_groups(official, official.rounds[0])
    assert leak_notes(official) == (
        "The split leaks: 2 of 4 clips are tested by a learner trained on clips of the same group and class "
        "(1 group: g).",
    )
    assert leak_notes(task_of(rows[2:])) == ()


def test_dropping_clips_moves_the_rounds_with_them():
    task = task_of([("a", "g0", "1"), ("b", "g1", "2"), ("a", "g2", "1"), ("b", "g3", "2")])
    less = task.drop([task.clips[1]])
    assert [clip.path for clip in less.clips] == ["0.wav", "2.wav", "3.wav"]
    assert less.rounds == (Round("1", (2,), (0, 1)), Round("2", (0, 1), (2,)))


def test_the_full_name_can_be_loaded_again():
    task = task_of([("a", "", "1"), ("b", "", "2")])
    assert task.full_name == "t"
    from dataclasses import replace

    assert replace(task, name="toy?clips=8", view="danger").full_name == "toy:danger?clips=8"


def test_the_key_of_a_part_of_a_file_names_its_seconds():
    assert Clip("a.wav", ("x",)).key == "a.wav"
    assert Clip("a.wav", ("x",), start=1.5, end=2.0).key == "a.wav#1.5-2"
    assert Clip("a.wav", ("x",), start=1.5).key == "a.wav#1.5-"
    assert Clip("a.wav", ("x",), start=10800.02).key != Clip("a.wav", ("x",), start=10800.04).key
