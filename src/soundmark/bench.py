"""One cell of a grid, measured; and what it leaves for the next one, which mostly has the same task and vectors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from soundmark import costs, encoders, protocol, results, tasks
from soundmark.encoders import weights
from soundmark.encoders.pooling import Pooling
from soundmark.errors import SoundmarkError
from soundmark.learners import Heard, Probe
from soundmark.recipe import Recipe
from soundmark.results import Predictions
from soundmark.spec import candidates
from soundmark.tasks.base import Task

# What a cell keeps of a run's summary: enough for every table, small enough to commit by the hundred.
KEPT = ("task", "protocol", "learner", "seed", "headline", "metrics", "folds", "alarm", "notes", "bad_clips", "seconds")

Loaded = TypeVar("Loaded")


class _Remembered(Probe):
    """A probe that remembers the last head it was fitted with, whichever copy of it that was."""

    def __post_init__(self, shared: Heard | None) -> None:
        super().__post_init__(shared)
        self.last: dict[str, Any] = {}

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        super().fit(task, seed, place)
        self.last["estimator"] = self.estimator


@dataclass
class Bench:
    """The task and the vectors of the cell before, for the next one, which mostly has the same.

    Attributes:
        progress: show bars on a terminal while clips are encoded.
        asked, task: the task's name with whether it may be incomplete, and the task.
        heard: by encoder and pooling.
        known: what encoding costs, of the task.
        vectors: folder of partitions that holds a task's vectors by an encoder, by task and encoder.
        side_by_side: rounds that are measured at once; by default one per core.
        broken: tasks and encoders that could not be loaded. Trying to fetch weights again for every cell would take
            minutes each.
    """

    progress: bool = False
    asked: tuple[str, bool] = ("", False)
    task: Task | None = None
    heard: dict[tuple[str, str], Heard] = field(default_factory=dict)
    known: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    broken: dict[Any, SoundmarkError] = field(default_factory=dict)
    vectors: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    side_by_side: int | None = None

    def ready(self, recipe: Recipe) -> tuple[Task, list[_Remembered]]:
        """The task and every candidate of a recipe, its clips encoded.

        Raises:
            SoundmarkError: what loading a task or an encoder, or encoding, raises.
        """
        asked = recipe.task, recipe.allow_partial
        if self.task is None or self.asked != asked:
            self.task, self.known = None, {}
            self.task = self._loaded(asked, lambda: tasks.load(recipe.task, allow_partial=recipe.allow_partial))
            self.asked = asked
        wanted = list(itertools.product(candidates(recipe.encoder), candidates(recipe.pooling)))
        modules = {encoder: heard.encoder for (encoder, _), heard in self.heard.items()}
        kept = {key: heard for key, heard in self.heard.items() if key in wanted}
        self.heard = {}  # what is no longer needed may be freed before more is loaded
        for encoder, pooling in wanted:
            if encoder not in modules:
                modules[encoder] = self._loaded(encoder, partial(encoders.load, encoder))
            folder = self.vectors.get((recipe.task, encoder))
            kept.setdefault((encoder, pooling), Heard(modules[encoder], Pooling(pooling), folder=folder))
        self.heard = kept
        made = [_Remembered(*key, head, self.heard[key]) for key in wanted for head in candidates(recipe.head)]
        for learner in made:
            learner.prepare(self.task, strict=recipe.strict, progress=self.progress)
        return self.task, made

    def _loaded(self, name: Any, load: Callable[[], Loaded]) -> Loaded:
        if name in self.broken:
            raise self.broken[name]
        try:
            return load()
        except SoundmarkError as error:
            self.broken[name] = error
            raise

    def cost(self, learner: _Remembered) -> dict[str, Any]:
        """What an answer of a learner that was measured costs; of its head nothing if all its folds were known."""
        assert self.task is not None
        key = learner.encoder_name, learner.pooling_name
        if key not in self.known:
            self.known[key] = costs.of_encoder(self.task.drop(learner.heard.bad), learner.heard)
        estimator = learner.last.get("estimator")
        found = costs.of_head(estimator, learner.heard.vectors, len(self.task.classes)) if estimator else {}
        return self.known[key] | found


def measure(
    recipe: Recipe, *, on: Bench | None = None, folder: Path | None = None
) -> tuple[dict[str, Any], Predictions]:
    """Measure one cell by its task's protocol; no model file, no report.

    Args:
        recipe: of a probe.
        on: what earlier cells have left.
        folder: where finished folds are kept; a cell that was stopped goes on from them.

    Returns:
        The content of the cell's file, and what was predicted for every clip. Besides a part of a run's summary (see
        `soundmark.metrics.summary`) the first holds `clips`, of the task in all; `costs` of one candidate's answer (see
        `soundmark.costs`); and the `environment`.
    """
    started = time.perf_counter()
    on = on or Bench()
    task, learners = on.ready(recipe)
    encoded = time.perf_counter()
    measured = protocol.evaluate(
        task,
        learners,
        seed=recipe.seed,
        folder=folder,
        inner_folds=recipe.inner_folds,
        strict=recipe.strict,
        progress=False,
        side_by_side=on.side_by_side,
    )
    summary = measured.summary
    summary["seconds"]["encode"] = round(summary["seconds"]["encode"] + encoded - started, 3)
    wall = time.perf_counter() - started
    content = {
        "command": recipe.command(),
        **({"pretrained": weighed} if (weighed := weights.provenance(candidates(recipe.encoder))) else {}),
        **{key: summary[key] for key in KEPT if key in summary},
        **({"selection": _brief(summary["selection"])} if "selection" in summary else {}),
        "clips": len(measured.task.clips),
        **({"costs": on.cost(learners[0])} if len(learners) == 1 else {}),
        "wall_seconds": round(wall, 2),
        "environment": results.environment(),
    }
    return content, measured.predictions


def _brief(selection: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"fold": each["fold"], "chosen": each["chosen"], "candidates": len(each["candidates"])} for each in selection
    ]
