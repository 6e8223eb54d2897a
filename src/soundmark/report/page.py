"""The page: everything a run found, in one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from soundmark import __version__, files, results, tasks
from soundmark.errors import ResultsError, SoundmarkError
from soundmark.report import mistakes, plots
from soundmark.report.drawing import percent, shown
from soundmark.tasks.base import Task

PAGE = "report.html"
FIGURES = "figures"
PAIRS = 12
_BIG = 400.0  # a confusion matrix wider than this has the page's width to itself

_SENTENCES = {
    "accuracy": "{clips} {from_groups}were put to the test, none of them heard in training; {value} were recognised rightly.",
    "balanced_accuracy": "{clips} {from_groups}were put to the test, none of them heard in training; of a class's clips, {value} "
    "were recognised rightly, on average over the {classes} classes.",
    "macro_f1": "{clips} {from_groups}were put to the test, none of them heard in training; F1, which falls with what is missed "
    "and with what is mistaken, is {value} on average over the {classes} classes.",
}
_SENTENCE = "{clips} {from_groups}were put to the test, none of them heard in training; {name} is {value}."
_NOT_SHARES = {"log_loss", "roc_auc", "average_precision"}
_NAMES = {"roc_auc": "area under the ROC curve", "macro_f1": "macro F1", "log_loss": "log loss (nats)"}


def write(folder: str | os.PathLike[str], *, task: Task | None = None, sounds: bool = True) -> Path:
    """Write `report.html` and `figures/` into a run's folder, from what the folder holds.

    Args:
        folder: of a finished run.
        task: where the recordings are, for the spectrograms and players of the surest mistakes; None looks for the
            recipe's task, and does without where that is not here.
        sounds: whether to put recordings into the page at all; mind their licence before you publish one.

    Returns:
        The page's path.

    Raises:
        ResultsError: if the folder is not that of a finished run, or its files are damaged.
    """
    run = results.Run.read(folder)
    if sounds and task is None:
        task = _task(run.recipe)
    try:
        html = render(run, task if sounds else None)
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        jinja2.UndefinedError,
    ) as error:
        raise ResultsError(
            f"{run.folder / results.METRICS} is damaged or of another version ({type(error).__name__}: {error}); "
            "run the recipe again"
        ) from error
    files.write_text(run.folder / PAGE, html)
    return run.folder / PAGE


def _task(recipe: Mapping[str, Any]) -> Task | None:
    try:
        return tasks.load(str(recipe.get("task", "")), allow_partial=True)
    except (SoundmarkError, OSError):
        return None


def render(run: results.Run, task: Task | None) -> str:
    """The page of a run, its figures being written on the way.

    Args:
        run: what was measured.
        task: where the recordings are, or None.
    """
    metrics = run.metrics
    drawn = {plot.name: plot for plot in plots.draw(metrics, run.folder / FIGURES)}
    worst = mistakes.surest(run.predictions, task.root if task else None)
    script = _source("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "label": _label, "count": _count}
    page: str = environment.from_string(
        _source("template.html.j2")
    ).render(
        title=_title(metrics),
        eyebrow=_eyebrow(metrics),
        headline=_headline(metrics),
        notes=metrics.get("notes") or [],
        bad_clips=metrics.get("bad_clips") or [],
        facts=_facts(metrics),
        command=metrics.get("command") or "",
        recipe=_recipe_text(run),
        environment=json.dumps(run.environment, indent=2, ensure_ascii=False),
        selection=_selection(metrics),
        two_class=metrics.get("two_class"),
        alarm=[row | {"threshold": _thresholds(row)} for row in metrics.get("alarm") or []],
        plots={name: {"title": plot.title, "svg": Markup(plot.svg)} for name, plot in drawn.items()},  # noqa: S704
        big_confusion=drawn["confusion"].width > _BIG,
        fold_words=_fold_words(metrics),
        reliability_words=_reliability_words(metrics),
        pairs=metrics["confused_pairs"][:PAIRS],
        scores=_scores(metrics),
        several_folds=len(metrics["folds"]) > 1,
        intervals=metrics["intervals"],
        mistakes=[_told(mistake) for mistake in worst],
        audible=any(mistake.sound for mistake in worst),
        silent_words="The recordings were not at hand when this page was made.",
        credit=_credit(task) if any(mistake.sound for mistake in worst) else "",
        per_class=metrics["per_class"],
        version=run.environment.get("soundmark", __version__),
        style=Markup(_source("style.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )
    return page.lstrip()


def _source(name: str) -> str:
    return resources.files("soundmark.report").joinpath(name).read_text(encoding="utf-8")


def _recipe_text(run: results.Run) -> str:
    return (run.folder / results.RECIPE).read_text(encoding="utf-8").strip()


# --- Words -------------------------------------------------------------------------------------------------------


def _label(text: str) -> str:
    return shown(text, 60)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _name(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def _value(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if metric in _NOT_SHARES else percent(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _title(metrics: Mapping[str, Any]) -> str:
    return str(metrics.get("title") or metrics.get("task") or "Results")


def _eyebrow(metrics: Mapping[str, Any]) -> str:
    learner = metrics.get("learner") or {}
    parts = [metrics.get("task"), metrics.get("protocol"), " · ".join(str(part) for part in learner.values())]
    return " · ".join(str(part) for part in parts if part)


def _headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    head = metrics["headline"]
    metric, share = head["metric"], head["metric"] not in _NOT_SHARES
    words = _value(metric, head["value"])
    chance = head.get("chance")
    sentence = _SENTENCES.get(metric, _SENTENCE).format(
        clips=_count(metrics["clips"], "clip"),
        from_groups=f"from {_count(metrics['groups'], 'source')} " if metrics["groups"] != metrics["clips"] else "",
        value=words,
        classes=sum(row["clips"] > 0 for row in metrics["per_class"]),
        name=_name(metric),
    )
    if chance is not None:
        sentence += f" Always saying the commonest class would give {_value(metric, chance)}."
    scale = None
    if share and None not in (head["value"], head["low"], head["high"]):
        low, high, at = (round(100 * head[name], 2) for name in ("low", "high", "value"))
        scale = {"low": low, "width": round(high - low, 2), "value": at}
        scale["chance"] = None if chance is None else round(100 * chance, 2)
    return {
        "name": _capital(_name(metric)),
        "words": f"{words} {_name(metric)}",
        "number": words.removesuffix(" %"),
        "unit": " %" if share else "",
        "level": percent(metrics["intervals"]["level"], 0),
        "interval": f"{_value(metric, head['low'])} to {_value(metric, head['high'])}",
        "sentence": sentence,
        "scale": scale,
    }


def _facts(metrics: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Name, value, and whether the value is code."""
    facts: list[tuple[str, Any, bool]] = [
        ("Task", metrics.get("task"), True),
        ("Protocol", metrics.get("protocol"), False),
        *((_capital(str(name)), value, name != "chosen") for name, value in (metrics.get("learner") or {}).items()),
        ("Clips", f"{metrics['clips']:,} from {_count(metrics['groups'], 'source')}", False),
        (
            "Classes",
            ", ".join(map(_label, metrics["classes"])) if len(metrics["classes"]) < 8 else len(metrics["classes"]),
            False,
        ),
        ("Folds", len(metrics["folds"]), False),
        ("Seed", metrics.get("seed"), False),
        *(
            (f"Seconds to {_label(str(name))}", f"{value:,.1f}", False)
            for name, value in (metrics.get("seconds") or {}).items()
        ),
    ]
    if model := metrics.get("model"):
        fitted = (
            f", fitted on all {_count(model['fitted_on'], 'clip')} after this measurement"
            if "fitted_on" in model
            else ""
        )
        facts.append(("Model file", f"model.onnx: {model.get('learner', 'the learner')}{fitted}", False))
    return [(name, str(value), code) for name, value, code in facts if value not in (None, "")]


def _selection(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    rounds = metrics.get("selection")
    if not rounds:
        return None
    learners = list(dict.fromkeys(each["learner"] for one in rounds for each in one["candidates"]))
    scores = [{each["learner"]: each["score"] for each in one["candidates"]} for one in rounds]
    rows = [
        {
            "learner": learner,
            "cells": [
                {"score": score.get(learner), "chosen": one["chosen"] == learner}
                for one, score in zip(rounds, scores, strict=True)
            ],
        }
        for learner in learners
    ]
    return {"folds": [one["fold"] for one in rounds], "rows": rows}


def _thresholds(row: Mapping[str, Any]) -> str:
    values = list((row.get("thresholds") or {}).values())
    if not values:
        return "–"
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def _fold_words(metrics: Mapping[str, Any]) -> str:
    name = metrics["headline"]["metric"]
    spread = metrics["over_folds"][name]
    if spread["std"] is None:
        return ""
    return f"Mean of the folds {_value(name, spread['mean'])}, standard deviation {_value(name, spread['std'])}."


def _reliability_words(metrics: Mapping[str, Any]) -> str:
    bins = [row for row in metrics["calibration"]["bins"] if row["clips"]]
    gap = sum(row["clips"] * (row["confidence"] - row["accuracy"]) for row in bins) / metrics["clips"]
    if abs(gap) < 0.02:
        return "On the whole it is right about as often as it is sure."
    return f"On the whole it is {'surer than it is right' if gap > 0 else 'right more often than it is sure'}, by {percent(abs(gap))}."


def _scores(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, score in metrics["metrics"].items():
        if name == "macro_recall":  # the same as balanced accuracy
            continue
        spread = metrics["over_folds"].get(name) or {}
        mean, std = (_value(name, spread.get(key)) for key in ("mean", "std"))
        rows.append(
            {
                "name": _name(name) + (" (macro recall)" if name == "balanced_accuracy" else ""),
                "value": _value(name, score["value"]),
                "interval": f"{_value(name, score['low'])} to {_value(name, score['high'])}",
                "folds": f"{mean.removesuffix(' %')} ± {std}" if std != "–" else mean,
            }
        )
    return rows


def _told(mistake: mistakes.Mistake) -> dict[str, Any]:
    return vars(mistake) | {"told": mistake.truth in dict(mistake.guesses)}


def _credit(task: Task | None) -> str:
    if task is None or not task.licence:
        return ""
    return f"Recordings: {task.title or task.name}, {task.licence}."
