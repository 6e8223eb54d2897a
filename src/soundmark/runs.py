"""A run: a recipe followed to its end.

A run's folder is the unit of work: stopped, it goes on where it was; finished, it holds what was measured (results),
how to repeat it (recipe, environment) and what came of it (model, report).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import audio, embeddings, export, protocol, report, results, tasks
from soundmark.detection import accepting_threshold
from soundmark.encoders import weights
from soundmark.errors import ResultsError, SoundmarkError
from soundmark.files import write_json, write_text
from soundmark.learners import Probe, describe, probes
from soundmark.recipe import Recipe
from soundmark.tasks.base import Task

CHECK_CLIPS = 200  # clips on which the model file is held against the learner; spread over the whole task


def run(
    recipe: Recipe, folder: str | os.PathLike[str], *, model: bool = True, page: bool = True, progress: bool = True
) -> results.Run:
    """Measure by the protocol, then fit on everything and write the model file and the report.

    Args:
        recipe: what to measure.
        folder: the run's folder. If it holds the same recipe, finished folds are taken from it.
        model: fit on all clips and write `model.onnx`.
        page: write `report.html` and the figures.
        progress: show bars on a terminal.

    Raises:
        ResultsError: if the folder holds another recipe.
        NotExportable: before anything is trained, if a model is asked for and the learner has no graph.
    """
    place = Path(folder)
    candidates = probes(recipe.encoder, recipe.pooling, recipe.head)
    if model:
        for probe in candidates:
            export.check_exportable(probe)
    task = tasks.load(recipe.task, allow_partial=recipe.allow_partial)
    _claim(place, recipe)
    try:
        measured = protocol.evaluate(
            task,
            candidates,
            seed=recipe.seed,
            folder=place,
            inner_folds=recipe.inner_folds,
            strict=recipe.strict,
            progress=progress,
        )
    except SoundmarkError:
        _release(place)
        raise
    summary = measured.summary | {"command": recipe.command(place)}
    if weighed := weights.provenance(probe.encoder_name for probe in candidates):
        summary["pretrained"] = weighed
    measured.predictions.write(place)
    write_json(place / "environment.json", results.environment())
    write_json(place / "metrics.json", summary)  # the measurement stands, whatever becomes of the model
    if model:
        summary["model"] = write_model(
            measured.task, candidates, recipe, place / "model.onnx", summary, measured.predictions
        )
        write_json(place / "metrics.json", summary)
    if page:
        report.write(place, task=measured.task)
    return results.Run.read(place)


def write_model(
    task: Task, candidates: Sequence[Probe], recipe: Recipe, path: Path, summary: dict[str, Any],
    predictions: results.Predictions,
) -> dict[str, Any]:  # fmt: skip
    """Choose among the candidates on all clips, refit the winner on all of them, and write the model file.

    The scores in its metadata are those of the protocol: nothing is measured on clips the model was fitted on. The
    score below which a sound is unknown comes from the protocol's predictions too, each by a learner that had not heard
    the clip: to this model, fitted on all clips, they are what out-of-fold scores are to a training side.

    Returns:
        What was fitted, and how far the file agrees with the learner on real clips.
    """
    inner = {"seed": recipe.seed, "inner_folds": recipe.inner_folds}
    chosen, _ = protocol.choose(task, candidates, **inner)
    alarms = protocol.alarm_thresholds(task, candidates[chosen], **inner) if task.positive else {}
    winner = candidates[chosen].fresh()
    winner.fit(task, recipe.seed)
    spread = np.unique(np.linspace(0, len(task.clips) - 1, min(CHECK_CLIPS, len(task.clips))).astype(int))
    clips = [embeddings.beginning(task, task.clips[i], winner.encoder) for i in spread]
    lengths = [clip_seconds(task, i) for i in range(len(task.clips))]
    metadata = {
        "labels": list(task.classes),
        "kind": task.kind,
        "task": task.name,
        "view": task.view,
        "clip_seconds": {"median": float(np.median(lengths)), "max": float(np.max(lengths))},
        "thresholds": {task.positive: min(1.0, alarms[str(max(protocol.FALSE_ALARM_RATES))])} if alarms else {},
        "alarm_thresholds": alarms,
        "unknown_below": float(np.clip(accepting_threshold(predictions.probabilities.max(axis=1)), 0.0, 1.0)),
        "metrics": {"protocol": task.protocol, "headline": summary["headline"], "alarm": summary.get("alarm", [])},
        "training_data": {
            "title": task.title,
            "clips": len(task.clips),
            "source": task.source,
            "notes": list(task.notes),
        },
        "licence": task.licence,
        "learner": dict(winner.describe()),
        "pretrained": weights.provenance([winner.encoder_name]),
    }
    check = export.export(winner, path, metadata=metadata, waveforms=clips)
    return {"learner": describe(winner), "fitted_on": len(task.clips), "check": check}


def clip_seconds(task: Task, position: int) -> float:
    """Length of a clip in seconds."""
    clip = task.clips[position]
    end = audio.info(task.path(clip)).duration if clip.end is None else clip.end
    return float(end - clip.start)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder, or find the same one there."""
    file = folder / results.RECIPE
    if folder.exists() and not folder.is_dir():
        raise ResultsError(f"{folder} is a file: name a folder for the run with --out")
    if file.exists():
        if Recipe.read(file) != recipe:
            raise ResultsError(f"{folder} holds a run of another recipe: name another folder with --out, or delete it")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ResultsError(f"{folder} is not empty and holds no run: name another folder with --out")
    try:
        write_text(file, recipe.to_toml())
    except OSError as error:
        raise SoundmarkError(f"cannot write into {folder}: {error.strerror or error}") from None


def _release(folder: Path) -> None:
    """Take the recipe back where nothing came of it, so that a mistake leaves nothing behind."""
    if [path.name for path in folder.iterdir()] == [results.RECIPE]:
        (folder / results.RECIPE).unlink()
        folder.rmdir()
