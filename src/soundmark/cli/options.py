"""Options that several verbs share."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from soundmark.events import Settings
    from soundmark.model import Classifier
    from soundmark.networks.machine import Machine

MODEL_VARIABLE = "SOUNDMARK_MODEL"
MODEL_HELP = f"model file, run's folder, or mn04 and the like (default: ${MODEL_VARIABLE}, or the package's mark1)"


def model_asked(given: str | None) -> str | None:
    """The model given, else the one in the environment; None stands for the one that comes with the package."""
    return given or os.environ.get(MODEL_VARIABLE) or None


Number = TypeVar("Number", int, float)

RUNTIMES = ("torch", "onnx", "int8")
PLACES = ("local", "ray")


def classifier_asked(args: argparse.Namespace, threads: int | None = None) -> Classifier:
    """The model that `--model` and `--view` ask for."""
    from soundmark.errors import ModelError
    from soundmark.published import load

    classifier = load(model_asked(args.model), threads=threads)
    if not args.view:
        return classifier
    from soundmark.tasks import load_view

    if classifier.metadata.get("view"):
        raise ModelError(
            f"{classifier.name} was trained on the view {classifier.metadata['view']!r} already: leave --view out"
        )
    return classifier.with_view(load_view(args.view, str(classifier.metadata.get("task", ""))))


def printable() -> None:
    """Names and labels may hold what the terminal cannot show; print an escape then, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def number(
    name: str, kind: Callable[[str], Number], words: str, low: float, high: float = math.inf, *, above: bool = False
) -> Callable[[str], Number]:
    """A number within bounds, for argparse, which speaks of it by `name`.

    Args:
        name: of what it is.
        kind: `int` or `float`.
        words: what to give, for whoever gave something else.
        low, high: the bounds.
        above: whether `low` itself is too low.
    """

    def read(text: str) -> Number:
        value = kind(text)
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(words)
        return value

    read.__name__ = name
    return read


share = number("share", float, "give a score from 0 to 1", 0, 1)
seconds = number("seconds", float, "give seconds above 0 and up to 600", 0, 600, above=True)
period = number("period", float, "give seconds from 0 up", 0, 1e6)
count = number("count", int, "give a whole number from 1 up", 1)


def _threshold(text: str) -> tuple[str, float]:
    label, _, value = text.rpartition("=")
    return label, share(value)


def add_finding(options: argparse.ArgumentParser) -> None:
    """Declare a model, and by which rules it finds events."""
    options.add_argument("--model", metavar="M", help=MODEL_HELP)
    options.add_argument("--view", metavar="V", help="sum into the classes of a view: a name, or a .toml file of yours")
    options.add_argument(
        "--only", action="append", default=[], metavar="L", help="look for this label alone; give it several times"
    )
    options.add_argument(
        "--threshold", action="append", default=[], metavar="P", type=_threshold,
        help="score from which on a label is there, for all or as label=P (default: the model file's own, or 0.5)",
    )  # fmt: skip
    options.add_argument(
        "--false-alarms", type=share, metavar="R",
        help="the threshold at this rate of false alarms, which files hold for the class they look for: 0.05 or 0.01",
    )  # fmt: skip
    options.add_argument("--window", metavar="S", type=seconds, help="length of windows (default: the model's)")
    options.add_argument(
        "--hop",
        metavar="S",
        type=seconds,
        help="seconds between windows (default: the model's, or a fifth of a window)",
    )
    options.add_argument(
        "--smoothing", choices=("median", "exponential"), default="median", help="of scores over windows"
    )
    options.add_argument("--over", metavar="N", type=count, default=1, help="windows to smooth over (default: 1, none)")
    options.add_argument(
        "--hysteresis", metavar="H", type=share, default=0.75,
        help="an event goes on down to this share of its threshold (default: 0.75)",
    )  # fmt: skip
    options.add_argument("--min", metavar="S", type=period, default=0.0, help="drop shorter events (default: 0)")
    options.add_argument("--gap", metavar="S", type=period, help="bridge gaps up to this (default: a hop)")


def finding_of(args: argparse.Namespace, classifier: Classifier, update_seconds: float = 5.0) -> Settings:
    """The rules that were asked for."""
    from soundmark.events import settings_for

    by_label = {label: value for label, value in args.threshold if label}
    for_all = [value for label, value in args.threshold if not label]
    found = settings_for(
        classifier, threshold=for_all[-1] if for_all else None, labels=args.only, false_alarms=args.false_alarms,
        window_seconds=args.window, hop_seconds=args.hop, merge_seconds=args.gap, smoothing=args.smoothing,
        smooth_over=args.over, hysteresis=args.hysteresis, min_seconds=args.min, update_seconds=update_seconds,
    )  # fmt: skip
    if not by_label:
        return found
    return _with(found, classifier, by_label)


def _with(found: Settings, classifier: Classifier, by_label: Mapping[str, float]) -> Settings:
    from dataclasses import replace

    from soundmark.events import settings_for

    settings_for(classifier, threshold=by_label)  # says so where a label is none
    return replace(found, thresholds={**found.thresholds, **by_label})


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
