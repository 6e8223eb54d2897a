"""Unpacking that trusts no archive: nothing is written outside the folder, no links, and no more than was allowed."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from soundmark.errors import DamagedArchive, DownloadError
from soundmark.files import atomic_path

MAX_BYTES = 100 * 2**30
MAX_MEMBERS = 2_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_file: bool
    open: Callable[[], IO[bytes]]


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    strip: int = 0,
    wanted: Callable[[str], bool] | None = None,
    max_bytes: int = MAX_BYTES,
    progress: bool = True,
) -> int:
    """Unpack a zip or tar archive. Every file appears whole or not at all; one that is there already is left alone.

    Args:
        archive: a zip file, or a tar file, compressed or not; told by its content.
        folder: where its files go.
        strip: leading folders to take off every name; members with no more than these are skipped.
        wanted: which members to unpack, by their stripped names; all by default.
        max_bytes: refuse to write more.
        progress: show a bar on stderr.

    Returns:
        The number of files unpacked or found in place.

    Raises:
        DamagedArchive: if it is no archive, or a damaged one.
        DownloadError: if it would write outside `folder`, holds links or devices among the wanted members, or is
            larger than allowed or than the disk has room for.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            members = _members(archive, stack)
            return _unpack(archive, members, folder, strip, wanted or (lambda name: True), max_bytes, progress)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DamagedArchive(f"{archive} is damaged or no archive we can unpack: {error}; fetch it again") from None
    except DownloadError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DownloadError(f"cannot unpack {archive} into {folder}: {reason}") from None


def _unpack(
    archive: Path,
    members: Iterator[_Member],
    folder: Path,
    strip: int,
    wanted: Callable[[str], bool],
    max_bytes: int,
    progress: bool,
) -> int:
    from tqdm import tqdm

    count, total = 0, 0
    with tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=None if progress else True) as bar:
        for number, member in enumerate(members):
            if number >= MAX_MEMBERS:
                raise DownloadError(f"{archive} holds more than {MAX_MEMBERS:,} files; it is not unpacked")
            name = _safe_name(member.name, strip, archive)
            if name is None or not wanted(name):
                continue
            if not member.is_file:
                raise DownloadError(f"{archive} holds {member.name!r}, which is a link or a device; it is not unpacked")
            total += member.size
            if total > max_bytes:
                raise DownloadError(f"{archive} would unpack to more than {max_bytes:,} bytes; it is not unpacked")
            target = folder / name
            if not (target.is_file() and target.stat().st_size == member.size):
                _write(member, target, archive)
            count += 1
            bar.update()
    return count


def _write(member: _Member, target: Path, archive: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < member.size:
        raise DownloadError(f"no room on the disk for {target} ({member.size:,} bytes)")
    with atomic_path(target) as temporary, member.open() as source, open(temporary, "wb") as stream:
        left = member.size
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                break
            stream.write(block)
        if left:
            raise DamagedArchive(f"{archive} is damaged: {member.name!r} is not of the size it states; fetch it again")


def _safe_name(name: str, strip: int, archive: Path) -> str | None:
    """The member's path in the folder, or None for what is stripped off whole.

    Raises:
        DownloadError: if the name leads elsewhere.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    drive = os.name == "nt" and ":" in name
    if path.is_absolute() or ".." in path.parts or "\0" in name or drive or name[1:3] in (":/", ":\\"):
        raise DownloadError(f"{archive} holds {name!r}, which would be written outside the folder; it is not unpacked")
    parts = path.parts[strip:]
    return "/".join(parts) or None


def _members(archive: Path, stack: ExitStack) -> Iterator[_Member]:
    """The members that are not folders, in the archive's order."""
    if zipfile.is_zipfile(archive):
        return _zip_members(stack.enter_context(zipfile.ZipFile(archive)))
    return _tar_members(stack.enter_context(tarfile.open(archive)))


def _zip_members(content: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in content.infolist():
        if not entry.is_dir():
            mode = entry.external_attr >> 16
            plain = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            yield _Member(entry.filename, entry.file_size, plain, partial(content.open, entry))


def _tar_members(content: tarfile.TarFile) -> Iterator[_Member]:
    def reader(entry: tarfile.TarInfo) -> IO[bytes]:
        stream = content.extractfile(entry)
        if stream is None:
            raise DownloadError(f"{entry.name!r} in the archive is not a file")
        return stream

    for entry in content:
        if not entry.isdir():
            yield _Member(entry.name, entry.size, entry.isreg(), partial(reader, entry))
