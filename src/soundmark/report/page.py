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
from soundmark.report import mistakes, plots, words
from soundmark.report.drawing import percent, spread
from soundmark.tasks.base import Task

PAGE = "report.html"
FIGURES = "figures"
PAIRS = 12
_BIG = 480.0  # points; a wider confusion matrix has the page's width to itself
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, jinja2.UndefinedError)


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
    except SoundmarkError:
        raise
    except _DAMAGE as error:
        raise ResultsError(
            f"{run.folder / results.METRICS} is damaged or of another version ({type(error).__name__}: {error}); "
            "run the recipe again"
        ) from error
    files.write_bytes(run.folder / PAGE, html.encode("utf-8", "replace"))
    return run.folder / PAGE


def _task(recipe: Mapping[str, Any]) -> Task | None:
    try:
        return tasks.load(str(recipe.get("task", "")), allow_partial=True)
    except (SoundmarkError, OSError):
        return None


def render(run: results.Run, task: Task | None) -> str:
    """The page of a run; its figures are written into the run's folder on the way.

    Args:
        run: what was measured.
        task: where the recordings are, or None.
    """
    metrics = run.metrics
    drawn = {plot.name: plot for plot in plots.draw(metrics, run.folder / FIGURES)}
    worst = mistakes.surest(run.predictions, task.root if task and isinstance(task.root, Path) else None)
    audible = any(mistake.sound for mistake in worst)
    script = source("script.js")
    page: str = template(
        source("template.html.j2")
    ).render(
        metrics=metrics,
        title=words.title(metrics),
        eyebrow=words.eyebrow(metrics),
        learner=words.learner(metrics),
        headline=words.headline(metrics),
        notes=metrics.get("notes") or [],
        bad_clips=metrics.get("bad_clips") or [],
        facts=words.facts(metrics),
        command=metrics.get("command") or "",
        recipe=(run.folder / results.RECIPE).read_text(encoding="utf-8").strip(),
        environment=json.dumps(run.environment, indent=2, ensure_ascii=False),
        selection=words.selection(metrics),
        tuned=words.tuned(metrics),
        alarm=words.alarm(metrics),
        training=words.training(metrics),
        thresholds_from=metrics.get("thresholds_from", "clips held out on the training side"),
        looked_for=(metrics.get("two_class") or {}).get("positive"),
        plots={name: {"title": plot.title, "svg": Markup(plot.svg)} for name, plot in drawn.items()},  # noqa: S704 - ours
        big_confusion=drawn["confusion"].width > _BIG,
        fold_words=words.folds(metrics),
        reliability_words=words.reliability(metrics),
        pairs=metrics["confused_pairs"][:PAIRS],
        scores=words.scores(metrics),
        mistakes=worst,
        audible=audible,
        credit=f"Recordings: {task.title or task.name}, {task.licence}." if task and task.licence and audible else "",
        version=run.environment.get("soundmark", __version__),
        style=Markup(source("style.css")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=digest(script),
    )
    return page.strip() + "\n"


def template(text: str) -> jinja2.Template:
    """A template of a page; whatever it is given is escaped, and what it is not given is an error."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "label": words.label, "count": words.count}
    environment.globals |= {"spread": spread}
    return environment.from_string(text)


def digest(script: str) -> str:
    """How a page's policy names the only script that may run in it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def source(name: str, package: str = "soundmark.report") -> str:
    """A part of a page that stands in a file of the package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
