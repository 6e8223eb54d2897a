from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

import soundmark
from soundmark import cli


def stand_in(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A verb `data` that raises."""

    def run(args: object) -> int:
        raise error

    module = types.ModuleType("soundmark.cli.data")
    module.add = lambda verbs: verbs.add_parser("data")  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "soundmark.cli.data", module)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"soundmark {soundmark.__version__}\n"
    assert cli.main([]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in cli.VERBS)
    assert cli.main(["train", "--help"]) == 0
    assert "--encoder" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["tarin"], ["train", "--hed", "svm"], ["embed"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "usage:" in capsys.readouterr().err


def test_every_verb_is_declared() -> None:
    complete = cli.parser()
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as leave:
            complete.parse_args([verb, "--help"])
        assert leave.value.code == 0


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "esc5O"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("soundmark: error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "run the same command again"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "pip install 'soundmark[train]'"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
    ],
)
def test_what_is_said_of(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, error)
    assert cli.main(["data"]) == code
    assert words in capsys.readouterr().err


def test_a_bug_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, ModuleNotFoundError("No module named 'soundmark.nothing'", name="soundmark.nothing"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["data"])


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    code = "import sys; from soundmark.cli import entry; sys.argv = ['soundmark', 'train', '--help']; entry()"
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    assert b"Traceback" not in running.communicate()[1]


def test_python_dash_m(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soundmark", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("soundmark ")


def test_the_engine_is_a_setting_of_the_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", "toy?clips=5&seconds=0.5", "--encoder", "logmel?rate=16000&bands=8", "-o"]
    assert cli.main([*words, str(tmp_path / "plain.csv")]) == 0
    assert cli.main([*words, str(tmp_path / "onnx.csv"), "--engine", "onnx"]) == 0
    plain, engine = ((tmp_path / f"{name}.csv").read_text().splitlines() for name in ("plain", "onnx"))
    assert len(plain) == len(engine) == 51
    assert cli.main([*words, str(tmp_path / "no.csv"), "--precision", "bf16"]) == 1
    assert "has no setting 'precision'" in capsys.readouterr().err
