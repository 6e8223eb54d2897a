"""A grid's cells measured on Ray, several at a time; their files are those of `soundmark.benchmark`.

A task is encoded once by each encoder, for all poolings that cells ask for, into a folder of partitions in the grid's
own `.benchmark`. Then every cell is a task of Ray with one core: it reads its vectors from there, and measures its
folds one after the other, which gives the numbers that the local engine gives. On a cluster the grid's folder must be
on a disk that all machines share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from soundmark import bench, benchmark, cluster, partitions, tasks
from soundmark.benchmark import Cell, Outcome, Tally, Tried
from soundmark.cells import Done
from soundmark.encoders.pooling import Pooling
from soundmark.errors import SoundmarkError
from soundmark.files import data_digest
from soundmark.pace import words
from soundmark.spec import candidates

Vectors = dict[tuple[str, str], Path]
_RETRIES = 3  # of a cell whose process dies; its finished folds are kept


def run(
    grid: Sequence[Cell],
    *,
    known: Iterable[Done] = (),
    progress: bool = True,
    address: str = "",
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Measure what is missing, and give every cell's result as it is done, in whatever sequence.

    Args:
        grid, known, progress: see `soundmark.benchmark.run`.
        address, workers: see `soundmark.cluster.engine`.

    Raises:
        MissingExtra: if Ray is not installed.
        SoundmarkError: if it cannot be started or found.
    """
    tally = Tally.of(grid, known)
    missing = [cell for cell in grid if not tally.measured(cell)]
    with tqdm(total=len(grid), unit="cell", disable=None if progress else True) as bar:
        for cell, tried in _tried(grid, missing, tally, address, workers, progress):
            outcome = tally.outcome(cell, tried)
            bar.set_postfix_str(f"{words(outcome.left)} left" if outcome.rest else "")
            bar.update()
            yield outcome


def _tried(
    grid: Sequence[Cell], missing: Sequence[Cell], tally: Tally, address: str, workers: int | None, progress: bool
) -> Iterator[tuple[Cell, Tried]]:
    open_cells = set(missing)
    for cell in grid:
        if cell not in open_cells:
            found = tally.there.get(cell.path)
            there = Tried(found) if found is not None else benchmark.attempt(cell, bench.Bench())
            assert there is not None  # a cell that has its file is read, not measured
            yield cell, there
    if not missing:
        return
    with cluster.connected(address, workers) as (ray, count):
        vectors, failed = _encoded(missing, address, workers, progress)
        for cell, error in failed.items():
            yield cell, Tried(None, benchmark.noted(cell, error))
        todo = [cell for cell in missing if cell not in failed]
        yield from _measured(ray, count, todo, vectors)


def _encoded(
    missing: Sequence[Cell], address: str, workers: int | None, progress: bool
) -> tuple[Vectors, dict[Cell, SoundmarkError]]:
    """Folders of the vectors that cells need, made where they are not there; and the cells whose cannot be made."""
    needed: dict[tuple[str, bool, str], list[str]] = {}
    for cell in missing:
        for encoder in candidates(cell.recipe.encoder):
            names = needed.setdefault((cell.recipe.task, cell.recipe.allow_partial, encoder), [])
            names += [name for text in candidates(cell.recipe.pooling) for name in Pooling(text).names]
    loaded: dict[tuple[str, bool], tasks.Task] = {}
    vectors: Vectors = {}
    failed: dict[Cell, SoundmarkError] = {}
    for (task, partial, encoder), names in needed.items():
        concerned = [
            cell
            for cell in missing
            if (cell.recipe.task, cell.recipe.allow_partial) == (task, partial)
            and encoder in candidates(cell.recipe.encoder)
        ]
        pooling = "+".join(sorted(set(names)))
        folder = benchmark.inner(concerned[0]) / "vectors" / data_digest([task, partial, encoder, pooling])
        try:
            if (task, partial) not in loaded:
                loaded[task, partial] = tasks.load(task, allow_partial=partial)
            partitions.write(
                loaded[task, partial], encoder, pooling, folder,
                engine=cluster.engine(address, workers), progress=progress,
            )  # fmt: skip
        except SoundmarkError as error:
            failed |= dict.fromkeys(concerned, error)
        vectors[task, encoder] = folder
    return vectors, failed


def _measured(ray: Any, count: int, todo: Sequence[Cell], vectors: Vectors) -> Iterator[tuple[Cell, Tried]]:
    """Cells as they are done, with as many under way as there are workers."""
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(_cell)
    shared = ray.put(vectors)
    waiting = [(cell, False) for cell in todo]
    under_way: dict[Any, Cell] = {}
    while waiting or under_way:
        while waiting and len(under_way) < count:
            cell, wait = waiting.pop(0)
            under_way[remote.remote(cell, shared, wait, cluster.here())] = cell
        (done,), _ = ray.wait(list(under_way), num_returns=1)
        cell = under_way.pop(done)
        try:
            tried = ray.get(done)
        except ray.exceptions.RayError as error:
            trouble = SoundmarkError(f"Ray gave up on this cell ({cluster.last_line(error)}); run again to measure it")
            tried = Tried(None, benchmark.noted(cell, trouble), True)
        if tried is None:  # another process has it: asked for again once everything else is done
            waiting.append((cell, True))
        else:
            yield cell, tried


_kept: dict[str, bench.Bench] = {}
"""Of a worker: the task and the vectors of the cell before, for the next one."""


def _cell(cell: Cell, vectors: Vectors, wait: bool, driver: cluster.Here) -> Tried | None:
    """Measure a cell, in a process of Ray."""
    cluster.settle(driver)
    on = _kept.setdefault("bench", bench.Bench(side_by_side=1))
    on.vectors = vectors
    return benchmark.attempt(cell, on, wait=wait)
