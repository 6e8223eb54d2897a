from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest

from soundmark import bench, benchmark, cells, encoders, protocol
from soundmark.cli import main
from soundmark.encoders.base import Encoder
from soundmark.errors import ResultsError, SpecError, WeightsError
from soundmark.recipe import Recipe
from soundmark.spec import parse
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"
OTHER = "logmel?rate=16000&window=512&hop=256&bands=8"


def command(folder: Path, *more: str, encoder: str = ENCODER) -> list[str]:
    words = ["benchmark", "--tasks", TASK, "--encoders", encoder, "--poolings", "mean", "--heads", "logreg"]
    return [*words, *more, "--out", str(folder)]


def measured(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """What was measured, as it is measured."""
    found: list[Recipe] = []
    real = bench.measure
    monkeypatch.setattr(bench, "measure", lambda recipe, **options: (found.append(recipe), real(recipe, **options))[1])
    return found


def test_a_grid_measures_only_what_is_missing(
    toy: Task, tmp_path: Path, counted: list[Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(tmp_path, "--poolings", "mean", "mean+std")
    assert main(words) == 0
    assert len(counted) == 2
    assert main([*words, "--seeds", "2"]) == 0
    assert len(counted) == 4
    assert {recipe.seed for recipe in counted[2:]} == {1}
    assert capsys.readouterr().out.count("%") == 3 * (2 + 4)
    path = measured(tmp_path)[0]
    cell = json.loads(path.read_text(encoding="utf-8"))
    assert cell["command"].startswith("soundmark train")
    assert cell["learner"]["head"] == "logreg"
    assert {"headline", "folds", "metrics", "environment", "protocol"} <= cell.keys()
    assert cell["clips"] == 100
    costs = cell["costs"]
    assert costs["encoder_parameters"] == 0
    assert costs["head_parameters"] == 2 * 32 + (32 + 1) * 10  # of the scaler, and of the layer
    assert all(costs[name] > 0 for name in ("encode_ms", "head_ms", "encode_mb"))
    answers = cells.read_answers(cells.answers_path(path))
    assert answers is not None
    assert answers.clips == tuple(clip.key for clip in toy.clips)
    assert answers.classes == toy.classes
    assert np.mean(answers.targets == answers.predicted) == pytest.approx(cell["headline"]["value"])
    assert {name for name in os.listdir(tmp_path) if name.startswith("leaderboard")} == {
        f"leaderboard.{kind}" for kind in ("csv", "html", "md")
    }
    assert not list((tmp_path / ".benchmark" / "folds").glob("*"))


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"x\.json"):
        benchmark.read(tmp_path / "x.json")


def test_cells_have_different_files(tmp_path: Path) -> None:
    grid = benchmark.cells(
        ["toy", "esc50:danger"], ["logmel", "mfcc"], ["mean"], ["svm?C=1", "svm?C=2"], [0, 1], tmp_path
    )
    assert len({cell.path for cell in grid}) == len(grid) == 16


def test_a_part_of_a_data_set_never_stands_in_for_the_whole(tmp_path: Path) -> None:
    names = (["esc50"], ["logmel"], ["mean"], ["svm"], [0, 1])
    whole = benchmark.cells(*names, tmp_path)
    whole[0].path.write_text("{}", encoding="utf-8")
    parts = benchmark.cells(*names, tmp_path, allow_partial=True)
    assert parts[0] == whole[0]
    assert parts[1].path != whole[1].path
    assert parts[1].recipe.allow_partial


@pytest.mark.parametrize(
    "names", [(["no-such"], ["mean"], ["svm"]), (["logmel"], ["media"], ["svm"]), (["logmel"], ["mean"], ["svn"])]
)
def test_a_misspelt_name_is_an_error_before_anything_is_measured(names: tuple[list[str], ...], tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        benchmark.cells(["toy"], *names, [0], tmp_path)


# --- Stopped and shared ----------------------------------------------------------------------------------------------


def test_a_stopped_cell_goes_on_with_the_folds_it_has(
    toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol.os, "cpu_count", lambda: 1)  # one fold after the other
    fits: list[int] = []
    real = bench._Remembered.fit

    def fit(self: bench._Remembered, task: Task, seed: int, place: Path | None = None) -> None:
        fits.append(len(task.clips))
        if len(fits) == 3:
            raise KeyboardInterrupt
        real(self, task, seed, place)

    monkeypatch.setattr(bench._Remembered, "fit", fit)
    assert main(command(tmp_path / "stopped")) == 130
    assert not measured(tmp_path / "stopped")
    assert len(list((tmp_path / "stopped" / ".benchmark" / "folds").glob("*/folds/*.json"))) == 2
    assert main(command(tmp_path / "stopped")) == 0
    assert len(fits) == 3 + 3
    assert main(command(tmp_path / "whole")) == 0
    (a,), (b,) = measured(tmp_path / "stopped"), measured(tmp_path / "whole")
    assert benchmark.read(a)["headline"] == benchmark.read(b)["headline"]
    assert benchmark.read(a)["costs"].keys() == benchmark.read(b)["costs"].keys()


@pytest.mark.parametrize("finished", [True, False], ids=["the other finishes", "the other is stopped"])
def test_a_cell_that_another_process_has_is_looked_at_again_at_the_end(
    finished: bool, toy: Task, tmp_path: Path, counted: list[Recipe]
) -> None:
    grid = benchmark.cells([TASK], [ENCODER], ["mean"], ["logreg"], [0, 1], tmp_path / "shared")
    place = tmp_path / "shared" / ".benchmark" / "locks" / f"{grid[0].path.stem}.lock"
    place.parent.mkdir(parents=True)
    other = filelock.FileLock(place)
    other.acquire()
    going = benchmark.run(grid, progress=False)
    first = next(going)
    assert (first.cell, first.fresh) == (grid[1], True)
    if finished:
        content, said = bench.measure(grid[0].recipe)
        cells.write_answers(grid[0].path, said)
        grid[0].path.write_text(json.dumps(content), encoding="utf-8")
    counted.clear()
    other.release()
    (second,) = going
    assert (second.cell, second.fresh, second.error) == (grid[0], not finished, "")
    assert len(counted) == (0 if finished else 1)
    assert second.result is not None
    assert second.result["seed"] == 0


KILLED = """
    import sys, time
    from pathlib import Path
    from soundmark import bench, cli

    def measure(recipe, **options):
        Path(sys.argv[1]).touch()
        time.sleep(600)

    bench.measure = measure
    cli.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_cell_whose_process_was_killed_is_measured_by_another(toy: Task, tmp_path: Path) -> None:
    at_work = tmp_path / "at work"
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(at_work), *command(tmp_path / "shared", "--seeds", "2")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        try:
            while not at_work.exists():
                assert other.poll() is None
            grid = benchmark.cells([TASK], [ENCODER], ["mean"], ["logreg"], [0, 1], tmp_path / "shared")
            going = benchmark.run(grid, progress=False)
            assert next(going).cell == grid[1]
        finally:
            other.kill()
            other.wait()
        (last,) = going
    assert (last.cell, last.fresh, last.error) == (grid[0], True, "")
    assert len(measured(tmp_path / "shared")) == 2


def test_cells_of_another_machine_are_not_measured_again(
    toy: Task, tmp_path: Path, counted: list[Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path / "there")) == 0
    assert main(command(tmp_path / "here", "--seeds", "2", "--merge", str(tmp_path / "there"))) == 0
    assert [recipe.seed for recipe in counted] == [0, 1]
    assert len(measured(tmp_path / "here")) == 1
    assert "± " in (tmp_path / "here" / "leaderboard.md").read_text(encoding="utf-8")
    capsys.readouterr()
    (path,) = measured(tmp_path / "there")
    content = json.loads(path.read_text(encoding="utf-8"))
    content["headline"]["value"] -= 0.01
    (tmp_path / "here" / path.name).write_text(json.dumps(content), encoding="utf-8")
    assert main(command(tmp_path / "here", "--seeds", "2", "--merge", str(tmp_path / "there"))) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert str(tmp_path / "here" / path.name) in said
    assert main(command(tmp_path / "here", "--merge", str(tmp_path / "nowhere"))) == 1
    assert "nowhere" in capsys.readouterr().err


# --- Failing cells ---------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], list[str]]:
    """Let one encoder fail to load, or none; what was loaded is listed."""
    loaded: list[str] = []
    real = encoders.load

    def breaks(error: Exception | None) -> list[str]:
        def load(name: str) -> Encoder:
            loaded.append(name)
            if "bands=8&" in name and error is not None:
                raise error
            return real(name)

        monkeypatch.setattr(bench.encoders, "load", load)
        return loaded

    return breaks


def test_a_failing_cell_is_noted_and_the_others_go_on(
    toy: Task,
    tmp_path: Path,
    broken_encoder: Callable[[Exception | None], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded = broken_encoder(WeightsError("the weights are not here"))
    words = command(tmp_path, "--encoders", OTHER, ENCODER, "--seeds", "2")
    assert main(words) == 1
    said = capsys.readouterr()
    assert len(measured(tmp_path)) == 2
    assert sum("bands=8&" in name for name in loaded) == 1  # what failed is not tried again for every cell
    assert "2 of 4 cells could not be measured" in said.err
    assert said.err.count("  the weights are not here\n") == 1
    assert said.err.count(f"    {TASK}  {OTHER}  mean  logreg  seed ") == 2
    noted = sorted(tmp_path.glob("*.error.txt"))
    assert [path.read_text(encoding="utf-8") for path in noted] == ["the weights are not here\n"] * 2
    assert (tmp_path / "leaderboard.md").is_file()

    broken_encoder(None)
    assert main(words) == 0
    assert len(measured(tmp_path)) == 4
    assert not list(tmp_path.glob("*.error.txt"))


def test_a_bug_in_a_cell_leaves_its_traceback_and_no_more(
    toy: Task,
    tmp_path: Path,
    broken_encoder: Callable[[Exception | None], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_encoder(RuntimeError("sizes differ"))
    assert main(command(tmp_path, encoder=OTHER)) == 1
    said = capsys.readouterr().err
    assert "RuntimeError: sizes differ" in said
    assert "Traceback" not in said
    (noted,) = tmp_path.glob("*.error.txt")
    assert "Traceback" in noted.read_text(encoding="utf-8")


# --- Presets ---------------------------------------------------------------------------------------------------------


def test_options_outdo_a_preset_and_that_the_defaults() -> None:
    study = benchmark.settings("audiosep", tasks=[], encoders=[], seeds=None)
    assert (study["encoders"], study["poolings"], study["seeds"]) == (["audiosep"], ["mean"], 5)
    assert study["heads"] == ["linear", "three-layer"]
    assert {name.partition("?")[0] for name in study["tasks"]} == {
        "esc50", "icbhi", "urbansound8k", "nsynth", "librispeech", "speech_commands",
    }  # fmt: skip
    outdone = benchmark.settings("audiosep", encoders=["logmel"], seeds=2)
    assert outdone == study | {"encoders": ["logmel"], "seeds": 2}
    assert benchmark.settings("", tasks=["toy"]) == benchmark.DEFAULTS | {"tasks": ["toy"]}
    with pytest.raises(SpecError, match="there are: audiosep"):
        benchmark.settings("clap")
    with pytest.raises(SpecError, match="--tasks"):
        benchmark.settings("")
    with pytest.raises(SpecError, match="--seeds"):
        benchmark.settings("audiosep", seeds=0)


def test_a_preset_on_the_command_line(toy: Task, tmp_path: Path) -> None:
    words = ["benchmark", "--preset", "audiosep", "--tasks", TASK, "--encoders", ENCODER, "--seeds", "1"]
    assert main([*words, "--heads", "logreg", "--out", str(tmp_path)]) == 0
    (path,) = measured(tmp_path)
    assert benchmark.read(path)["learner"] == {"encoder": str(parse(ENCODER)), "pooling": "mean", "head": "logreg"}
    assert main(["benchmark", "--out", str(tmp_path)]) == 1
