import json
from dataclasses import replace

import pytest

from soundmark import tasks
from soundmark.errors import TaskError
from soundmark.spec import Spec
from soundmark.tasks import nsynth
from trees import pack, plant

# Part: notes of family, instrument. Valid and test share an instrument, as in the published set.
NOTES = {
    "train": [("bass", "bass_a"), ("bass", "bass_b"), ("organ", "organ_a"), ("synth_lead", "synth_lead_a")] * 2,
    "valid": [("bass", "bass_v"), ("organ", "organ_t")],
    "test": [("bass", "bass_t"), ("organ", "organ_t"), ("organ", "organ_t")],
}
TOTAL = sum(map(len, NOTES.values()))


def table(part, notes):
    return {
        f"{instrument}-{i:03d}-100": {"instrument_family_str": family, "instrument_str": instrument, "pitch": i}
        for i, (family, instrument) in enumerate(notes)
    }


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A data folder with an NSynth of a few notes, which passes for the whole."""
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    monkeypatch.setattr(nsynth, "KNOWN", replace(nsynth.KNOWN, recordings=TOTAL))
    root = tmp_path / "nsynth"
    for part, notes in NOTES.items():
        plant(root, [f"nsynth-{part}/audio/{name}.wav" for name in table(part, notes)])
        (root / f"nsynth-{part}" / "examples.json").write_text(json.dumps(table(part, notes)))
    return root


def test_the_official_split(tree):
    task = tasks.load("nsynth")
    assert (task.protocol, task.official, task.metric) == ("official split into train and test", True, "accuracy")
    assert task.classes == ("bass", "organ", "synth_lead")
    (split,) = task.rounds
    assert {task.clips[i].fold for i in split.test} == {"test"}
    assert (len(split.train), len(split.test)) == (9, 3)
    assert task.clips[0].path == "nsynth-train/audio/bass_a-000-100.wav"
    assert task.clips[0].group == "bass_a"


def test_instruments_that_are_tested_are_not_learnt_from(tree):
    """Valid and test share theirs: those notes would give the test away."""
    task = tasks.load("nsynth")
    assert task.notes == (
        "Left out: 1 validation note of instruments that are tested too.",
        "Learnt but never tested: synth_lead.",
    )
    (split,) = task.rounds
    assert not {task.clips[i].group for i in split.train} & {task.clips[i].group for i in split.test}
    assert {task.clips[i].group for i in split.train} >= {"bass_v", "bass_a"}


def test_one_part_alone_is_a_sample(tree):
    for part in ("train", "valid"):
        (tree / f"nsynth-{part}" / "examples.json").unlink()
    with pytest.raises(TaskError, match=r"incomplete: 3 of 13 .*soundmark data get nsynth"):
        tasks.load("nsynth")
    with pytest.raises(TaskError, match="here are 0, and 2 too small: bass, organ"):
        tasks.load("nsynth", allow_partial=True)


def test_a_part_that_is_large_enough_to_sample(tree):
    (tree / "nsynth-test" / "examples.json").unlink()
    task = tasks.load("nsynth", allow_partial=True)  # more than half is there, and nothing to test on
    assert (task.protocol, task.official) == ("sample: 3 group folds", False)
    assert "Left out, having a single group: synth_lead (1 of 3 classes)." in task.notes
    assert {clip.fold for clip in task.clips} == {"1", "2", "3"}
    assert {clip.group for clip in task.clips} == {"bass_a", "bass_b", "bass_v", "organ_a", "organ_t"}
    for each in task.rounds:
        tasks.check_groups(task, each)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "should be a JSON table of notes"),
        ("[1]", "should be a JSON table of notes"),
        ('{"a": 1}', "should be a JSON table of notes"),
        ('{"a": {"instrument_str": "b"}}', "with instrument_family_str and instrument_str"),
        ('{"a": {"instrument_str": "b", "instrument_family_str": "gong"}}', "families that NSynth does not have: gong"),
    ],
)
def test_another_table_is_refused(tree, text, message):
    (tree / "nsynth-valid" / "examples.json").write_text(text)
    with pytest.raises(TaskError, match=rf"examples.json .*{message}"):
        tasks.load("nsynth", allow_partial=True)


def test_the_archives_as_they_are_published(tree, serve, tmp_path):
    for part in NOTES:
        pack(tree / f"nsynth-{part}", tmp_path / "web" / f"nsynth-{part}.jsonwav.tar.gz", f"nsynth-{part}")
    root = nsynth.get(Spec("nsynth"), tmp_path / "sets", url=serve, progress=False)
    assert root == tmp_path / "sets" / "nsynth"
    assert len(nsynth.load_from(root).clips) == TOTAL - 1


@pytest.mark.data
def test_the_sample_of_real_recordings(sample):
    task = sample("nsynth")
    assert set(task.classes) <= set(nsynth.CLASSES)
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}
    if len(task.clips) < 100_000:
        assert task.protocol.startswith("sample: ")
