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


RUNTIMES = ("torch", "onnx", "int8")
PLACES = ("local", "ray")


def add_engine(options: argparse.ArgumentParser, *, places: bool = False) -> None:
    """Declare what computes an encoder and, with `places`, where."""
    options.add_argument(
        "--precision", choices=("float32", "bf16"), help="of a pretrained network: the setting precision= of its name"
    )
    runtime = "what runs the encoder: the setting engine= of its name"
    if not places:
        options.add_argument("--engine", choices=RUNTIMES, help=runtime)
        return
    options.add_argument(
        "--engine", action="append", choices=(*RUNTIMES, *PLACES),
        help=f"torch, onnx, int8: {runtime}; local, ray: where the work is done (default: local). May be given twice, "
        "one of each kind",
    )  # fmt: skip
    options.add_argument(
        "--address", metavar="ADDR", help="of a running Ray cluster, such as auto (default: Ray is started here)"
    )


def with_engine(encoder: str, args: argparse.Namespace) -> str:
    """The encoder's name with what was asked for."""
    from soundmark.spec import with_settings

    return with_settings(encoder, precision=args.precision, engine=_asked(args, RUNTIMES))


def on_ray(args: argparse.Namespace) -> bool:
    """Whether the work is to be done on Ray.

    Raises:
        SpecError: for an address without it.
    """
    from soundmark.errors import SpecError

    place = _asked(args, PLACES)
    if args.address and place != "ray":
        raise SpecError("--address is that of a Ray cluster: add --engine ray")
    return place == "ray"


def _asked(args: argparse.Namespace, kind: tuple[str, ...]) -> str | None:
    """The only engine of a kind that was asked for."""
    from soundmark.errors import SpecError

    given = [args.engine] if isinstance(args.engine, str) else args.engine or []
    found = list(dict.fromkeys(name for name in given if name in kind))
    if len(found) > 1:
        raise SpecError(f"--engine {' and '.join(found)} exclude each other: give one of {', '.join(kind)}")
    return found[0] if found else None


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
