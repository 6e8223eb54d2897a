"""Grids of tasks x encoders x poolings x heads x seeds: one small JSON file per cell, and only what is missing."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from soundmark import protocol, results, tasks
from soundmark.encoders import weights
from soundmark.errors import ResultsError
from soundmark.files import write_json
from soundmark.recipe import Recipe
from soundmark.spec import candidates
from soundmark.tuned import candidates_of

# What a cell keeps of a run's summary: enough for every table, small enough to commit by the hundred.
KEPT = ("task", "protocol", "learner", "seed", "headline", "metrics", "folds", "alarm", "notes", "bad_clips", "seconds")


@dataclass(frozen=True)
class Cell:
    """One cell of the grid and the file that holds, or will hold, its result."""

    recipe: Recipe
    path: Path


def cells(
    task_names: Sequence[str], encoders: Sequence[str], poolings: Sequence[str], heads: Sequence[str],
    seeds: Sequence[int], folder: Path,
) -> list[Cell]:  # fmt: skip
    """Every cell of a grid, ordered so that cells that share an encoding follow each other."""
    return [
        Cell(recipe, folder / _file_name(recipe))
        for task, encoder, pooling, head, seed in itertools.product(task_names, encoders, poolings, heads, seeds)
        for recipe in [Recipe(task=task, encoder=encoder, pooling=pooling, head=head, seed=seed)]
    ]


def run(grid: Sequence[Cell], *, progress: bool = True) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Measure what is missing, one cell after the other, and give every cell's result as it is done.

    A cell's file is written whole when its last fold is tested, so a stop costs the cell under way and no other.
    """
    bar = tqdm(grid, unit="cell", disable=None if progress else True)
    for cell in bar:
        bar.set_description(cell.path.stem[:60])
        if not cell.path.exists():
            write_json(cell.path, measure(cell.recipe))
        yield cell, read(cell.path)


def measure(recipe: Recipe) -> dict[str, Any]:
    """Measure one cell by its task's protocol; no model file, no report."""
    started = time.perf_counter()
    task = tasks.load(recipe.task, allow_partial=recipe.allow_partial)
    learners = candidates_of(recipe)
    summary = protocol.evaluate(
        task, learners, seed=recipe.seed, inner_folds=recipe.inner_folds, strict=recipe.strict, progress=False
    ).summary
    return {
        "command": recipe.command(),
        **({"pretrained": weighed} if (weighed := weights.provenance(candidates(recipe.encoder))) else {}),
        **{key: summary[key] for key in KEPT if key in summary},
        **({"selection": _brief(summary["selection"])} if "selection" in summary else {}),
        "wall_seconds": round(time.perf_counter() - started, 2),
        "environment": results.environment(),
    }


def read(path: Path) -> dict[str, Any]:
    """A cell's result.

    Raises:
        ResultsError: if the file is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["headline"]["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} is not a result of a benchmark ({error}); delete it and run again") from None
    return dict(content)


def _brief(selection: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"fold": each["fold"], "chosen": each["chosen"], "candidates": len(each["candidates"])} for each in selection
    ]


def _file_name(recipe: Recipe) -> str:
    text = "_".join([recipe.task, recipe.encoder, recipe.pooling, recipe.head, f"s{recipe.seed}"])
    return re.sub(r"[^A-Za-z0-9.=+_-]", "-", text) + ".json"
