"""Writing a task, through its view, as folders of audio: a folder per class, and a manifest that keeps the protocol."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from soundmark import __version__, audio
from soundmark.errors import TaskError
from soundmark.files import atomic_path, write_bytes, write_json, write_text
from soundmark.remote import Place
from soundmark.tasks.base import Clip, Task

MARKER = "soundmark-export.json"
MANIFEST = "manifest.csv"
# What Windows keeps for itself, whatever the ending.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10))}


def export(
    task: Task,
    folder: str | os.PathLike[str],
    *,
    folders: Mapping[str, str] | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Copy a task's clips into a folder per class.

    Files are copied as they are; a clip that is a part of its file is cut out and written as WAV. Each file appears
    whole or not at all, and a second call goes on where the first was stopped. Beside the folders stand `manifest.csv`,
    a task with the same protocol, and `soundmark-export.json`, which says where all this comes from.

    Args:
        task: what to write, with its view applied.
        folder: where to, a new or empty folder, or one that holds an export of the same task.
        folders: class to the name of its folder, where it differs.
        force: write into a folder that holds other things. Nothing there is deleted.
        progress: show a bar on stderr.

    Returns:
        `folder`, `written` and `found` (files copied now, and earlier), `classes` (folder name to clips).

    Raises:
        TaskError: if the folder holds something else, or a clip's file is missing or cannot be written.
    """
    from tqdm import tqdm

    target = Path(folder)
    _check_target(target, task, force)
    files = _file_names(task, _folder_names(task, folders or {}))
    table = _manifest(files)
    about = {
        "task": task.full_name,
        "title": task.title,
        "licence": task.licence,
        "source": task.source,
        "classes": list(task.classes),
        "metric": task.metric,
        "over": task.over,
        "positive": task.positive,
        "protocol": task.protocol,
        "official": task.official,
        "notes": list(task.notes),
        "soundmark_version": __version__,
        "manifest": hashlib.sha256(table.encode()).hexdigest(),
    }
    written = 0
    try:
        write_json(target / MARKER, about)
        for clip, name in tqdm(files.items(), "exporting", unit=" clips", disable=None if progress else True):
            written += _copy(task, clip, target / name)
        write_text(target / MANIFEST, table)
    except OSError as error:
        raise TaskError(f"cannot export to {target}: {error.strerror or error}: {error.filename or ''}") from None
    counts = Counter(PurePosixPath(name).parts[0] for name in files.values())
    return {"folder": str(target), "written": written, "found": len(files) - written, "classes": dict(counts)}


def provenance(manifest: Place) -> dict[str, Any] | None:
    """What an export says of the task it was made from, if `manifest` is one's and nobody has changed it since."""
    try:
        about = json.loads((manifest.parent / MARKER).read_text("utf-8"))
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
    texts = ("task", "title", "licence", "source", "metric", "positive", "protocol", "manifest")
    if not (isinstance(about, dict) and all(isinstance(about.get(key), str) for key in texts)):
        return None
    lists = [about.get("classes"), about.get("notes")]
    if not all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in lists):
        return None
    return about if about["manifest"] == digest and isinstance(about.get("official"), bool) else None


def _check_target(target: Path, task: Task, force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise TaskError(f"{target} is a file: name a folder to export to")
    if not target.exists() or force:
        return
    there = sorted(os.listdir(target))
    if not there:
        return
    try:
        earlier = json.loads((target / MARKER).read_text("utf-8"))["task"]
    except (OSError, ValueError, KeyError, TypeError):
        earlier = None
    if earlier != task.full_name:
        what = f"an export of {earlier}" if earlier else f"other things ({', '.join(there[:3])}, ...)"
        raise TaskError(f"{target} holds {what}: name a new folder, or add --force to write into this one")


def _folder_names(task: Task, folders: Mapping[str, str]) -> dict[str, str]:
    """Folder of every class: a name that every file system takes, different even where case does not count."""
    names: dict[str, str] = {}
    taken: set[str] = {MARKER, MANIFEST}
    for label in task.classes:
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", folders.get(label, label)).strip(" .") or "_"
        if plain.split(".")[0].lower() in _RESERVED or plain.startswith("."):
            plain = f"_{plain}"
        name, number = plain, 2
        while name.lower() in taken:
            name, number = f"{plain}-{number}", number + 1
        taken.add(name.lower())
        names[label] = name
    return names


def _file_names(task: Task, folders: Mapping[str, str]) -> dict[Clip, str]:
    """Path of every clip in the export: its own file name, made different where two would be the same."""
    files: dict[Clip, str] = {}
    taken: set[str] = set()
    for clip in task.clips:
        source = PurePosixPath(clip.path)
        whole = clip.start == 0.0 and clip.end is None
        part = "" if whole else f"_{clip.start:g}-{'end' if clip.end is None else f'{clip.end:g}'}"
        stem, suffix = f"{folders[clip.label]}/{source.stem}{part}", source.suffix if whole else ".wav"
        name, number = f"{stem}{suffix}", 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}{suffix}", number + 1
        taken.add(name.lower())
        files[clip] = name
    return files


def _copy(task: Task, clip: Clip, target: Path) -> bool:
    """Write one clip, unless it is there. Returns whether it was written."""
    source = task.path(clip)
    if clip.start == 0.0 and clip.end is None:
        if not isinstance(source, Path):
            if target.is_file():
                return False
            write_bytes(target, source.read_bytes())
            return True
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return False
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    else:
        if target.is_file():
            return False
        audio.write(target, *audio.read(source, start=clip.start, end=clip.end))
    return True


def _manifest(files: Mapping[Clip, str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    divided = any(clip.fold for clip in files)
    parts = {clip.fold for clip in files} <= {"train", "valid", "test"}
    table.writerow(["path", "label", "group", *(["split" if parts else "fold"] if divided else [])])
    for clip, name in files.items():
        table.writerow([name, ";".join(clip.labels), clip.group, *([clip.fold] if divided else [])])
    return text.getvalue()
