"""A user's own recordings: a folder with a folder per class, or a manifest (see `soundmark.tasks.manifest`).

Where no division is given, stratified folds are made that keep groups whole. Files of equal content are one group,
whatever they are called, so a copy is never tested by what was trained on its original.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from soundmark import remote, splits
from soundmark.audio import AUDIO_SUFFIXES
from soundmark.errors import LeakError, SoundmarkError, TaskError
from soundmark.files import file_digest
from soundmark.remote import Place, Url
from soundmark.spec import Spec, parse, take
from soundmark.tasks import addresses, manifest
from soundmark.tasks.base import Clip, Round, Task, check_groups, counted, fold_rounds, split_rounds
from soundmark.tasks.export import provenance

DEFAULTS = {"folds": 5, "seed": 0, "positive": ""}


def load(path: str | os.PathLike[str], settings: str = "", allow_partial: bool = False) -> Task:
    """The task in a folder or a manifest.

    Args:
        path: a folder with a folder of recordings per class (or `train` and `test` folders of such folders), or a
            table that ends in `.csv`, `.tsv` or `.parquet`; on this machine or at an address.
        settings: `folds=5&seed=0`, of the folds that are made where none are given; `positive=danger`, the class of
            two whose recall at a rate of false alarms is to be measured.
        allow_partial: leave out rows whose files are missing, with a note, instead of raising.

    Raises:
        TaskError: if it cannot be read, or cannot be measured on: fewer than two classes, a class that is never on a
            training side, missing files.
        LeakError: if a group, or copies of one recording, straddle the given folds or splits.
    """
    path = remote.place(path)
    values = take(parse(f"folder?{settings}" if settings else "folder"), DEFAULTS)
    positive = values.pop("positive")
    if values["folds"] < 2 or values["seed"] < 0:
        raise TaskError(f"{path}: folds should be at least 2 and seed at least 0")
    root: Place
    marks: Mapping[str, str] = {}
    if isinstance(path, Url) and path.suffix.lower() not in manifest.SUFFIXES:
        root, grouped = path, False
        clips, divided, notes, marks = addresses.scan(path)
    elif isinstance(path, Path) and path.is_dir():
        try:
            root, (clips, divided, notes), grouped = path, _scan(path), False
        except OSError as error:
            raise TaskError(f"cannot read the folder {error.filename or path}: {error.strerror or error}") from None
    elif path.suffix.lower() in manifest.SUFFIXES:
        table = manifest.read(path)
        root, clips, divided, grouped = path.parent, list(table.clips), table.divided, table.grouped
        notes = _missing(path, table, allow_partial)
    else:
        raise TaskError(f"{path} is neither a folder nor a table ({', '.join(manifest.SUFFIXES)})")
    classes = _classes(clips, path)
    if positive and (len(classes) != 2 or positive not in classes):
        raise TaskError(
            f"{path}: positive={positive} should name one of two classes; the classes are: {', '.join(classes)}"
        )
    clips, copies = _group(root, clips, grouped, marks)
    notes += copies
    if divided:
        rounds = fold_rounds(clips) if divided == "fold" else split_rounds(clips)
        protocol = f"{len(rounds)} given folds" if divided == "fold" else "given split into train and test"
    else:
        clips, rounds, more = _make_folds(clips, classes, path, **values)
        notes += more
        protocol = f"{len(rounds)} stratified group folds, made by Soundmark (seed {values['seed']})"
    changed = {key: str(value) for key, value in values.items() if value != DEFAULTS[key] and not divided}
    changed |= {"positive": positive} if positive else {}
    task = Task(
        name=path.as_posix() + str(Spec("", settings=changed)),
        root=root,
        clips=tuple(clips),
        classes=classes,
        protocol=protocol,
        rounds=rounds,
        metric="accuracy",
        positive=positive,
        title=path.stem if path.suffix.lower() in manifest.SUFFIXES else path.resolve().name,
        notes=tuple(notes),
    )
    about = provenance(path) if divided else None
    if about and set(about["classes"]) == set(classes):
        task = replace(_restore(task, about), **({"positive": positive} if positive else {}))
    _check_rounds(task)
    return task


def _restore(task: Task, about: Mapping[str, Any]) -> Task:
    """What an export lost by becoming a table: it is the protocol that its original was measured by."""
    return replace(
        task,
        classes=tuple(about["classes"]),
        title=about["title"],
        licence=about["licence"],
        source=about["source"],
        metric=about["metric"],
        over=about.get("over", "clips"),
        positive=about["positive"],
        protocol=about["protocol"],
        official=about["official"],
        notes=(f"Exported from {about['task']}.", *about["notes"], *task.notes),
    )


def _scan(root: Path) -> tuple[list[Clip], str, list[str]]:
    """Clips of a folder per class, how they are divided ("split" or ""), and what was left out."""
    top = sorted((entry for entry in root.iterdir() if not _hidden(entry.name)), key=lambda entry: entry.name)
    folders = [entry for entry in top if entry.is_dir()]
    loose = [entry.name for entry in top if not entry.is_dir()]
    notes = _loose_notes(root, loose)
    parts = {folder: manifest.SPLITS.get(folder.name.lower(), "") for folder in folders}
    is_split = {"train", "test"} <= set(parts.values()) and all(parts.values())
    if is_split and not any(_is_audio(entry.name) for folder in folders for entry in folder.iterdir()):
        clips = []
        for folder in folders:
            found, more = _scan_classes(
                root, sorted(entry for entry in folder.iterdir() if entry.is_dir()), parts[folder]
            )
            clips += found
            notes += more
        return clips, "split", notes
    clips, more = _scan_classes(root, folders, "")
    return clips, "", notes + more


def _scan_classes(root: Path, folders: Iterable[Path], fold: str) -> tuple[list[Clip], list[str]]:
    clips: list[Clip] = []
    empty: list[str] = []
    other: Counter[str] = Counter()
    for folder in folders:
        if _hidden(folder.name):
            continue
        before = len(clips)
        for place, inside, names in os.walk(folder, onerror=_raise):
            inside[:] = sorted(name for name in inside if not _hidden(name))
            for name in sorted(names):
                if _is_audio(name) and (Path(place) / name).is_file():  # not a pipe, nor a link to nothing
                    clips.append(Clip(_relative(Path(place) / name, root), (folder.name,), fold=fold))
                elif not _hidden(name):
                    other[Path(name).suffix.lower() or name] += 1
        if len(clips) == before:
            empty.append(folder.relative_to(root).as_posix())
    notes = []
    if other:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(other.items())[:5])
        notes.append(f"Left out, being no recordings by their endings: {kinds}.")
    if empty:
        notes.append(f"Left out, holding no recordings: {counted(len(empty), 'folder')} ({_listed(empty)}).")
    return clips, notes


def _raise(error: OSError) -> None:
    raise error


def _relative(path: Path, root: Path) -> str:
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError:
        raise TaskError(f"{root}: the name {relative!a} is not UTF-8, and no table could hold it; rename it") from None
    return relative


def _loose_notes(root: Path, loose: Sequence[str]) -> list[str]:
    if (root / "meta" / "esc50.csv").is_file():
        raise TaskError(f"{root} is ESC-50: put its parent folder into SOUNDMARK_DATA and use the task esc50")
    tables = [name for name in loose if Path(name).suffix.lower() in manifest.SUFFIXES]
    notes = [f"Not read: {tables[0]}; to go by it, name the table instead of the folder."] if tables else []
    sounds = [name for name in loose if _is_audio(name)]
    if sounds:
        notes.append(f"Left out, lying in no class's folder: {counted(len(sounds), 'recording')} ({_listed(sounds)}).")
    return notes


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_audio(name: str) -> bool:
    return not _hidden(name) and Path(name).suffix.lower() in AUDIO_SUFFIXES


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _missing(path: Place, table: manifest.Manifest, allow_partial: bool) -> list[str]:
    if not table.missing:
        return []
    text = (
        f"{len(table.missing)} of {len(table.missing) + len(table.clips)} files are missing: {_listed(table.missing)}"
    )
    if not (allow_partial and table.clips):
        raise TaskError(f"{path}: {text}; paths start from the table's own folder, {path.parent.resolve()}")
    return [f"{text}."]


def _classes(clips: Sequence[Clip], path: Place) -> tuple[str, ...]:
    classes = tuple(sorted({clip.label for clip in clips}))
    if len(classes) < 2:
        what = f"one class only ({classes[0]})" if classes else "no recordings"
        raise TaskError(
            f"{path} holds {what}: a task needs two classes or more, each a folder (or a label) with recordings"
        )
    return classes


def _group(root: Place, clips: Sequence[Clip], grouped: bool, marks: Mapping[str, str]) -> tuple[list[Clip], list[str]]:
    """Give every clip its group: the given one, else its file; groups that share a file's content become one."""
    named = [replace(clip, group=clip.group or clip.path) for clip in clips]
    groups_of: dict[str, set[str]] = defaultdict(set)
    labels_of: dict[str, set[str]] = defaultdict(set)
    for clip in named:
        groups_of[clip.path].add(clip.group)
        labels_of[clip.path].add(clip.label)
    parent: dict[str, str] = {}

    def find(group: str) -> str:
        while parent.get(group, group) != group:
            group = parent[group]
        return group

    far = [path for path in sorted(groups_of) if isinstance(remote.join(root, path), Url)]
    near = sorted(set(groups_of) - set(far))
    copies, notes = addresses.copies(far, marks)
    copies += _copies(root, near) if isinstance(root, Path) else []
    for paths in copies:
        first, *others = sorted({find(group) for path in paths for group in groups_of[path]})
        parent.update(dict.fromkeys(others, first))
    if copies:
        notes.append(
            f"Copies, each recording with its copies being one group: {counted(sum(map(len, copies)), 'file')} "
            f"of {counted(len(copies), 'recording')} ({_listed([' = '.join(paths) for paths in copies], 3)})."
        )
    torn = [paths for paths in copies if len(set().union(*(labels_of[path] for path in paths))) > 1]
    if torn:
        notes.append(
            f"Under several labels, of which one at most is right: {counted(len(torn), 'recording')} "
            f"({_listed([' = '.join(paths) for paths in torn], 3)})."
        )
    return [replace(clip, group=find(clip.group)) for clip in named], notes


def _copies(root: Path, paths: Sequence[str]) -> list[list[str]]:
    """Files of equal content, as lists of two and more. Only files of equal size are read.

    Empty files, and those that may not be read, are nobody's copies: they are bad clips, which reading will tell.
    """
    sizes = {path: size for path in paths if (size := _size(root / path)) > 0}
    counts = Counter(sizes.values())
    same = [path for path, size in sizes.items() if counts[size] > 1]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda path: _digest(root / path), same))
    by_content: dict[str, list[str]] = defaultdict(list)
    for path, digest in zip(same, digests, strict=True):
        by_content[digest or path].append(path)
    return [paths for paths in by_content.values() if len(paths) > 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""


def _make_folds(
    clips: Sequence[Clip], classes: Sequence[str], path: Place, folds: int, seed: int
) -> tuple[list[Clip], tuple[Round, ...], list[str]]:
    groups: Mapping[str, set[str]] = {name: {clip.group for clip in clips if clip.label == name} for name in classes}
    few = [name for name in classes if len(groups[name]) < 2]
    if few:
        raise TaskError(
            f"{path}: every class needs at least two recordings that are not copies or of one group, so that one can "
            f"be learnt from and another tested; too few in: {_listed(few)}"
        )
    index = {name: i for i, name in enumerate(classes)}
    try:
        made = splits.inner_splits([index[clip.label] for clip in clips], [clip.group for clip in clips], folds, seed)
    except SoundmarkError as error:
        raise TaskError(f"{path}: {error}") from None
    fold_of = {int(i): str(number) for number, (_, test) in enumerate(made, 1) for i in test}
    divided = [replace(clip, fold=fold_of[i]) for i, clip in enumerate(clips)]
    notes = [] if len(made) == folds else [f"The groups allow {len(made)} folds instead of {folds}."]
    return divided, fold_rounds(divided), notes


def _check_rounds(task: Task) -> None:
    for part in task.rounds:
        learnt = {task.clips[i].label for i in part.train}
        never = sorted({task.clips[i].label for i in part.test} - learnt)
        if never:
            raise TaskError(
                f"{task.name}: in round {part.name!r} the classes {_listed(never)} are tested but never learnt; "
                "spread every class over at least two folds, or over train and test"
            )
    try:
        for part in task.rounds:
            check_groups(task, part)
    except LeakError as error:
        raise LeakError(f"{error} (copies of one recording are one group)") from None
