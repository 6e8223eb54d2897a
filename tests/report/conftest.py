"""Runs that look like real ones, made from random but structured predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from soundmark import metrics, results
from soundmark.files import write_json
from soundmark.report import drawing
from soundmark.results import Predictions

MakeRun = Callable[..., Path]


def predictions(classes: tuple[str, ...], each: int, folds: int, seed: int) -> Predictions:
    """Classes are places in a plane; a clip lies about its own, and some places are near each other."""
    rng = np.random.default_rng(seed)
    n, c = len(classes) * each, len(classes)
    targets = np.repeat(np.arange(c), each)
    places = rng.normal(scale=1.5, size=(c, 3))
    clips = places[targets] + rng.normal(size=(n, 3))
    nearness = -((clips[:, None] - places[None]) ** 2).sum(axis=2)
    p = np.exp(nearness - nearness.max(axis=1, keepdims=True))
    names = [f"audio/{classes[t]}-{i}.wav".replace("\0", "") for i, t in enumerate(targets)]
    return Predictions(
        clips=names,
        paths=names,
        starts=[0.0] * n,
        ends=[None] * n,
        groups=[f"source {i // 2}" for i in range(n)],
        folds=[str(i // 2 % folds + 1) for i in range(n)],
        targets=targets,
        probabilities=p / p.sum(axis=1, keepdims=True),
        classes=classes,
    )


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a drawing goes into its pixels."""
    monkeypatch.setattr(drawing, "DPI", 30)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a finished run's folder; keyword arguments are added to its metrics.json."""

    def make(
        classes: tuple[str, ...] = ("dog", "sea_waves", "siren"),
        *,
        each: int = 12,
        folds: int = 3,
        metric: str = "accuracy",
        positive: str = "",
        seed: int = 0,
        given: Predictions | None = None,
        recipe: dict[str, object] | None = None,
        **about: object,
    ) -> Path:
        folder = tmp_path / "run"
        said = given or predictions(classes, each, folds, seed)
        said.write(folder)
        found = metrics.summary(said, metric=metric, positive=positive, n=40)
        named = {"task": "toy", "title": "Toy sounds", "protocol": "3 folds", "seed": 0}
        write_json(folder / "metrics.json", found | named | about)
        write_json(folder / "environment.json", results.environment())
        results.write_recipe(folder, recipe or {"task": "no such task", "seed": 0})
        return folder

    return make


@pytest.fixture
def two_class_run(make_run: MakeRun) -> Path:
    """Danger against safe, with operating points."""
    point = {"low": 0.5, "high": 0.7, "realised_low": 0.03, "realised_high": 0.08, "thresholds": {"1": 0.41, "2": 0.46}}
    alarm = [{"max_false_alarm": rate, "recall": 0.6, "realised": rate * 1.1} | point for rate in (0.05, 0.01)]
    return make_run(("safe", "danger"), each=60, metric="balanced_accuracy", positive="danger", alarm=alarm)
