"""Options that several verbs share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soundmark.networks.machine import Machine


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


def machine_of(args: argparse.Namespace) -> Machine:
    """What networks are trained on."""
    from soundmark.errors import SpecError
    from soundmark.networks.machine import Machine

    if args.devices < 1:
        raise SpecError(f"--devices should be 1 or more, not {args.devices}")
    return Machine(args.device, args.devices)
