"""Fetching a published data set: download with resume, unpack, and check that what came is the data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundmark.download import fetch
from soundmark.errors import DamagedArchive, DownloadError, TaskError
from soundmark.tasks.base import Task
from soundmark.tasks.published import DataSet
from soundmark.tasks.unpack import unpack


@dataclass(frozen=True)
class Archive:
    """A file that a data set is published in.

    Attributes:
        url: where it is.
        name: of the file here; by default the last part of the address.
        size, md5, sha256: its bytes and checksums, where they are published.
        strip: leading folders to take off its members' names.
        wanted: which of them to unpack, by their stripped names.
        plain: it is no archive but a file of the data set itself.
    """

    url: str
    name: str = ""
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    strip: int = 0
    wanted: Callable[[str], bool] = lambda name: True
    plain: bool = False


def get(
    known: DataSet, archives: Sequence[Archive], folder: Path, load_from: Callable[[Path], Task], url: str = "",
    *, keep_archive: bool = False, progress: bool = True,
) -> Path:  # fmt: skip
    """Fetch a data set into a folder of its name, unless it is there, and check that it is complete.

    The data set appears under its name whole or not at all. An archive of known checksum is verified before it is
    unpacked; of others, the members are.

    Args:
        known: the data set; its folder gets the first of the names that it may have.
        archives: what it is published in.
        folder: that data sets are kept in.
        load_from: its loader, which raises for what is incomplete.
        url: another address; of a data set in several files, that of the folder they lie in.
        keep_archive: do not delete the archives when all is well.
        progress: show bars on stderr.

    Returns:
        The data set's folder.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not the data set.
    """
    name, source = known.folders[0], known.source
    target = folder / name
    if target.is_dir():
        with contextlib.suppress(TaskError):
            return Path(load_from(target).root)
    place = target if target.exists() else folder / f"{name}.part"
    kept = []
    for archive in archives:
        at_host = archive.url.rpartition("/")[2]
        address = f"{url.rstrip('/')}/{at_host}" if url and len(archives) > 1 else url or archive.url
        path = (place if archive.plain else folder) / (archive.name or at_host)
        try:
            fetch(address, path, size=archive.size, md5=archive.md5, sha256=archive.sha256, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}. {_by_hand(source, path)}") from None
        if not archive.plain:
            kept.append(path)
            _unpack(archive, path, place, source, progress)
    try:
        _check(load_from(place), place)
    except TaskError as error:
        again = " and ".join(map(str, kept))
        raise TaskError(f"{error}. What is in {place} came from {again}: delete both to fetch them anew") from None
    if place != target:
        try:
            place.rename(target)
        except OSError as error:
            raise DownloadError(f"cannot move {place} to {target}: {error.strerror}; do it by hand") from None
    if not keep_archive:
        for path in kept:
            path.unlink(missing_ok=True)
    return target


def _by_hand(source: str, path: Path) -> str:
    return (
        f"If the host asks you to register or to accept terms, do so in a browser at {source}, save the file as "
        f"{path}, and run the same command again"
    )


def _unpack(archive: Archive, path: Path, place: Path, source: str, progress: bool) -> None:
    try:
        unpack(path, place, strip=archive.strip, wanted=archive.wanted, progress=progress)
    except DamagedArchive as error:
        path.unlink(missing_ok=True)  # else the next call would meet the same file
        raise DownloadError(f"{error}. {_by_hand(source, path)}") from None


def _check(task: Task, place: Path) -> None:
    hollow = sorted({clip.path for clip in task.clips if Path(task.path(clip)).stat().st_size == 0})
    if hollow:
        raise TaskError(f"{len(hollow)} of the recordings in {place} are empty files, such as {hollow[0]}")
