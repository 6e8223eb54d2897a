"""Options that several verbs share."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soundmark.networks.machine import Machine

MODEL_VARIABLE = "SOUNDMARK_MODEL"
MODEL_HELP = f"model file, run's folder, or mn04 and the like (default: ${MODEL_VARIABLE}, or the package's mark1)"


def model_asked(given: str | None) -> str | None:
    """The model given, else the one in the environment; None stands for the one that comes with the package."""
    return given or os.environ.get(MODEL_VARIABLE) or None


def add_engine(options: argparse.ArgumentParser) -> None:
    """Declare what computes an encoder."""
    options.add_argument(
        "--precision", choices=("float32", "bf16"), help="of a pretrained network: the setting precision= of its name"
    )
    options.add_argument(
        "--engine", choices=("torch", "onnx", "int8"), help="what runs the encoder: the setting engine= of its name"
    )


def with_engine(encoder: str, args: argparse.Namespace) -> str:
    """The encoder's name with what was asked for."""
    from soundmark.spec import with_settings

    return with_settings(encoder, precision=args.precision, engine=args.engine)


def add_training(options: argparse.ArgumentParser) -> None:
    """Declare a network, how it is trained, and on what."""
    options.add_argument("--network", metavar="N", help="in place of encoder and head: a network trained end to end")
    options.add_argument("--augment", metavar="A", help="what is done to its clips, joined with + (default: nothing)")
    options.add_argument("--training", metavar="T", help="optimiser with settings, adamw?rate=0.001 (default: adamw)")
    options.add_argument(
        "--teacher",
        metavar="R",
        help="recipe of a network that learns first, on the same clips, and teaches this one",
    )
    options.add_argument("--folds", metavar="F", help="measure only these folds, separated by commas")
    options.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="what networks are trained on"
    )
    options.add_argument("--devices", type=int, default=1, metavar="N", help="how many of them train together")
    options.add_argument(
        "--track", action="append", choices=("mlflow", "tensorboard"), default=[], help="tell these of every epoch too"
    )


def add_learner(options: argparse.ArgumentParser) -> None:
    """Declare a task and what learns it: names in the grammar, or a recipe, which they outdo."""
    options.add_argument("task", nargs="?", help="task, task:view, or a folder or manifest (CSV, Parquet) of your own")
    options.add_argument(
        "--recipe", metavar="FILE", help="take everything from a recipe: a TOML file, a run's folder, or a shipped one"
    )
    options.add_argument("--encoder", metavar="E", help="encoder, or several joined with + (default: logmel)")
    options.add_argument("--pooling", metavar="P", help="statistics over time joined with + (default: mean+std)")
    options.add_argument("--head", metavar="H", help="classifier on the vectors (default: svm)")
    add_engine(options)
    add_training(options)
    options.add_argument("--seed", type=int, help="seed of heads, networks and inner splits (default: 0)")
    options.add_argument("--inner-folds", type=int, help="folds of the inner split (default: 4)")
    options.add_argument("--allow-partial", action="store_true", default=None, help="measure on an incomplete data set")


def machine_of(args: argparse.Namespace) -> Machine:
    """What networks are trained on."""
    from soundmark.errors import SpecError
    from soundmark.networks.machine import Machine

    if args.devices < 1:
        raise SpecError(f"--devices should be 1 or more, not {args.devices}")
    return Machine(args.device, args.devices)
