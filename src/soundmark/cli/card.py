"""Print a model file's card: what it is, what it learnt from, what was measured, where it fails."""

from __future__ import annotations

import argparse
import json

from soundmark.cli.options import MODEL_HELP, model_asked


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser("card", help="print what a model file says of itself", description=__doc__)
    options.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    options.add_argument("--json", action="store_true", help="print everything the file says, as JSON")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark.card import card
    from soundmark.published import load

    classifier = load(model_asked(args.model))
    print(json.dumps(classifier.metadata, ensure_ascii=False, indent=1) if args.json else card(classifier), end="")
    return 0
