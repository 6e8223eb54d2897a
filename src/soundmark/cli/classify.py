"""Recognise sounds: the labels of recordings, best first, and of long ones over time."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundmark.cli.options import MODEL_HELP, classifier_asked, count, printable, seconds, share

if TYPE_CHECKING:
    from soundmark.model import Classifier

BAR = 20  # characters
NAME = 48  # characters of a path in a table

EXAMPLES = """examples:
  soundmark classify dog.wav                             ESC-50's 50 classes, by the model that comes along
  soundmark classify dog.wav --model runs/toy            by one of your own
  soundmark classify recordings/ --top 3
  soundmark classify street.flac --window 5 --hop 2.5    over time
  soundmark classify street.flac --model mn04            AudioSet's 527 tags, by published weights
  soundmark classify humming.wav --unknown               none of the classes, perhaps
  soundmark classify siren.mp3 --view danger             50 classes summed into danger and safe
  ffmpeg -i film.mkv -f wav - | soundmark classify -

With --json there is one JSON object per recording and line: path, duration, labels (label and score, best first), for
recordings of several windows also windows (start, end, labels); or path and error. The exit code is 1 if a recording
could not be read; the others are classified all the same.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "classify", help="recognise sounds with a model file", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument(
        "sources", nargs="+", metavar="FILE|FOLDER|-", help="recordings; - reads one from standard input"
    )
    options.add_argument("--model", metavar="M", help=MODEL_HELP)
    options.add_argument("--top", metavar="K", type=count, default=5, help="labels per recording (default: 5)")
    options.add_argument("--view", metavar="V", help="sum into the classes of a view: a name, or a .toml file of yours")
    options.add_argument("--threshold", metavar="P", type=share, default=0.0, help="leave out labels scored below")
    options.add_argument(
        "--unknown", action="store_true", help="answer `unknown` first where no label scores as known sounds do"
    )
    options.add_argument("--window", metavar="S", type=seconds, help="cut every recording into windows of S seconds")
    options.add_argument("--hop", metavar="S", type=seconds, help="seconds between windows (default: end to end)")
    options.add_argument("--json", action="store_true", help="print a JSON object per recording and line")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark.errors import SoundmarkError

    printable()
    classifier = classifier_asked(args)
    if args.unknown:
        _ = classifier.unknown_below  # a model without a threshold is an error now, not at every recording
    sources = [name for source in args.sources for name in recordings(source)]
    width = min(NAME, max(map(len, sources), default=0))
    failed = 0
    for name in sources:
        try:
            said = _classify(classifier, name, args)
        except SoundmarkError as error:
            failed += 1
            print(f"soundmark: {error}", file=sys.stderr)
            if args.json:
                print(json.dumps({"path": name, "error": str(error)}, ensure_ascii=False), flush=True)
            continue
        if args.json:
            print(json.dumps(said, ensure_ascii=False), flush=True)
        elif len(sources) == 1:
            print("\n".join(_page(said)))
        else:
            print("\n".join(_rows(said, width)), flush=True)
    return 1 if failed else 0


def recordings(source: str) -> Iterator[str]:
    """The source itself, or every recording beneath a folder, sorted."""
    if source == "-" or not Path(source).is_dir():
        yield source
        return
    from soundmark.audio import AUDIO_SUFFIXES

    found = [
        str(path)
        for path in sorted(Path(source).rglob("*"))
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    yield from found or [source]  # reading the folder itself then says what is wrong


def _classify(classifier: Classifier, name: str, args: argparse.Namespace) -> dict[str, Any]:
    from soundmark.errors import AudioError

    if name == "-" and sys.stdin.isatty():
        raise AudioError("standard input is a terminal: pipe a recording into it, or name a file")
    if name != "-" and Path(name).is_dir():
        raise AudioError(f"there are no recordings in the folder {name}")
    source = sys.stdin.buffer if name == "-" else name
    windows, rows, end = [], [], 0.0
    for start, end, probabilities in classifier.windows(source, args.window, args.hop):
        rows.append(probabilities)
        windows.append(
            {"start": round(start, 3), "end": round(end, 3), "labels": _labels(classifier, probabilities, args)}
        )
    said = {"path": name, "duration": round(end, 3), "labels": _labels(classifier, classifier.combine(rows), args)}
    return said | ({"windows": windows} if len(windows) > 1 else {})


def _labels(classifier: Classifier, probabilities: Any, args: argparse.Namespace) -> list[dict[str, Any]]:
    below = classifier.unknown_below if args.unknown else None
    best = classifier.top(probabilities, args.top, unknown_below=below)
    strange = below is not None and float(max(probabilities)) < below  # its answer stands, whatever the threshold
    return [
        {"label": one["label"], "score": round(one["score"], 6)}
        for place, one in enumerate(best)
        if one["score"] >= args.threshold or (strange and not place)
    ]


def _page(said: dict[str, Any]) -> Iterator[str]:
    """A single recording, with bars."""
    yield f"{said['path']}  ({said['duration']:.1f} s)"
    width = max((len(one["label"]) for one in said["labels"]), default=0)
    for one in said["labels"]:
        bar = "█" * round(BAR * one["score"])
        yield f"  {one['label']:<{width}}  {100 * one['score']:5.1f} %  {bar}".rstrip()
    if not said["labels"]:
        yield "  nothing above the threshold"
    yield from _times(said)


def _rows(said: dict[str, Any], width: int) -> Iterator[str]:
    """One of many recordings, on a line."""
    name = said["path"] if len(said["path"]) <= NAME else "…" + said["path"][1 - NAME :]
    yield f"{name:<{width}}  {_line(said['labels'])}"
    yield from _times(said)


def _times(said: dict[str, Any]) -> Iterator[str]:
    windows = said.get("windows", [])
    digits = len(f"{said['duration']:.1f}")
    for window in windows:
        yield f"  {window['start']:{digits}.1f} – {window['end']:{digits}.1f} s  {_line(window['labels'])}"


def _line(labels: list[dict[str, Any]]) -> str:
    return "   ".join(f"{one['label']} {100 * one['score']:.1f} %" for one in labels) or "–"
