"""A run: a recipe followed to its end.

A run's folder is the unit of work: stopped, it goes on where it was; finished, it holds what was measured (results),
how to repeat it (recipe, environment) and what came of it (model, report).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import audio, embeddings, export, protocol, report, results, tasks
from soundmark.encoders import weights
from soundmark.errors import ResultsError, SoundmarkError, SpecError
from soundmark.files import write_json, write_text
from soundmark.learners import Learner, Probe, describe
from soundmark.metadata import metadata
from soundmark.networks.machine import Machine
from soundmark.recipe import Recipe
from soundmark.spec import candidates
from soundmark.tasks.base import Clip, Task
from soundmark.tuned import Tuned, candidates_of

PIECE_SECONDS = 30.0  # most of a clip that a network's model file is checked on
TUNED = "tuned.toml"  # the recipe of the settings that a search found on all clips
CHECK_CLIPS = 200  # clips on which the model file is held against the learner; spread over the whole task


def run(
    recipe: Recipe, folder: str | os.PathLike[str], *, model: bool = True, compact: bool = False, page: bool = True,
    progress: bool = True, machine: Machine | None = None, track: Sequence[str] = (), vectors: Path | None = None,
) -> results.Run:  # fmt: skip
    """Measure by the protocol, then fit on everything and write the model file and the report.

    Args:
        recipe: what to measure.
        folder: the run's folder. If it holds the same recipe, finished folds are taken from it.
        model: fit on all clips and write `model.onnx`.
        compact: with its weights in fewer bits; see `soundmark.export.export`.
        page: write `report.html` and the figures.
        progress: show bars on a terminal.
        machine: what networks are trained on.
        track: who else is told how their training goes: `mlflow`, `tensorboard`.
        vectors: a folder that `soundmark embed` has filled with the vectors of this task by this encoder; recordings
            are then read for the check of the model file only.

    Raises:
        ResultsError: if the folder holds another recipe, or another process works on the same fold.
        NotExportable: before anything is trained, if a model is asked for and the learner has no graph.
    """
    place = Path(folder)
    learners = candidates_of(recipe, machine=machine, track=track)
    if vectors is not None:
        for learner in learners:
            if not isinstance(learner, Probe):
                raise SpecError("vectors are for an encoder with a head: leave --vectors out, or the network or trials")
            learner.heard.folder = vectors
    if model:
        for learner in learners:
            export.check_exportable(learner)
    task = tasks.only(tasks.load(recipe.task, allow_partial=recipe.allow_partial), recipe.folds)
    _claim(place, recipe)
    try:
        measured = protocol.evaluate(
            task,
            learners,
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
    if weighed := weights.provenance(_pretrained(recipe)):
        summary["pretrained"] = weighed
    if "training" in summary:
        results.write_history(place, summary["training"])
    measured.predictions.write(place)
    write_json(place / "environment.json", results.environment())
    write_json(place / "metrics.json", summary)  # the measurement stands, whatever becomes of the model
    if model:
        summary["model"] = write_model(
            measured.task, learners, recipe, place / "model.onnx", summary, measured.predictions, compact=compact
        )
        write_json(place / "metrics.json", summary)
    if page:
        report.write(place, task=measured.task)
    return results.Run.read(place)


def write_model(
    task: Task, learners: Sequence[Learner], recipe: Recipe, path: Path, summary: dict[str, Any],
    predictions: results.Predictions, *, compact: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Choose among the candidates on all clips, refit the winner on all of them, and write the model file.

    Of one that was tuned the settings that were found are written beside it, as the recipe `tuned.toml`.

    The scores in its metadata are those of the protocol: nothing is measured on clips the model was fitted on.

    Returns:
        What was fitted, and how far the file agrees with the learner on real clips.
    """
    kept = path.parent / "training" / "model"  # of long trainings, to go on from
    inner: dict[str, Any] = {"seed": recipe.seed, "inner_folds": recipe.inner_folds}
    chosen, _ = protocol.choose(task, learners, place=kept, **inner)
    alone = kept / f"candidate{chosen}"
    alarms = protocol.alarm_thresholds(task, learners[chosen], place=alone, **inner) if task.positive else {}
    winner = learners[chosen].fresh()
    winner.fit(task, recipe.seed, kept)
    if isinstance(winner, Tuned) and winner.winner is not None:
        winner = winner.winner
    spread = np.unique(np.linspace(0, len(task.clips) - 1, min(CHECK_CLIPS, len(task.clips))).astype(int))
    clips = [_beginning(task, task.clips[i], winner) for i in spread]
    lengths = [clip_seconds(task, i) for i in range(len(task.clips))]
    about = metadata(task, winner, predictions, summary, alarms, lengths)
    check = export.export(winner, path, metadata=about, waveforms=clips, compact=compact)
    if recipe.trials:
        write_text(path.with_name(TUNED), _tuned(recipe, winner))
    shutil.rmtree(kept, ignore_errors=True)
    with suppress(OSError):  # another process may be at work on a fold
        kept.parent.rmdir()
    return {"learner": describe(winner), "fitted_on": len(task.clips), "check": check}


def _tuned(recipe: Recipe, winner: Learner) -> str:
    """The recipe of what was found."""
    found = Recipe.from_dict(asdict(recipe) | dict(winner.describe()) | {"trials": 0})
    return (
        f"# Settings found by {recipe.trials} trials on all clips: those of the model file beside this recipe.\n"
        "# Measured on the same clips they look better than they are. The honest score is in metrics.json, for which\n"
        "# every fold was searched without its test clips.\n" + found.to_toml()
    )


def _pretrained(recipe: Recipe) -> list[str]:
    """Names of networks that may have been pretrained: the learner's and its teacher's."""
    taught = _pretrained(Recipe.read(recipe.teacher)) if recipe.teacher else []
    return candidates(recipe.network or recipe.encoder) + taught


def _beginning(task: Task, clip: Clip, learner: Learner) -> np.ndarray:
    """A clip as a learner hears it at once; its first window or piece where it is longer."""
    if isinstance(learner, Probe):
        return embeddings.beginning(task, clip, learner.encoder)
    last = audio.info(task.path(clip)).duration if clip.end is None else clip.end
    most = learner.policy.window_seconds or PIECE_SECONDS
    end = clip.start + most if last - clip.start > most else clip.end
    samples, _ = audio.read(task.path(clip), learner.sample_rate, start=clip.start, end=end)
    return learner.policy.prepare(samples, learner.sample_rate)


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
        known = Recipe.read(file)
        if replace(known, folds="") != replace(recipe, folds=""):
            raise ResultsError(f"{folder} holds a run of another recipe: name another folder with --out, or delete it")
        if known != recipe:  # more folds, or fewer: what is measured already counts
            write_text(file, recipe.to_toml())
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
