"""Cells of a grid that nobody measured, for tests of what is made from cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soundmark.cells import write_answers
from soundmark.files import write_json
from soundmark.metrics import score
from soundmark.recipe import Recipe
from soundmark.results import Predictions

CLASSES = ("normal", "crackle", "wheeze")
N, FOLDS = 60, 3


def targets() -> np.ndarray:
    """More of the first class than of the others, as in ICBHI."""
    return np.repeat([0, 0, 0, 1, 2], N // 5)


def said(wrong: Sequence[int] = (), n: int = N) -> Predictions:
    """Answers to `n` clips, two of each group, right but for these positions."""
    truth = targets()[:n]
    guess = truth.copy()
    guess[list(wrong)] = (guess[list(wrong)] + 1) % len(CLASSES)
    names = [f"{i:03d}.wav" for i in range(n)]
    return Predictions(
        clips=names,
        paths=names,
        starts=[0.0] * n,
        ends=[None] * n,
        groups=[f"g{i // 2}" for i in range(n)],
        folds=[str(1 + (i // 2) % FOLDS) for i in range(n)],
        targets=truth,
        probabilities=np.eye(len(CLASSES))[guess],
        classes=CLASSES,
    )


def put(
    folder: Path, task: str = "esc50", encoder: str = "logmel", head: str = "svm", *, seed: int = 0,
    wrong: Sequence[int] = (), metric: str = "accuracy", protocol: str = "official 3 folds", answers: bool = True,
    value: float | None = None, n: int = N, **more: Any,
) -> Path:  # fmt: skip
    """Write a cell; its score is that of its answers, unless a value is given."""
    predictions = said(wrong, n)
    measured = score(metric, predictions.targets, predictions.probabilities)
    value = measured if value is None else value
    recipe = Recipe(task=task, encoder=encoder, pooling="mean", head=head, seed=seed)
    path = folder / f"{task}_{encoder}_{head}_s{seed}_{protocol[:6].strip()}.json".replace("?", "-")
    content = {
        "command": recipe.command(),
        "task": task,
        "protocol": protocol,
        "learner": {"encoder": encoder, "pooling": "mean", "head": head},
        "seed": seed,
        "headline": {"metric": metric, "value": value, "low": value - 0.05, "high": value + 0.04, "chance": 0.5},
        "metrics": {"accuracy": {"value": score("accuracy", predictions.targets, predictions.probabilities)}},
        "folds": [{"fold": str(fold), "clips": n // FOLDS} for fold in range(1, FOLDS + 1)],
        "notes": [],
        "bad_clips": [],
        "seconds": {"encode": 1.0, "fit_and_test": 2.0},
        "wall_seconds": 3.0,
        **more,
    }
    write_json(path, content)
    if answers:
        write_answers(path, predictions)
    return path
