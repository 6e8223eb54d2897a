"""The learner that is trained end to end: a network, what is done to its clips, and how it is trained.

The number of epochs is found inside the training side: the network is trained on a part of it and watched on the rest,
groups kept whole; then a fresh one is trained on all of it for as many epochs as served best. A plateau schedule's path
is followed; the others, which are there to end softly, run their whole course in those epochs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from soundmark import networks
from soundmark.audio import WindowPolicy
from soundmark.environment import environment
from soundmark.errors import SoundmarkError, SpecError
from soundmark.files import data_digest
from soundmark.networks import augment, tracking
from soundmark.networks.bank import Bank, bank
from soundmark.networks.base import Exported
from soundmark.networks.machine import Machine
from soundmark.networks.settings import parse_training
from soundmark.spec import candidates
from soundmark.splits import possible_splits
from soundmark.tasks import show
from soundmark.tasks.base import Clip, Task

if TYPE_CHECKING:
    from soundmark.networks.lesson import Course, Lesson, Teacher

VALIDATION_FOLDS = 5  # one of them is held out to find the number of epochs


@dataclass
class Trained:
    """A network with its training; a learner like any other.

    Attributes:
        network_name, augment_name, training_name: names in the grammar.
        machine: what it is trained on.
        track: `mlflow`, `tensorboard`: who else is told of every epoch.
        banks: clips in memory, which candidates that hear alike share.
        progress: show bars on a terminal.
        teacher: a learner of another network, if any, that is trained first, on the very same clips, and then asked in
            every step what it takes the clips for, mixed and changed as they are.
        teacher_name: the recipe of that.
        network: with its weights, after `fit`.
        classes: after `fit`.
        told: after `fit`; see `Learner.training`.
    """

    network_name: str
    augment_name: str = ""
    training_name: str = "adamw"
    machine: Machine = field(default_factory=Machine)
    track: tuple[str, ...] = ()
    banks: dict[str, Bank] = field(default_factory=dict, repr=False)
    progress: bool = True
    teacher: Trained | None = None
    teacher_name: str = ""
    network: networks.Network | None = field(init=False, default=None, repr=False)
    classes: tuple[str, ...] = field(init=False, default=())
    told: dict[str, Any] = field(init=False, default_factory=dict, repr=False)
    threads: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.how = parse_training(self.training_name)
        self.augment = augment.parse(self.augment_name)
        self.blank = networks.build(self.network_name, 2)  # misspelt names are errors now, not after an hour
        self.augment.check(self.blank.front)
        self.machine.first()
        tracking.check(self.track)
        self.key = ""
        if self.teacher is not None and not (self.keeps and self.teacher.keeps):
            raise SpecError(
                f"{self.network_name} cannot be taught by {self.teacher_name}: they have to hear the same, so both "
                "need spectrograms that can be kept (no keep=false, no on=waveform)"
            )

    def describe(self) -> Mapping[str, str]:
        """See `Learner.describe`."""
        said = {"network": self.network_name, "augment": self.augment_name, "training": self.training_name}
        return said | ({"teacher": self.teacher_name} if self.teacher else {})

    @property
    def keeps(self) -> bool:
        """Whether clips are kept as spectrograms; else they are waveforms, heard anew in every step."""
        return self.how.keep and self.blank.front is not None and not self.augment.needs_waveforms

    @property
    def exportable(self) -> bool:
        """Whether a model file can be written from it."""
        return self.blank.exportable

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return self.blank.sample_rate

    @property
    def policy(self) -> WindowPolicy:
        """How a clip becomes input; it travels into the model file."""
        return self.bank.policy

    @property
    def bank(self) -> Bank:
        """The clips, after `prepare`."""
        return self.banks[self.key]

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        """See `Learner.prepare`. A spectrogram learns nothing, so hearing both sides at once leaks nothing."""
        front, policy = self.blank.front, self.blank.policy
        if not policy.window_seconds:
            crop = self.how.crop or _median_seconds(task)
            policy = replace(policy, min_seconds=max(policy.min_seconds, crop))
            if self.how.windows:
                policy = replace(policy, window_seconds=policy.min_seconds)
        policy = replace(policy, fill="loop" if self.how.fill == "loop" else "zero")
        keep = self.keeps
        heard = f"{front.key if front and keep else f'waveforms at {self.sample_rate} Hz'} | {policy}"
        self.key = f"{task.full_name} | {heard}"
        if self.key not in self.banks:
            self.banks[self.key] = bank(
                task, front, self.sample_rate, policy, keep=keep, strict=strict, progress=progress
            )
        bad = self.teacher.prepare(task, strict=strict, progress=progress) if self.teacher else {}
        return bad | self.bank.bad

    def fingerprint(self) -> str:
        """See `Learner.fingerprint`: of the files, of how they are heard, and of who teaches."""
        taught = f" {dict(self.teacher.describe())} {self.teacher.fingerprint()}" if self.teacher else ""
        return f"{self.bank.digest} {self.key}{taught}"

    def fresh(self) -> Trained:
        """See `Learner.fresh`."""
        other = copy.copy(self)
        other.network, other.told = None, {}
        other.teacher = self.teacher.fresh() if self.teacher else None
        return other

    def fit(self, task: Task, seed: int, place: Path | None = None, course: Course | None = None) -> None:
        """See `Learner.fit`.

        Args:
            task: the clips.
            seed: of everything that is drawn.
            place: a folder, of this fit alone, for what is kept to go on from after a stop.
            course: of a `trial` on these clips, to take the number of epochs from; without, one is run.
        """
        whole = self._lesson(task, seed)
        rows: list[dict[str, Any]] = []
        if self.how.validate and course is None:
            groups = [clip.group for clip in task.clips]
            splits = possible_splits(task.targets(), groups, VALIDATION_FOLDS, seed)
            course = self.trial(task, *splits[0], seed, place) if splits else None
        if course is not None:
            rows += [{"stage": "choose", **row} for row in course.rows]
            if self.how.validate:
                rates = course.rates if self.how.schedule == "plateau" else ()
                whole = replace(whole, epochs=course.best, span=course.best, rates=rates)
        whole = replace(whole, teacher=self._teaching(task, seed, place))
        self.network, course = self._trained(whole, task, seed, place, "fit")
        rows += [{"stage": "fit", **row} for row in course.rows]
        self.classes = task.classes
        made = environment()
        self.told = {
            "parameters": sum(each.numel() for each in self.network.parameters()),
            "clips": len(task.clips),
            "epochs": len(course.rows),
            "of": self.how.epochs,
            "device": self.machine.name(),
            "precision": self.how.precision,
            "seconds": round(sum(row["seconds"] for row in rows), 2),
            **({"teacher": self._told_by_teacher()} if self.teacher else {}),
            "seconds_per_epoch": round(float(np.median([row["seconds"] for row in course.rows])), 3),
            "commit": made["commit"],
            "torch": made["packages"].get("torch"),
            "history": [{key: _rounded(value) for key, value in row.items()} for row in rows],
        }

    def trial(
        self, task: Task, train: np.ndarray, watch: np.ndarray, seed: int, place: Path | None = None,
        told: Callable[[dict[str, Any]], bool] | None = None,
    ) -> Course:  # fmt: skip
        """Train on some clips, watched on others; nothing is kept but how it went.

        Args:
            task: clips, all of which are training side.
            train, watch: positions of the clips to learn from and to watch.
            seed, place: as in `fit`.
            told: called with the row of every epoch, says whether to go on; see `soundmark.networks.training.train`.
        """
        whole = self._lesson(task, seed)
        inner, outer = (torch.from_numpy(np.asarray(part)) for part in (train, watch))
        lesson = replace(
            whole,
            train=whole.train[inner],
            targets=whole.targets[inner],
            watch=(whole.train[outer], whole.targets[outer]),
            teacher=self._teaching(task.subset(train), seed, place / "choose" if place else None),
        )
        _, course = self._trained(lesson, task, seed, place, "choose", told)
        return course

    def _lesson(self, task: Task, seed: int) -> Lesson:
        """All clips, and nothing to watch."""
        from soundmark.networks.lesson import Lesson

        targets = torch.tensor(task.targets())
        if len(set(targets.tolist())) < 2:
            raise SoundmarkError(f"{task.full_name}: a network needs clips of at least two classes to learn from")
        return Lesson(
            self.bank, self.bank.positions(task.clips), targets, len(task.classes), self.how, self.augment, seed
        )

    def _teaching(self, task: Task, seed: int, place: Path | None) -> Teacher | None:
        """The teacher after it has learnt from these clips, and from no others."""
        if self.teacher is None:
            return None
        from soundmark.networks.lesson import Teacher

        self.teacher.fit(task, seed, place / "teacher" if place else None)
        assert self.teacher.network is not None
        theirs, front, other = self.teacher.bank, self.blank.front, self.teacher.blank.front
        assert front is not None
        assert other is not None
        rows = 1 + round((self.bank.crop - 1) * other.frames_per_second / front.frames_per_second)
        heard = replace(theirs, crop=min(rows, int(theirs.lengths.min())))
        return Teacher(self.teacher.network, heard, theirs.positions(task.clips))

    def _told_by_teacher(self) -> dict[str, Any]:
        """Who taught and what that took, without every epoch of it."""
        assert self.teacher is not None
        kept = ("parameters", "epochs", "seconds")
        return dict(self.teacher.describe()) | {name: self.teacher.told[name] for name in kept}

    def _trained(
        self, lesson: Lesson, task: Task, seed: int, place: Path | None, stage: str,
        told: Callable[[dict[str, Any]], bool] | None = None,
    ) -> tuple[networks.Network, Course]:  # fmt: skip
        """One training from fresh weights; equal seeds draw equal ones."""
        from soundmark.networks.training import train

        asked = [
            dict(self.describe()), seed, stage, self.bank.digest, lesson.train.tolist(), lesson.targets.tolist(),
            task.classes, lesson.epochs, lesson.span, list(lesson.rates),
            *([dict(self.teacher.describe()), self.teacher.bank.digest] if self.teacher else []),
        ]  # fmt: skip
        identity = data_digest(asked)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = networks.build(self.network_name, len(task.classes))
        words = {"choose": "finding the number of epochs", "fit": "training"}
        title = f"{_name(place)}: {words[stage]}" if place else words[stage]
        return train(
            network,
            replace(lesson, identity=identity, title=title),
            machine=self.machine,
            place=place / f"{stage}.ckpt" if place else None,
            loggers=tracking.loggers(
                self.track, task.full_name, title, self.describe(), place / f"{stage}.tracked.json" if place else None
            ),
            told=told,
            progress=self.progress,
        )

    def training(self) -> dict[str, Any]:
        """See `Learner.training`."""
        return self.told

    def predict_proba(self, task: Task) -> np.ndarray:
        """See `Learner.predict_proba`."""
        from soundmark.networks.listening import probabilities

        assert self.network is not None
        return probabilities(self.network, self.bank, self.bank.positions(task.clips), machine=self.machine)

    def vectors(self, task: Task) -> np.ndarray:
        """(clips, dim) float32 of a task that was prepared, or of a part of it, after `fit`."""
        from soundmark.networks import listening

        assert self.network is not None
        return listening.vectors(self.network, self.bank, self.bank.positions(task.clips), machine=self.machine)

    def graph(self) -> torch.nn.Module:
        """Waveforms to probabilities and embedding, for the model file."""
        assert self.network is not None
        return Exported(self.network)

    def hear(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(dim,) embedding and (classes,) probabilities of a waveform at `sample_rate`, as the model file gives."""
        filled = self.policy.prepare(np.asarray(waveform, dtype=np.float32), self.sample_rate)
        with torch.inference_mode():
            said, vectors = self.graph()(torch.from_numpy(np.ascontiguousarray(filled))[None])
        return vectors[0].numpy(), said[0].numpy()


def trained(
    network: str, augment: str, training: str, *, machine: Machine, track: Sequence[str] = (), progress: bool = True,
    teacher: Trained | None = None, teacher_name: str = "",
) -> list[Trained]:  # fmt: skip
    """Every candidate the three names stand for; a setting with several values makes several."""
    banks: dict[str, Bank] = {}
    return [
        Trained(n, a, t, machine, tuple(track), banks, progress, teacher, teacher_name)
        for n in candidates(network)
        for a in (candidates(augment) if augment else [""])
        for t in candidates(training)
    ]


def _median_seconds(task: Task) -> float:
    """Of the task's clips that can be read: how much of a clip a training step sees unless `crop` says otherwise."""
    lengths = list(show.durations(task).values())
    return round(float(np.median(lengths)), 3) if lengths else 1.0


def _name(place: Path) -> str:
    """What is trained there, for people: the fold, and what inside it."""
    parts = place.parts
    inside = len(parts) - parts[::-1].index("training") if "training" in parts else len(parts) - 1
    return " ".join(parts[inside:])


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
