"""Runs that look like real ones, made from random but structured predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def training(
    folds: int = 5, epochs: int = 60, *, stop: int = 0, hold_out: bool = True, seed: int = 0, device: str = "cpu"
) -> list[dict[str, Any]]:
    """How networks train: the training side is learnt by heart, the held-out part less and less well, then worse.

    Args:
        folds: how many.
        epochs: of the schedule.
        stop: epochs without progress after which a fold stops; 0 for none.
        hold_out: whether a part was held out; without, there is one training to the end.
        seed: of the noise.
        device: where.
    """
    rng = np.random.default_rng(seed)
    found = []
    for fold in range(1, folds + 1):
        t = np.arange(1, epochs + 1) / epochs
        worse = rng.uniform(0.15, 0.6)
        train = 3.9 * np.exp(-rng.uniform(3.2, 4.2) * t) + 0.03 * rng.random(epochs)
        valid = 0.9 + 2.9 * np.exp(-5 * t) + worse * np.clip(t - 0.6, 0, None) + 0.06 * rng.normal(size=epochs)
        best = int(np.argmin(valid)) + 1
        last = min(epochs, best + stop) if stop else epochs
        rate = 1e-3 * np.where(t < 0.2, 0.04 + 0.96 * t / 0.2, 0.5 * (1 + np.cos(np.pi * (t - 0.2) / 0.8)) + 4e-6)
        scores = {
            "train_loss": train,
            "train_accuracy": np.clip(0.99 - 0.24 * train, 0, 1),
            "valid_loss": valid,
            "valid_accuracy": np.clip(1.0 - 0.25 * valid, 0, 1),
        }

        def rows(stage: str, n: int, rate=rate, scores=scores) -> list[dict[str, Any]]:
            only = {"valid_loss": None, "valid_accuracy": None} if stage == "fit" else {}
            return [
                {"stage": stage, "epoch": i + 1, "rate": float(rate[i])}
                | {name: float(values[i]) for name, values in scores.items()}
                | only
                | {"seconds": 6.1}
                for i in range(n)
            ]

        history = [*rows("choose", last), *rows("fit", best)] if hold_out else rows("fit", epochs)
        about = {"fold": str(fold), "parameters": 664570, "epochs": best if hold_out else epochs, "of": epochs}
        about |= {"device": device, "precision": "bf16", "seconds": 6.1 * len(history), "seconds_per_epoch": 6.1}
        found.append(about | {"history": history})
    return found


@pytest.fixture
def make_training() -> Callable[..., list[dict[str, Any]]]:
    """`training`, for tests."""
    return training


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
