"""What a training is given, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from soundmark.networks.augment import Augment
from soundmark.networks.bank import Bank
from soundmark.networks.base import Network
from soundmark.networks.settings import Training


@dataclass
class Course:
    """How a training went.

    Attributes:
        rows: one for each epoch: epoch (from 1), rate, train_loss, train_accuracy, valid_loss, valid_error (the loss's
            standard error) and valid_accuracy (None without clips to watch), seconds.
        rates: the factor on the learning rates that every epoch ended with; only a plateau schedule's is not known
            beforehand.
        watched: (clips, classes) logits of the clips watched, in the order of the lesson, after the best epoch; after
            the last one if the training is without `validate`.
        best: the last epoch whose loss on the clips watched cannot be told from the least, being within its standard
            error; the last one of all without any. Some hundred clips tell epochs apart no better, and of those alike
            the last has had the lowest rates.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    watched: Tensor | None = field(default=None, repr=False)

    @property
    def best(self) -> int:
        """See the class."""
        if not self.least:
            return len(self.rows)
        bound = self.rows[self.least - 1]["valid_loss"]
        alike = [row["epoch"] for row in self.rows if row["valid_loss"] - row["valid_error"] <= bound]
        return int(max(alike))

    @property
    def least(self) -> int:
        """The epoch of least loss on the clips watched, the first of equals; 0 without any."""
        losses = [row["valid_loss"] for row in self.rows]
        return 0 if not losses or losses[0] is None else int(np.argmin(losses)) + 1

    def ended(self, lesson: Lesson) -> bool:
        """Whether nothing is left to do: all epochs are run, or the last ones were no better for long enough."""
        patience = lesson.training.patience if lesson.watch else 0
        stale = bool(patience) and len(self.rows) - self.least >= patience
        return stale or len(self.rows) >= lesson.length


@dataclass(frozen=True)
class Teacher:
    """A trained network that tells of every clip, as it is heard in a step, what it takes it for.

    Attributes:
        network: it has learnt from no clip that the lesson's result is measured on.
        bank: the clips as it hears them, cut to the length of the lesson's.
        train: (n,) their positions there, in the order of the lesson's.
    """

    network: Network
    bank: Bank
    train: Tensor


@dataclass(frozen=True)
class Lesson:
    """What one training is given.

    Attributes:
        bank: the clips.
        train: (n,) positions of the clips to learn from.
        targets: (n,) their classes.
        classes: how many there are.
        training: how.
        augment: what is done to the clips on the way.
        seed: of the order and of augmentation; with the weights' own, which the caller draws, it decides everything.
        watch: positions and classes of the clips to be watched on, if any.
        epochs: how many to run, if not `training.epochs`.
        span: epochs that the schedule is stretched over, if not `training.epochs`.
        rates: factors to follow, in place of a plateau schedule's own.
        title: for the progress bar.
        identity: a digest of the question; a checkpoint of another one is not taken up.
        teacher: who is asked beside the labels, if anybody.
    """

    bank: Bank
    train: Tensor
    targets: Tensor
    classes: int
    training: Training
    augment: Augment
    seed: int
    watch: tuple[Tensor, Tensor] | None = None
    epochs: int = 0
    span: int = 0
    rates: Sequence[float] = ()
    title: str = ""
    identity: str = ""
    teacher: Teacher | None = None

    @property
    def length(self) -> int:
        """Epochs to run, at most."""
        return self.epochs or self.training.epochs
