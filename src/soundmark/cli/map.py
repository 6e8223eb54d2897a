"""Draw a map of a task's clips, as a table, a picture and a page in which they can be heard."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

EXAMPLES = """examples:
  soundmark map toy -o maps/toy
  soundmark map esc50 --encoder mn04 --pooling mean --run runs/esc50 -o maps/esc50      with a run's mistakes
  soundmark map toy --method pca --colour fold --no-audio -o maps/pca

Open map.html in a browser; it needs no network and no other file. A map shows what an encoder takes to be alike. It has
seen every clip, so it measures nothing, and only near neighbours on it mean anything.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "map", help="lay a task's clips out in a plane, to look at and listen to", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument("task", help="task, task:view, or a folder or manifest of your own")
    options.add_argument("--encoder", metavar="E", default="logmel", help="encoder in the grammar (default: logmel)")
    options.add_argument("--pooling", metavar="P", default="mean+std", help="statistics over time (default: mean+std)")
    options.add_argument(
        "--method", choices=("tsne", "umap", "pca"), default="tsne",
        help="how many dimensions become two (default: tsne); umap needs the extra analysis",
    )  # fmt: skip
    options.add_argument("--run", metavar="RUN", help="folder of a finished run, whose mistakes are marked")
    options.add_argument(
        "--colour", choices=("class", "fold", "error", "group"), default="class",
        help="what colours stand for (default: class); error needs --run",
    )  # fmt: skip
    options.add_argument("--perplexity", type=float, metavar="N", help="of tsne: how many are near (default: 30)")
    options.add_argument("--neighbours", type=int, metavar="N", help="of umap: how many are near (default: 15)")
    options.add_argument("--seed", type=int, default=0, help="seed of the layout (default: 0)")
    options.add_argument("--allow-partial", action="store_true", help="map what is there of an incomplete data set")
    options.add_argument(
        "--no-audio", action="store_true",
        help="leave recordings out of the page, as their licence may ask before you publish it",
    )  # fmt: skip
    options.add_argument(
        "--audio-mb", type=float, default=24.0, metavar="MB", help="most megabytes of sound in the page (default: 24)"
    )
    options.add_argument("-o", "--out", metavar="DIR", required=True, help="folder of the files")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import tasks
    from soundmark.analysis import maps
    from soundmark.errors import SpecError
    from soundmark.results import Run

    if not 0 < args.audio_mb <= 1000:
        raise SpecError(f"--audio-mb should be above 0 and up to 1000, not {args.audio_mb:g}; or give --no-audio")
    finished = Run.read(args.run) if args.run else None
    task = tasks.load(args.task, allow_partial=args.allow_partial)
    found = maps.write(
        task, Path(args.out), encoder=args.encoder, pooling=args.pooling, method=args.method, run=finished,
        colour=args.colour, perplexity=args.perplexity, neighbours=args.neighbours, seed=args.seed,
        sounds=not args.no_audio, sound_bytes=round(args.audio_mb * 2**20), command=command(args),
    )  # fmt: skip
    for bad in found["left_out"]:
        print(f"soundmark: left out {bad['clip']}: {bad['error']}", file=sys.stderr)
    print(f"{maps.heading(task, found)}: {found['clips']} clips")
    print(maps.trusted(found))
    for name in (maps.TABLE, maps.PICTURE, maps.PAGE, maps.RESULT):
        print(Path(args.out) / name)
    return 0


def command(args: argparse.Namespace) -> str:
    """The command line that draws the same again."""
    words = ["soundmark", "map", args.task, "--encoder", args.encoder, "--pooling", args.pooling]
    words += ["--method", args.method] + (["--run", args.run] if args.run else []) + ["--colour", args.colour]
    words += ["--perplexity", f"{args.perplexity:g}"] if args.perplexity is not None else []
    words += ["--neighbours", str(args.neighbours)] if args.neighbours is not None else []
    words += ["--seed", str(args.seed)] + (["--allow-partial"] if args.allow_partial else [])
    words += ["--no-audio"] if args.no_audio else ["--audio-mb", f"{args.audio_mb:g}"]
    return shlex.join([*words, "-o", Path(args.out).as_posix()])
