"""Data sets in small: files in the layout of the published ones, all with the same tenth of a second of sound."""

from __future__ import annotations

import functools
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from soundmark import audio


@functools.cache
def wav() -> bytes:
    """A recording of 0.1 s at 8 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        audio.write(path, np.sin(np.arange(800) / 5).astype(np.float32) / 2, 8000)
        return path.read_bytes()


def plant(root: Path, names: Iterable[str]) -> None:
    """Write a recording under each of these names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav())


def pack(folder: Path, archive: Path, name: str) -> None:
    """Pack a folder under another name, as data sets are published."""
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, name)
