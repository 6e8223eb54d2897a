"""Fetch, check, look at, augment and export data sets."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soundmark.tasks import Task

EXAMPLES = """examples:
  soundmark data get esc50                                  0.6 GB, goes on where it broke off
  soundmark data check esc50:major                          decode every clip, look for leaks and copies
  soundmark data show recordings/ --to figures              your own: a folder per class
  soundmark data show esc50 --gallery --clip dog            one clip through many spectrograms, with what each costs
  soundmark data show door.wav --gallery --sizes 400/160 1024/320
  soundmark data export esc50:danger-4v5 --to sounds        gives sounds/Danger and sounds/Safe
  soundmark data augment dog.wav --augment pitch+timemask   see and hear what training would make of it
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "data", help="fetch, check, look at and export data sets", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = options.add_subparsers(dest="action", metavar="ACTION", required=True)

    get = actions.add_parser("get", help="download a data set, with resume, and verify it")
    get.add_argument("task", help="name of a data set, such as esc50 or 'speech_commands?version=1'")
    get.add_argument("--to", metavar="DIR", help="folder that data sets are kept in (default: the cache's)")
    get.add_argument(
        "--url", default="", metavar="URL", help="another address to fetch it from; of several files, their folder's"
    )
    get.add_argument("--keep-archive", action="store_true", help="do not delete the archive once it is unpacked")

    check = actions.add_parser("check", help="decode every clip, and search the protocol for leaks and copies")
    check.add_argument("--workers", type=int, metavar="N", help="threads (default: one per processor)")
    check.add_argument("--json", action="store_true", help="print everything as JSON")

    show = actions.add_parser("show", help="draw class counts, durations and a few clips of every class")
    show.add_argument("--to", metavar="DIR", help="folder of the figures (default: figures/NAME)")
    show.add_argument("--clips", type=int, default=3, metavar="N", help="clips of each class (default: 3)")
    show.add_argument("--no-figures", action="store_true", help="print the table only")
    _add_gallery(show.add_argument_group("one clip through many spectrograms"))

    export = actions.add_parser("export", help="write a task or view as a folder of audio per class")
    export.add_argument("--to", metavar="DIR", required=True, help="new folder to write to")
    export.add_argument("--force", action="store_true", help="write into a folder that holds other things")

    augment = actions.add_parser("augment", help="see and hear what augmentation makes of a recording")
    augment.add_argument("file", help="the recording; of a long one, the first 30 seconds")
    augment.add_argument(
        "--augment", metavar="TEXT", default="", help="such as gain?db=6+timemask (default: every one)"
    )
    augment.add_argument("--to", metavar="DIR", help="folder of the figures and sounds (default: figures/NAME)")
    augment.add_argument("--seed", type=int, default=1, metavar="N", help="of what is drawn at random (default: 1)")
    augment.add_argument("--rate", type=int, default=22050, metavar="HZ", help="to hear it at (default: 22050)")
    augment.add_argument(
        "--with", dest="partner", metavar="FILE", help="what to mix it with (default: itself backwards)"
    )

    for action in (check, show, export):
        recording = "; with --gallery also a recording" if action is show else ""
        action.add_argument(
            "task", help=f"task, task:view, or a folder or manifest (CSV, Parquet) of your own{recording}"
        )
        action.add_argument("--allow-partial", action="store_true", help="take an incomplete data set as it is")


def _add_gallery(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--gallery", action="store_true",
        help="draw linear, log-frequency and log-mel spectrograms side by side, over windows and hops, with what each "
        "costs and the accuracy it gives where that was measured",
    )  # fmt: skip
    options.add_argument("--clip", metavar="NAME", help="a clip, or a class for its first (default: the task's first)")
    options.add_argument(
        "--seconds", type=float, metavar="S", help="to show around its strongest onset, 0 for all (default: 1)"
    )
    options.add_argument("--rate", type=int, metavar="HZ", help="to listen at (default: the recording's own)")
    options.add_argument("--sizes", nargs="+", metavar="W/H", help="windows and hops in samples, such as 1024/256")
    options.add_argument(
        "--scores", metavar="DIR", help="what soundmark benchmark measured (default: the package's, of esc50)"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out. `check` gives 1 where something is wrong with the data."""
    actions = {"get": _get, "check": _check, "show": _show, "export": _export, "augment": _augment}
    return actions[args.action](args)


def _get(args: argparse.Namespace) -> int:
    from soundmark.files import cache_dir
    from soundmark.spec import lookup, parse
    from soundmark.tasks import GETTERS

    spec = parse(args.task)
    get = lookup("data set to fetch", spec.name, GETTERS)
    folder = Path(args.to).expanduser() if args.to else cache_dir() / "data"
    place = get(spec, folder, url=args.url, keep_archive=args.keep_archive)
    print(f"{args.task} is in {place}")
    if args.to:
        print(f"for Soundmark to find it there, set SOUNDMARK_DATA={folder.resolve()}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from soundmark import tasks
    from soundmark.tasks.check import check, lines

    report = check(
        tasks.load(args.task, allow_partial=args.allow_partial), workers=_positive(args.workers, "--workers")
    )
    print(json.dumps(report, indent=2, ensure_ascii=False) if args.json else "\n".join(lines(report)))
    return 0 if report["ok"] else 1


def _show(args: argparse.Namespace) -> int:
    from soundmark import tasks
    from soundmark.errors import SpecError
    from soundmark.tasks import show

    if args.gallery:
        return _gallery(args)
    for name in ("clip", "seconds", "rate", "sizes", "scores"):
        if getattr(args, name) is not None:
            raise SpecError(f"--{name} is an option of the gallery: add --gallery, or leave it out")
    if _is_recording(args.task):
        raise SpecError(f"{args.task} is one recording and no task: add --gallery to see its spectrograms")
    count = _positive(args.clips, "--clips") or 3
    task = tasks.load(args.task, allow_partial=args.allow_partial)
    seconds = show.durations(task)
    print("\n".join(show.table(task, seconds)))
    if not args.no_figures:
        folder = Path(args.to) if args.to else Path("figures") / _folder_name(task)
        written = show.draw(task, folder, seconds, clips=count)
        print(f"{len(written)} figures in {folder}")
    unread = len(task.clips) - len(seconds)
    if unread:
        print(f"{tasks.base.counted(unread, 'clip')} cannot be opened: `soundmark data check {args.task}` lists them")
    return 0


def _gallery(args: argparse.Namespace) -> int:
    from soundmark import tasks
    from soundmark.analysis import gallery
    from soundmark.errors import SpecError

    alone = _is_recording(args.task)
    if alone and args.clip:
        raise SpecError(f"{args.task} is one recording: leave out --clip")
    if args.no_figures:
        raise SpecError("--gallery draws a figure: leave out --no-figures")
    source = args.task if alone else tasks.load(args.task, allow_partial=args.allow_partial)
    name = Path(args.task).stem if isinstance(source, str) else _folder_name(source)
    folder = Path(args.to) if args.to else Path("figures") / name
    content = gallery.write(
        source, folder, clip=args.clip or "", seconds=1.0 if args.seconds is None else args.seconds,
        rate=_positive(args.rate, "--rate") or 0, sizes=[_size(text) for text in args.sizes or ()] or gallery.SIZES,
        scores=args.scores or "", command=_command(args, folder),
    )  # fmt: skip
    print(content["recording"])
    print("\n".join(gallery.lines(content)))
    for suffix in (".png", ".svg", ".html", ".json"):
        print(folder / f"gallery{suffix}")
    return 0


def _is_recording(text: str) -> bool:
    return Path(text).is_file() and Path(text).suffix.lower() not in (".csv", ".parquet")


def _size(text: str) -> tuple[int, int]:
    from soundmark.errors import SpecError

    window, _, hop = text.partition("/")
    if not (window.isascii() and window.isdigit() and hop.isascii() and hop.isdigit()):
        raise SpecError(f"cannot read the size {text!r}: write window/hop in samples, such as 1024/256")
    return int(window), int(hop)


def _command(args: argparse.Namespace, folder: Path) -> str:
    """The command line that draws the same gallery again."""
    words = ["soundmark", "data", "show", args.task, "--gallery"]
    for name in ("clip", "seconds", "rate", "scores"):
        value = getattr(args, name)
        words += [] if value is None else [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    words += ["--sizes", *args.sizes] if args.sizes else []
    return shlex.join([*words, *(["--allow-partial"] if args.allow_partial else []), "--to", folder.as_posix()])


def _export(args: argparse.Namespace) -> int:
    from soundmark import tasks
    from soundmark.tasks.export import export

    task = tasks.load(args.task, allow_partial=args.allow_partial)
    folders = tasks.load_view(task.view, task.name).folders if task.view else {}
    done = export(task, args.to, folders=folders, force=args.force)
    for name, count in done["classes"].items():
        print(f"{count:>6} clips  {Path(done['folder']) / name}")
    print(f"{done['written']} files written, {done['found']} were there; measure on the same protocol with "
          f"{Path(done['folder']) / 'manifest.csv'}")  # fmt: skip
    if task.licence:
        print(f"licence: {task.licence}, {task.source}")
    return 0


def _augment(args: argparse.Namespace) -> int:
    from soundmark.networks import audition

    folder = Path(args.to) if args.to else Path("figures") / Path(args.file).stem
    written = audition.draw(args.file, folder, text=args.augment, seed=args.seed, rate=args.rate, partner=args.partner)
    for path in written:
        print(path)
    return 0


def _positive(value: int | None, option: str) -> int | None:
    from soundmark.errors import SpecError

    if value is not None and value < 1:
        raise SpecError(f"{option} should be 1 or more, not {value}")
    return value


def _folder_name(task: Task) -> str:
    name = Path(task.name.partition("?")[0]).resolve().name + (f"-{Path(task.view).stem}" if task.view else "")
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
