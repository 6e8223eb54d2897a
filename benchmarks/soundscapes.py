"""Events in a stream: real ESC-50 clips of each test fold at known times, heard by that fold's own model.

    python benchmarks/soundscapes.py --models runs/soundscapes            # frozen mn04, logistic regression
    python benchmarks/soundscapes.py --recipe mark1 --run runs/mark1 --models runs/soundscapes-mark1

A fold's model is fitted on the other four folds, and its thresholds come from what was predicted for the clips of
those, each by a learner that had not heard the clip; `--run` takes these predictions from a finished run of the same
recipe. Models are kept as fold-N.onnx in the folder of `--models`, and taken from it where they are there.

Two questions. `classes`: clips of all 50 classes over pink noise. `danger`: clips of the classes of danger over
ambience made of the same fold's safe ones (rain, wind, sea waves and the like), through the view. Clips stand apart by
more than a window; their power over the background's, while they sound, is the stated number of dB, and all else is the
same at every one. Silence around the recorded sound (the collection fills clips up with zeros) is no part of the event.

False alarms per hour are those on all safe clips of a fold, one after the other.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import audio, metrics, protocol, runs, soundevents, tasks
from soundmark import model as model_files
from soundmark.environment import environment
from soundmark.events import Event, Settings, settings_for
from soundmark.files import write_json
from soundmark.listen import Listener
from soundmark.model import Classifier
from soundmark.recipe import Recipe
from soundmark.results import Predictions, Run
from soundmark.soundevents import Counts, by_events, by_segments, total
from soundmark.sources import Block, Say
from soundmark.tasks.base import Clip, Task, fold_rounds
from soundmark.tuned import candidates_of

RESULT = Path(__file__).resolve().parents[1] / "results" / "soundscapes" / "mn04.json"
RATE = 44_100
AMBIENT = ("rain", "sea_waves", "wind", "crickets", "chirping_birds", "washing_machine", "vacuum_cleaner", "engine")
BACKGROUND_LEVEL = 0.02  # root mean square
APART = 3.0  # seconds, beyond a window, from the end of a clip to the start of the next; and up to as much again
QUIET_DB = 40.0  # below its loudest twentieth of a second, the beginning and end of a clip are no part of the event
PER_SCENE = 5  # clips; each scene has a background of its own


# --- Models --------------------------------------------------------------------------------------------------------


def fold_models(task: Task, recipe: Recipe, run: Path | None, folder: Path, folds: Sequence[str]) -> dict[str, Path]:
    """A model file for every fold, made where it is not there."""
    paths = {fold: folder / f"fold-{fold}.onnx" for fold in folds}
    missing = [fold for fold, path in paths.items() if not path.is_file()]
    if not missing:
        return paths
    learners = candidates_of(recipe)
    if run:
        predictions = Run.read(run).predictions
        for learner in learners:
            learner.prepare(task)
    else:
        predictions = protocol.evaluate(task, learners, seed=recipe.seed, inner_folds=recipe.inner_folds).predictions
    for fold in missing:
        others = [clip for clip in task.clips if clip.fold != fold]
        part = replace(task, clips=tuple(others), rounds=fold_rounds(others), protocol=f"all folds but {fold}")
        known = without(predictions, fold)
        summary = metrics.summary(known, metric=task.metric, positive=task.positive, over=task.over)
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_model(part, learners, recipe, paths[fold], summary, known)
    return paths


def without(predictions: Predictions, fold: str) -> Predictions:
    """What was predicted for the clips of all other folds."""
    kept = [place for place, each in enumerate(predictions.folds) if each != fold]
    rows: dict[str, Any] = {
        key: [getattr(predictions, key)[place] for place in kept]
        for key in ("clips", "paths", "starts", "ends", "groups", "folds")
    }
    return replace(
        predictions, **rows, targets=predictions.targets[kept], probabilities=predictions.probabilities[kept]
    )


# --- Sound ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A stretch of sound, and what is in it."""

    sound: np.ndarray
    events: list[Event]


def heard_part(samples: np.ndarray) -> np.ndarray:
    """A clip without the silence before and after it."""
    step = RATE // 20
    blocks = samples[: len(samples) // step * step].reshape(-1, step)
    levels = np.sqrt((blocks.astype(np.float64) ** 2).mean(axis=1))
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-QUIET_DB / 20))
    return samples[loud[0] * step : (loud[-1] + 1) * step] if levels.max() > 0 else samples[:0]


def pink_noise(samples: int, draw: np.random.Generator) -> np.ndarray:
    """Noise whose power falls as 1 / f from 20 Hz on."""
    spectrum = np.fft.rfft(draw.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    noise: np.ndarray = np.fft.irfft(spectrum / np.sqrt(np.maximum(hertz, 20.0)), samples)
    return (noise * (BACKGROUND_LEVEL / np.sqrt((noise**2).mean()))).astype(np.float32)


def ambience(samples: int, clips: Sequence[np.ndarray], draw: np.random.Generator) -> np.ndarray:
    """One of these clips over and over, with its ends blended into each other."""
    clip = heard_part(clips[int(draw.integers(len(clips)))])
    blend = min(RATE // 2, len(clip) // 4)
    ramp = np.sin(np.linspace(0, np.pi / 2, blend)) ** 2
    body = clip[: len(clip) - blend].copy()
    body[:blend] = body[:blend] * ramp + clip[len(clip) - blend :] * (1 - ramp)
    whole = np.resize(body, samples)
    return (whole * (BACKGROUND_LEVEL / max(1e-6, np.sqrt((whole**2).mean())))).astype(np.float32)


def scenes(
    chosen: Sequence[tuple[str, np.ndarray]], background: Any, decibels: float, window: float, draw: np.random.Generator
) -> Iterator[Scene]:
    """Labelled clips over a background, some in each scene."""
    for first in range(0, len(chosen), PER_SCENE):
        parts, place = [], window + APART
        for label, samples in chosen[first : first + PER_SCENE]:
            sound = heard_part(samples)
            if not len(sound):
                continue
            parts.append((round(place * RATE), label, sound))
            place += len(sound) / RATE + window + APART * (1 + float(draw.random()))
        whole = background(round(place * RATE), draw)
        found = []
        for begin, _, sound in parts:
            under = whole[begin : begin + len(sound)].astype(np.float64)
            wanted = np.sqrt((under**2).mean()) * 10 ** (decibels / 20)
            scaled = sound * (wanted / np.sqrt((sound.astype(np.float64) ** 2).mean()))
            found.append((begin, scaled.astype(np.float32)))
        for begin, sound in found:
            whole[begin : begin + len(sound)] += sound
        whole /= max(1.0, float(np.abs(whole).max()))
        events = [Event(begin / RATE, (begin + len(sound)) / RATE, label, 1.0) for begin, label, sound in parts]
        yield Scene(whole, events)


# --- Listening -----------------------------------------------------------------------------------------------------


class Played:
    """A scene as a source, block by block."""

    name, live = "a scene", False

    def __init__(self, sound: np.ndarray) -> None:
        self.sound, self.over = sound, threading.Event()

    def blocks(self, say: Say) -> Iterator[Block]:
        """Half a second each."""
        step = RATE // 2
        for first in range(0, len(self.sound), step):
            if self.over.is_set():
                return
            yield Block(first / RATE, self.sound[first : first + step], RATE)

    def close(self) -> None:
        """Stop."""
        self.over.set()


def listen(model: Classifier, sound: np.ndarray, settings: Settings) -> tuple[list[Event], list[tuple[str, float]]]:
    """Events, and when each was told of first: (label, second)."""
    told = [change for moment in Listener(model, Played(sound), settings) for change in moment.changes]
    ended = [change.event for change in told if change.kind == "end"]
    return ended, [(change.event.label, change.time) for change in told if change.kind == "new"]


# --- Measuring -----------------------------------------------------------------------------------------------------


def measured(model: Classifier, settings: Settings, made: Iterator[Scene]) -> dict[str, Any]:
    """Counts and delays over scenes."""
    counts = {"segments": Counts(), "events": Counts(), "starts": Counts()}
    late: list[float | None] = []
    seconds, alerts = 0.0, 0
    for scene in made:
        found, raised = listen(model, scene.sound, settings)
        there = [event for event in scene.events if event.label in settings.thresholds]
        counts["segments"] += total(by_segments(there, found))
        counts["events"] += total(by_events(there, found))
        counts["starts"] += total(by_events(there, found, offsets=False))
        late += soundevents.delays(there, raised, settings.window_seconds)
        seconds += len(scene.sound) / RATE
        alerts += len(raised)
    return {"counts": counts, "delays": late, "hours": seconds / 3600, "alerts": alerts}


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over folds: F1 of all counts together and of each fold, delays of all events."""
    said: dict[str, Any] = {}
    for name in ("segments", "events", "starts"):
        counts = sum((part["counts"][name] for part in parts), Counts())
        said[name] = {
            "f1": rounded(counts.f1), "precision": rounded(counts.precision), "recall": rounded(counts.recall),
            "f1_by_fold": [rounded(part["counts"][name].f1) for part in parts], **asdict(counts),
        }  # fmt: skip
    late = [delay for part in parts for delay in part["delays"]]
    known = [delay for delay in late if delay is not None]
    said["alerts"] = {
        "events": len(late),
        "alerted": rounded(len(known) / len(late)) if late else None,
        "delay_median": rounded(float(np.median(known))) if known else None,
        "delay_p95": rounded(float(np.quantile(known, 0.95))) if known else None,
        "others_per_hour": rounded(
            (sum(part["alerts"] for part in parts) - len(known)) / sum(part["hours"] for part in parts)
        ),
    }
    return said


def rounded(value: float | None) -> float | None:
    """To be read."""
    return None if value is None else round(value, 4)


def safe_alarms(model: Classifier, settings: Settings, clips: Sequence[np.ndarray]) -> tuple[int, float]:
    """Alerts on safe clips one after the other, and their hours."""
    sound = np.concatenate(clips)
    return len(listen(model, sound, settings)[1]), len(sound) / RATE / 3600


def main() -> None:
    """Measure and write the result."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipe", help="of a learner on esc50: a TOML file, a run's folder, or a shipped one")
    options.add_argument("--run", type=Path, help="a finished run of the recipe, for its predictions")
    options.add_argument("--models", type=Path, help="folder where the folds' models are, or are kept")
    options.add_argument("--folds", nargs="+", help="these alone")
    options.add_argument("--decibels", nargs="+", type=float, default=[0.0, 6.0, 12.0])
    options.add_argument("--questions", nargs="+", choices=("classes", "danger"), default=["classes", "danger"])
    options.add_argument("--clips", type=int, default=100, help="most clips of a fold in `classes`; `danger` takes all")
    options.add_argument("--danger-clips", type=int, default=10_000, help="most clips of a fold in `danger`")
    options.add_argument("--safe-clips", type=int, default=10_000, help="most safe clips of a fold")
    options.add_argument("--window", type=float)
    options.add_argument("--hop", type=float)
    options.add_argument("--false-alarms", type=float, help="of danger's threshold: 0.05 or 0.01, see soundmark events")
    options.add_argument("--out", type=Path, default=RESULT)
    args = options.parse_args()
    recipe = Recipe.read(args.recipe) if args.recipe else Recipe("esc50", "mn04", "mean", "logreg?C=0.1")
    task = tasks.load("esc50", allow_partial=recipe.allow_partial)
    folds = args.folds or sorted({clip.fold for clip in task.clips})
    with tempfile.TemporaryDirectory() as temporary:
        paths = fold_models(task, recipe, args.run, args.models or Path(temporary), folds)
        models = {fold: model_files.load(path, threads=1) for fold, path in paths.items()}
    found: dict[str, dict[float, list[dict[str, Any]]]] = {
        name: {decibels: [] for decibels in args.decibels} for name in args.questions
    }
    alarms: list[tuple[int, float]] = []
    used: dict[str, Any] = {}
    view = tasks.load_view("danger", "esc50")
    for fold in folds:
        clips = [clip for clip in task.clips if clip.fold == fold]
        for name in args.questions:
            model = models[fold] if name == "classes" else models[fold].with_view(view)
            rate = args.false_alarms if name == "danger" else None
            settings = settings_for(model, window_seconds=args.window, hop_seconds=args.hop, false_alarms=rate)
            used[name] = {"window_seconds": settings.window_seconds, "hop_seconds": settings.hop_seconds}
            chosen, background = _material(task, clips, view, name, args, fold)
            for decibels in args.decibels:
                draw = np.random.default_rng([int(fold), len(name)])  # the same scenes, louder or softer
                made = scenes(chosen, background, decibels, settings.window_seconds, draw)
                found[name][decibels].append(measured(model, settings, made))
                print(f"fold {fold}, {name}, {decibels:g} dB", file=sys.stderr, flush=True)
            if name == "danger":
                safe = _some([clip for clip in clips if view.target(clip.label) == "safe"], args.safe_clips, fold)
                alarms.append(safe_alarms(model, settings, [_read(task, clip) for clip in safe]))
    result = {
        "title": "Events in a stream: ESC-50's test clips at known times, each fold by its own model",
        "command": " ".join(["python", "benchmarks/soundscapes.py", *sys.argv[1:]]),
        "learner": {key: value for key, value in asdict(recipe).items() if value},
        "folds": folds,
        "settings": used,
        "threshold": {
            "classes": "the model file's own",
            "danger": f"at {args.false_alarms or 0.05:g} false alarms among safe clips of the other folds",
        },
        "questions": {
            name: {f"{decibels:g} dB": joined(parts) for decibels, parts in by_level.items()}
            for name, by_level in found.items()
        },
        "safe": {
            "alerts": sum(count for count, _ in alarms),
            "hours": rounded(sum(hours for _, hours in alarms)),
            "false_alarms_per_hour": rounded(sum(c for c, _ in alarms) / sum(h for _, h in alarms)),
            "by_fold": [rounded(count / hours) for count, hours in alarms],
        }
        if alarms
        else None,
        "environment": environment(),
    }
    result |= _table(result)
    write_json(args.out, result)
    for name, by_level in result["questions"].items():
        for level, said in by_level.items():
            print(
                f"{name}, {level}: F1 {said['segments']['f1']} by segments, {said['events']['f1']} by events, "
                f"alerted {said['alerts']['alerted']} after {said['alerts']['delay_median']} s "
                f"(95 %: {said['alerts']['delay_p95']} s)"
            )
    print(f"safe clips: {result['safe']}")


def _table(result: dict[str, Any]) -> dict[str, Any]:
    """The result as rows, for the documentation."""
    rows = [
        [
            name,
            level,
            *(
                "–" if said[key]["f1"] is None else f"{100 * said[key]['f1']:.1f} %"
                for key in ("segments", "events", "starts")
            ),
            "–" if said["alerts"]["alerted"] is None else f"{100 * said['alerts']['alerted']:.1f} %",
            *(
                "–" if said["alerts"][key] is None else f"{said['alerts'][key]:.1f} s"
                for key in ("delay_median", "delay_p95")
            ),
            f"{said['alerts']['others_per_hour']:.0f}",
        ]
        for name, by_level in result["questions"].items()
        for level, said in by_level.items()
    ]
    notes = [
        f"F1 after sed_eval's definitions. Folds {', '.join(result['folds'])}; delays from the start of a sound to its "
        "alert."
    ]
    if result["safe"]:
        notes.append(
            f"On {result['safe']['hours']:.2f} h of safe clips one after the other: "
            f"{result['safe']['false_alarms_per_hour']:.1f} false alarms per hour."
        )
    columns = ["question", "over background", "F1, segments of 1 s", "F1, events within 200 ms", "F1, starts alone"]
    return {
        "columns": [*columns, "alerted", "delay, median", "delay, 95 %", "other alerts an hour"],
        "rows": rows,
        "notes": notes,
    }


def _material(
    task: Task, clips: Sequence[Clip], view: Any, name: str, args: argparse.Namespace, fold: str
) -> tuple[list[tuple[str, np.ndarray]], Any]:
    """Labelled clips of a question in an order of chance, and what makes its background."""
    if name == "classes":
        some = _some(clips, args.clips, fold)
        return [(clip.label, _read(task, clip)) for clip in some], pink_noise
    some = _some([clip for clip in clips if view.target(clip.label) == "danger"], args.danger_clips, fold)
    under = [_read(task, clip) for clip in clips if clip.label in AMBIENT]
    under = [samples for samples in under if len(heard_part(samples)) > 2 * RATE]
    return [("danger", _read(task, clip)) for clip in some], lambda samples, draw: ambience(samples, under, draw)


def _some(clips: Sequence[Clip], most: int, fold: str) -> list[Clip]:
    order = np.random.default_rng(int(fold)).permutation(len(clips))
    return [clips[i] for i in order[:most]]


def _read(task: Task, clip: Clip) -> np.ndarray:
    return audio.read(task.path(clip), RATE)[0]


if __name__ == "__main__":
    main()
