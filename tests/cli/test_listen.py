"""`soundmark listen`: pipes and recordings, events for people and programs, alerts, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from soundmark import audio
from soundmark.cli.screen import Screen, clock, plain
from soundmark.listen import Moment

RATE = 8000
LEVELS = np.repeat(np.array([0, 0, 0, 0.4, 0.4, 0, 0, 0], np.float32), RATE)
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def recording(tmp_path: Path, tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Loud from the third to the fifth second; and the tiny model in the environment."""
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    monkeypatch.setenv("SOUNDMARK_MODEL", str(tmp_path / "model.onnx"))
    audio.write(tmp_path / "a.wav", LEVELS, RATE)
    return tmp_path / "a.wav"


@pytest.fixture
def said(call: Said) -> Said:
    return lambda *words: call("listen", *words, "--window", 1, "--hop", 0.25)


def test_a_recording_is_told_as_it_would_be_heard(recording: Path, said: Said) -> None:
    code, out, err = said(recording)
    assert code == 0
    assert out.splitlines() == [
        "0:00:03.5  loud begins, 98 %",
        "0:00:06.0  loud is over: 0:00:02.9 – 0:00:05.1, 100 %",
    ]
    assert "windows of 1 s every 0.25 s" in err


def test_programs_get_json(recording: Path, said: Said) -> None:
    code, out, _ = said(recording, "--json", "--update", 1)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["kind"] for row in rows] == ["new", "update", "update", "end"]
    assert {row["id"] for row in rows} == {1}
    assert (rows[-1]["start"], rows[-1]["end"], rows[-1]["label"]) == (2.875, 5.125, "loud")


def test_a_pipe_of_raw_samples(recording: Path) -> None:
    words = [sys.executable, "-m", "soundmark", "listen", "-", "--rate", str(RATE), "--json", "--window", "1"]
    done = subprocess.run(words, input=(LEVELS * 32767).astype("<i2").tobytes(), capture_output=True, check=True)
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["new", "end"]


def test_a_pipe_of_something_else_says_what_to_do(recording: Path) -> None:
    words = [sys.executable, "-m", "soundmark", "listen", "-"]
    done = subprocess.run(words, input=b"OggS" + bytes(100), capture_output=True, check=False)
    assert done.returncode == 1
    assert b"error: the pipe begins as Ogg: give --rate" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_who_interrupts_sees_open_events_end(recording: Path, number: signal.Signals, code: int) -> None:
    words = [sys.executable, "-m", "soundmark", "listen", "-", "--rate", str(RATE), "--json", "--window", "1"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(np.full(3 * RATE, 12_000, "<i2").tobytes())
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        process.send_signal(number)
        rest = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait() == code
    assert (first["kind"], rest[-1]["kind"], rest[-1]["id"]) == ("new", "end", first["id"])


def test_a_command_is_run_for_what_was_asked(recording: Path, said: Said, tmp_path: Path) -> None:
    script = tmp_path / "keep.py"
    script.write_text("import sys; open(sys.argv[1], 'a').write(sys.argv[2] + ' ' + sys.argv[3] + '\\n')", "utf-8")
    log = tmp_path / "log"
    command = f"{sys.executable} {script} {log} {{kind}} {{label}}"
    code, _, err = said(recording, "--on", "loud", "--when", "new", "--when", "end", "--run", command, "--timeout", 60)
    assert code == 0, err
    assert log.read_text().splitlines() == ["new loud", "end loud"]


def test_an_alert_that_fails_is_said_and_listening_goes_on(recording: Path, said: Said, tmp_path: Path) -> None:
    code, out, err = said(recording, "--run", str(tmp_path / "nonesuch"))
    assert code == 0
    assert "nonesuch cannot be run" in err
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--on", "dog", "--run", "true"], "--on dog is not looked for; looked for are: loud"),
        (["--run", "true {x}"], "field {x}"),
        (["--webhook", "nowhere"], "webhook's address is none"),
        (["--mqtt", "nowhere"], "MQTT address is none"),
        (["--webhook-secret-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is empty or not set"),
    ],
)
def test_alerts_that_cannot_be_are_known_before_listening(
    recording: Path, said: Said, words: list[str], reason: str
) -> None:
    code, out, err = said(recording, *words)
    assert (code, out) == (1, "")
    assert reason in err
    assert "windows of" not in err


def test_devices_are_listed(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    mic = {"name": "Mic\x1b[2J", "max_input_channels": 1, "default_samplerate": 48_000.0}
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(query_devices=lambda: [mic]))
    assert said("--list-devices")[:2] == (0, "  0  Mic�[2J  (1 channels, 48000 Hz)\n")


def test_without_sounddevice_the_extra_is_named(recording: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = said()
    assert code == 1
    assert "pip install 'soundmark[listen]'" in err


def test_a_recording_that_is_not_there(recording: Path, said: Said) -> None:
    code, _, err = said(recording.parent / "none.wav")
    assert code == 1
    assert "there is no file" in err


# --- The screen ----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_line_that_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    out, notes = Terminal(), io.StringIO()
    screen = Screen(["loud", "odd\x1b[2J"], [1, 2], out=out, notes=notes)
    screen.show(Moment(0, 65.25, np.array([0.9, 0.5, 0.0]), (), 3.0, 0.0))
    assert out.getvalue() == "\r0:01:05.2  loud  50 % █████       odd�[2J   0 %             3 s behind\x1b[K"
    screen.show(Moment(1, 66, np.array([0.9, 0.5, 0.0]), (), 0.0, 12.5))
    assert notes.getvalue() == "soundmark: too slow: 12.5 s of sound were dropped (12.5 s in all)\n"
    screen.close()
    assert out.getvalue().endswith("\r\x1b[K")


def test_without_a_terminal_only_what_happens_is_printed() -> None:
    out = io.StringIO()
    screen = Screen(["loud"], [1], out=out, notes=io.StringIO())
    screen.show(Moment(0, 1, np.array([0.1, 0.9]), (), 0.0, 0.0))
    screen.close()
    assert out.getvalue() == ""


def test_times_and_names_are_for_people() -> None:
    assert [clock(seconds) for seconds in (0, 59.96, 3661.04)] == ["0:00:00.0", "0:01:00.0", "1:01:01.0"]
    assert plain("ça va\n\x07") == "ça va��"
