"""Run the notebooks anew, in a folder of their own, and keep them with their outputs.

    tools/notebook.py                         every notebook under notebooks/
    tools/notebook.py notebooks/tour.ipynb    this one

What would differ from run to run without meaning anything, or name the machine, is left out of the file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from soundmark.files import write_text

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}  # fmt: skip
SECONDS = 600  # that a cell may take


def executed(path: Path, folder: Path) -> Any:
    """The notebook after a run of it from top to bottom in this folder, clean of the machine that ran it.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails; it says which, and how.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return cleaned(notebook)


def cleaned(notebook: Any) -> Any:
    """The notebook without the times, counters' gaps, ids and versions that a run leaves in it."""
    notebook.metadata = nbformat.from_dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict({})
        cell.id = f"cell-{number:02d}"
    return notebook


def main() -> None:
    """Run and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("notebooks", nargs="*", type=Path, metavar="FILE", help="(default: all under notebooks/)")
    for path in options.parse_args().notebooks or sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        write_text(path, nbformat.writes(notebook) + "\n")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
