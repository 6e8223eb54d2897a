"""Grids of tasks x encoders x poolings x heads x seeds: one small JSON file per cell, and only what is missing.

A cell's files are written whole when its last fold is tested; finished folds of a cell under way are kept, so a stop
costs the fold under way and no other. Several processes may share a folder: each cell is measured by the one that takes
its lock. What they need for that stands in the folder's own `.benchmark`.
"""

from __future__ import annotations

import itertools
import re
import shutil
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from soundmark import bench, encoders, heads
from soundmark.cells import Done, read, write_answers
from soundmark.encoders.pooling import Pooling
from soundmark.errors import SoundmarkError, SpecError
from soundmark.files import write_json, write_text
from soundmark.pace import Pace, Work, words
from soundmark.recipe import PROBE, Recipe
from soundmark.spec import candidates, lookup, parse_joined

PRESETS: dict[str, dict[str, Any]] = {
    "audiosep": {
        "tasks": [
            "esc50",
            "icbhi",
            "urbansound8k",
            "nsynth",
            "librispeech",
            "speech_commands",
            "speech_commands?version=1",
        ],
        "encoders": ["audiosep"],
        "poolings": ["mean"],
        "heads": ["linear", "three-layer"],
        "seeds": 5,
    },
}
"""Grids by name; options that are given outdo them. `audiosep` is the study of AudioSep's encoder on six data sets."""

DEFAULTS: dict[str, Any] = {"encoders": ["logmel"], "poolings": ["mean+std"], "heads": ["svm"], "seeds": 1}
"""What is measured where nothing else is asked for."""

_INNER = ".benchmark"  # folder of locks and of the folds of cells under way


@dataclass(frozen=True)
class Cell:
    """One cell of the grid and the file that holds, or will hold, its result."""

    recipe: Recipe
    path: Path

    @property
    def work(self) -> Work:
        """What `soundmark.pace` knows it by."""
        return Work(self.recipe.task, self.recipe.encoder, self.recipe.pooling, self.recipe.head)

    @property
    def error_path(self) -> Path:
        """The file that says why it could not be measured, if it could not."""
        return self.path.with_suffix(".error.txt")

    def __str__(self) -> str:
        return "  ".join([*self.work, f"seed {self.recipe.seed}"])


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: of the grid.
        result: the content of its file; None where it failed.
        error: why it did, in one line.
        fresh: whether it was measured now.
        left: seconds that the rest will take, told roughly; None where nothing is known yet.
        rest: how many cells are left.
    """

    cell: Cell
    result: dict[str, Any] | None
    error: str
    fresh: bool
    left: float | None
    rest: int


def cells(
    task_names: Sequence[str], encoder_names: Sequence[str], poolings: Sequence[str], head_names: Sequence[str],
    seeds: Iterable[int], folder: Path, *, allow_partial: bool = False,
) -> list[Cell]:  # fmt: skip
    """Every cell of a grid, ordered so that cells that share an encoding follow each other.

    Args:
        task_names, encoder_names, poolings, head_names: names in the grammar.
        seeds: of heads and inner splits.
        folder: of the cells.
        allow_partial: measure on incomplete data sets too. Those cells have files of their own, so that they never
            stand in for the whole data set.

    Raises:
        SpecError: for an encoder, pooling or head that does not exist. Whether data and weights are here is found out
            cell by cell.
    """
    _check_names(encoder_names, poolings, head_names)
    seeds = list(seeds)
    found = []
    for task, encoder, pooling, head, seed in itertools.product(task_names, encoder_names, poolings, head_names, seeds):
        recipe = Recipe(task=task, encoder=encoder, pooling=pooling, head=head, seed=seed)
        path = folder / _file_name(recipe)
        if allow_partial and not path.exists():
            recipe, path = replace(recipe, allow_partial=True), path.with_name(f"{path.stem}_partial.json")
        found.append(Cell(recipe, path))
    return list({cell.path: cell for cell in found}.values())


def run(grid: Sequence[Cell], *, known: Iterable[Done] = (), progress: bool = True) -> Iterator[Outcome]:
    """Measure what is missing, one cell after the other, and give every cell's result as it is done.

    A cell that another process is measuring is passed over, and looked at again at the end: it is taken from there when
    the other has finished, and measured if the other was stopped. One that fails is noted, here and in a file beside
    it, and the others go on.

    Args:
        grid: see `cells`.
        known: cells from other folders, which need not be measured again; those on a part of a data set count only
            where the grid allows that.
        progress: show bars on a terminal.
    """
    tally, on = Tally.of(grid, known), bench.Bench(progress=progress)
    taken: list[Cell] = []
    with tqdm(total=len(grid), unit="cell", disable=None if progress else True) as bar:
        for cell, wait in itertools.chain(((cell, False) for cell in grid), _again(taken)):
            bar.set_description(f"{'waiting for another process: ' if wait else ''}{cell.path.stem[:60]}")
            found = tally.there.get(cell.path)
            tried = Tried(found) if found is not None else attempt(cell, on, wait=wait)
            if tried is None:
                taken.append(cell)
                continue
            outcome = tally.outcome(cell, tried)
            bar.set_postfix_str(f"{words(outcome.left)} left" if outcome.rest else "")
            bar.update()
            yield outcome


@dataclass(frozen=True)
class Tried:
    """What came of a cell: its result, or the error in one line; and whether it was measured now."""

    result: dict[str, Any] | None
    error: str = ""
    fresh: bool = False


@dataclass
class Tally:
    """A grid while it is measured: what is left of it, and how long that will take.

    Attributes:
        there: results that other folders have, by the cell's path.
        rest: cells that nothing is known of yet.
        pace, encoded: what is known of the time they take.
    """

    there: dict[Path, dict[str, Any]]
    rest: dict[Path, Cell]
    pace: Pace
    encoded: list[Work]

    @classmethod
    def of(cls, grid: Sequence[Cell], known: Iterable[Done] = ()) -> Tally:
        """See `run`."""
        elsewhere = {_key(done.recipe): done for done in known}
        tally = cls({}, {cell.path: cell for cell in grid}, Pace(), [])
        for cell in grid:
            done = elsewhere.get(_key(cell.recipe))
            if done is not None and not cell.path.exists() and (cell.recipe.allow_partial or not done.part):
                tally.there[cell.path] = done.content
            _take_note(tally.pace, cell, tally.there.get(cell.path))
        tally.encoded = [cell.work for cell in grid if tally.measured(cell)]
        return tally

    def measured(self, cell: Cell) -> bool:
        """Whether a cell's result is here or elsewhere."""
        return cell.path.exists() or cell.path in self.there

    def outcome(self, cell: Cell, tried: Tried) -> Outcome:
        """Take a cell off the list."""
        del self.rest[cell.path]
        if tried.fresh and tried.result is not None:
            _take_note(self.pace, cell, tried.result)
            self.encoded.append(cell.work)
        missing = [each.work for each in self.rest.values() if not self.measured(each)]
        left = self.pace.left(missing, self.encoded)
        return Outcome(cell, tried.result, tried.error, tried.fresh, left, len(missing))


def attempt(cell: Cell, on: bench.Bench, *, wait: bool = False) -> Tried | None:
    """Read a cell, or measure it; None, without `wait`, if another process is at it. Whatever goes wrong is noted."""
    fresh = False
    try:
        if not cell.path.exists():
            with _alone(cell, wait=wait) as mine:
                if not mine:
                    return None
                if not cell.path.exists():  # it may be the other's work by now
                    fresh = True
                    _measure_into(cell, on)
        return Tried(read(cell.path), fresh=fresh)
    except Exception as caught:  # whatever it is, a night's other cells should not be lost for it
        return Tried(None, noted(cell, caught), fresh)


def _again(taken: list[Cell]) -> Iterator[tuple[Cell, bool]]:
    """What was passed over: asked for once everything else is done."""
    while taken:
        yield taken.pop(0), True


# --- One cell --------------------------------------------------------------------------------------------------------


def _measure_into(cell: Cell, on: bench.Bench) -> None:
    folds = inner(cell) / "folds" / cell.path.stem
    content, said = bench.measure(cell.recipe, on=on, folder=folds)
    write_answers(cell.path, said)
    write_json(cell.path, content)  # last: a cell that has its JSON file is complete
    cell.error_path.unlink(missing_ok=True)
    shutil.rmtree(folds, ignore_errors=True)


def noted(cell: Cell, error: Exception) -> str:
    """What went wrong, in a line; with all that helps to find a bug of ours in the file beside the cell."""
    ours = not isinstance(error, SoundmarkError | OSError)
    text = f"{type(error).__name__}: {error}" if ours else str(error)
    write_text(cell.error_path, "".join(traceback.format_exception(error)) if ours else text + "\n")
    return " ".join(text.split())


@contextmanager
def _alone(cell: Cell, *, wait: bool) -> Iterator[bool]:
    """Take a cell's lock; False if another process has it. The system frees it when its holder dies."""
    import filelock

    place = inner(cell) / "locks" / f"{cell.path.stem}.lock"
    ignored = inner(cell) / ".gitignore"
    if not ignored.exists():
        write_text(ignored, "*\n")
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def inner(cell: Cell) -> Path:
    """The folder of what is needed while cells are measured."""
    return cell.path.parent / _INNER


def _take_note(pace: Pace, cell: Cell, content: dict[str, Any] | None) -> None:
    """What a measured cell took; a file that is no cell is told of when its turn comes."""
    try:
        content = read(cell.path) if content is None and cell.path.exists() else content
    except SoundmarkError:
        return
    if content is not None:
        clips = content.get("clips") or sum(fold["clips"] for fold in content["folds"])
        taken = content.get("seconds", {}).get("encode", 0.0)
        pace.saw(cell.work, clips=clips, seconds=content.get("wall_seconds", taken), encoding=taken)


def _check_names(encoder_names: Sequence[str], poolings: Sequence[str], head_names: Sequence[str]) -> None:
    for encoder in (spec for text in encoder_names for each in candidates(text) for spec in parse_joined(each)):
        lookup("encoder", encoder.name, encoders.ENCODERS | encoders.ADAPTERS)  # loading it may need weights
    for pooling in (each for text in poolings for each in candidates(text)):
        Pooling(pooling)
    for head in (each for text in head_names for each in candidates(text)):
        heads.build(head)


def settings(preset: str, **given: Any) -> dict[str, Any]:
    """The tasks, encoders, poolings, heads and seeds to measure.

    Args:
        preset: one of `PRESETS`, or "".
        given: what was asked for, by those names; it outdoes the preset, and that the defaults. Empty is not asked.

    Raises:
        SpecError: if there is no such preset, no task is named, or there are no seeds.
    """
    chosen = DEFAULTS | (lookup("preset", preset, PRESETS) if preset else {})
    chosen |= {name: value for name, value in given.items() if value not in (None, [])}
    if not chosen.get("tasks"):
        raise SpecError(f"name the tasks to measure on with --tasks, or a preset: {', '.join(PRESETS)}")
    if chosen["seeds"] < 1:
        raise SpecError(f"--seeds should be 1 or more, not {chosen['seeds']}")
    return chosen


def _key(recipe: Recipe) -> tuple[Any, ...]:
    """What two recipes of one cell have in common, whatever the order of their settings."""
    return recipe.task, *(tuple(candidates(getattr(recipe, name))) for name in PROBE), recipe.seed, recipe.inner_folds


def _file_name(recipe: Recipe) -> str:
    text = "_".join([recipe.task, recipe.encoder, recipe.pooling, recipe.head, f"s{recipe.seed}"])
    return re.sub(r"[^A-Za-z0-9.=+_-]", "-", text) + ".json"


__all__ = [
    "DEFAULTS",
    "PRESETS",
    "Cell",
    "Outcome",
    "Tally",
    "Tried",
    "attempt",
    "cells",
    "inner",
    "noted",
    "read",
    "run",
    "settings",
]
