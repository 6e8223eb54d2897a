"""Who else is told how a training goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def loggers(names: Sequence[str], task: str, title: str, learner: Mapping[str, str]) -> list[Any]:
    """Lightning's loggers of these names.

    Args:
        names: of `mlflow` and `tensorboard`.
        task: what is learnt.
        title: of the training.
        learner: the names it is made of.
    """
    return []
