"""The one loop that measures a learner: choose on the training side, refit, test once.

Laws it keeps: the task's own protocol; nothing fitted or chosen on test clips; a group on both sides is an error;
every finished round is saved, so a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from soundmark import metrics
from soundmark.detection import FALSE_ALARM_RATES
from soundmark.errors import ResultsError, SoundmarkError, TaskError
from soundmark.files import write_json
from soundmark.learners import Learner, describe
from soundmark.results import Predictions
from soundmark.splits import INNER_FOLDS, possible_splits
from soundmark.tasks.base import Clip, Round, Task, check_groups


@dataclass
class RoundResult:
    """What one round gave.

    Attributes:
        name: the fold.
        keys: the test clips.
        probabilities: (clips, classes), by the chosen learner refitted on the whole training side.
        chosen: position of the winner among the candidates.
        scores: inner score of every candidate; empty when there was nothing to choose.
        thresholds: for two-class tasks, the threshold on the positive class by stated false-alarm rate, taken from
            out-of-fold scores of the training side.
        seconds: what fitting and testing took.
        training: how the fit went, see `Learner.training`.
    """

    name: str
    keys: list[str]
    probabilities: list[list[float]]
    chosen: int = 0
    scores: list[float] = field(default_factory=list)
    thresholds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """The outcome of a protocol: predictions of every test clip, and the summary that goes into metrics.json."""

    task: Task
    predictions: Predictions
    summary: dict[str, Any]


def evaluate(
    task: Task,
    candidates: Sequence[Learner],
    *,
    seed: int = 0,
    folder: Path | None = None,
    inner_folds: int = INNER_FOLDS,
    strict: bool = False,
    progress: bool = True,
    side_by_side: int | None = None,
) -> Measured:
    """Measure a learner by the task's protocol.

    Args:
        task: clips and rounds.
        candidates: one learner, or several among which every round chooses by a group-aware split of its own
            training side; the winner is refitted on that whole side, then tested once.
        seed: of heads and inner splits.
        folder: where finished rounds are kept; a run that was stopped goes on from them.
        inner_folds: folds of the inner split.
        strict: raise on clips that cannot be read, instead of leaving them out and listing them.
        progress: show bars on a terminal.
        side_by_side: how many rounds of one-core learners are measured at once; by default one per core.

    Raises:
        LeakError: if a group stands on both sides of a round.
        TaskError: if a round has no clips left on one side.
    """
    if not candidates:
        raise SoundmarkError("nothing to measure: name at least one learner")
    started = time.perf_counter()
    bad: dict[Clip, str] = {}
    for learner in candidates:
        bad |= learner.prepare(task, strict=strict, progress=progress)
    task = task.drop(bad)
    encoded = time.perf_counter()
    for each in task.rounds:
        check_groups(task, each)
        if not (each.train and each.test):
            raise TaskError(
                f"{task.full_name}: fold {each.name} has no readable clips on one side; nothing can be measured"
            )
    identity = _identity(task, candidates, seed, inner_folds)

    def work(each: Round) -> RoundResult:
        asked = f"{identity} {each.train} {each.test}"
        known = _saved(folder, each, asked)
        if known is None:
            place = _place(folder, "training", each.name)
            with _alone(place):
                known = _round(task, each, candidates, seed, inner_folds, place)
                _save(folder, known, asked)
                if place is not None:
                    shutil.rmtree(place, ignore_errors=True)
        return known

    most = side_by_side or os.cpu_count() or 1
    at_once = most if all(learner.threads == 1 for learner in candidates) else 1
    results = _each(work, task.rounds, at_once, f"{task.full_name}: {describe(candidates[0])}", progress)
    if folder is not None:
        with suppress(OSError):  # another process may be at work on another fold
            (folder / "training").rmdir()
    predictions = _predictions(task, results)
    summary = metrics.summary(predictions, metric=task.metric, positive=task.positive, over=task.over)
    summary |= _about(task, candidates, results, bad, seed)
    if task.positive and all(result.thresholds for result in results):
        thresholds = {result.name: result.thresholds for result in results}
        summary["alarm"] = metrics.alarm_rows(predictions, task.positive, thresholds)
    summary["seconds"] = {
        "encode": round(encoded - started, 3),
        "fit_and_test": round(sum(result.seconds for result in results), 3),
    }
    return Measured(task, predictions, summary)


def choose(
    task: Task, candidates: Sequence[Learner], *, seed: int, inner_folds: int = INNER_FOLDS, place: Path | None = None
) -> tuple[int, list[float]]:
    """The best candidate by out-of-fold score inside these clips, and every candidate's score.

    Ties go to the first; where no clip can be held out, all are tied. `place` is a folder for what long fits keep.
    """
    if len(candidates) == 1:
        return 0, []
    targets = np.asarray(task.targets())
    scores = [
        metrics.score(
            task.metric,
            targets,
            out_of_fold(task, learner, seed=seed, inner_folds=inner_folds, place=_inside(place, f"candidate{number}")),
        )
        for number, learner in enumerate(candidates)
    ]
    return int(np.argmax(scores)), scores


def out_of_fold(
    task: Task, learner: Learner, *, seed: int, inner_folds: int = INNER_FOLDS, place: Path | None = None
) -> np.ndarray:
    """(clips, classes) probabilities of every clip by a learner that was fitted without that clip's group.

    Clips whose class has a single group cannot be held out; they get the frequencies of the classes instead.
    """
    targets = task.targets()
    splits = _inner(task, seed, inner_folds)
    prior = np.bincount(targets, minlength=len(task.classes)) / len(targets)
    probabilities = np.tile(prior, (len(targets), 1))
    for number, (train, test) in enumerate(splits):
        fitted = learner.fresh()
        fitted.fit(task.subset(train), seed, _inside(place, f"inner{number}"))
        probabilities[test] = fitted.predict_proba(task.subset(test))
    return probabilities


def alarm_thresholds(
    train: Task, learner: Learner, *, seed: int, inner_folds: int = INNER_FOLDS, place: Path | None = None
) -> dict[str, float]:
    """Thresholds on the positive class's probability, by stated rate of false alarms, from out-of-fold scores.

    None where no clip of the other class can be held out.
    """
    positive = train.classes.index(train.positive)
    scores = out_of_fold(train, learner, seed=seed, inner_folds=inner_folds, place=place)[:, positive]
    is_positive = np.asarray(train.targets()) == positive
    held = held_out(train, seed=seed, inner_folds=inner_folds)
    if is_positive[held].all():
        return {}
    return {
        str(rate): float(metrics.choose_threshold(scores[held], is_positive[held], rate)) for rate in FALSE_ALARM_RATES
    }


def held_out(task: Task, *, seed: int, inner_folds: int = INNER_FOLDS) -> np.ndarray:
    """Positions of the clips whose `out_of_fold` probabilities are a learner's; the others got mere frequencies."""
    tests = [test for _, test in _inner(task, seed, inner_folds)]
    return np.unique(np.concatenate(tests)) if tests else np.empty(0, dtype=np.int64)


def _inner(task: Task, seed: int, inner_folds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return possible_splits(task.targets(), [clip.group for clip in task.clips], inner_folds, seed)


def _round(
    task: Task, each: Round, candidates: Sequence[Learner], seed: int, inner_folds: int, place: Path | None
) -> RoundResult:
    started = time.perf_counter()
    train, test = task.subset(each.train), task.subset(each.test)
    inner: dict[str, Any] = {"seed": seed, "inner_folds": inner_folds}
    chosen, scores = choose(train, candidates, place=place, **inner)
    alone = _inside(place, f"candidate{chosen}")  # what was fitted for the choice need not be fitted again
    thresholds = alarm_thresholds(train, candidates[chosen], place=alone, **inner) if task.positive else {}
    winner = candidates[chosen].fresh()
    winner.fit(train, seed, place)
    said = winner.predict_proba(test)
    if not np.isfinite(said).all():
        raise ResultsError(
            f"{task.full_name}: {describe(candidates[chosen])} gives probabilities that are not finite in fold "
            f"{each.name}; choose milder settings"
        )
    return RoundResult(
        each.name,
        [clip.key for clip in test.clips],
        said.tolist(),
        chosen,
        scores,
        thresholds,
        time.perf_counter() - started,
        winner.training(),
    )


def _each(
    work: Callable[[Round], RoundResult], rounds: Sequence[Round], threads: int, title: str, progress: bool
) -> list[RoundResult]:
    pool = ThreadPoolExecutor(min(threads, len(rounds)))
    failed = threading.Event()

    def unless_failed(each: Round) -> RoundResult:
        if failed.is_set():
            raise ResultsError(f"fold {each.name} was not begun, for another one failed")
        try:
            return work(each)
        except BaseException:
            failed.set()
            raise

    with tqdm(total=len(rounds), desc=title, unit="fold", disable=None if progress else True) as bar:
        futures = [pool.submit(unless_failed, each) for each in rounds]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        try:
            return [future.result() for future in futures]
        except Exception:  # let the fits under way end: one saved later would bring back a folder that was cleared
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:  # an interrupt does not wait for the fits under way; their folds are simply not saved
            pool.shutdown(wait=False, cancel_futures=True)


def _predictions(task: Task, results: Sequence[RoundResult]) -> Predictions:
    rows = [
        (each, place, i) for each, result in zip(task.rounds, results, strict=True) for place, i in enumerate(each.test)
    ]
    rows.sort(key=lambda row: row[2])
    by_name = {result.name: result for result in results}
    clips = [task.clips[i] for _, _, i in rows]
    targets = np.asarray(task.targets())
    return Predictions(
        clips=[clip.key for clip in clips],
        paths=[clip.path for clip in clips],
        starts=[clip.start for clip in clips],
        ends=[clip.end for clip in clips],
        groups=[clip.group for clip in clips],
        folds=[each.name for each, _, _ in rows],
        targets=targets[[i for _, _, i in rows]],
        probabilities=np.array([by_name[each.name].probabilities[place] for each, place, _ in rows]),
        classes=task.classes,
    )


def _about(
    task: Task, candidates: Sequence[Learner], results: Sequence[RoundResult], bad: dict[Clip, str], seed: int
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "task": task.full_name,
        "title": task.title,
        "protocol": task.protocol,
        "learner": dict(candidates[0].describe()),
        "seed": seed,
        "notes": list(task.notes),
        "bad_clips": [{"clip": clip.key, "error": text} for clip, text in bad.items()],
    }
    if len(candidates) > 1:
        about["learner"] = {
            "candidates": str(len(candidates)),
            "chosen": "on the training side of every fold",
        }
        about["selection"] = [
            {
                "fold": result.name,
                "chosen": describe(candidates[result.chosen]),
                "candidates": [
                    {"learner": describe(learner), "score": score}
                    for learner, score in zip(candidates, result.scores, strict=True)
                ],
            }
            for result in results
        ]
    told = [{"fold": result.name, **result.training} for result in results]
    if all("tuned" in each for each in told):
        about["tuned"] = [{"fold": each["fold"], **each.pop("tuned")} for each in told]
    if all("history" in each for each in told):
        about["training"] = told
    return about


def _identity(task: Task, candidates: Sequence[Learner], seed: int, inner_folds: int) -> str:
    """A digest of all that a round depends on but its clips, so that a saved one answers the same question only."""
    asked = {
        "clips": [asdict(clip) for clip in task.clips],
        "classes": task.classes,
        "candidates": [dict(learner.describe()) for learner in candidates],
        "prepared": [learner.fingerprint() for learner in candidates],
        "metric": task.metric,
        "positive": task.positive,
        "seed": seed,
        "inner_folds": inner_folds,
    }
    return _digest(json.dumps(asked, sort_keys=True))


def _place(folder: Path | None, kind: str, name: str) -> Path | None:
    """Where a round keeps something."""
    return folder and folder / kind / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _inside(place: Path | None, name: str) -> Path | None:
    return place and place / name


@contextmanager
def _alone(place: Path | None) -> Iterator[None]:
    """Keep two processes from working on one round of one run: they would write the same files."""
    if place is None:
        yield
        return
    import filelock

    place.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place.with_name(f"{place.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ResultsError(
            f"fold {place.name} of {place.parents[1]} is being measured by another process: wait for it, or name "
            "another folder with --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)


def _save(folder: Path | None, result: RoundResult, identity: str) -> None:
    path = _place(folder, "folds", result.name)
    if path is not None:
        write_json(path.with_name(path.name + ".json"), {"identity": _digest(identity)} | asdict(result))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _saved(folder: Path | None, each: Round, identity: str) -> RoundResult | None:
    place = _place(folder, "folds", each.name)
    if place is None:
        return None
    path = place.with_name(place.name + ".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (
            content.pop("identity") != _digest(identity) or content["name"] != each.name
        ):  # "a/b" and "a b" share a file's name
            return None
        return RoundResult(**content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ResultsError(f"{path} is not a saved fold ({error}); delete it and run again") from None
