"""Measure a grid of tasks, encoders, poolings, heads and seeds; only what is missing, one JSON file per cell."""

from __future__ import annotations

import argparse
from pathlib import Path

from soundmark.cli.options import add_engine, with_engine


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "benchmark", help="measure a grid of learners, only what is missing", description=__doc__
    )
    options.add_argument("--tasks", nargs="+", required=True, metavar="TASK")
    options.add_argument("--encoders", nargs="+", default=["logmel"], metavar="E")
    add_engine(options)
    options.add_argument("--poolings", nargs="+", default=["mean+std"], metavar="P")
    options.add_argument("--heads", nargs="+", default=["svm"], metavar="H")
    options.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds, from 0 (default: 1)")
    options.add_argument(
        "--out", default="results/grid", metavar="DIR", help="folder of the cells (default: results/grid)"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import benchmark
    from soundmark.errors import SpecError

    if args.seeds < 1:
        raise SpecError(f"--seeds should be 1 or more, not {args.seeds}")
    names = [with_engine(name, args) for name in args.encoders]
    grid = benchmark.cells(args.tasks, names, args.poolings, args.heads, range(args.seeds), Path(args.out))
    for cell, result in benchmark.run(grid):
        head, recipe = result["headline"], cell.recipe
        print(
            f"{head['value']:7.2%} ({head['low']:.2%} to {head['high']:.2%})  "
            f"{recipe.task}  {recipe.encoder}  {recipe.pooling}  {recipe.head}  seed {recipe.seed}",
            flush=True,
        )
    return 0
