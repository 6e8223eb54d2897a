"""Fetch, check, look at, augment and export data sets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soundmark.tasks import Task

EXAMPLES = """examples:
  soundmark data get esc50                                  0.6 GB, goes on where it broke off
  soundmark data check esc50:major                          decode every clip, look for leaks and copies
  soundmark data show recordings/ --to figures              your own: a folder per class
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
        action.add_argument("task", help="task, task:view, or a folder or manifest (CSV, Parquet) of your own")
        action.add_argument("--allow-partial", action="store_true", help="take an incomplete data set as it is")


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
    from soundmark.tasks import show

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


def _export(args: argparse.Namespace) -> int:
    from soundmark import tasks
    from soundmark.tasks.export import export

    task = tasks.load(args.task, allow_partial=args.allow_partial)
    folders = tasks.load_view(task.view, task.name.partition("?")[0]).folders if task.view else {}
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
