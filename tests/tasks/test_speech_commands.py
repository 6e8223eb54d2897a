import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import audio, tasks
from soundmark.errors import DownloadError, SpecError, TaskError
from soundmark.spec import Spec
from soundmark.tasks import speech_commands
from soundmark.tasks.base import Clip
from trees import pack, plant

# Sides of speakers, as the official hash would have it.
SIDES = {"0a1": "train", "0b2": "train", "0c3": "valid", "0d4": "test"}
COMMANDS = speech_commands.COMMANDS


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Write a version in small: every speaker says every word twice. It passes for the whole."""
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))

    def write(version=2, folder="speech_commands", seconds=3.0):
        words = speech_commands.WORDS[version]
        known = replace(speech_commands.KNOWN[version], recordings=8 * len(words))
        monkeypatch.setattr(speech_commands, "KNOWN", {**speech_commands.KNOWN, version: known})
        root = tmp_path / folder
        names = {
            f"{word}/{speaker}_nohash_{i}.wav": side
            for word in words
            for speaker, side in SIDES.items()
            for i in (0, 1)
        }
        plant(root, names)
        for side, path in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
            (root / path).write_text("\n".join(name for name in names if names[name] == side))
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(8000 * seconds)).astype(np.float32)
        for name in speech_commands.NOISES:
            audio.write(root / "_background_noise_" / f"{name}.wav", noise, 8000)
        (root / "_background_noise_" / "README.md").write_text("credits")
        return root

    return write


@pytest.mark.parametrize(("version", "words"), [(2, 35), (1, 30)])
def test_the_official_lists(tree, version, words):
    root = tree(version)
    task = tasks.load(f"speech_commands?version={version}")
    assert (task.root, task.protocol, task.official, task.notes) == (root, "official lists", True, ())
    assert task.classes == speech_commands.WORDS[version]
    assert len(set(task.classes)) == words
    (split,) = task.rounds
    assert (len(split.train), len(split.test)) == (6 * words, 2 * words)
    assert {task.clips[i].group for i in split.test} == {"0d4"}
    assert {task.clips[i].fold for i in split.train} == {"train", "valid"}
    assert not tasks.leaks(task, split, any_label=True)
    assert task.full_name == ("speech_commands" if version == 2 else "speech_commands?version=1")


def test_versions_are_told_apart_by_their_words(tree, tmp_path, monkeypatch):
    tree(1)
    with pytest.raises(TaskError, match=r"v0.02 is not here.*soundmark data get speech_commands`"):
        tasks.load("speech_commands")
    root = tree(2, "SpeechCommands/speech_commands_v0.02")
    assert tasks.load("speech_commands").root == root
    assert tasks.load("speech_commands?version=1").root == tmp_path / "speech_commands"
    monkeypatch.setenv("SOUNDMARK_DATA", str(root))
    with pytest.raises(TaskError, match=r"soundmark data get 'speech_commands\?version=1'"):
        tasks.load("speech_commands?version=1")


def test_twelve_classes(tree):
    tree()
    task = tasks.load("speech_commands?labels=12")
    assert task.classes == (*COMMANDS, "unknown", "silence")
    assert task.full_name == "speech_commands?labels=12"
    assert task.official
    (split,) = task.rounds
    counts = Counter(task.clips[i].label for i in split.test)
    assert counts == {**dict.fromkeys(COMMANDS, 2), "unknown": 2, "silence": 2}
    trained = Counter(task.clips[i].label for i in split.train)
    assert trained == {**dict.fromkeys(COMMANDS, 6), "unknown": 6, "silence": 6}
    assert not tasks.leaks(task, split, any_label=True)
    assert tasks.load("speech_commands?labels=12").clips == task.clips
    unknown = {clip.path.partition("/")[0] for clip in task.clips if clip.label == "unknown"}
    assert len(unknown) > 2
    assert not unknown & set(COMMANDS)


def test_silence_is_cut_from_noises_of_one_side_each(tree):
    tree()
    task = tasks.load("speech_commands?labels=12")
    silence = [clip for clip in task.clips if clip.label == "silence"]
    assert len({clip.key for clip in silence}) == len(silence) == 8
    for clip in silence:
        assert clip.end == clip.start + 1.0 <= 3.0
        assert clip.group == clip.path.removesuffix(".wav")
        assert speech_commands.NOISES[clip.group.rpartition("/")[2]] == clip.fold
    waveform, rate = audio.read(task.path(silence[0]), start=silence[0].start, end=silence[0].end)
    assert len(waveform) == rate


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sets(
        st.tuples(
            st.sampled_from(["yes", "go", "zero", "tree"]),
            st.integers(0, 9),
            st.integers(0, 3),
        ),
        min_size=1,
    )
)
def test_unknown_is_a_tenth_of_the_commands_on_every_side(tmp_path_factory, said):
    sides = ("train", "valid", "test")
    clips = [
        Clip(f"{word}/{speaker}_nohash_{i}.wav", (word,), group=str(speaker), fold=sides[speaker % 3])
        for word, speaker, i in sorted(said)
    ]
    root = tmp_path_factory.getbasetemp()  # without noises
    kept = speech_commands.twelve_classes(clips, root)
    assert set(kept) == set(speech_commands.twelve_classes(clips[::-1], root))
    for side in sides:
        here = Counter(clip.label for clip in clips if clip.fold == side)
        now = Counter(clip.label for clip in kept if clip.fold == side)
        commands, others = here["yes"] + here["go"], here["zero"] + here["tree"]
        assert (now["yes"], now["go"]) == (here["yes"], here["go"])
        assert now["unknown"] == (min(math.ceil(commands / 10), others) if commands else others)
    speakers = {side: {clip.group for clip in kept if clip.fold == side} for side in sides}
    assert not speakers["train"] & speakers["test"]
    assert not speakers["valid"] & speakers["test"]


def test_noises_too_short_to_cut_or_absent(tree):
    root = tree(seconds=0.5)
    assert speech_commands.silence(root, "train", 9) == []
    assert "silence" not in tasks.load("speech_commands?labels=12").classes
    for path in (root / "_background_noise_").iterdir():
        path.unlink()
    (root / "_background_noise_").rmdir()
    assert speech_commands.silence(root, "test", 9) == []


def test_missing_recordings(tree):
    root = tree()
    (root / "yes" / "0d4_nohash_0.wav").unlink()
    (root / "no" / "0a1_nohash_0.wav").rename(root / "no" / "0a1_nohash_0.flac")
    with pytest.raises(TaskError, match=r"279 of 280 recordings are there \(missing: yes/0d4_nohash_0\)"):
        tasks.load("speech_commands")
    task = tasks.load("speech_commands", allow_partial=True)
    assert task.protocol == "official lists, incomplete: 279 of 280 recordings"
    assert task.notes[1] == "The audio files are not the published .wav but 278 .wav, 1 .flac."


def test_a_few_recordings_are_a_sample(tree, monkeypatch):
    tree()
    monkeypatch.setitem(speech_commands.KNOWN, 2, replace(speech_commands.KNOWN[2], recordings=105_829))
    for name, folds in (("speech_commands", 4), ("speech_commands?labels=12", 5)):
        task = tasks.load(name, allow_partial=True)
        assert (task.protocol, task.official) == (f"sample: {folds} group folds", False)
        for each in task.rounds:
            tasks.check_groups(task, each)


def test_settings_that_do_not_exist(tree):
    for text, message in [
        ("version=3", "version=3 in 'speech_commands' is out of bounds"),
        ("version=two", "should be of type int"),
        ("labels=35", "it is one of words, 12"),
        ("words=12", "has no setting 'words'"),
    ]:
        with pytest.raises(SpecError, match=message):
            tasks.load(f"speech_commands?{text}")


@pytest.mark.parametrize("line", ["yes/0a1_nohash_0", "tree.wav", "forest/0a1_nohash_0.wav", "../yes/0a1_nohash_0.wav"])
def test_another_list_is_refused(tree, line):
    root = tree()
    (root / "validation_list.txt").write_text(f"yes/0c3_nohash_0.wav\n{line}\n")
    with pytest.raises(TaskError, match=r"validation_list.txt, line 2: .* is no recording of Speech Commands v0.02"):
        tasks.load("speech_commands")


@pytest.mark.parametrize("version", [1, 2])
def test_the_archives_as_they_are_published(tree, serve, tmp_path, monkeypatch, version):
    pack(tree(version), tmp_path / "web" / "words.tar.gz", ".")
    ours = Spec("speech_commands", settings={"version": str(version)})
    ask = {"url": f"{serve}/words.tar.gz", "progress": False}
    with pytest.raises(DownloadError, match="is not what was expected"):
        speech_commands.get(ours, tmp_path / "sets", **ask)
    archive = replace(speech_commands.ARCHIVES[version], size=None, sha256="")
    monkeypatch.setitem(speech_commands.ARCHIVES, version, archive)
    root = speech_commands.get(ours, tmp_path / "sets", **ask)
    assert root == tmp_path / "sets" / f"speech_commands_v0.0{version}"
    assert (root / "_background_noise_" / "running_tap.wav").is_file()
    assert len(speech_commands.load_from(root, spec=ours).clips) == 8 * len(speech_commands.WORDS[version])


@pytest.mark.data
@pytest.mark.parametrize("name", ["speech_commands", "speech_commands?labels=12"])
def test_the_sample_of_real_recordings(sample, name):
    task = sample(name)
    assert task.full_name == name
    for each in task.rounds:
        tasks.check_groups(task, each)
        assert {task.clips[i].label for i in each.test} <= {task.clips[i].label for i in each.train}


@pytest.mark.data
def test_the_real_lists(sample):
    """They are whole even where few of the recordings are there."""
    root = sample("speech_commands").root
    valid, test = (speech_commands.read_list(root / name, 2) for name in (speech_commands.VALID, speech_commands.TEST))
    assert (len(valid), len(test)) == (9981, 11005)
    speakers = [{stem.partition("/")[2].partition("_")[0] for stem in stems} for stems in (valid, test)]
    assert not speakers[0] & speakers[1]
    assert speech_commands.version_of(root) == 2
