"""List, fetch and verify the weights of pretrained encoders."""

from __future__ import annotations

import argparse
import json
from typing import Any

EXAMPLES = """examples:
  soundmark weights list
  soundmark weights get mn04
  soundmark weights get cnn14 --to ~/weights     where SOUNDMARK_WEIGHTS then points
  soundmark weights verify                       every checkpoint that is here
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "weights", help="list, fetch and verify the weights of pretrained encoders", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = options.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every checkpoint: licence, training data, and where it is")
    listing.add_argument("--json", action="store_true", help="print everything as JSON")
    get = actions.add_parser("get", help="fetch checkpoints, with resume, and verify them")
    get.add_argument("names", nargs="+", metavar="NAME", help="mn04, cnn14, audiosep, ...")
    get.add_argument("--to", metavar="DIR", help="folder to keep them in (default: the cache's)")
    verify = actions.add_parser("verify", help="hold the checkpoints that are here against their checksums")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out. `verify` gives 1 where a file is not what it should be."""
    return {"list": _list, "get": _get, "verify": _verify}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from soundmark.encoders import weights

    places = {name: weights.located(name) for name in weights.CHECKPOINTS}
    if args.json:
        rows: list[dict[str, Any]] = [
            {"name": name, **asdict(about), "path": str(places[name]) if places[name] else None}
            for name, about in weights.CHECKPOINTS.items()
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for name, about in weights.CHECKPOINTS.items():
        place = places[name]
        size = place.stat().st_size if place else about.size
        print(f"{name:<12} {about.licence:<10} {_bytes(size):>9}  {place or 'not here: ' + about.url}")
        print(f"{'':<12} trained on {about.trained_on}")
    return 0


def _bytes(size: int | None) -> str:
    return f"{size / 1e6:,.1f} MB" if size else "–"


def _get(args: argparse.Namespace) -> int:
    from pathlib import Path

    from soundmark.encoders import weights
    from soundmark.spec import lookup

    for name in args.names:
        lookup("checkpoint", name, weights.CHECKPOINTS)
    for name in args.names:
        path = weights.get(name, Path(args.to) if args.to else None)
        print(f"{name}: {path}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import sys

    from soundmark.encoders import weights
    from soundmark.errors import WeightsError
    from soundmark.spec import lookup

    said = {
        "sha256": "is the published file (sha256)",
        "md5": "is the published file (md5)",
        "first use": "is as it was at its first use; no checksum is published",
        "nothing": "no checksum is published; noted for the next time",
    }
    for name in args.names:
        lookup("checkpoint", name, weights.CHECKPOINTS)
    names = args.names or [name for name in weights.CHECKPOINTS if weights.located(name)]
    wrong = 0
    for name in names:
        path = weights.located(name)
        try:
            if path is None:
                raise WeightsError(f"the weights of {name} are not here: run `soundmark weights get {name}`")
            print(f"{name}: {path} {said[weights.verify(name, path)]}")
        except WeightsError as error:
            wrong += 1
            print(f"soundmark: {error}", file=sys.stderr)
    if not names:
        print("there are no weights here yet")
    return 1 if wrong else 0
