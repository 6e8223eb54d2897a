"""Encode every clip of a task and write the vectors: a table (Parquet or CSV, by the file's ending), or a folder.

A folder (`-o DIR/`) is filled with Parquet partitions, one after the other: memory does not grow with the task, and a
stopped command goes on where it was. A clip that cannot be read is a row with its error there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from soundmark.cli.options import add_engine, on_ray, with_engine

if TYPE_CHECKING:
    from soundmark.tasks.base import Task


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("embed", help="encode a task into a table of vectors", description=__doc__)
    options.add_argument("task", help="task, task:view, or a folder or manifest of your own")
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean", help="statistics over time (default: mean)")
    options.add_argument("--frames", action="store_true", help="one row per clip and moment instead of one per clip")
    options.add_argument("-o", "--out", metavar="FILE", required=True, help="x.parquet or x.csv, or a folder: x/")
    add_engine(options, places=True)
    options.add_argument("--workers", type=int, help="threads, or processes of Ray (default: one per core)")
    options.add_argument("--part-clips", type=int, metavar="N", help="clips in a partition of a folder (default: 256)")
    options.add_argument("--strict", action="store_true", help="stop at a clip that cannot be read")
    options.add_argument("--allow-partial", action="store_true", help="encode what is there of an incomplete data set")
    options.add_argument("--no-cache", action="store_true", help="neither read nor write the cache of embeddings")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import encoders, tables, tasks
    from soundmark.errors import SpecError

    folder = _is_folder(args.out)
    if args.part_clips is not None and not folder:
        raise SpecError(f"--part-clips is for folders, and {args.out} is a file: end its name in / for a folder")
    if on_ray(args) and not folder:
        raise SpecError(f"--engine ray writes a folder of partitions: end its name in /, as in -o {args.out}/")
    if args.frames and folder:
        raise SpecError(f"--frames writes one table: name a file that ends in .parquet or .csv, not {args.out}")
    task = tasks.load(args.task, allow_partial=args.allow_partial)
    if folder:
        return _partitions(task, args)
    encoder = encoders.load(with_engine(args.encoder, args))
    if args.frames:
        rows, bad = tables.write_frames(task, encoder, args.out, workers=args.workers, strict=args.strict)
    else:
        rows, bad = tables.write_vectors(
            task, encoder, args.pooling, args.out, workers=args.workers, strict=args.strict, cache=not args.no_cache
        )
    for clip, error in bad.items():
        print(f"soundmark: left out {clip.key}: {error}", file=sys.stderr)
    print(f"{args.out}: {rows} rows, {len(bad)} clips left out")
    return 0


def _is_folder(out: str) -> bool:
    return out.endswith(("/", os.sep)) or Path(out).is_dir()


def _partitions(task: Task, args: argparse.Namespace) -> int:
    from soundmark import cluster, partitions

    written = partitions.write(
        task,
        with_engine(args.encoder, args),
        args.pooling,
        args.out,
        engine=cluster.engine(args.address or "", args.workers) if on_ray(args) else None,
        workers=args.workers,
        part_clips=partitions.PART_CLIPS if args.part_clips is None else args.part_clips,
        strict=args.strict,
    )
    for clip, error in written.bad.items():
        print(f"soundmark: no vector of {clip}: {error}", file=sys.stderr)
    print(
        f"{args.out}: {written.rows} rows in {written.parts} partitions, {written.made} of them made now; "
        f"{len(written.bad)} clips have an error in place of a vector"
    )
    return 0
