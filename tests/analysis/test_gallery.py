"""The gallery: what it draws, what it says a spectrogram costs, and whose accuracy stands beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from soundmark import audio, cli, encoders, tasks
from soundmark.analysis import gallery, gallery_figure, gallery_scores
from soundmark.errors import AudioError, ResultsError, SpecError, TaskError
from soundmark.tasks.base import Task

RATE = 16000
FEW = ((256, 64), (1024, 256))


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a drawing goes into its pixels."""
    monkeypatch.setattr(gallery_figure, "DPI", 50)


def chirp(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Silence, then at half of it a tone of 1000 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 1000 * time) * (time >= seconds / 2)).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tone.wav"
    audio.write(path, chirp(), RATE)
    return path


# --- What is seen --------------------------------------------------------------------------------------------------


def test_a_tone_and_its_onset_stand_where_they_are(recording: Path) -> None:
    heard = gallery.listen(str(recording), seconds=1.0)
    assert (heard.start, heard.end) == (pytest.approx(0.75, abs=0.03), pytest.approx(1.75, abs=0.03))
    rows = gallery.look(heard, FEW)
    assert [[view.title for view in row] for row in rows] == [["linear", "log frequency", "log-mel"]] * 2
    for view in (view for row in rows for view in row):
        assert view.levels is not None
        assert view.centres is not None
        assert (view.levels.max(), view.levels.min()) == (0, -80)
        assert view.levels.shape == (1 + len(heard.waveform) // view.hop, len(view.centres))
        frames = np.arange(len(view.levels)) * view.hop / RATE
        sounding = view.levels[(frames > 1.1) & (frames < 1.8)]
        found = view.centres[sounding.mean(axis=0).argmax()]
        apart = np.interp(1000, view.centres[1:], np.diff(view.centres))
        assert abs(found - 1000) <= max(apart, RATE / view.window)
        heard_from = frames[(view.levels.max(axis=1) > -40).argmax()]
        assert abs(heard_from - 1.0) <= (view.window / 2 + view.hop) / RATE


def test_what_a_window_costs_is_what_it_is(recording: Path) -> None:
    heard = gallery.listen(str(recording))
    (short, *_), (long, log, mel) = gallery.look(heard, FEW)
    assert short.costs is not None
    assert long.costs is not None
    assert log.costs is not None
    assert mel.costs is not None
    assert (short.costs["window_ms"], short.costs["hop_ms"], short.costs["bin_hz"]) == (16, 4, 62.5)
    assert (long.costs["window_ms"], long.costs["hop_ms"], long.costs["bin_hz"]) == (64, 16, 15.625)
    assert (long.costs["bands"], long.costs["frames_per_second"]) == (513, 62.5)
    assert long.costs["values_per_second"] == round(513 * 62.5)
    assert [long.costs[name] for name in ("finest_hz", "widest_hz")] == pytest.approx([15.625] * 2, abs=0.01)
    assert log.costs["finest_hz"] == 15.625  # its lowest bands are closer than bins, and cannot be told apart
    assert log.costs["widest_hz"] > 300
    assert mel.costs["bands"] == 64
    assert all(view.costs["ms"] > 0 for view in (short, long, log, mel) if view.costs)


def test_timing_leaves_torch_as_it_was(recording: Path) -> None:
    import torch

    before = torch.get_num_threads()
    gallery.look(gallery.listen(str(recording)), FEW[:1])
    assert torch.get_num_threads() == before


def test_a_front_end_that_cannot_be_says_why(recording: Path, tmp_path: Path) -> None:
    content = gallery.write(str(recording), tmp_path / "out", sizes=[(64, 32)])
    linear, _, mel = content["views"]
    assert linear["costs"]
    assert not linear["problem"]
    assert "bands are narrower than the bins" in mel["problem"]
    assert mel["costs"] is None
    assert "narrower than the bins" in (tmp_path / "out" / "gallery.html").read_text("utf-8")
    assert any("narrower than the bins" in line for line in gallery.lines(content))


@pytest.mark.parametrize("samples", [1, 300, 4000])
def test_short_and_silent_recordings_have_a_gallery(samples: int, tmp_path: Path) -> None:
    audio.write(tmp_path / "silent.wav", np.zeros(samples, np.float32), 8000)
    content = gallery.write(str(tmp_path / "silent.wav"), tmp_path / "out", sizes=FEW)
    assert content["shown"] == [0, samples / 8000]
    (view, *_), *_ = gallery.look(gallery.listen(str(tmp_path / "silent.wav")), FEW)
    assert view.levels is not None
    assert (view.levels == -80).all()


def test_a_gain_changes_no_picture(tmp_path: Path) -> None:
    views = []
    for gain in (1.0, 0.25):
        audio.write(tmp_path / "tone.wav", gain * chirp(), RATE, subtype="FLOAT")
        views.append(gallery.look(gallery.listen(str(tmp_path / "tone.wav")), FEW)[1][2].levels)
    assert views[0] is not None
    np.testing.assert_allclose(views[0], views[1], atol=1e-3)


@pytest.mark.parametrize(
    ("top", "title", "expected"),
    [
        (22050, "linear", ["5 kHz", "10 kHz", "15 kHz", "20 kHz"]),
        (8000, "linear", ["2 kHz", "4 kHz", "6 kHz", "8 kHz"]),
        (400, "linear", ["100 Hz", "200 Hz", "300 Hz", "400 Hz"]),
        (8000, "log-mel", ["50 Hz", "100 Hz", "200 Hz", "500 Hz", "1 kHz", "2 kHz", "5 kHz"]),
        (1e6, "log-mel", ["50 Hz", "200 Hz", "500 Hz", "2 kHz", "5 kHz", "20 kHz", "50 kHz"]),
    ],
)
def test_marks_are_round_and_do_not_overlap(top: float, title: str, expected: list[str]) -> None:
    centres = np.linspace(0, top, 100) if title == "linear" else np.geomspace(40, top, 100)
    marks = gallery_figure._marks(gallery.View(title, "", 1, 1, centres=centres))
    inside = [gallery_figure.hertz(mark) for mark in marks if mark <= top]
    assert inside == expected
    places = np.interp(marks, centres, np.linspace(0, 1, 100))
    assert (np.diff(places[: len(inside)]) > 0.08).all()


# --- What is written -----------------------------------------------------------------------------------------------


def test_the_files_say_the_same(toy: Task, tmp_path: Path) -> None:
    content = gallery.write(toy, tmp_path / "new", clip="knocks", sizes=FEW, command="soundmark data show <b>")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        f"gallery.{suffix}" for suffix in ("html", "json", "png", "svg")
    ]
    written = json.loads((tmp_path / "new" / "gallery.json").read_text("utf-8"))
    assert {key: written[key] for key in ("recording", "task", "rate")} == {
        "recording": "knocks-000.wav (knocks)", "task": toy.full_name, "rate": 16000,
    }  # fmt: skip
    assert written["views"] == json.loads(json.dumps(content["views"]))
    assert [view["encoder"] for view in written["views"]] == [
        f"{name}hop={hop}&rate=16000&window={window}"
        for window, hop in FEW for name in ("linear?bands=0&", "logfreq?", "logmel?")
    ]  # fmt: skip
    for view in written["views"]:
        assert encoders.load(view["encoder"]).dim == view["costs"]["bands"]
    with Image.open(tmp_path / "new" / "gallery.png") as picture:
        assert picture.width > picture.height > 100
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 200
    html = (tmp_path / "new" / "gallery.html").read_text("utf-8")
    assert "soundmark data show &lt;b&gt;" in html
    assert html.count("not measured") >= len(written["views"])
    assert not re.search(r'(?:src|href)="(?!data:)', html)


def test_a_clip_goes_by_key_file_or_class(toy: Task) -> None:
    by_class = gallery.listen(toy, "rain")
    assert by_class.name == "rain-000.wav (rain)"
    assert gallery.listen(toy, "rain-000.wav").name == by_class.name
    assert gallery.listen(toy, "rain-003.wav").name == "rain-003.wav (rain)"
    assert gallery.listen(toy).name == f"{toy.clips[0].key} ({toy.clips[0].label})"
    with pytest.raises(SpecError, match="no clip and no class 'snow' in toy"):
        gallery.listen(toy, "snow")


def test_clips_that_cannot_be_read_are_passed_over_unless_they_were_named(broken: Task) -> None:
    assert gallery.listen(broken).name.startswith(broken.clips[1].key)
    with pytest.raises(AudioError):
        gallery.listen(broken, broken.clips[0].key)
    nothing = replace(broken, clips=(broken.clips[0], broken.clips[15]))
    with pytest.raises(TaskError, match=r"no clip of toy.* can be read; the first says: "):
        gallery.listen(nothing)


def test_a_part_of_a_file_is_a_clip(recording: Path) -> None:
    clip = tasks.Clip("tone.wav", ("tone",), start=0.5, end=1.5)
    task = Task("own", recording.parent, (clip,), ("tone",), "none", ())
    heard = gallery.listen(task, seconds=0)
    assert len(heard.waveform) == RATE
    assert (heard.start, heard.end) == (0, 1)
    assert heard.name == "tone.wav#0.5-1.5 (tone)"


# --- Accuracy ------------------------------------------------------------------------------------------------------


def cell(folder: Path, name: str, encoder: str, value: float, **more: Any) -> None:
    learner = {"encoder": encoder, "pooling": "mean+std", "head": "logreg?C=0.1"} | more.pop("learner", {})
    command = f"soundmark train {more.get('task', 'toy')} --encoder '{encoder}' --pooling {learner['pooling']} "
    command += f"--head '{learner['head']}'" + (f" --seed {more.pop('seed')}" if "seed" in more else "")
    content = {
        "command": command, "task": "toy", "protocol": "5 folds", "learner": learner,
        "headline": {"metric": "accuracy", "value": value, "low": value - 0.02, "high": value + 0.02},
        "folds": [{"fold": "1", "clips": 10}],
    } | more  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")


def test_scores_are_those_of_this_task_and_these_settings(tmp_path: Path) -> None:
    cell(tmp_path / "cells", "a", "logmel?window=1024&hop=256", 0.4)
    cell(tmp_path / "cells", "b", "linear?bands=0&hop=256&window=1024", 0.3)
    cell(tmp_path / "cells", "c", "logmel?window=1024&hop=256", 0.9, learner={"head": "svm"})
    cell(tmp_path / "cells", "d", "logmel?window=512&hop=128", 0.8, protocol="sample: 5 group folds")
    cell(tmp_path / "cells", "e", "logmel+mfcc", 0.7)
    cell(tmp_path / "cells", "f", "logmel?window=1024&hop=256", 0.6, seed=1)
    cell(tmp_path / "cells", "g", "logmel?window=1024&hop=256", 0.5, task="esc50")
    known = gallery_scores.read(str(tmp_path / "cells"))
    assert [(score.task, score.value, score.head) for score in known] == [
        ("esc50", 0.5, "logreg?C=0.1"), ("toy", 0.3, "logreg?C=0.1"), ("toy", 0.4, "logreg?C=0.1"),
    ]  # fmt: skip

    def value(task: str, encoder: str) -> float | None:
        found = gallery_scores.find(known, task, encoder)
        return found and found.value

    assert value("toy", "logmel?hop=256&window=1024&bands=64&rate=44100") == 0.4
    assert value("esc50", "logmel?hop=256&window=1024") == 0.5
    assert value("toy", "logmel?hop=256&window=1024&rate=16000") is None
    assert value("toy", "logmel?hop=128&window=512") is None
    assert value("toy:danger", "logmel?hop=256&window=1024") is None
    assert value("", "logmel?hop=256&window=1024") is None
    written = tmp_path / "one.json"
    written.write_text(json.dumps({"scores": [asdict(score) for score in known]}), "utf-8")
    assert gallery_scores.read(str(written)) == known


def test_the_gallery_shows_a_score_where_there_is_one(toy: Task, tmp_path: Path) -> None:
    name = f"logmel?window={FEW[0][0]}&hop={FEW[0][1]}&rate=16000"
    cell(tmp_path / "cells", "a", name, 0.4, task=toy.full_name)
    content = gallery.write(toy, tmp_path / "out", sizes=FEW, scores=str(tmp_path / "cells"))
    values = [view["score"] and view["score"]["value"] for view in content["views"]]
    assert values == [None, None, 0.4, None, None, None]
    assert gallery.lines(content)[3].endswith("40.0 % (38.0 to 42.0)")
    assert [line.endswith("not measured") for line in gallery.lines(content)[1:]] == [True, True, False] + [True] * 3
    html = unescape((tmp_path / "out" / "gallery.html").read_text("utf-8"))
    assert "the spectrogram's mean+std over time under the head logreg?C=0.1" in html


def test_the_packages_scores_are_esc50s_and_nobody_elses() -> None:
    known = gallery_scores.read()
    assert {score.task for score in known} == {"esc50"}
    assert {score.protocol for score in known} == {"official 5 folds"}
    assert len({(score.pooling, score.head) for score in known}) == 1
    found = []
    for window, hop in gallery.SIZES:
        for name in gallery.FRONT_ENDS.values():
            text = name + ("&" if "?" in name else "?") + f"window={window}&hop={hop}"
            found += filter(None, [gallery_scores.find(known, "esc50", text)])
            assert gallery_scores.find(known, "toy", text) is None
    assert sorted(score.encoder for score in found) == sorted(score.encoder for score in known)
    assert len(found) >= 14
    assert all(0.02 < score.low < score.value < score.high < 1 for score in found)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"scores": [{}]}', '{"scores": [{"task": 3}]}', '{"scores": 3}', '{"scores": null}']
)
def test_a_file_without_scores_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ResultsError, match=r"scores\.json holds no scores of front ends"):
        gallery_scores.read(str(path))


def test_scores_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nothing holds no scores"):
        gallery_scores.read("nothing")
    good = asdict(gallery_scores.Score("t", "p", "e", "m", "h", "accuracy", 0.5, 0.4, 0.6, "c"))
    (tmp_path / "a.json").write_text(json.dumps({"scores": [good | {"value": "high"}]}), "utf-8")
    with pytest.raises(ResultsError, match="value is 'high'"):
        gallery_scores.read(str(tmp_path / "a.json"))
    cell(tmp_path / "cells", "a", "mfcc", 0.4)
    with pytest.raises(ResultsError, match="no cell of a whole task"):
        gallery_scores.read(str(tmp_path / "cells"))


# --- The command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def soundmark(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main(["data", "show", *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_the_command_can_be_given_again(
    soundmark: Callable[..., tuple[int, str, str]], recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recording.parent)
    code, out, err = soundmark("tone.wav", "--gallery", "--sizes", "512/256", "--seconds", "0.5", "--rate", 8000)
    assert (code, err) == (0, "")
    assert "logmel?hop=256&rate=8000&window=512" in out
    place = recording.parent / "figures" / "tone"
    command = json.loads((place / "gallery.json").read_text("utf-8"))["command"]
    assert command == (
        "soundmark data show tone.wav --gallery --seconds 0.5 --rate 8000 --sizes 512/256 --to figures/tone"
    )
    before = (place / "gallery.svg").stat().st_mtime_ns
    assert soundmark(*command.split()[3:])[0] == 0
    assert (place / "gallery.svg").stat().st_mtime_ns > before


def test_a_tasks_gallery_goes_beside_its_other_figures(
    soundmark: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = soundmark("toy:danger?clips=4&seconds=0.5", "--gallery", "--sizes", "512/256", "--clip", "danger")
    assert code == 0
    assert "siren-000.wav (danger)" in out
    assert (tmp_path / "figures" / "toy-danger" / "gallery.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy", "--clip", "siren"], "--clip is an option of the gallery: add --gallery"),
        (["toy", "--sizes", "512/128"], "--sizes is an option of the gallery"),
        (["tone.wav"], "tone.wav is one recording and no task: add --gallery"),
        (["tone.wav", "--gallery", "--clip", "x"], "leave out --clip"),
        (["tone.wav", "--gallery", "--no-figures"], "leave out --no-figures"),
        (["tone.wav", "--gallery", "--sizes", "512"], "write window/hop in samples"),
        (["tone.wav", "--gallery", "--sizes", "512/1024"], "512/1024 is no size"),
        (["tone.wav", "--gallery", "--sizes", "8/4"], "8/4 is no size"),
        (["tone.wav", "--gallery", "--seconds", "-1"], "--seconds should be 0, for all, or from 0.05 to 10, not -1"),
        (["tone.wav", "--gallery", "--seconds", "nan"], "--seconds should be"),
        (["tone.wav", "--gallery", "--rate", "0"], "--rate should be 1 or more"),
        (["tone.wav", "--gallery", "--rate", "5"], "5"),
        (["tone.wav", "--gallery", "--scores", "nowhere"], "nowhere holds no scores"),
        (["bad.wav", "--gallery"], "bad.wav"),
        (["nowhere.wav", "--gallery"], "no task, folder or manifest"),
    ],
)
def test_wrong_usage_is_explained(
    soundmark: Callable[..., tuple[int, str, str]], recording: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(recording.parent)
    Path("bad.wav").write_bytes(b"no sound at all")
    code, _, err = soundmark(*words)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not Path("figures").exists()
