"""How a network is trained, in the grammar: `adamw?rate=0.002&epochs=100&schedule=onecycle`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from soundmark.errors import SpecError
from soundmark.spec import Spec, bounded, parse, take, written

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("onecycle", "cosine", "plateau", "constant")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Training:
    """Everything that decides what comes of a training, but the network, the augmentation and the seed.

    Attributes:
        optimiser: `adam`, `adamw` (weight decay by itself, Loshchilov and Hutter, ICLR 2019) or `sgd` (Nesterov).
        rate: highest learning rate of the layers before the head; for batches of any size.
        head_rate: that of the head; 0 takes `rate`.
        layer_decay: factor on the rate for every step down from the head, 1 for none.
        decay: weight decay.
        momentum: of `sgd`.
        epochs: how often every clip is seen, at most.
        batch: clips in a step.
        schedule: of the rates: `onecycle` (up along a cosine, then down to nothing), `cosine` (down from the start),
            `plateau` (times `factor` after `wait` epochs without a better loss on the held-out clips) or `constant`.
        warmup: share of the steps on the way up, in `onecycle`.
        factor, wait: of `plateau`.
        patience: epochs without a better loss on held-out clips after which training stops; 0 never stops early.
        validate: find the number of epochs on clips held out inside the training side, then train again on all of it.
            Without, all `epochs` are run once.
        ema: decay per step of the moving average of weights that is tested and kept; 0 keeps the last weights.
        clip: largest norm of a step's gradient; 0 leaves gradients alone.
        smoothing: share of every label that is spread over all classes.
        balance: weigh clips so that every class counts the same.
        crop: seconds of a clip seen in a step, anywhere in it; 0 takes the task's median length. Shorter clips are
            filled up to it, in training and ever after.
        windows: hear clips, in measuring and ever after, in windows as long as a crop, and take the mean of what is
            said of each; else networks of any length hear them at once.
        fill: what they are filled with: silence (`zero`) or themselves (`loop`).
        taught: share of every label that is a teacher's word, where there is one.
        hints: weight of the error in guessing a teacher's vectors from one's own, beside that of the labels.
        frozen: epochs at the beginning in which only the head learns, at its full rate; `schedule` begins after them.
        precision: of the layers between front end and logits; `bf16` is mixed, its weights remain float32.
        channels_last: keep maps with channels last in memory.
        keep: compute spectrograms once, where augmentation allows.
    """

    optimiser: str = "adamw"
    rate: float = 1e-3
    head_rate: float = 0.0
    layer_decay: float = 1.0
    decay: float = 0.01
    momentum: float = 0.9
    epochs: int = 60
    batch: int = 32
    schedule: str = "onecycle"
    warmup: float = 0.2
    factor: float = 0.3
    wait: int = 5
    patience: int = 0
    validate: bool = True
    ema: float = 0.0
    clip: float = 0.0
    smoothing: float = 0.0
    balance: bool = False
    crop: float = 0.0
    windows: bool = False
    fill: str = "zero"
    taught: float = 0.7
    hints: float = 0.0
    frozen: int = 0
    precision: str = "float32"
    channels_last: bool = True
    keep: bool = True

    @property
    def text(self) -> str:
        """The name in the grammar, with what differs from the defaults."""
        said = {
            each.name: written(getattr(self, each.name))
            for each in fields(self)[1:]
            if getattr(self, each.name) != each.default
        }
        return str(Spec(self.optimiser, settings=said))


_LIMITS: dict[str, tuple[float, float] | tuple[str, ...]] = {
    "rate": (1e-9, 100.0),
    "head_rate": (0.0, 100.0),
    "layer_decay": (0.01, 1.0),
    "decay": (0.0, 10.0),
    "momentum": (0.0, 0.9999),
    "epochs": (1, 100_000),
    "batch": (2, 65_536),
    "warmup": (0.0, 1.0),
    "factor": (0.001, 0.999),
    "wait": (1, 100_000),
    "patience": (0, 100_000),
    "ema": (0.0, 0.99999),
    "clip": (0.0, 1e9),
    "smoothing": (0.0, 0.9),
    "crop": (0.0, 600.0),
    "taught": (0.0, 1.0),
    "hints": (0.0, 1000.0),
    "frozen": (0, 100_000),
    "schedule": SCHEDULES,
    "fill": ("zero", "loop"),
    "precision": PRECISIONS,
}


def parse_training(text: str) -> Training:
    """The training that a name asks for.

    Raises:
        SpecError: for an unknown optimiser or setting, a value out of bounds, or settings that contradict each other.
    """
    spec = parse(text)
    if spec.name not in OPTIMISERS or spec.view or spec.layer:
        raise SpecError(f"cannot train by {text!r}: write {', '.join(OPTIMISERS)}, with settings as adamw?rate=0.001")
    given = take(spec, {each.name: each.default for each in fields(Training)[1:]})
    bounded(spec, given, **_LIMITS)
    if not given["validate"] and (given["patience"] or given["schedule"] == "plateau"):
        raise SpecError(f"{text!r} stops or slows down by clips that are held out: leave validate=false out")
    return Training(spec.name, **given)


def factor(training: Training, done: float, epochs: int) -> float:
    """What the learning rates are multiplied with at some point of a schedule that is known beforehand.

    Epochs in which only the head learns come before the schedule, at its full rate.

    Args:
        training: whose `schedule` is not `plateau`.
        done: epochs that are done, parts of one too.
        epochs: how many the whole training has.

    Source: Smith and Topin, "Super-convergence", 2019, with the annealing of PyTorch's `OneCycleLR`. Kumar et al.,
    "Fine-tuning can distort pretrained features", ICLR 2022, for the head that learns first.
    """
    if training.schedule == "constant" or done < training.frozen:
        return 1.0
    progress = min(1.0, (done - training.frozen) / max(1, epochs - training.frozen))
    if training.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if progress < training.warmup:
        return _between(0.04, 1.0, progress / training.warmup)
    return _between(1.0, 4e-6, (progress - training.warmup) / max(1e-9, 1.0 - training.warmup))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


class Plateau:
    """A factor that falls whenever the loss on held-out clips has not become better for some epochs.

    Args:
        training: its `factor` and `wait`.
    """

    def __init__(self, training: Training) -> None:
        self.training, self.now, self.best, self.since = training, 1.0, math.inf, 0

    def after(self, loss: float) -> float:
        """The factor for the next epoch, after one that ended with this loss."""
        self.since = 0 if loss < self.best else self.since + 1
        self.best = min(self.best, loss)
        if self.since > self.training.wait:
            self.now, self.since = self.now * self.training.factor, 0
        return self.now
