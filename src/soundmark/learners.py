"""What the protocol measures: something that is fitted on clips and gives probabilities for clips."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from soundmark import embeddings, encoders, heads, parted, partitions
from soundmark.audio import WindowPolicy
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.errors import AudioError, SoundmarkError
from soundmark.files import cache_dir, data_digest
from soundmark.rows import Rows
from soundmark.spec import candidates
from soundmark.splits import possible_splits
from soundmark.tasks.base import Clip, Task

CALIBRATION_FOLDS = 5


class Learner(Protocol):
    """The one face of everything that can be measured, exported and served.

    Attributes:
        classes: those it was fitted on.
        threads: how many cores one fit keeps busy; the protocol runs the rounds of one-core learners side by side.
    """

    threads: int
    classes: tuple[str, ...]

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        ...

    @property
    def policy(self) -> WindowPolicy:
        """How a clip becomes its input; it travels into the model file."""
        ...

    def describe(self) -> Mapping[str, str]:
        """The names it is made of, in the grammar: encoder, pooling and head, or network."""
        ...

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        """Do once what needs no labels (encode every clip); give the clips that cannot be read, and why."""
        ...

    def fingerprint(self) -> str:
        """A digest of what `prepare` found in the clips' files: rounds measured on other content are not taken up."""
        ...

    def fresh(self) -> Learner:
        """An unfitted copy that shares what was prepared."""
        ...

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        """Learn from these clips, which are all training side.

        Args:
            task: the clips.
            seed: of everything that is drawn.
            place: a folder, of this fit alone, for what a long one keeps to go on from after a stop.
        """
        ...

    def training(self) -> dict[str, Any]:
        """How the last fit went, for results: of a network its epochs and their losses; of a probe nothing."""
        ...

    def predict_proba(self, task: Task) -> np.ndarray:
        """(clips, classes) probabilities, columns in the order of the task's classes."""
        ...


@dataclass
class Heard:
    """The vectors of a task's clips, which every head on the same encoder and pooling shares.

    Attributes:
        encoder, pooling: what makes them.
        task: the task they are of, once it was encoded.
        vectors: (clips, dim) float32; on disk where they are more than `soundmark.parted.most_bytes`.
        rows: the row of every clip that could be read.
        bad: the clips that could not, and why.
        folder: of partitions that hold the vectors; without one, clips are encoded where that was not done before.
    """

    encoder: Encoder
    pooling: Pooling
    task: Task | None = None
    vectors: np.ndarray | Rows = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)
    rows: dict[Clip, int] = field(default_factory=dict, repr=False)
    bad: dict[Clip, str] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    def prepare(self, task: Task, *, strict: bool, progress: bool) -> None:
        """Encode the task, unless it was the last one that was encoded."""
        if self.task is task:
            return
        folder = self.folder
        if folder is None and 4 * len(task.clips) * self.pooling.output_dim(self.encoder.dim) > parted.most_bytes():
            folder = self._encoded(task, strict=strict, progress=progress)
        known = (
            embeddings.embed(task, self.encoder, self.pooling.text, strict=strict, progress=progress)
            if folder is None
            else parted.load(folder, task, self.encoder, self.pooling.text)
        )
        if strict and known.bad:
            raise AudioError(next(iter(known.bad.values())))
        self.vectors, self.bad, self.task = known.vectors, known.bad, task
        self.rows = {clip: row for row, clip in enumerate(known.clips)}

    def _encoded(self, task: Task, *, strict: bool, progress: bool) -> Path:
        """A folder in the cache with the vectors of a task that has too many of them for the memory."""
        about = [task.full_name, str(task.root), parted.clips_digest(task.clips), parted.identity(self.encoder)]
        folder = cache_dir() / "vectors" / data_digest([*about, self.pooling.text])
        partitions.write(task, self.encoder, self.pooling.text, folder, strict=strict, progress=progress)
        return folder


@dataclass
class Probe:
    """A frozen encoder, a pooling over time, and a head fitted on the vectors.

    Attributes:
        encoder_name, pooling_name, head_name: names in the grammar.
        shared: vectors to share with other probes of the same encoder and pooling.
        heard: the vectors.
        estimator: the fitted scikit-learn pipeline, after `fit`; its classes are positions in `classes`.
    """

    encoder_name: str
    pooling_name: str
    head_name: str
    shared: InitVar[Heard | None] = None
    heard: Heard = field(init=False, repr=False)
    estimator: Any = field(init=False, default=None, repr=False)
    classes: tuple[str, ...] = field(init=False, default=())
    threads: int = field(init=False, default=1)

    def __post_init__(self, shared: Heard | None) -> None:
        self.heard = shared or Heard(encoders.load(self.encoder_name), Pooling(self.pooling_name))
        heads.build(self.head_name, seed=0)  # a misspelt head is an error now, not after an hour of encoding

    @property
    def encoder(self) -> Encoder:
        """The module behind `encoder_name`."""
        return self.heard.encoder

    @property
    def pooling(self) -> Pooling:
        """The module behind `pooling_name`."""
        return self.heard.pooling

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it takes."""
        return self.encoder.sample_rate

    @property
    def policy(self) -> WindowPolicy:
        """How a clip becomes input; it travels into the model file."""
        return self.encoder.policy

    def describe(self) -> Mapping[str, str]:
        """See `Learner.describe`."""
        return {"encoder": self.encoder_name, "pooling": self.pooling_name, "head": self.head_name}

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        """See `Learner.prepare`. A frozen encoder learns nothing, so encoding both sides at once leaks nothing."""
        self.heard.prepare(task, strict=strict, progress=progress)
        return self.heard.bad

    def fingerprint(self) -> str:
        """See `Learner.fingerprint`: of the vectors, which change with the recordings and with the encoder."""
        vectors, digest = self.heard.vectors, hashlib.blake2b(digest_size=16)
        for block in vectors.blocks() if isinstance(vectors, Rows) else [vectors]:
            digest.update(block.tobytes())
        return digest.hexdigest()

    def fresh(self) -> Probe:
        """See `Learner.fresh`."""
        other = copy.copy(self)
        other.estimator = None
        return other

    def training(self) -> dict[str, Any]:
        """See `Learner.training`."""
        return {}

    def fit(self, task: Task, seed: int, place: Path | None = None) -> None:
        """See `Learner.fit`. Heads without probabilities are calibrated on group-aware folds of these clips.

        Where a class has one group only there may be nothing to hold out; such heads then stay uncalibrated.
        """
        y = np.asarray(task.targets())
        present = np.unique(y)
        if len(present) < 2:
            only = task.classes[present[0]] if len(present) else "none"
            raise SoundmarkError(
                f"{task.full_name}: a head needs clips of at least two classes to learn from, got {only}"
            )
        estimator = heads.build(self.head_name, seed)
        X = self._rows(task) if heads.streams(estimator) else self.vectors(task)
        if heads.needs_calibration(estimator):
            splits = possible_splits(y, [clip.group for clip in task.clips], CALIBRATION_FOLDS, seed)
            estimator = heads.calibrated(estimator, splits)
        with heads.one_thread():
            try:
                self.estimator = heads.fitted(estimator, X, y)
            except ValueError as error:  # such as weights that grew beyond all bounds
                reason = str(error).strip().partition("\n")[0]
                raise SoundmarkError(
                    f"the head {self.head_name} cannot be fitted to {len(y)} clips: {reason}"
                ) from error
        self.classes = task.classes

    def predict_proba(self, task: Task) -> np.ndarray:
        """See `Learner.predict_proba`. A class that no training clip had gets zero."""
        with heads.one_thread():  # as many threads whatever other folds are doing, so that a rerun gives the same bits
            said = heads.said_of(self.estimator, self._rows(task))
        probabilities = np.zeros((len(task.clips), len(task.classes)))
        probabilities[:, self.estimator.classes_] = said
        return probabilities

    def vectors(self, task: Task) -> np.ndarray:
        """(clips, dim) float32 of a task that was prepared, or of a part of it."""
        return self.heard.vectors[[self.heard.rows[clip] for clip in task.clips]]

    def _rows(self, task: Task) -> np.ndarray | Rows:
        """`vectors`, left on disk where they lie there and are too many."""
        known, positions = self.heard.vectors, [self.heard.rows[clip] for clip in task.clips]
        if isinstance(known, Rows) and 4 * len(positions) * known.shape[1] > parted.most_bytes():
            return known.subset(positions)
        return known[positions]


def probes(encoder: str, pooling: str, head: str) -> list[Probe]:
    """Every candidate the three names stand for; a setting with several values (`C=1,10`) makes several."""
    made = []
    for e in candidates(encoder):
        module = encoders.load(e)
        for p in candidates(pooling):
            heard = Heard(module, Pooling(p))
            made += [Probe(e, p, h, heard) for h in candidates(head)]
    return made


def describe(learner: Learner) -> str:
    """One line that names a learner, for tables and messages."""
    return " / ".join(name for name in learner.describe().values() if name)


__all__: Sequence[str] = ["Learner", "Probe", "describe", "probes"]
