"""A folder at an address: its recordings by class, as in a folder on disk, and which of them are copies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from soundmark import remote
from soundmark.audio import AUDIO_SUFFIXES
from soundmark.errors import RemoteError, TaskError
from soundmark.remote import Url
from soundmark.tasks.base import Clip, counted
from soundmark.tasks.manifest import SPLITS, SUFFIXES


def scan(root: Url) -> tuple[list[Clip], str, list[str], dict[str, str]]:
    """Clips of a folder per class, how they are divided ("split" or ""), what was left out, and marks of content.

    Raises:
        TaskError: if it cannot be listed.
        MissingExtra: if a package is missing for that.
    """
    try:
        found = remote.listing(root)
    except RemoteError as error:
        raise TaskError(str(error)) from None
    # Web servers list names as they stand in addresses: %20 for a blank.
    shown = unquote if root.scheme in ("http", "https") else str
    files = [PurePosixPath(path) for path in found if not any(map(_hidden, PurePosixPath(path).parts))]
    sounds = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    tops = {path.parts[0] for path in files if len(path.parts) > 1}
    parts = {top: SPLITS.get(top.lower(), "") for top in tops}
    is_split = {"train", "test"} <= set(parts.values()) and all(parts.values())
    depth = 2 if is_split and not any(len(path.parts) == 2 for path in sounds) else 1
    clips = [
        Clip(str(path), (shown(path.parts[depth - 1]),), fold=parts[path.parts[0]] if depth == 2 else "")
        for path in sounds
        if len(path.parts) > depth
    ]
    notes = _notes(files, sounds, depth)
    marks = {clip.path: mark for clip in clips if (mark := found[clip.path])}
    return clips, "split" if depth == 2 else "", notes, marks


def copies(paths: Iterable[str], marks: Mapping[str, str]) -> tuple[list[list[str]], list[str]]:
    """Recordings with equal marks, as lists of two and more; and what to say of those that have none."""
    listed = list(paths)
    by_mark: dict[str, list[str]] = defaultdict(list)
    for path in listed:
        if path in marks:
            by_mark[marks[path]].append(path)
    unmarked = sum(path not in marks for path in listed)
    notes = []
    if unmarked:
        notes.append(
            f"Copies were not looked for among {counted(unmarked, 'recording')} at addresses: "
            "give copies, and clips of one source, the same group in a table."
        )
    return [same for same in by_mark.values() if len(same) > 1], notes


def _notes(files: Sequence[PurePosixPath], sounds: Sequence[PurePosixPath], depth: int) -> list[str]:
    tables = [path.name for path in files if len(path.parts) == 1 and path.suffix.lower() in SUFFIXES]
    notes = [f"Not read: {tables[0]}; to go by it, name the table instead of the folder."] if tables else []
    loose = [path for path in sounds if len(path.parts) <= depth]
    if loose:
        notes.append(f"Left out, lying in no class's folder: {counted(len(loose), 'recording')}.")
    other = Counter(path.suffix.lower() or path.name for path in files if len(path.parts) > depth)
    other.subtract(path.suffix.lower() for path in sounds if len(path.parts) > depth)
    if kinds := ", ".join(f"{count} {suffix}" for suffix, count in sorted((+other).items())[:5]):
        notes.append(f"Left out, being no recordings by their endings: {kinds}.")
    return notes


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
