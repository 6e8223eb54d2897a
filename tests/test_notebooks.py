"""The notebooks run from top to bottom, and what is stored of them is what such a run gives."""

from __future__ import annotations

import base64
import importlib
import io
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import soundmark

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 1_500_000
WANTED = "SKIPPED FOR WANT OF NBCLIENT: the notebooks are not run; pip install 'soundmark[notebooks]'"


@pytest.fixture(scope="module")
def tool() -> Any:
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name, reason=WANTED)
    sys.path.insert(0, str(ROOT / "tools"))
    return importlib.import_module("notebook")


def pictures(notebook: Any) -> Iterator[Image.Image]:
    for output in outputs(notebook):
        if png := output.get("data", {}).get("image/png"):
            yield Image.open(io.BytesIO(base64.b64decode(png)))


def outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def text(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook) if output.output_type == "stream")


def kinds(notebook: Any) -> list[list[str]]:
    """What every cell puts out: the kinds of it, and not the numbers, which differ from machine to machine."""
    return [
        [kind for output in cell.get("outputs", []) for kind in sorted(output.get("data", ["text"]))]
        for cell in notebook.cells
    ]


@pytest.mark.slow
def test_the_tour_runs_and_learns(tool: Any, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = str(Path(soundmark.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("SOUNDMARK_DATA", "")
    done = tool.executed(ROOT / "notebooks" / "tour.ipynb", tmp_path)
    assert [output.text for output in outputs(done) if output.get("name") == "stderr"] == []
    said = text(done)
    accuracy, low, high = map(float, re.findall(r"^accuracy +([\d.]+) +\(([\d.]+) to ([\d.]+)\)$", said, re.M)[0])
    assert "chance    0.100" in said
    assert low <= accuracy <= high
    assert low > 0.2, "the network has learnt nothing"
    trust = float(re.findall(r"^trustworthiness ([\d.]+)", said, re.M)[0])
    assert trust > 0.7
    assert all(picture.width > 300 for picture in pictures(done))
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"tour/gallery/gallery.html", "tour/run/model.onnx", "tour/figures/loss.svg", "tour/map/map.csv"} <= written
    assert {path.parts[0] for path in map(Path, written)} == {"tour"}
    stored = tool.nbformat.read(ROOT / "notebooks" / "tour.ipynb", as_version=4)
    assert len(list(pictures(stored))) == len(list(pictures(done)))
    if accuracy < 1:  # without a mistake there is no mistake to show
        assert kinds(stored) == kinds(done), "stale: run tools/notebook.py"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_was_run_in_order_and_names_no_machine(tool: Any, path: Path) -> None:
    content = path.read_text("utf-8")
    assert len(content) < MOST_BYTES
    notebook = tool.nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert len(list(pictures(notebook))) >= 8
    plain = re.sub(r'"(image/png|text/html)": (\[[^]]*\]|"[^"]*")', "", content)
    assert platform.node() not in plain or len(platform.node()) < 5
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/|[A-Z]:\\\\|site-packages", plain)


def test_a_cleaned_notebook_says_nothing_of_the_run(tool: Any) -> None:
    new = tool.nbformat.v4
    cell = new.new_code_cell("1", metadata={"execution": {"iopub.status.busy": "2026-01-01T00:00:00Z"}})
    made = tool.cleaned(
        new.new_notebook(cells=[cell], metadata={"language_info": {"name": "python", "version": "3.99"}})
    )
    written = tool.nbformat.writes(made)
    assert "2026" not in written
    assert "3.99" not in written
    assert made.cells[0].id == "cell-00"


def test_a_cell_that_fails_is_named(tool: Any, tmp_path: Path) -> None:
    from nbclient.exceptions import CellExecutionError

    new = tool.nbformat.v4
    tool.nbformat.write(new.new_notebook(cells=[new.new_code_cell("1 / 0")]), tmp_path / "bad.ipynb")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        tool.executed(tmp_path / "bad.ipynb", tmp_path)
