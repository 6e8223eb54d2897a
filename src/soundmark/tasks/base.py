"""What a task is: a table of clips, its classes, and the official protocol that divides them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from soundmark import remote
from soundmark.errors import LeakError, TaskError
from soundmark.remote import Place


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of a task's table.

    Attributes:
        path: file, relative to the task's root, with forward slashes; or its address.
        labels: the clip's classes; exactly one in a `single` task.
        start: first second of the clip inside its file.
        end: last second, or None for the end of the file.
        group: what must never straddle a split (source recording, speaker, patient).
        fold: the fold or split ("1" ... "5", or "train", "valid", "test") this clip belongs to.
    """

    path: str
    labels: tuple[str, ...]
    start: float = 0.0
    end: float | None = None
    group: str = ""
    fold: str = ""

    @property
    def label(self) -> str:
        """The only label of a clip in a `single` task."""
        return self.labels[0]

    @property
    def key(self) -> str:
        """The clip's name in tables: its path, and the seconds where it is a part of its file."""
        if self.start == 0.0 and self.end is None:
            return self.path
        # Ten digits tell samples of a recording of hours apart; the six of a bare `g` do not.
        return f"{self.path}#{self.start:.10g}-{'' if self.end is None else f'{self.end:.10g}'}"


@dataclass(frozen=True)
class Round:
    """One test of the protocol: train on `train`, test on `test` (positions in the task's clips)."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A labelled collection of recordings and the protocol by which a learner is measured on it.

    Attributes:
        name: the name in the grammar, `esc50`; with its view, `esc50:danger`, see `full_name`.
        root: folder that the clips' paths start from, or its address.
        clips: the table.
        classes: class names, in the order of every probability column.
        kind: `single` (one label per clip) or `multi` (several).
        protocol: the protocol's name, as printed in results, such as "official 5 folds".
        rounds: what is trained and tested in each round of the protocol.
        metric: the score of the headline: "accuracy", "balanced_accuracy", "macro_f1", "icbhi_score".
        over: whether that is measured over all clips at once, or in every fold and then averaged.
        positive: in a two-class task, the class whose recall matters (danger, abnormal); else "".
        view: name of the view that relabelled this task, or "".
        title, licence, source: for people: what it is, its licence, where it comes from.
        notes: caveats that belong in every result (leaks of the official split, altered audio, synthetic data).
        official: the rounds are the data set's published protocol, so a leak in them is reported instead of raised.
    """

    name: str
    root: Place
    clips: tuple[Clip, ...]
    classes: tuple[str, ...]
    protocol: str
    rounds: tuple[Round, ...]
    kind: Literal["single", "multi"] = "single"
    metric: str = "accuracy"
    over: Literal["clips", "folds"] = "clips"
    positive: str = ""
    view: str = ""
    title: str = ""
    licence: str = ""
    source: str = ""
    notes: tuple[str, ...] = field(default=())
    official: bool = False

    @property
    def full_name(self) -> str:
        """The name in the grammar, with the view: `esc50:danger`, `toy:danger?clips=8`."""
        if not self.view:
            return self.name
        name, mark, settings = self.name.partition("?")
        return f"{name}:{self.view}{mark}{settings}"

    def path(self, clip: Clip) -> Place:
        """Where the clip's file is."""
        return remote.join(self.root, clip.path)

    def subset(self, positions: Iterable[int]) -> Task:
        """The same task with only these clips, in this order, and no rounds: one side of a split."""
        return replace(self, clips=tuple(self.clips[i] for i in positions), rounds=())

    def targets(self) -> list[int]:
        """Index of every clip's class, in the order of `clips` (single-label tasks)."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [index[clip.label] for clip in self.clips]

    def drop(self, clips: Iterable[Clip]) -> Task:
        """The same task and protocol without these clips (files that cannot be read, say)."""
        gone = set(clips)
        kept = [i for i, clip in enumerate(self.clips) if clip not in gone]
        place = {old: new for new, old in enumerate(kept)}

        def moved(positions: Sequence[int]) -> tuple[int, ...]:
            return tuple(place[i] for i in positions if i in place)

        rounds = tuple(Round(r.name, moved(r.train), moved(r.test)) for r in self.rounds)
        return replace(self, clips=tuple(self.clips[i] for i in kept), rounds=rounds)


def fold_rounds(clips: Sequence[Clip]) -> tuple[Round, ...]:
    """K-fold rounds from the clips' own folds: each fold is tested once, by what is trained on all the others.

    Raises:
        TaskError: if fewer than two folds are named.
    """
    folds = sorted({clip.fold for clip in clips}, key=lambda name: (len(name), name))
    if len(folds) < 2:
        raise TaskError(
            f"k-fold needs at least two folds, and the table names {len(folds)}: {', '.join(folds) or 'none'}"
        )
    return tuple(
        Round(
            fold,
            tuple(i for i, clip in enumerate(clips) if clip.fold != fold),
            tuple(i for i, clip in enumerate(clips) if clip.fold == fold),
        )
        for fold in folds
    )


def split_rounds(
    clips: Sequence[Clip], train: Sequence[str] = ("train", "valid"), test: str = "test"
) -> tuple[Round, ...]:
    """The one round of a fixed split: trained on `train` (validation clips are training side), tested on `test`.

    Raises:
        TaskError: if either side is empty.
    """
    sides = Round(
        test,
        tuple(i for i, clip in enumerate(clips) if clip.fold in train),
        tuple(i for i, clip in enumerate(clips) if clip.fold == test),
    )
    if not (sides.train and sides.test):
        raise TaskError(f"a fixed split needs clips in {' or '.join(train)} and in {test}; one side is empty")
    return (sides,)


def only(task: Task, names: str) -> Task:
    """The same task with only these rounds of its protocol, which then says so.

    Args:
        task: the task.
        names: of rounds, separated by commas; empty for all.

    Raises:
        TaskError: if the protocol has no such round.
    """
    if not names:
        return task
    wanted = [name.strip() for name in names.split(",")]
    known = [each.name for each in task.rounds]
    if missing := [name for name in wanted if name not in known]:
        raise TaskError(f"{task.full_name} has no fold {', '.join(missing)}; its folds are {', '.join(known)}")
    rounds = tuple(each for each in task.rounds if each.name in wanted)
    if len(rounds) == len(known):
        return task
    some = f"fold{'s' if len(rounds) > 1 else ''} {', '.join(each.name for each in rounds)} only"
    return replace(task, rounds=rounds, protocol=f"{task.protocol}, {some}")


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 clip, 2 clips."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def leaks(task: Task, round: Round, *, any_label: bool = False) -> dict[str, tuple[int, ...]]:
    """Groups on both sides of a round, each with the test clips (positions in the task) that it gives away.

    What a learner can gain from is a group whose *label* is on both sides too, and that is what is counted: the four
    ESC-50 sources that span two folds carry different classes there, which is clean among 50 classes and a leak among
    5 categories. `any_label` counts groups whatever their labels. Clips without a group belong to none.
    """
    trained: dict[str, set[str]] = {}
    for i in round.train:
        clip = task.clips[i]
        trained.setdefault(clip.group, set()).update(clip.labels)
    found: dict[str, list[int]] = {}
    for i in round.test:
        clip = task.clips[i]
        known = trained.get(clip.group) if clip.group else None
        if known is not None and (any_label or known.intersection(clip.labels)):
            found.setdefault(clip.group, []).append(i)
    return {group: tuple(positions) for group, positions in sorted(found.items())}


def check_groups(task: Task, round: Round) -> None:
    """Refuse a round of our or the user's making in which any group stands on both sides, whatever its labels.

    Official protocols pass: they are what others have measured with, and `leak_notes` reports theirs.

    Raises:
        LeakError: with the groups listed.
    """
    found = {} if task.official else leaks(task, round, any_label=True)
    if found:
        listed = "; ".join(f"{group} ({counted(len(clips), 'test clip')})" for group, clips in list(found.items())[:10])
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise LeakError(
            f"{task.full_name}: {counted(len(found), 'group')} on both sides of round {round.name!r}: {listed}{more}; "
            "give all clips of a group the same fold or split"
        )


def leak_notes(task: Task) -> tuple[str, ...]:
    """What to say about leaks of an official protocol: nothing where there are none."""
    found = [leaks(task, part) for part in task.rounds]
    groups = sorted({group for one in found for group in one})
    if not groups:
        return ()
    clips = {i for one in found for positions in one.values() for i in positions}
    listed = ", ".join(groups[:10]) + (", ..." if len(groups) > 10 else "")
    return (
        f"The split leaks: {len(clips)} of {len(task.clips)} clips are tested by a learner trained on clips of "
        f"the same group and class ({counted(len(groups), 'group')}: {listed}).",
    )
