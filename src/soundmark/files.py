"""Where things are kept, and writes that happen whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from soundmark.remote import Url, opened


def cache_dir() -> Path:
    """The per-user cache: `SOUNDMARK_CACHE`, or the platform's cache folder. It is created when first written to."""
    return Path(os.environ.get("SOUNDMARK_CACHE") or platformdirs.user_cache_dir("soundmark", appauthor=False))


def data_folders() -> list[Path]:
    """Folders that hold data sets: the search path in `SOUNDMARK_DATA`, then the cache's own `data` folder."""
    listed = [Path(part).expanduser() for part in os.environ.get("SOUNDMARK_DATA", "").split(os.pathsep) if part]
    return [*listed, cache_dir() / "data"]


def weights_folders() -> list[Path]:
    """Folders of pretrained weights: the search path in `SOUNDMARK_WEIGHTS`, then the cache's own `weights` folder."""
    listed = [Path(part).expanduser() for part in os.environ.get("SOUNDMARK_WEIGHTS", "").split(os.pathsep) if part]
    return [*listed, cache_dir() / "weights"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; move it into place when the block ends well, remove it otherwise.

    A reader therefore sees the old file or the whole new one, and an interruption leaves nothing half-written. The
    temporary name keeps the suffix, since many writers choose their format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=f".part{target.suffix}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if os.name == "posix":  # mkstemp makes files private; give the new file what `open` would have given
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a whole file atomically, creating its folder."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write a whole text file atomically as UTF-8 with Unix line ends, creating its folder."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON atomically: readable, keys in the order given, no NaN (which is not JSON)."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_digest(path: str | os.PathLike[str]) -> str:
    """BLAKE2b-160 of a file's content, as hexadecimal: the name under which a clip's content is cached.

    Raises:
        OSError: if it cannot be read, from a disk or from an address.
    """
    digest = hashlib.blake2b(digest_size=20)
    with ExitStack() as stack:
        stream = opened(path, stack) if isinstance(path, Url) else stack.enter_context(open(path, "rb"))
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def data_digest(content: Any) -> str:
    """BLAKE2b-128 of plain data, as hexadecimal: tells one question from another in what is kept between runs."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
