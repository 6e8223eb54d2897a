"""Encode every clip of a task and write the vectors as a table (Parquet or CSV, by the file's ending)."""

from __future__ import annotations

import argparse
import sys

from soundmark.cli.options import add_engine, with_engine


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("embed", help="encode a task into a table of vectors", description=__doc__)
    options.add_argument("task", help="task, task:view, or a folder or manifest of your own")
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean", help="statistics over time (default: mean)")
    options.add_argument("--frames", action="store_true", help="one row per clip and moment instead of one per clip")
    options.add_argument("-o", "--out", metavar="FILE", required=True, help="x.parquet or x.csv")
    add_engine(options)
    options.add_argument("--workers", type=int, help="threads (default: one per core)")
    options.add_argument("--strict", action="store_true", help="stop at a clip that cannot be read")
    options.add_argument("--allow-partial", action="store_true", help="encode what is there of an incomplete data set")
    options.add_argument("--no-cache", action="store_true", help="neither read nor write the cache of embeddings")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import encoders, tables, tasks

    task = tasks.load(args.task, allow_partial=args.allow_partial)
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
