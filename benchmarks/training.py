"""What training a network costs, and what mixed precision, memory layout and kept spectrograms save.

    python benchmarks/training.py                        # needs ESC-50 in SOUNDMARK_DATA, for mn04 its weights too
    python benchmarks/training.py cnn --clips 320

Seconds of an epoch over so many clips of ESC-50, then over the 1600 of a fold's training side in proportion; every form
by itself, the median of some epochs after a first one. Hours are those of a recipe's epochs on five folds: once on four
fifths of the training side, where the recipe holds clips out to find their number, and once on all of it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np

from soundmark import tasks
from soundmark.environment import environment
from soundmark.files import write_json
from soundmark.networks.machine import Machine
from soundmark.networks.settings import parse_training
from soundmark.recipe import Recipe
from soundmark.spec import with_settings
from soundmark.trained import Trained

RECIPES = {"cnn": "small-cnn", "mn04": "finetune-mn04", "resnet18": "resnet18-major"}
FORMS = {
    "as in the recipe": {},
    "float32": {"precision": "float32"},
    "channels first": {"channels_last": "false"},
    "spectrograms anew": {"keep": "false"},
    "none of the three": {"precision": "float32", "channels_last": "false", "keep": "false"},
}
FOLD = 1600  # clips of a training side


def measure(name: str, clips: int, epochs: int) -> dict[str, float]:
    """Seconds a clip of an epoch, by form."""
    recipe = Recipe.read(RECIPES[name])
    whole = tasks.load("esc50")
    some = np.unique(np.linspace(0, len(whole.clips) - 1, clips).astype(int))
    task = whole.subset(some)
    found = {}
    for form, settings in FORMS.items():
        how = with_settings(recipe.training, epochs=str(epochs + 1), frozen="0", validate="false", schedule="onecycle")
        learner = Trained(
            recipe.network, recipe.augment, with_settings(how, **settings), Machine("cpu"), progress=False
        )
        learner.prepare(task, progress=False)
        learner.fit(task, seed=0)
        found[form] = statistics.median(row["seconds"] for row in learner.told["history"][1:]) / len(task.clips)
        print(f"{name:10} {form:20} {FOLD * found[form]:7.1f} s for {FOLD} clips", flush=True)
    return found


def hours(name: str, seconds: float) -> float:
    """Of a recipe's epochs on five folds, at so many seconds a clip."""
    how = parse_training(Recipe.read(RECIPES[name]).training)
    return 5 * how.epochs * FOLD * (1.8 if how.validate else 1.0) * seconds / 3600


def main() -> None:
    """Measure, print, and write results/training-cost/NAME.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", default=["cnn", "mn04"], choices=list(RECIPES), metavar="NETWORK")
    options.add_argument("--clips", type=int, default=320)
    options.add_argument("--epochs", type=int, default=3, help="that are timed, after a first one")
    options.add_argument("--out", type=Path, default=Path("results/training-cost"))
    args = options.parse_args()
    for name in args.names:
        found = measure(name, args.clips, args.epochs)
        write_json(
            args.out / f"{name}.json",
            {
                "title": f"Training {name}",
                "recipe": RECIPES[name],
                "clips": args.clips,
                "seconds_per_epoch": {form: round(FOLD * seconds, 2) for form, seconds in found.items()},
                "hours_for_five_folds": round(hours(name, found["as in the recipe"]), 2),
                "command": f"python benchmarks/training.py {name} --clips {args.clips} --epochs {args.epochs}",
                "environment": environment(),
            },
        )


if __name__ == "__main__":
    main()
