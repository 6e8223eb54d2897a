"""What the loaders of published data sets share: where a set is, which of its files are there, and how it is divided.

A data set counts as whole when as many of its recordings are there as were published. One that is not is refused,
unless `allow_partial` is given; then the protocol and the notes say what is missing. If fewer than half are there, or
the official division would test a class that it never learns, what is there is a *sample*: it is divided into group
folds of our own, under a protocol whose name begins with "sample", and its scores compare with no official ones.
"""

from __future__ import annotations

import csv
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soundmark import splits
from soundmark.audio import AUDIO_SUFFIXES
from soundmark.errors import SoundmarkError, TaskError
from soundmark.files import data_folders
from soundmark.tasks.base import Clip, Round, Task, fold_rounds, leak_notes, split_rounds

FOLDS = 5  # of a sample, or fewer where its groups allow no more
_LISTED = 5

Divided = tuple[tuple[Clip, ...], tuple[Round, ...]]
Divide = Callable[[Sequence[Clip], Sequence[str]], Divided]
Row = Mapping[str, str]
Paths = Mapping[str, str]


@dataclass(frozen=True)
class DataSet:
    """What is known of a published data set, wherever it is.

    Attributes:
        name: in the grammar, with the settings that choose an edition; `soundmark data get NAME` fetches it.
        title: for people.
        folders: names that its folder may have; `get` gives it the first.
        recordings: how many audio files were published (of those the task needs).
        suffix: ending of the published files, in lower case.
        size: of the download, in words.
        licence, source: for people.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    recordings: int
    suffix: str
    size: str
    licence: str
    source: str


@dataclass(frozen=True)
class Found:
    """The recordings of a data set that are there.

    Attributes:
        known: the data set.
        paths: stem (path from the root without the ending) to path, of every listed recording that is there.
        notes: what is missing, and what differs from the published files.
    """

    known: DataSet
    paths: Paths
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> str:
        """For the protocol's name, where recordings are missing; else ""."""
        total = self.known.recordings
        return f"{len(self.paths)} of {total} recordings" if len(self.paths) < total else ""

    @property
    def few(self) -> bool:
        """Fewer than half are there."""
        return 2 * len(self.paths) < self.known.recordings


def find_root(known: DataSet, is_root: Callable[[Path], bool]) -> Path:
    """The first folder on the search path of data folders that holds the data set, or is it.

    Raises:
        TaskError: if there is none; it says how to get the data set.
    """
    for folder in data_folders():
        for place in (folder, *(folder / name for name in known.folders)):
            if place.is_dir() and is_root(place):
                return place
    searched = os.pathsep.join(map(str, data_folders()))
    raise TaskError(
        f"{known.title} is not here (searched {searched}): run `soundmark data get {shlex.quote(known.name)}`, which "
        f"fetches it ({known.size}; its page is {known.source}), or put the folder that holds {known.folders[0]} into "
        "SOUNDMARK_DATA"
    )


def listing(root: Path, suffix: str, folders: Iterable[str] = ("",)) -> dict[str, str]:
    """Every recording under these folders of the root: stem (path without ending) to path, with forward slashes.

    A recording may be stored in any audio format; where it is there twice, the one with the published ending wins.
    Hidden files are none.

    Raises:
        TaskError: if a folder cannot be listed.
    """
    found: dict[str, str] = {}
    for folder in folders:
        for place, inside, names in os.walk(root / folder, onerror=_unlisted):
            inside[:] = sorted(name for name in inside if not name.startswith("."))
            start = Path(place).relative_to(root).as_posix()
            for name in sorted(names):
                stem, ending = os.path.splitext(name)
                if ending.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                    key, path = (stem, name) if start == "." else (f"{start}/{stem}", f"{start}/{name}")
                    if key not in found or ending.lower() == suffix:
                        found[key] = path
    return found


def _unlisted(error: OSError) -> None:
    raise TaskError(f"cannot list the recordings in {error.filename}: {error.strerror or error}")


def match(known: DataSet, root: Path, listed: Iterable[str], there: Paths, allow_partial: bool = False) -> Found:
    """The listed recordings that are there.

    Args:
        known: the data set.
        root: its folder.
        listed: stems that its own tables name; what they leave out is not part of it.
        there: what `listing` found.
        allow_partial: take what is there instead of raising.

    Raises:
        TaskError: if recordings are missing and that is not allowed, or none is there.
    """
    listed = list(dict.fromkeys(listed))
    paths = {stem: there[stem] for stem in listed if stem in there}
    found = Found(known, paths)
    notes = []
    if found.gap:
        missing = [stem for stem in listed if stem not in there]
        named = f" (missing: {shortened(missing)})" if missing and not found.few else ""
        notes.append(f"Incomplete: {found.gap} are there{named}.")
        if not (allow_partial and paths):
            raise TaskError(
                f"{known.title} in {root} is incomplete: {found.gap} are there{named}. Run `soundmark data get "
                f"{shlex.quote(known.name)}` to fetch it, or measure on what is there with --allow-partial"
            )
    kinds = Counter(Path(path).suffix.lower() for path in paths.values())
    if set(kinds) - {known.suffix}:
        shown = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common())
        notes.append(f"The audio files are not the published {known.suffix} but {shown}.")
    return replace(found, notes=tuple(notes))


def shortened(names: Sequence[str], most: int = _LISTED) -> str:
    """Names in a row, the first few of many."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def by_folds(clips: Sequence[Clip], classes: Sequence[str]) -> Divided:
    """Each given fold tested once, by what is trained on the others."""
    return tuple(clips), fold_rounds(clips)


def by_split(clips: Sequence[Clip], classes: Sequence[str]) -> Divided:
    """Trained on the clips whose fold is train or valid, tested on those of test."""
    return tuple(clips), split_rounds(clips)


def by_groups(clips: Sequence[Clip], classes: Sequence[str]) -> Divided:
    """Stratified folds of our own that keep groups whole, the same at every call: five, or as many as the groups allow.

    Raises:
        SoundmarkError: if they allow no two.
    """
    place = {name: i for i, name in enumerate(classes)}
    targets = [place[clip.label] for clip in clips]
    made = splits.inner_splits(targets, [clip.group for clip in clips], FOLDS)
    fold_of = {int(i): str(number) for number, (_, test) in enumerate(made, 1) for i in test}
    divided = tuple(replace(clip, fold=fold_of[i]) for i, clip in enumerate(clips))
    return divided, fold_rounds(divided)


def settled(task: Task, found: Found, divide: Divide) -> Task:
    """The task with its rounds, the official ones or, of a sample, group folds, and with what is known of the data set.

    Args:
        task: all but its rounds, licence and source; its notes are added to.
        found: the recordings that are there.
        divide: the protocol's own way, given clips and classes.

    Raises:
        TaskError: if it is a sample in which fewer than two classes have two groups.
    """
    known = found.known
    task = replace(
        task,
        title=task.title or known.title,
        licence=known.licence,
        source=known.source,
        notes=(*task.notes, *found.notes),
    )
    present = {clip.label for clip in task.clips}
    task = replace(task, classes=tuple(name for name in task.classes if name in present))
    divided = None if found.few else _possible(task, found, divide)
    if divided is None:
        return _sample(task, found)
    clips, rounds = divided
    protocol = f"{task.protocol}, incomplete: {found.gap}" if found.gap else task.protocol
    task = replace(task, clips=clips, rounds=rounds, protocol=protocol)
    tested = {clips[i].label for each in rounds for i in each.test}
    if untested := [name for name in task.classes if name not in tested]:
        task = replace(task, notes=(*task.notes, f"Learnt but never tested: {shortened(untested, 10)}."))
    return replace(task, notes=(*task.notes, *leak_notes(task))) if task.official else task


def _possible(task: Task, found: Found, divide: Divide) -> Divided | None:
    """The division, unless what is missing leaves a side empty or a class that is tested and never learnt."""
    try:
        clips, rounds = divide(task.clips, task.classes)
    except SoundmarkError:
        if not found.gap:
            raise
        return None
    learnt = all({clips[i].label for i in each.test} <= {clips[i].label for i in each.train} for each in rounds)
    return (clips, rounds) if learnt or not found.gap else None


def _sample(task: Task, found: Found) -> Task:
    task = without_small(task)
    try:
        clips, rounds = by_groups(task.clips, task.classes)
    except SoundmarkError as error:
        raise TaskError(
            f"{task.full_name} in {task.root}: these {found.gap} are too few to measure on: {error}"
        ) from None
    note = f"A sample in folds made by Soundmark ({found.gap}): its scores compare with no official ones."
    return replace(
        task,
        clips=clips,
        rounds=rounds,
        protocol=f"sample: {len(rounds)} group folds",
        over="clips",
        notes=(note, *task.notes),
        official=False,
    )


def without_small(task: Task) -> Task:
    """The task without the classes of a single group, which could be learnt or tested, but not both; a note lists them.

    Raises:
        TaskError: if fewer than two classes remain.
    """
    groups: dict[str, set[str]] = {name: set() for name in task.classes}
    for clip in task.clips:
        groups[clip.label].add(clip.group)
    small = [name for name in task.classes if len(groups[name]) < 2]
    kept = tuple(name for name in task.classes if len(groups[name]) >= 2)
    if len(kept) < 2:
        raise TaskError(
            f"{task.full_name} in {task.root}: a task needs two classes of two groups or more, one to learn from and "
            f"one to be tested on; here are {len(kept)}, and {len(small)} too small: {shortened(small, 10)}"
        )
    if not small:
        return task
    note = f"Left out, having a single group: {shortened(small, 10)} ({len(small)} of {len(task.classes)} classes)."
    clips = tuple(clip for clip in task.clips if clip.label in kept)
    return replace(task, clips=clips, classes=kept, notes=(*task.notes, note))


def read_text(path: Path) -> str:
    """A table's text.

    Raises:
        TaskError: if it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TaskError(f"cannot read {path}: {reason}; fetch it again") from None


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table with a header.

    Raises:
        TaskError: if it cannot be read, has no rows, or lacks one of the columns in any row.
    """
    rows: list[Row] = list(csv.DictReader(read_text(path).splitlines()))
    if not rows or any(row.get(column) in (None, "") for row in rows for column in columns):
        raise TaskError(f"{path} should have the columns {', '.join(columns)} filled in every row; fetch it again")
    return rows
