"""`soundmark events`: what is printed and written, for one recording, several, and those that cannot be read."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from soundmark import audio, eventfiles

RATE = 8000
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recordings, loud from the third to the fifth second, and the tiny model in the environment."""
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    monkeypatch.setenv("SOUNDMARK_MODEL", str(tmp_path / "model.onnx"))
    levels = np.repeat(np.array([0, 0, 0, 0.4, 0.4, 0, 0, 0], np.float32), RATE)
    for name in ("a.wav", "b.flac"):
        audio.write(tmp_path / "sounds" / name, levels, RATE)
    return tmp_path / "sounds"


@pytest.fixture
def said(call: Said) -> Said:
    return partial(call, "events")


def test_events_are_printed(place: Path, said: Said) -> None:
    code, out, err = said(place / "a.wav", "--window", 1, "--hop", 0.25)
    assert (code, err) == (0, "")
    assert out == "0:00:02.9 – 0:00:05.1  loud  100.0 %\n"
    _, out, _ = said(place, "--window", 1, "--hop", 0.25)
    assert [line.split("  ")[0] for line in out.splitlines()] == [str(place / "a.wav"), str(place / "b.flac")]


def test_formats_are_printed(place: Path, said: Said) -> None:
    _, out, _ = said(place, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(Path(row["path"]).name, row["label"]) for row in rows] == [("a.wav", "loud"), ("b.flac", "loud")]
    _, out, _ = said(place / "a.wav", "--format", "csv")
    assert out.splitlines()[0] == "path,start,end,label,score"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "rttm", "txt"])
def test_files_are_written(place: Path, said: Said, tmp_path: Path, ending: str) -> None:
    code, out, _ = said(place / "a.wav", "-o", tmp_path / f"x.{ending}", "--window", 1, "--hop", 0.25)
    assert (code, out) == (0, f"{tmp_path / f'x.{ending}'}: 1 events in 1 of 1 recordings\n")
    ((_, event),) = eventfiles.read(tmp_path / f"x.{ending}")
    assert (event.start, event.end, event.label) == (2.875, 5.125, "loud")


def test_rules_can_be_said(place: Path, said: Said) -> None:
    recording = place / "a.wav"
    assert said(recording, "--min", 60)[1] == ""
    assert "quiet" in said(recording, "--only", "quiet")[1]
    assert "quiet" in said(recording, "--threshold", "quiet=0.9")[1]
    assert said(recording, "--threshold", 1, "--threshold", "loud=1")[0] == 0
    code, _, err = said(recording, "--only", "dog")
    assert code == 1
    assert "does not know 'dog'; its labels are: quiet, loud" in err
    code, _, err = said(recording, "--window", 1, "--hop", 2)
    assert code == 1
    assert "unheard" in err


def test_a_recording_that_cannot_be_read_is_said_and_the_rest_goes_on(place: Path, said: Said, tmp_path: Path) -> None:
    (place / "0.wav").write_bytes(b"RIFF")
    code, out, err = said(place, "-o", tmp_path / "x.csv")
    assert code == 1
    assert "0.wav" in err
    assert "2 events in 2 of 3 recordings" in out


def test_audacity_takes_one_recording(place: Path, said: Said, tmp_path: Path) -> None:
    code, _, err = said(place, "-o", tmp_path / "x.txt")
    assert code == 1
    assert "do not name their recording" in err
    assert not (tmp_path / "x.txt").exists()


def test_an_ending_that_says_nothing_is_known_before_any_work(place: Path, said: Said, tmp_path: Path) -> None:
    code, out, err = said(place, "-o", tmp_path / "x.doc")
    assert (code, out) == (1, "")
    assert "no ending of events" in err


def test_standard_input(place: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BytesIO((place / "a.wav").read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Piped())
    code, out, _ = said("-")
    assert code == 0
    assert "loud" in out


def test_an_interruption_leaves_no_file(
    place: Path, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soundmark.model import Classifier

    def stop(self: Classifier, waveforms: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "predict_proba", stop)
    code, _, err = said(place, "-o", tmp_path / "x.csv")
    assert code == 130
    assert "interrupted" in err
    assert not list(tmp_path.glob("*.csv"))
