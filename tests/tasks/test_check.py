import shutil
from dataclasses import replace

import numpy as np
import pytest

from soundmark import audio, tasks
from soundmark.tasks.check import check, lines


@pytest.fixture
def toy():
    return tasks.load("toy?clips=4&seconds=0.5")


@pytest.fixture
def own_copy(toy, tmp_path):
    """The toy task in a folder that a test may damage."""
    shutil.copytree(toy.root, tmp_path / "toy")
    return replace(toy, root=tmp_path / "toy")


def test_a_good_task(toy):
    report = check(toy, progress=False)
    assert report["ok"]
    assert report["clips"] == 40
    assert report["groups"] == 20
    assert report["classes"] == dict.fromkeys(toy.classes, 4)
    assert report["seconds"] == {"total": 20.0, "min": 0.5, "median": 0.5, "max": 0.5}
    assert report["sample_rates"] == {"16000": 40}
    assert report["rounds"] == {"1": {"train": 20, "test": 20}, "2": {"train": 20, "test": 20}}
    assert not any(report[key] for key in ("bad", "silent", "copies", "leaks", "faults"))
    text = "\n".join(lines(report))
    assert "0.5 s each" in text
    assert "all well" in text
    assert "synthesised" in text


def test_what_cannot_be_decoded_is_listed(own_copy):
    paths = [own_copy.path(clip) for clip in own_copy.clips]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"<html>no sound</html>")
    paths[2].write_bytes(paths[2].read_bytes()[:50])
    paths[3].unlink()
    report = check(own_copy, workers=2, progress=False)
    assert not report["ok"]
    assert {one["clip"] for one in report["bad"]} >= {path.name for path in paths[:2]} | {paths[3].name}
    assert all(one["clip"] in one["error"] for one in report["bad"])
    assert "cannot be read" in lines(report)[-1]


def test_many_bad_clips_are_shortened_for_the_eye(own_copy):
    for clip in own_copy.clips[:15]:
        own_copy.path(clip).write_bytes(b"")
    text = "\n".join(lines(check(own_copy, progress=False)))
    assert "... and 5 more" in text


def test_silence_is_told_but_is_no_copy(own_copy):
    for clip in own_copy.clips[:3]:
        audio.write(own_copy.path(clip), np.zeros(8000, np.float32), 16000)
    report = check(own_copy, progress=False)
    assert report["ok"]
    assert report["silent"] == [clip.key for clip in own_copy.clips[:3]]
    assert report["copies"] == []
    assert any("silent: 3" in line for line in lines(report))


def test_copies_across_folds_are_a_fault_even_in_another_format(own_copy):
    first, other = own_copy.clips[0], own_copy.clips[6]
    assert first.fold != other.fold
    waveform, rate = audio.read(own_copy.path(first))
    own_copy.path(other).unlink()
    renamed = replace(other, path=other.path.replace(".wav", ".flac"))
    audio.write(own_copy.root / renamed.path, waveform, rate)
    task = replace(own_copy, clips=tuple(renamed if clip == other else clip for clip in own_copy.clips))
    report = check(task, progress=False)
    assert report["straddling_copies"] == report["torn_copies"] == [[first.key, renamed.key]]
    assert report["faults"] == ["1 recording with copies on both sides of a round"]
    official = check(replace(task, official=True), progress=False)
    assert official["ok"]
    assert official["straddling_copies"]
    assert any("copies on both sides" in line for line in lines(official))


def test_leaks_are_faults_of_any_protocol_but_an_official_one(toy):
    clips = tuple(replace(clip, group="same") if clip.label == "rain" else clip for clip in toy.clips)
    report = check(replace(toy, clips=clips), progress=False)
    assert report["leaks"] == {"1": ["same"], "2": ["same"]}
    assert report["faults"] == ["1 group on both sides of a round"]
    assert check(replace(toy, clips=clips, official=True), progress=False)["ok"]


def test_parts_of_files_are_checked_as_parts(own_copy):
    clip = own_copy.clips[0]
    parts = (replace(clip, end=0.2), replace(clip, start=0.2), replace(clip, start=7.0))
    task = replace(own_copy, clips=parts + own_copy.clips[1:], rounds=())
    report = check(task, progress=False)
    assert [one["clip"] for one in report["bad"]] == [parts[2].key]
    assert report["seconds"]["min"] == 0.2
    assert report["copies"] == []
