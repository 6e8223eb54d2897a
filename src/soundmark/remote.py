"""Recordings and tables at addresses: `https://`, `s3://`, `gs://`, `hf://` and whatever else fsspec reads.

An address is read as a whole, by the process that decodes it; what is larger than 64 MiB is read in parts where its
server allows that. A read that fails for any reason but a missing file or a refusal is tried again.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from soundmark.errors import MissingExtra, RemoteError

WHOLE_BYTES = 64 << 20
PAUSES = (0.5, 2.0)  # seconds before a failed read is tried again
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.")  # one letter would be a drive
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface-hub", "az": "adlfs"}
_PACKAGES |= {"abfs": "adlfs", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko"}
# By what names stores give a digest of a file's content when they list it.
_MARKS = ("ETag", "etag", "md5Hash", "checksum", "blob_id")

Answer = TypeVar("Answer")


class Url(os.PathLike[str]):
    """An address, with as much of a path's face as recordings and tables need.

    Args:
        text: `scheme://host/path`. Of web addresses what follows a question mark belongs to this file alone.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __fspath__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Url({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __truediv__(self, path: str) -> Url:
        return Url(f"{self._plain.rstrip('/')}/{path}")

    @property
    def _plain(self) -> str:
        return self.text.partition("?")[0] if self.scheme in ("http", "https") else self.text

    @property
    def scheme(self) -> str:
        """What stands before the colon, in lower case."""
        return self.text.partition(":")[0].lower()

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self._plain.partition("://")[2])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The name's ending, with its dot."""
        return self._path.suffix

    @property
    def parent(self) -> Url:
        """The folder that it is in."""
        return Url(self._plain.rstrip("/").rpartition("/")[0])

    def as_posix(self) -> str:
        """The address."""
        return self.text

    def resolve(self) -> Url:
        """The address."""
        return self

    def read_bytes(self) -> bytes:
        """The whole content.

        Raises:
            RemoteError: if it cannot be read.
            MissingExtra: if a package is missing for that.
        """
        with ExitStack() as stack:
            return opened(self, stack).read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole content as text; see `read_bytes`."""
        return self.read_bytes().decode(encoding)


Place = Path | Url
"""Where a file or a folder is: on this machine, or at an address."""


def is_url(text: str) -> bool:
    """Whether this is an address, not a path."""
    return _ADDRESS.match(text) is not None


def place(text: str | os.PathLike[str]) -> Place:
    """A path or an address from its text."""
    if isinstance(text, Url):
        return text
    return Url(os.fspath(text)) if is_url(os.fspath(text)) else Path(text)


def join(root: Place, path: str) -> Place:
    """Where a task's file is; an address stands for itself, whatever the root."""
    return Url(path) if is_url(path) else root / path


@contextmanager
def held(source: Place) -> Iterator[Path | BinaryIO]:
    """A path as it is; the content of an address, so that looking at it twice does not fetch it twice.

    Raises:
        RemoteError: if it cannot be read.
        MissingExtra: if a package is missing for that.
    """
    if isinstance(source, Path):
        yield source
        return
    with ExitStack() as stack:
        yield opened(source, stack)


def opened(url: Url, stack: ExitStack) -> BinaryIO:
    """A file at an address, open at its beginning and seekable, until the stack is closed. Its `name` is the address.

    Raises:
        RemoteError: if it cannot be read.
        MissingExtra: if a package is missing for that.
    """
    return _tried(url, lambda: _Named(_fetched(url, stack), url.text))  # type: ignore[return-value]


def listing(root: Url) -> dict[str, str]:
    """Every file below a folder, by its path from there, sorted, with the mark of its content that its store gives.

    Raises:
        RemoteError: if it cannot be listed, or there is nothing.
        MissingExtra: if a package is missing for that.
    """

    def look() -> dict[str, str]:
        files, path = _filesystem(root)
        base = path.rstrip("/") + "/"
        found = files.find(path, detail=True)
        return {name[len(base) :]: _mark(about) for name, about in sorted(found.items()) if name.startswith(base)}

    found = _tried(root, look)
    if not found:
        raise RemoteError(f"there is nothing below {root}: check the address")
    return found


def _mark(about: Any) -> str:
    marks = (about.get(name) for name in _MARKS) if isinstance(about, dict) else ()
    return next((str(mark) for mark in marks if mark), "")


def _filesystem(url: Url) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(f"{url}: addresses need fsspec: pip install 'soundmark[remote]'") from None
    try:
        files, path = fsspec.core.url_to_fs(url.text)
    except ImportError as error:
        package = _PACKAGES.get(url.scheme)
        what = f"pip install {package}" if package else str(error)
        raise MissingExtra(f"{url}: {url.scheme}:// needs a package that is not installed: {what}") from None
    except ValueError:
        raise RemoteError(
            f"{url}: nothing here reads {url.scheme}://; https://, s3://, gs:// and hf:// are usual"
        ) from None
    return files, path


def _fetched(url: Url, stack: ExitStack) -> Any:
    files, path = _filesystem(url)
    with ExitStack() as inner:
        source = inner.enter_context(files.open(path, "rb"))
        size = getattr(source, "size", None)
        if size is not None and size > WHOLE_BYTES and source.seekable():
            stack.push(inner.pop_all())
            return source
        whole = inner.enter_context(tempfile.SpooledTemporaryFile(WHOLE_BYTES))
        shutil.copyfileobj(source, whole, 1 << 20)
        if size is not None and whole.tell() < size:
            raise OSError(f"only {whole.tell()} of {size} bytes came")
        whole.seek(0)
        source.close()
        stack.push(inner.pop_all())
        return whole


def _tried(url: Url, work: Callable[[], Answer]) -> Answer:
    reason: Exception
    for pause in (*PAUSES, None):
        try:
            return work()
        except (MissingExtra, RemoteError):
            raise
        except FileNotFoundError as error:
            trouble = _trouble(error.__cause__)
            if trouble is None:
                raise RemoteError(f"there is no file {url}: check the address") from None
            reason = trouble
        except IsADirectoryError:
            raise RemoteError(f"{url} is a folder, not a file: check the address") from None
        except PermissionError:
            raise RemoteError(f"{url} may not be read: check your access to {urlsplit(url.text).netloc}") from None
        except Exception as error:  # every store has errors of its own
            reason = error
        if pause is None:
            text = " ".join(str(reason).split()) or type(reason).__name__
            raise RemoteError(f"{url} cannot be read ({text}): check the address and your access, and try again")
        time.sleep(pause)
    raise AssertionError


def _trouble(cause: BaseException | None) -> Exception | None:
    """The network's trouble behind a "not found": fsspec says so of every web address that it cannot reach."""
    status = getattr(cause, "status", None)
    of_network = isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith("aiohttp")
    return cause if isinstance(cause, Exception) and of_network and status not in (404, 410) else None


class _Named:
    """A file object that is called by its address in messages."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name = file, name
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def seekable(self) -> bool:
        return True
