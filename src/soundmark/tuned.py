"""The learner that finds its own settings: a recipe whose names hold ranges, searched inside the clips it is given.

The search is Optuna's: a tree-structured Parzen estimator proposes, and a network that does worse on its way than the
median of those before it is given up. All trials are judged on one part of the clips, held out with groups whole; then
the best settings are fitted on all of them. Since that happens inside `fit`, every round of a protocol searches its own
training side, and its test clips have no part in it.
"""

from __future__ import annotations

import copy
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from soundmark import encoders, metrics, trials
from soundmark.audio import WindowPolicy
from soundmark.encoders.pooling import Pooling
from soundmark.errors import SoundmarkError, SpecError
from soundmark.files import data_digest
from soundmark.learners import Heard, Learner, Probe, probes
from soundmark.networks.bank import Bank
from soundmark.networks.machine import Machine
from soundmark.recipe import NETWORK, PROBE, Recipe
from soundmark.spec import Range, corners, is_open, settled
from soundmark.splits import possible_splits
from soundmark.tasks.base import Clip, Task
from soundmark.trained import VALIDATION_FOLDS, Trained, trained
from soundmark.trials import Trial

if TYPE_CHECKING:
    import optuna

    from soundmark.networks.lesson import Course

STEPS = 10  # of a training, at which it is compared with others at the same share of their epochs
HEARD_AT_ONCE = 4  # ways in which the clips are kept in memory, where settings change how they are heard
_FORMAT = 1  # of the file of trials


@dataclass
class Tuned:
    """Probes or networks with settings to be found; a learner like any other.

    Attributes:
        recipe: its names hold what is to be tuned, and `trials` how many settings are tried in one fit.
        machine: what networks are trained on.
        track: who else is told of every epoch of every trial.
        progress: show bars on a terminal.
        winner: fitted with the best settings, after `fit`.
        told: after `fit`; see `training`.
        classes: those it was fitted on.
        threads: see `Learner`.
    """

    recipe: Recipe
    machine: Machine = field(default_factory=Machine)
    track: tuple[str, ...] = ()
    progress: bool = True
    winner: Probe | Trained | None = field(init=False, default=None, repr=False)
    told: dict[str, Any] = field(init=False, default_factory=dict, repr=False)
    classes: tuple[str, ...] = field(init=False, default=())
    threads: int = field(init=False, default=1)

    def __post_init__(self) -> None:
        import optuna  # noqa: F401 - that it is missing is an error now, not after the clips are heard

        self.names = _names(self.recipe)
        self.banks: dict[str, Bank] = {}
        self.heard: dict[tuple[str, str], Heard] = {}
        self.preparing = threading.Lock()
        self.first, *_ = self.examples()  # misspelt names and ends out of bounds are errors now too
        self.threads = self.first.threads
        self.task: Task | None = None
        self.bad: dict[Clip, str] = {}
        self.heard_as = ""

    def examples(self) -> Iterator[Probe | Trained]:
        """Learners at the ends of all ranges and with every value of all lists, though not in all combinations."""
        ends = {kind: corners(text) if text else [""] for kind, text in self.names.items()}
        for number in range(max(map(len, ends.values()))):
            yield self._made({kind: texts[number % len(texts)] for kind, texts in ends.items()})

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes; before `fit`, what one of its candidates takes."""
        return (self.winner or self.first).sample_rate

    @property
    def policy(self) -> WindowPolicy:
        """How a clip becomes input; before `fit`, that of one of its candidates."""
        return (self.winner or self.first).policy

    def describe(self) -> Mapping[str, str]:
        """See `Learner.describe`: what is searched; once fitted, what was found."""
        return self.winner.describe() if self.winner else self.names | {"trials": f"{self.recipe.trials} trials"}

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        """See `Learner.prepare`; settings that change how clips are heard hear them again when they are tried."""
        self.progress = self.progress and progress
        self.bad = self.first.prepare(task, strict=strict, progress=progress)
        self.task, self.heard_as = task, self.first.fingerprint()
        return self.bad

    def fingerprint(self) -> str:
        """See `Learner.fingerprint`."""
        return self.heard_as

    def fresh(self) -> Tuned:
        """See `Learner.fresh`."""
        other = copy.copy(self)
        other.winner, other.told = None, {}
        return other

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        """See `Learner.fit`: search on a part of these clips, and fit the best settings on all of them.

        Where the groups leave nothing to hold out, nothing is tried: settings are the middles of their ranges and the
        firsts of their lists.

        Raises:
            SoundmarkError: if every trial failed.
        """
        splits = possible_splits(task.targets(), [clip.group for clip in task.clips], VALIDATION_FOLDS, seed)
        tried = self._search(task, *splits[0], seed, place) if splits else []
        complete = [trial for trial in tried if trial.state == "complete"]
        if tried and not complete:
            raise SoundmarkError(f"all {len(tried)} trials failed; the first says: {tried[0].error}")
        best = max(complete, key=lambda trial: trial.rank) if complete else self._middle()
        winner = self._ready(best.names)
        if isinstance(winner, Trained):
            winner.fit(task, seed, place, _course(best) if complete else None)
        else:
            winner.fit(task, seed, place)
        self.winner, self.classes = winner, winner.classes
        self.told = dict(winner.training()) | {
            "tuned": {
                "trials": len(tried),
                "pruned": sum(trial.state == "pruned" for trial in tried),
                "failed": sum(trial.state == "failed" for trial in tried),
                "held_out": len(splits[0][1]) if splits else 0,
                "seconds": round(sum(trial.seconds for trial in tried), 2),
                "best": best.settings,
                "score": best.score,
                "searched": [
                    {"settings": trial.settings, "score": trial.score, "state": trial.state} for trial in tried
                ],
            }
        }

    def training(self) -> dict[str, Any]:
        """See `Learner.training`: the winner's, and under `tuned` the search.

        That has how many `trials` there were, of which `pruned` and `failed`, the clips `held_out`, the `seconds` of
        all trials, the `best` settings with their `score`, and everything that was `searched`.
        """
        return self.told

    def predict_proba(self, task: Task) -> np.ndarray:
        """See `Learner.predict_proba`."""
        assert self.winner is not None
        return self.winner.predict_proba(task)

    # --- Candidates --------------------------------------------------------------------------------------------------

    def _made(self, names: Mapping[str, str]) -> Probe | Trained:
        """The learner of these names, which hold nothing open."""
        if "network" in names:
            return Trained(
                names["network"],
                names["augment"],
                names["training"],
                self.machine,
                self.track,
                self.banks,
                self.progress,
                teacher_of(self.recipe, self.machine, self.banks),
                self.recipe.teacher,
            )
        key = names["encoder"], names["pooling"]
        if key not in self.heard:
            alike = (heard.encoder for (encoder, _), heard in self.heard.items() if encoder == names["encoder"])
            self.heard[key] = Heard(next(alike, None) or encoders.load(names["encoder"]), Pooling(names["pooling"]))
        self.heard[key] = self.heard.pop(key)
        _forget(self.heard)
        return Probe(*key, names["head"], self.heard[key])

    def _ready(self, names: Mapping[str, str]) -> Probe | Trained:
        """That learner with the clips heard as it hears them."""
        assert self.task is not None, "prepare first"
        with self.preparing:  # folds may search side by side
            learner = self._made(names)
            bad = learner.prepare(self.task, progress=self.progress)
            if isinstance(learner, Trained):
                self.banks[learner.key] = self.banks.pop(learner.key)
                _forget(self.banks)
        if lost := bad.keys() - self.bad.keys():
            raise SoundmarkError(bad[next(iter(lost))])
        return learner

    def _middle(self) -> Trial:
        settings: dict[str, str] = {}

        def choose(name: str, among: Range | Sequence[str]) -> str:
            settings[name] = among.write(among.middle) if isinstance(among, Range) else among[0]
            return settings[name]

        return Trial(_settled(self.names, choose), settings, {})

    # --- Search ------------------------------------------------------------------------------------------------------

    def _search(self, task: Task, train: np.ndarray, held: np.ndarray, seed: int, place: Path | None) -> list[Trial]:
        """Every trial, the first ones from `place` where they are known."""
        asked = [
            _FORMAT, self.names, self.heard_as, seed, task.metric, task.classes,
            [asdict(clip) for clip in task.clips], train.tolist(), held.tolist(),
        ]  # fmt: skip
        identity = data_digest(asked)
        tried = trials.read(place, identity)[: self.recipe.trials]
        title = f"{place.name}: trials" if place else "trials"
        hidden = None if self.progress and self.threads != 1 else True
        with tqdm(
            total=self.recipe.trials, initial=len(tried), desc=title, unit="trial", leave=False, disable=hidden
        ) as bar:
            while len(tried) < self.recipe.trials:
                own = place / f"trial{len(tried) + 1}" if place else None
                tried.append(self._try(task, train, held, seed, own, tried))
                if place is not None and own is not None:
                    trials.write(place, identity, tried)
                    shutil.rmtree(own, ignore_errors=True)
                bar.update()
        return tried

    def _try(
        self, task: Task, train: np.ndarray, held: np.ndarray, seed: int, place: Path | None, before: Sequence[Trial]
    ) -> Trial:
        """The next trial. What it tries depends on the seed and on the trials before, and not on any stop."""
        proposal = trials.proposal(before, seed)
        trial = Trial({}, {}, {})
        trial.names = _settled(self.names, partial(trial.choose, proposal))
        for other in before:
            if other.names == trial.names:  # it would do the same again
                return replace(other, drawn=trial.drawn, seconds=0.0)
        started = time.perf_counter()
        try:
            learner = self._ready(trial.names)
            if isinstance(learner, Trained):
                said = _watched(learner, trial, proposal, task, train, held, seed, place)
            else:
                learner.fit(task.subset(train), seed)
                said = learner.predict_proba(task.subset(held))
            if said is not None:
                _judge(trial, task, held, said)
        except SoundmarkError as error:  # a rate too high, say: nothing that others need to fail for
            trial.state, trial.error, trial.rows = "failed", str(error), []
        trial.seconds = time.perf_counter() - started
        return trial


def candidates_of(recipe: Recipe, *, machine: Machine | None = None, track: Sequence[str] = ()) -> list[Learner]:
    """Every learner that a recipe names: one that searches where it asks for trials, else one for each candidate.

    Args:
        recipe: what to measure.
        machine: what networks are trained on.
        track: who else is told how their training goes.

    Raises:
        SpecError: if names hold ranges and the recipe asks for no trials, or the other way round.
    """
    names, machine = _names(recipe), machine or Machine()
    if recipe.trials:
        if all(len(corners(text)) == 1 for text in names.values() if text):
            raise SpecError(
                f"there is nothing to tune in {' '.join(filter(None, names.values()))}: give a setting a range, as "
                "rate=0.0001..0.01, or values, as C=1,10"
            )
        return [Tuned(recipe, machine, tuple(track))]
    if opened := [text for text in names.values() if text and is_open(text)]:
        raise SpecError(f"{opened[0]} holds a range: find the best of it with soundmark tune, or say how many --trials")
    if recipe.network:
        return list(
            trained(
                recipe.network, recipe.augment, recipe.training,
                machine=machine, track=track, teacher=teacher_of(recipe, machine), teacher_name=recipe.teacher,
            )
        )  # fmt: skip
    return list(probes(recipe.encoder, recipe.pooling, recipe.head))


def teacher_of(recipe: Recipe, machine: Machine, banks: dict[str, Bank] | None = None) -> Trained | None:
    """The network that a recipe's `teacher` describes, untrained.

    Raises:
        SpecError: if that is no recipe, or one of something else than one network.
    """
    if not recipe.teacher:
        return None
    asked = Recipe.read(recipe.teacher)
    names = _names(asked)
    alone = all(len(corners(text)) == 1 for text in names.values() if text)
    if not asked.network or asked.trials or asked.teacher or not alone:
        raise SpecError(f"the recipe {recipe.teacher} cannot teach: a teacher is one network, with nothing to find")
    return Trained(
        names["network"], names["augment"], names["training"], machine, banks=banks if banks is not None else {}
    )


def _names(recipe: Recipe) -> dict[str, str]:
    return {kind: getattr(recipe, kind) for kind in (NETWORK if recipe.network else PROBE)}


def _settled(names: Mapping[str, str], choose: Any) -> dict[str, str]:
    return {kind: settled(text, kind, choose) if text else "" for kind, text in names.items()}


def _forget(kept: dict[Any, Any]) -> None:
    """Let go of what was longest without use."""
    while len(kept) > HEARD_AT_ONCE:
        del kept[next(iter(kept))]


def _watched(
    learner: Trained, trial: Trial, proposal: optuna.Trial, task: Task, train: np.ndarray, held: np.ndarray, seed: int,
    place: Path | None,
) -> np.ndarray | None:  # fmt: skip
    """Train a network; (clips, classes) probabilities of the clips held out, None if it was given up on the way."""
    pruned = False

    def report(row: dict[str, Any]) -> int:
        step = STEPS * row["epoch"] // learner.how.epochs
        for each in range(len(trial.reported) + 1, step + 1):
            trial.reported[each] = -row["valid_loss"]
            proposal.report(trial.reported[each], each)
        return int(step)

    def told(row: dict[str, Any]) -> bool:
        nonlocal pruned
        pruned = report(row) < STEPS and proposal.should_prune()
        return not pruned

    alone = learner.machine.devices == 1  # other processes cannot ask Optuna: there each training runs to its end
    course = learner.trial(task, train, held, seed, place, told if alone else None)
    if not alone:
        for row in course.rows:
            report(row)
    if pruned:
        trial.state = "pruned"
        return None
    trial.rows, trial.rates = course.rows, course.rates
    assert course.watched is not None
    said: np.ndarray = course.watched.double().softmax(1).numpy()
    return said


def _course(trial: Trial) -> Course:
    from soundmark.networks.lesson import Course

    return Course(list(trial.rows), list(trial.rates))


def _judge(trial: Trial, task: Task, held: np.ndarray, said: np.ndarray) -> None:
    """Give the trial its score on the clips held out."""
    if not np.isfinite(said).all():
        raise SoundmarkError("its probabilities are not finite")
    targets = np.asarray(task.targets())[held]
    trial.score, trial.log_loss = (metrics.score(name, targets, said) for name in (task.metric, "log_loss"))
    trial.state = "complete"
