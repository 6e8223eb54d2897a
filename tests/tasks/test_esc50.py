import csv
from collections import Counter

import pytest

from soundmark import tasks
from soundmark.errors import TaskError
from soundmark.tasks import esc50


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data folder with an ESC-50 of ten clips (two classes, five folds) whose audio is empty files."""
    root = tmp_path / "ESC-50"
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))

    def write(suffix=".wav", rows=None):
        rows = rows or [(f, t) for f in range(1, 6) for t in (0, 10)]
        with open(root / "meta" / "esc50.csv", "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
            for fold, target in rows:
                name = f"{fold}-{fold}00{target}-A-{target}"
                table.writerow([f"{name}.wav", fold, target, esc50.CLASSES[target], "True", f"{fold}00{target}", "A"])
                (root / "audio" / f"{name}{suffix}").touch()
        return root

    return write


def test_the_files_may_have_any_audio_ending(tiny):
    root = tiny(".FLAC")
    (root / "audio" / "notes.txt").touch()
    task = tasks.load("esc50", allow_partial=True)
    assert task.clips[1].path == "audio/1-10010-A-10.FLAC"
    assert task.clips[1].labels == ("rain",)
    assert (task.clips[1].group, task.clips[1].fold) == ("10010", "1")
    assert task.notes == (
        "The table lists 10 of the 2000 clips.",
        "The audio files are not the published WAVs but 10 .flac.",
    )


def test_a_wav_wins_where_a_clip_is_there_twice(tiny):
    tiny(".ogg")
    tiny(".wav")
    assert {clip.path[-4:] for clip in tasks.load("esc50", allow_partial=True).clips} == {".wav"}


def test_without_data_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDMARK_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"soundmark data get esc50.*https://github.com/karolpiczak.*SOUNDMARK_DATA"):
        tasks.load("esc50")


def test_the_folder_itself_may_stand_on_the_path(tiny, monkeypatch):
    root = tiny()
    monkeypatch.setenv("SOUNDMARK_DATA", str(root))
    assert esc50.find_root() == root


def test_an_incomplete_data_set_is_an_error_unless_allowed(tiny):
    root = tiny()
    (root / "audio" / "1-1000-A-0.wav").unlink()
    with pytest.raises(TaskError, match=r"incomplete.*1 of 10 clips are missing: 1-1000-A-0.wav"):
        tasks.load("esc50")
    task = tasks.load("esc50", allow_partial=True)
    assert len(task.clips) == 9
    assert task.classes == ("dog", "rain")
    assert task.protocol == "official 5 folds, incomplete: 9 of 2000 clips"
    assert any("missing: 1-1000-A-0.wav" in note for note in task.notes)


def test_another_table_under_the_same_name_is_refused(tiny):
    root = tiny()
    table = root / "meta" / "esc50.csv"
    good = table.read_text()
    for bad, message in [
        ("", "should have the columns"),
        ("filename,fold\na,1\n", "should have the columns"),
        (good.replace("rain", "snow"), "is not that of the published table"),
        (good.replace("10010-A-10.wav,1,", "10010-A-10.wav,9,"), "is not that of the published table"),
        (good.replace(",10,rain", ",77,rain"), "is not that of the published table"),
    ]:
        table.write_text(bad)
        with pytest.raises(TaskError, match=message):
            tasks.load("esc50", allow_partial=True)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="cannot read the table"):
        tasks.load("esc50", allow_partial=True)


def test_a_view_drops_rounds_that_lose_a_side(tiny):
    tiny(rows=[(1, 0), (2, 0), (1, 10), (2, 10), (3, 20)])
    task = tasks.load("esc50", allow_partial=True)
    assert len(task.rounds) == 3
    view = tasks.View("v", "esc50", "", {"dog": "dog", "rain": "rain"})
    assert [part.name for part in view.apply(task).rounds] == ["1", "2"]


@pytest.mark.data
def test_the_real_data_set(esc50_root):
    task = tasks.load("esc50")
    assert len(task.clips) == 2000
    assert task.classes == esc50.CLASSES
    assert set(Counter(task.targets()).values()) == {40}
    assert [(part.name, len(part.train), len(part.test)) for part in task.rounds] == [
        (str(n), 1600, 400) for n in range(1, 6)
    ]
    assert len({clip.group for clip in task.clips}) == 1524
    assert not any(tasks.leaks(task, part) for part in task.rounds)
    straddling = set().union(*(tasks.leaks(task, part, any_label=True) for part in task.rounds))
    assert straddling == {"134049", "234879", "131943", "209698"}
    assert all(task.path(clip).is_file() for clip in task.clips[::100])


@pytest.mark.data
def test_the_esc10_view_is_the_column_of_that_name(esc50_root):
    marked = {row["category"] for row in esc50.read_table(esc50_root / "meta" / "esc50.csv") if row["esc10"] == "True"}
    task = tasks.load("esc50:esc10")
    assert set(task.classes) == marked
    assert len(task.clips) == 400


@pytest.mark.data
@pytest.mark.parametrize(
    ("view", "sizes", "leaking"),
    [
        ("major", dict.fromkeys(("animals", "natural", "human", "interior", "exterior"), 400), 9),
        ("danger", {"danger": 360, "safe": 1640}, 5),
        ("danger-4v5", {"danger": 160, "safe": 200}, 0),
    ],
)
def test_views_of_the_real_data_set_and_their_leaks(esc50_root, view, sizes, leaking):
    task = tasks.load(f"esc50:{view}")
    assert Counter(clip.label for clip in task.clips) == sizes
    notes = [note for note in task.notes if "leaks" in note]
    assert [note.split()[3] for note in notes] == ([str(leaking)] if leaking else [])
    for part in task.rounds:
        tasks.check_groups(task, part)
