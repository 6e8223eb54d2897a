"""Find the sounds in recordings of any length: start, end, label and score of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundmark.cli.classify import recordings
from soundmark.cli.options import add_finding, classifier_asked, finding_of, printable
from soundmark.eventfiles import FORMATS

if TYPE_CHECKING:
    from soundmark.events import Event, Settings
    from soundmark.model import Classifier

EXAMPLES = """examples:
  soundmark events day.wav
  soundmark events day.wav -o day.csv --hop 0.5          half a second between windows
  soundmark events day.flac -o day.txt                   labels for Audacity
  soundmark events nights/ -o nights.jsonl --only dog --only siren --min 1
  soundmark events street.m4a --view danger --false-alarms 0.01
  soundmark events day.wav --format jsonl                JSON lines, each as soon as its event is over

Memory does not grow with the recording. The file is written when all recordings are done, by start within each; without
-o, events are printed in the order in which they end. The exit code is 1 if a recording could not be read.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "events", help="find the sounds in long recordings: start, end, label, score", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument(
        "sources", nargs="+", metavar="FILE|FOLDER|-", help="recordings; - reads one from standard input"
    )
    add_finding(options)
    options.add_argument("-o", "--out", metavar="FILE", help="write .jsonl, .csv, .txt (Audacity) or .rttm")
    options.add_argument("--format", choices=FORMATS, help="in place of what the file's ending says, or to print")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark import eventfiles
    from soundmark.errors import EventError, SoundmarkError

    printable()
    format = args.format or (eventfiles.format_of(args.out) if args.out else None)
    classifier = classifier_asked(args)
    settings = finding_of(args, classifier)
    sources = [name for source in args.sources for name in recordings(source)]
    if format == "audacity" and len(sources) > 1:
        raise EventError("Audacity's labels do not name their recording: give one recording, or another format")
    if format and not args.out:
        sys.stdout.write(eventfiles.heading(format))
    written: list[tuple[str, Event]] = []
    failed = 0
    for name in sources:
        found = []
        try:
            for event in _events(classifier, name, settings):
                if args.out:
                    found.append((name, event))
                else:
                    sys.stdout.write(eventfiles.line(format, name, event) if format else _line(name, event, sources))
                    sys.stdout.flush()
        except SoundmarkError as error:
            failed += 1
            print(f"soundmark: {error}", file=sys.stderr)
        written += sorted(found, key=lambda each: (each[1].start, each[1].end, each[1].label))
    if args.out:
        eventfiles.write(args.out, written, format)
        print(f"{args.out}: {len(written)} events in {len(sources) - failed} of {len(sources)} recordings")
    return 1 if failed else 0


def _events(classifier: Classifier, name: str, settings: Settings) -> Iterator[Event]:
    """A recording's events as they end."""
    from soundmark import events
    from soundmark.errors import AudioError

    if name == "-" and sys.stdin.isatty():
        raise AudioError("standard input is a terminal: pipe a recording into it, or name a file")
    source: Any = sys.stdin.buffer if name == "-" else name
    with _bar(name) as bar:
        timeline = classifier.windows(source, settings.window_seconds, settings.hop_seconds)
        for change in events.changes(_watched(timeline, bar), classifier.labels, settings):
            if change.kind == "end":
                yield change.event


def _watched(timeline: Iterator[Any], bar: Any) -> Iterator[Any]:
    """The windows, with the bar moved on to the end of each."""
    for start, end, row in timeline:
        bar.update(round(end - bar.n, 3))
        yield start, end, row


def _bar(name: str) -> Any:
    """Progress in seconds of sound, on a terminal alone."""
    from tqdm import tqdm

    shown = sys.stderr.isatty() and name != "-"
    return tqdm(
        total=_seconds(name) if shown else None, unit="s", disable=not shown, desc=Path(name).name[:30], leave=False
    )


def _seconds(name: str) -> float | None:
    """How long a recording is, where its header says."""
    from soundmark.audio.decoders import opened
    from soundmark.errors import AudioError

    try:
        with opened(name) as stream:
            return None if stream.samples is None else round(stream.samples / stream.sample_rate, 1)
    except AudioError:
        return None  # it is reported when it is read


def _line(name: str, event: Event, sources: list[str]) -> str:
    """An event for people, with the recording's name where there are several."""
    from soundmark.cli.screen import clock, plain

    where = f"{plain(name)}  " if len(sources) > 1 else ""
    return f"{where}{clock(event.start)} – {clock(event.end)}  {plain(event.label)}  {100 * event.score:.1f} %\n"
