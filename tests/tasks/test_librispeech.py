from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import tasks
from soundmark.errors import TaskError
from soundmark.spec import Spec
from soundmark.tasks import librispeech
from soundmark.tasks.base import Clip, Task, split_rounds
from trees import pack, plant

# Speaker: utterances by chapter.
SPEECH = {"19": {"198": 3, "227": 2, "1000": 2}, "26": {"495": 1, "496": 4}, "103": {"7": 2}}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A data folder with a train-clean-100 of three speakers, which passes for the whole."""
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    monkeypatch.setattr(librispeech, "KNOWN", replace(librispeech.KNOWN, recordings=14))
    root = tmp_path / "LibriSpeech"
    folder = root / "train-clean-100"
    for speaker, chapters in SPEECH.items():
        for chapter, count in chapters.items():
            stem = f"{speaker}/{chapter}/{speaker}-{chapter}"
            plant(folder, [f"{stem}-{i:04d}.flac" for i in range(count)])
            (folder / f"{stem}.trans.txt").write_text("WORDS")
    plant(root, ["test-clean/1/2/1-2-0000.flac", "train-clean-100/19/198/copy of 19-198-0000.flac"])
    return root


def test_one_chapter_of_every_speaker_is_tested(tree):
    task = tasks.load("librispeech")
    assert (task.protocol, task.official) == ("split by chapter inside each speaker, made by Soundmark", False)
    assert task.classes == ("19", "26")
    (split,) = task.rounds
    assert {task.clips[i].group for i in split.test} == {"19-227", "26-495"}  # the shortest, of equals the lower number
    assert {task.clips[i].group for i in split.train} == {"19-198", "19-1000", "26-496"}
    assert task.notes == ("Left out, having a single group: 103 (1 of 3 classes).",)
    assert task.clips[0].path == "train-clean-100/19/1000/19-1000-0000.flac"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    speech=st.dictionaries(
        st.integers(1, 9000).map(str),
        st.dictionaries(st.integers(1, 99).map(str), st.integers(1, 4), min_size=1, max_size=4),
        min_size=2,
        max_size=6,
    )
)
def test_no_chapter_is_on_both_sides_and_every_speaker_on_each(speech):
    clips = tuple(
        Clip(f"{speaker}-{chapter}-{i}.flac", (speaker,), group=f"{speaker}-{chapter}")
        for speaker, chapters in speech.items()
        for chapter, count in chapters.items()
        for i in range(count)
    )
    whole = Task("librispeech", Path("root"), clips, tuple(speech), "split", ())
    several = {speaker for speaker, chapters in speech.items() if len(chapters) > 1}
    if len(several) < 2:
        with pytest.raises(TaskError, match="two classes of two groups"):
            librispeech.split_by_chapter(whole)
        return
    task = librispeech.split_by_chapter(whole)
    (split,) = split_rounds(task.clips)
    tasks.check_groups(task, split)
    for side in (split.train, split.test):
        assert {task.clips[i].label for i in side} == several
    assert len({task.clips[i].group for i in split.test}) == len(several)
    assert len(split.test) + len(split.train) == len(task.clips)


def test_missing_utterances(tree):
    for path in (tree / "train-clean-100" / "26" / "496").glob("*-000[12].flac"):
        path.unlink()
    with pytest.raises(TaskError, match="incomplete: 12 of 14 recordings are there"):
        tasks.load("librispeech")
    task = tasks.load("librispeech", allow_partial=True)
    assert task.protocol.endswith("made by Soundmark, incomplete: 12 of 14 recordings")


def test_a_few_utterances_are_a_sample(tree, monkeypatch):
    monkeypatch.setattr(librispeech, "KNOWN", replace(librispeech.KNOWN, recordings=28_539))
    task = tasks.load("librispeech", allow_partial=True)
    assert task.protocol == "sample: 3 group folds"
    for each in task.rounds:
        tasks.check_groups(task, each)


def test_without_data_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"soundmark data get librispeech.*6.3 GB.*openslr.org/12"):
        tasks.load("librispeech")


def test_the_archive_as_it_is_published(tree, serve, tmp_path, monkeypatch):
    pack(tree, tmp_path / "web" / "train-clean-100.tar.gz", "LibriSpeech")
    monkeypatch.setattr(librispeech, "ARCHIVES", tuple(replace(each, md5="") for each in librispeech.ARCHIVES))
    url = f"{serve}/train-clean-100.tar.gz"
    root = librispeech.get(Spec("librispeech"), tmp_path / "sets", url=url, progress=False)
    assert root == tmp_path / "sets" / "LibriSpeech"
    assert len(librispeech.load_from(root).clips) == 12


@pytest.mark.data
def test_the_sample_of_real_recordings(sample):
    task = sample("librispeech")
    assert len(task.classes) >= 2
    assert all(clip.path.endswith(".flac") for clip in task.clips)
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}
