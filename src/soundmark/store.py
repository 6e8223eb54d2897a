"""Vectors kept on disk under the content they were made from: one SQLite file per encoder.

SQLite gives what a cache of embeddings needs and files of our own would have to invent: a batch is committed whole or
not at all, a kill at any moment leaves the file sound, and several processes may read and write at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from soundmark.errors import SoundmarkError
from soundmark.files import cache_dir

# Raise it when a spectral definition, a statistic over time or the way clips are read changes, so that no old vector is
# taken for a new one.
FORMAT = 2
_ASK = 500  # keys in one question: SQLite bounds the number of parameters
_ROWS = 300  # and so rows of three in one statement


class VectorStore:
    """Float32 vectors by (content key, part name)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, fingerprint: str | None) -> Iterator[VectorStore]:
        """The store of one encoder and its settings; with None, one in memory that is gone afterwards.

        Raises:
            SoundmarkError: if the cache's folder cannot be written or the file is not a store.
        """
        path = store_path(fingerprint) if fingerprint is not None else None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path or ":memory:", timeout=60)
        except (OSError, sqlite3.Error) as error:
            raise SoundmarkError(
                f"cannot open the cache {path}: {error}; set SOUNDMARK_CACHE to a writable folder"
            ) from None
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key TEXT, part TEXT, vector BLOB, PRIMARY KEY (key, part))"
            )
            yield cls(connection)
        except sqlite3.DatabaseError as error:
            raise SoundmarkError(f"the cache {path} cannot be used ({error}); delete that file and run again") from None
        finally:
            connection.close()

    def get(self, keys: Iterable[str], parts: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """What is stored of these keys and parts."""
        found: dict[str, dict[str, np.ndarray]] = {}
        wanted = sorted(keys)
        for i in range(0, len(wanted), _ASK):
            some = wanted[i : i + _ASK]
            question = (
                "SELECT key, part, vector FROM vectors"  # noqa: S608 - only question marks are put in
                f" WHERE key IN ({','.join('?' * len(some))}) AND part IN ({','.join('?' * len(parts))})"
            )
            for key, part, blob in self._connection.execute(question, [*some, *parts]):
                found.setdefault(key, {})[part] = np.frombuffer(blob, dtype="<f4")
        return found

    def put(self, rows: Iterable[tuple[str, Mapping[str, np.ndarray]]]) -> None:
        """Store a batch: all of it, or, if we are killed here, none of it."""
        values = [(key, part, vector.astype("<f4").tobytes()) for key, parts in rows for part, vector in parts.items()]
        with self._connection:
            for i in range(0, len(values), _ROWS):  # one statement for many rows: Python's lock changes hands once
                some = values[i : i + _ROWS]
                self._connection.execute(
                    f"INSERT OR REPLACE INTO vectors VALUES {','.join(['(?, ?, ?)'] * len(some))}",  # noqa: S608
                    [value for row in some for value in row],
                )


def store_path(fingerprint: str) -> Path:
    """Where the vectors of this encoder and these settings are kept."""
    name = hashlib.blake2b(f"{FORMAT}|{fingerprint}".encode(), digest_size=12).hexdigest()
    return cache_dir() / "embeddings" / f"{name}.sqlite"
