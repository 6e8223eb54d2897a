"""Measure a grid of tasks, encoders, poolings, heads and seeds; only what is missing, one JSON file per cell."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from soundmark.cli.options import add_engine, on_ray, with_engine

if TYPE_CHECKING:
    from soundmark.benchmark import Cell, Outcome
    from soundmark.cells import Done

EXAMPLES = """examples:
  soundmark benchmark --tasks esc50 --encoders logmel mfcc --poolings mean mean+std --heads svm forest
  soundmark benchmark --preset audiosep --out results/audiosep
  soundmark benchmark --preset audiosep --encoders logmel --seeds 1 --out results/audiosep

A stopped benchmark goes on where it was, and several may run on one folder. The presets: `audiosep`, two probes on
AudioSep's encoder, mean-pooled, with five seeds on six data sets (Speech Commands in both versions). At the end the
folder's leaderboard is written; see `soundmark leaderboard --help`.
"""

SHOWN = 10  # cells that are listed for one trouble


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "benchmark", help="measure a grid of learners, only what is missing", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("--preset", metavar="NAME", default="", help="a grid by name; options outdo it")
    options.add_argument("--tasks", nargs="+", default=[], metavar="TASK")
    options.add_argument("--encoders", nargs="+", default=[], metavar="E", help="(default: logmel)")
    add_engine(options, places=True)
    options.add_argument("--workers", type=int, metavar="N", help="processes of Ray (default: one per core)")
    options.add_argument("--poolings", nargs="+", default=[], metavar="P", help="(default: mean+std)")
    options.add_argument("--heads", nargs="+", default=[], metavar="H", help="(default: svm)")
    options.add_argument("--seeds", type=int, metavar="N", help="number of seeds, from 0 (default: 1)")
    options.add_argument("--allow-partial", action="store_true", help="measure on incomplete data sets, apart")
    options.add_argument(
        "--merge", nargs="+", default=[], metavar="DIR", help="folders of cells that need not be measured again"
    )
    options.add_argument(
        "-o", "--out", default="results/grid", metavar="DIR", help="folder of the cells (default: results/grid)"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from tqdm import tqdm

    from soundmark import benchmark, cells, leaderboard

    given = {name: getattr(args, name) for name in ("tasks", "encoders", "poolings", "heads", "seeds")}
    asked = benchmark.settings(args.preset, **given)
    names = [with_engine(name, args) for name in asked["encoders"]]
    folder = Path(args.out)
    grid = benchmark.cells(
        asked["tasks"], names, asked["poolings"], asked["heads"], range(asked["seeds"]), folder,
        allow_partial=args.allow_partial,
    )  # fmt: skip
    known = cells.load(args.merge)
    if any(cell.path.exists() for cell in grid):
        cells.load([folder, *args.merge])  # that they contradict each other is an error now, not after a night
    failed: list[Outcome] = []
    for outcome in _outcomes(grid, known, args):
        if outcome.error:
            failed.append(outcome)
        tqdm.write(_line(outcome), file=sys.stderr if outcome.error else sys.stdout)
        sys.stdout.flush()
    if len(failed) < len(grid):
        print(leaderboard.write([folder, *args.merge] if any(folder.glob("*.json")) else args.merge, folder))
    for line in _failures(failed, len(grid)):
        print(line, file=sys.stderr)
    return 1 if failed else 0


def _outcomes(grid: list[Cell], known: list[Done], args: argparse.Namespace) -> Iterator[Outcome]:
    from soundmark import benchmark, farm
    from soundmark.errors import SpecError

    if on_ray(args):
        return farm.run(grid, known=known, address=args.address or "", workers=args.workers)
    if args.workers is not None:
        raise SpecError("--workers are processes of Ray: add --engine ray")
    return benchmark.run(grid, known=known)


def _line(outcome: Outcome) -> str:
    from soundmark.pace import words

    if outcome.result is None:
        return f"failed: {outcome.cell}: {outcome.error}"
    head = outcome.result["headline"]
    left = f"  [{outcome.rest} left, {words(outcome.left)}]" if outcome.fresh and outcome.rest else ""
    return f"{head['value']:7.2%} ({head['low']:.2%} to {head['high']:.2%})  {outcome.cell}{left}"


def _failures(failed: list[Outcome], total: int) -> list[str]:
    """What went wrong, each trouble once with the cells it befell."""
    if not failed:
        return []
    by_error: dict[str, list[Cell]] = defaultdict(list)
    for outcome in failed:
        by_error[outcome.error].append(outcome.cell)
    lines = [f"soundmark: {len(failed)} of {total} cells could not be measured; run again when this is mended:"]
    for error, those in by_error.items():
        lines += [f"  {error}", *(f"    {cell}" for cell in those[:SHOWN])]
        lines += [f"    and {len(those) - SHOWN} more"] if len(those) > SHOWN else []
    return lines
