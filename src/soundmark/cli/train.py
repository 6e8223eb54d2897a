"""Measure a learner by the task's own protocol, then fit it on everything and write report and model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from soundmark.cli.options import add_learner, machine_of, with_engine

if TYPE_CHECKING:
    from soundmark.recipe import Recipe
    from soundmark.results import Run

EXAMPLES = """examples:
  soundmark train toy
  soundmark train esc50 --encoder logmel+mfcc --pooling mean+std+percentiles --head svm
  soundmark train esc50:danger --encoder handcrafted --head "logreg?C=0.01,0.1,1"   choose C inside every training side
  soundmark train recordings/ --encoder logmel                                      your own: a folder per class
  soundmark train --recipe runs/toy/recipe.toml --out again                         repeat a run
  soundmark train esc50 --network cnn --augment gain+stretch+mix                     train a network end to end
  soundmark train esc50 --network mn04 --training "adamw?rate=0.0004&epochs=24"      fine-tune a pretrained one
  soundmark train --recipe small-cnn --folds 5                                      a recipe that comes with Soundmark
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "train", help="measure a learner by a task's protocol, then write its model file", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    declare(options)


def declare(options: argparse.ArgumentParser) -> None:
    """Declare the options that say what is measured and what is written."""
    add_learner(options)
    options.add_argument("--recipes", action="store_true", help="list the recipes that come with Soundmark, and leave")
    options.add_argument("--strict", action="store_true", default=None, help="stop at a clip that cannot be read")
    options.add_argument(
        "--vectors", metavar="DIR", type=Path, help="take the vectors from a folder that `soundmark embed` has filled"
    )
    options.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/NAME)")
    options.add_argument("--no-model", action="store_true", help="measure only: do not fit on everything")
    options.add_argument(
        "--compact", action="store_true", help="keep the model file's weights in fewer bits: half the size or less"
    )
    options.add_argument("--no-report", action="store_true", help="do not write the page and figures")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    if listed(args):
        return 0
    folder, done = measured(args, asked(args))
    print(summary(done.metrics))
    print("\n".join(files(folder)))
    return 0


def listed(args: argparse.Namespace) -> bool:
    """List the recipes, if that is what was asked for."""
    from soundmark.recipe import shipped

    if args.recipes:
        print("\n".join(f"{name:<24}{about}" for name, about in shipped().items()))
    return bool(args.recipes)


def measured(args: argparse.Namespace, recipe: Recipe) -> tuple[Path, Run]:
    """Follow the recipe to its end: the run's folder, and what was measured."""
    from soundmark import runs

    folder = Path(args.out) if args.out else Path("runs") / recipe.folder_name
    done = runs.run(
        recipe, folder, model=not args.no_model, compact=args.compact, page=not args.no_report,
        machine=machine_of(args), track=args.track, vectors=args.vectors,
    )  # fmt: skip
    return folder, done


def files(folder: Path) -> list[str]:
    """Lines that tell where what was written is."""
    what = {"report.html": "report", "model.onnx": "model", "tuned.toml": "settings", "predictions.csv": "predictions"}
    return [f"{word + ':':<13}{folder / name}" for name, word in what.items() if (folder / name).exists()]


def asked(args: argparse.Namespace) -> Recipe:
    """The recipe that the options describe; they outdo a recipe's file."""
    from dataclasses import asdict, fields

    from soundmark.errors import SpecError
    from soundmark.recipe import OF_NETWORKS, PROBE, Recipe

    names = [each.name for each in fields(Recipe)]
    given = {key: getattr(args, key) for key in names if getattr(args, key, None) is not None}
    if args.recipe:
        known = asdict(Recipe.read(args.recipe))
        other = PROBE if given.get("network") else OF_NETWORKS if set(PROBE) & given.keys() else ()
        given = {key: value for key, value in known.items() if key not in other} | given
    if not given.get("network"):
        given["encoder"] = with_engine(given.get("encoder", Recipe.encoder), args)
    if "task" not in given:
        raise SpecError("name a task to train on (toy, esc50, a folder of recordings) or a --recipe")
    return Recipe.from_dict(given, "the command")


def summary(metrics: dict) -> str:  # type: ignore[type-arg]
    """The lines a run ends with: what was measured, the score, its interval and the caveats."""
    head = metrics["headline"]
    name = head["metric"].replace("_", " ") + (", mean over folds" if head.get("over") == "folds" else "")
    lines = [
        f"{metrics['task']}: {metrics['protocol']}, {metrics['clips']} clips of {metrics['groups']} groups",
        f"{name}: {head['value']:.2%}  (95 % interval {head['low']:.2%} to {head['high']:.2%})",
    ]
    lines += [
        f"recall at {row['max_false_alarm']:.0%} false alarms: {row['recall']:.1%}"
        f" ({row['low']:.1%} to {row['high']:.1%}); realised false alarms {row['realised']:.1%}"
        for row in metrics.get("alarm", [])
        if row["recall"] is not None and row["realised"] is not None  # undefined where the test side lacks a class
    ]
    if metrics.get("bad_clips"):
        lines.append(f"{len(metrics['bad_clips'])} clips could not be read and were left out; first: "
                     f"{metrics['bad_clips'][0]['error']}")  # fmt: skip
    lines += [f"note: {note}" for note in metrics.get("notes", [])]
    return "\n".join(lines)
