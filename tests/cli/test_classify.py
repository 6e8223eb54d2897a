"""`soundmark classify`: files, folders and standard input; tables and JSON; what fails and what goes on."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from soundmark import audio
from soundmark.tasks.esc50 import CLASSES as ESC50_CLASSES

RATE = 8000
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings, and the tiny model in the environment."""
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    monkeypatch.setenv("SOUNDMARK_MODEL", str(tmp_path / "model.onnx"))
    folder = tmp_path / "sounds"
    write(folder / "b.wav", 0.4)
    write(folder / "a.flac", 0.0)
    write(folder / "deeper" / "c.wav", 0.1, seconds=3)
    write(folder / ".hidden.wav", 0.4)
    (folder / "notes.txt").write_text("not a sound", encoding="utf-8")
    return folder


def write(path: Path, level: float, seconds: float = 1.0) -> None:
    audio.write(path, np.full(int(seconds * RATE), level, np.float32), RATE)


@pytest.fixture
def said(call: Said) -> Said:
    return partial(call, "classify")


def test_a_recording_has_a_page_of_its_own(place: Path, said: Said) -> None:
    code, out, err = said(place / "b.wav")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0] == f"{place / 'b.wav'}  (1.0 s)"
    assert lines[1] == "  loud   100.0 %  ████████████████████"
    assert lines[2] == "  quiet    0.0 %"


def test_a_folder_is_a_table_of_all_beneath_it(place: Path, said: Said) -> None:
    code, out, _ = said(place, "--top", 1)
    rows = [line for line in out.splitlines() if not line.startswith("  ")]
    assert code == 0
    assert [next(name for name in ("a.flac", "b.wav", "c.wav") if name in row) for row in rows] == [
        "a.flac",
        "b.wav",
        "c.wav",
    ]
    assert rows[0].endswith("quiet 98.2 %")
    assert rows[1].endswith("loud 100.0 %")
    assert len({row.index(row.split("  ")[-1]) for row in rows}) == 1, "the labels stand below each other"


def test_long_recordings_have_times(place: Path, said: Said) -> None:
    _, out, _ = said(place / "deeper" / "c.wav", "--top", 1)
    assert [line.split("  ")[1] for line in out.splitlines()[2:]] == ["0.0 – 1.0 s", "1.0 – 2.0 s", "2.0 – 3.0 s"]
    _, out, _ = said(place / "b.wav", "--window", 0.5, "--hop", 0.25, "--json")
    assert [window["start"] for window in json.loads(out)["windows"]] == [0, 0.25, 0.5]


def test_json_has_a_line_per_recording(place: Path, said: Said) -> None:
    code, out, _ = said(place, place / "none.wav", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [Path(row["path"]).name for row in rows] == ["a.flac", "b.wav", "c.wav", "none.wav"]
    assert rows[1]["labels"][0] == {"label": "loud", "score": pytest.approx(1, abs=1e-3)}
    assert rows[1]["duration"] == 1
    assert "windows" not in rows[1]
    assert [set(window) for window in rows[2]["windows"]] == [{"start", "end", "labels"}] * 3
    assert set(rows[3]) == {"path", "error"}


def test_what_fails_is_said_and_the_rest_goes_on(place: Path, said: Said) -> None:
    (place / "bad.wav").write_bytes(b"RIFF")
    code, out, err = said(place)
    assert code == 1
    assert len([line for line in out.splitlines() if not line.startswith("  ")]) == 3
    assert err.startswith("soundmark: ")
    assert "bad.wav" in err
    assert len(err.splitlines()) == 1


def test_standard_input(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO((place / "b.wav").read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Pipe())
    code, out, _ = said("-", "--json")
    assert code == 0
    assert json.loads(out)["path"] == "-"
    assert json.loads(out)["labels"][0]["label"] == "loud"


def test_a_terminal_is_no_recording(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    code, _, err = said("-")
    assert code == 1
    assert "pipe a recording into it" in err


def test_labels_below_the_threshold_are_left_out(place: Path, said: Said) -> None:
    _, out, _ = said(place / "b.wav", "--threshold", 0.5, "--json")
    assert [one["label"] for one in json.loads(out)["labels"]] == ["loud"]
    write(place / "middle.wav", 0.1)
    _, out, _ = said(place / "middle.wav", "--threshold", 0.9)
    assert "nothing above the threshold" in out
    _, out, _ = said(place / "middle.wav", place / "b.wav", "--threshold", 0.9)
    assert out.splitlines()[0].endswith("  –")


def test_a_view_of_ones_own(place: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "v.toml").write_text('others = "calm"\n[map]\nloud = "alarm"\n', encoding="utf-8")
    _, out, _ = said(place / "b.wav", "--view", tmp_path / "v.toml", "--json")
    assert [one["label"] for one in json.loads(out)["labels"]] == ["alarm", "calm"]
    code, _, err = said(place / "b.wav", "--view", "nonesuch")
    assert code == 1
    assert "has no view 'nonesuch'" in err


def test_a_model_of_a_view_takes_no_other(
    place: Path, said: Said, tmp_path: Path, tiny_model: Callable[..., bytes]
) -> None:
    (tmp_path / "viewed.onnx").write_bytes(tiny_model(view="danger"))
    code, _, err = said(place / "b.wav", "--view", "danger", "--model", tmp_path / "viewed.onnx")
    assert code == 1
    assert "already" in err


def test_the_model_may_be_a_runs_folder(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUNDMARK_MODEL")
    assert said(place / "b.wav", "--model", place.parent)[0] == 0
    code, _, err = said(place / "b.wav", "--model", place / "none.onnx")
    assert code == 1
    assert "there is no model file" in err


def test_without_a_model_it_is_the_one_of_the_package(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUNDMARK_MODEL")
    monkeypatch.chdir(place)
    (place / "mark1").mkdir()  # a folder that happens to be called so is not what was asked for
    code, out, err = said("b.wav", "--json", "--top", 60)
    assert (code, err) == (0, "")
    assert {one["label"] for one in json.loads(out)["labels"]} == set(ESC50_CLASSES)
    code, out, _ = said("b.wav", "--json", "--view", "danger")
    assert {one["label"] for one in json.loads(out)["labels"]} == {"danger", "safe"}


def test_a_folder_without_recordings(place: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = said(tmp_path / "empty", place / "b.wav")
    assert code == 1
    assert "no recordings in the folder" in err


def test_names_that_the_terminal_cannot_show(place: Path, said: Said) -> None:
    write(place / "\u266b sound.wav", 0.4)
    assert said(place / "\u266b sound.wav")[0] == 0


@pytest.mark.parametrize(
    "words",
    [["--top", "0"], ["--top", "x"], ["--threshold", "2"], ["--window", "0"], ["--hop", "-1"], ["--window", "nan"]],
)
def test_settings_out_of_range_are_wrong_usage(place: Path, said: Said, words: list[str]) -> None:
    code, _, err = said(place / "b.wav", *words)
    assert code == 2
    assert "usage" in err


def test_long_paths_are_cut_at_the_front(place: Path, said: Said) -> None:
    deep = place / ("x" * 60)
    write(deep / "one.wav", 0.4)
    write(deep / "two.wav", 0.4)
    _, out, _ = said(deep)
    for line, name in zip(out.splitlines(), ("one.wav", "two.wav"), strict=True):
        assert line.startswith("…")
        assert f"/{name}  loud" in line.replace("\\", "/")


def test_strangers_are_named_first_where_it_is_asked_for(
    place: Path, said: Said, tmp_path: Path, tiny_model: Callable[..., bytes]
) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_model(unknown_below=0.7))
    unsure = place / "deeper" / "c.wav"
    code, out, _ = said(unsure, "--unknown", "--json", "--threshold", 0.9)
    content = json.loads(out)
    assert code == 0
    assert [set(one) for one in content["labels"]] == [{"label", "score"}]
    assert content["labels"][0]["label"] == "unknown"
    assert content["windows"][0]["labels"][0]["label"] == "unknown"
    assert "unknown" not in said(unsure)[1]
    assert "unknown" not in said(place / "b.wav", "--unknown")[1]


def test_a_model_without_a_threshold_for_the_unknown_says_so(place: Path, said: Said) -> None:
    code, out, err = said(place / "b.wav", "--unknown")
    assert (code, out) == (1, "")
    assert "no threshold below which a sound is unknown" in err
