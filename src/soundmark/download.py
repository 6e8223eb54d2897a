"""Downloads that survive broken connections.

A download goes to `NAME.part` beside its target, with what the server said of it in `NAME.part.json`; a later call goes
on from there if the server still has the same content. The target appears whole and verified, or not at all.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from soundmark import __version__
from soundmark.errors import DownloadError
from soundmark.files import write_json

BLOCK = 1 << 18
TRIES = 6  # in a row without a byte of progress
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass
class _Known:
    """What is known of a download that is under way: the content that its `.part` file is the beginning of."""

    url: str = ""
    total: int | None = None
    validator: str = ""  # a strong ETag, or a Last-Modified date


class _Broken(Exception):
    """The transfer broke off, and trying again may help. `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    sha256: str = "",
    md5: str = "",
    progress: bool = True,
    timeout: float = 30.0,
    tries: int = TRIES,
) -> Path:
    """Download a file, going on where an earlier call broke off.

    A file that is at `path` already is returned as it is if it passes the checks, and fetched again otherwise.

    Args:
        url: http or https address.
        path: where the file goes.
        size: its bytes, where known.
        sha256, md5: its checksums, hexadecimal, where known.
        progress: show a bar on stderr.
        timeout: seconds without a byte after which a connection counts as broken.
        tries: failures in a row, without a byte of progress, after which to give up.

    Returns:
        `path`.

    Raises:
        DownloadError: if the server has no such file, cannot be reached, or sends something else than expected. What
            has come so far is kept, unless it is known to be wrong.
    """
    target = Path(path)
    if not url.lower().startswith(("http://", "https://")):
        raise DownloadError(f"cannot fetch {url!r}: the address should begin with https:// or http://")
    if target.is_file() and _fault(target, size, sha256, md5) is None:
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target):
            resumed = part.exists()
            _transfer(url, part, progress, timeout, tries)
            fault = _fault(part, size, sha256, md5)
            if fault and resumed:  # the beginning may have been of another file, so begin again
                _forget(part)
                _transfer(url, part, progress, timeout, tries)
                fault = _fault(part, size, sha256, md5)
            if fault:
                _forget(part)
                raise DownloadError(f"what came from {url} is not what was expected: {fault}; nothing was kept of it")
            part.replace(target)
            _forget(part)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"cannot write {error.filename or target}: {error.strerror or error}") from None
    return target


def _transfer(url: str, part: Path, progress: bool, timeout: float, tries: int) -> None:
    """Bring `part` to the end of the content, over as many connections as that takes."""
    from tqdm import tqdm

    known = _remembered(part, url)
    with tqdm(
        total=known.total,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        desc=part.stem,
        disable=None if progress else True,
    ) as bar:
        failures = 0
        while True:
            before = _length(part)
            bar.n = before
            try:
                _continue(url, part, known, timeout, bar)
                return
            except _Broken as broken:
                failures = 1 if _length(part) > before else failures + 1
                if failures >= tries:
                    raise DownloadError(
                        f"cannot fetch {url}: {broken}, {tries} times in a row; {_length(part):,} bytes are kept, so "
                        "run the same command again to go on"
                    ) from None
                wait = broken.wait or min(0.5 * 2**failures, 30.0)
                bar.set_postfix_str(f"{broken}, again in {wait:g} s")
                time.sleep(wait)


def _continue(url: str, part: Path, known: _Known, timeout: float, bar: Any) -> None:
    """One connection: ask for what is missing, and append what comes. Returns at the end of the content."""
    have = _length(part)
    if have and known.total == have:
        return
    if have and not known.validator:  # nothing tells whether the server still has the same file
        _forget(part)
        have = 0
    headers = {"User-Agent": f"soundmark/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the scheme is checked in `fetch`
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            _append(response, part, have, url, known, bar)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # our part is longer than the file, so it is of another one
                _forget(part)
                raise _Broken("the file on the server has changed") from None
            if error.code in _TRANSIENT:
                raise _Broken(f"the server answers {error.code} {error.reason}", _retry_after(error)) from None
            raise DownloadError(
                f"cannot fetch {url}: the server answers {error.code} {error.reason}; check the address"
            ) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError) and "certificate" in str(error.reason).lower():
            raise DownloadError(f"cannot fetch {url}: its certificate is not trusted ({error.reason})") from None
        raise _Broken(f"no connection ({error.reason})") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Broken(f"the connection broke ({error or type(error).__name__})") from None
    except (ValueError, UnicodeError) as error:
        raise DownloadError(f"cannot fetch {url!r}: it is not an address ({error})") from None


def _append(response: Any, part: Path, have: int, url: str, known: _Known, bar: Any) -> None:
    """Write what a response holds behind the `have` bytes of `part`, or from the start if the server begins there."""
    length = response.headers.get("Content-Length")
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not span or int(span[1]) != have:
            _forget(part)
            raise _Broken("the server sent another part than the one asked for")
        total = None if span[2] == "*" else int(span[2])
    else:
        have, total = 0, int(length) if length and length.isdigit() else None
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    known.url, known.total, known.validator = url, total, validator
    write_json(_notes(part), asdict(known))
    bar.total = total
    bar.n = have
    with open(part, "r+b" if have else "wb") as stream:
        stream.seek(have)
        while block := _read(response):
            stream.write(block)
            bar.update(len(block))
        end = stream.tell()
    if total is not None and end < total:
        raise _Broken(f"the connection broke at {end:,} of {total:,} bytes")
    if total is not None and end > total:
        _forget(part)
        raise _Broken("the server sent more than it announced")


def _read(response: Any) -> bytes:
    """The next bytes. Only errors of the connection become `_Broken`: trying again does not help a full disk."""
    try:
        return bytes(response.read(BLOCK))
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"the connection broke ({error or type(error).__name__})") from None


def _fault(path: Path, size: int | None, sha256: str, md5: str) -> str | None:
    """What is wrong with a file, or None."""
    if size is not None and path.stat().st_size != size:
        return f"{path.stat().st_size:,} bytes instead of {size:,}"
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted:
            with open(path, "rb") as stream:
                found = hashlib.file_digest(
                    stream, functools.partial(hashlib.new, name, usedforsecurity=False)
                ).hexdigest()
            if found != wanted.lower():
                return f"its {name} is {found} instead of {wanted.lower()}"
    return None


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _remembered(part: Path, url: str) -> _Known:
    """What an earlier call noted; a part of another address, or without notes, is forgotten."""
    try:
        known = _Known(**json.loads(_notes(part).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        known = _Known()
    if known.url != url:
        _forget(part)
        known = _Known()
    return known


def _retry_after(error: urllib.error.HTTPError) -> float:
    text = error.headers.get("Retry-After", "")
    if text.isdigit():
        return min(float(text), 120.0)
    date = email.utils.parsedate_tz(text) if text else None
    return min(max(email.utils.mktime_tz(date) - time.time(), 0.0), 120.0) if date else 0.0


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Hold a lock beside `target`, which the system frees when the process ends, however it ends.

    Raises:
        DownloadError: if another process holds it.
    """
    path = target.with_name(target.name + ".lock")
    with open(path, "a+b") as stream:
        try:
            _lock(stream)
            mine = os.name == "nt" or os.fstat(stream.fileno()).st_ino == path.stat().st_ino
        except OSError:
            mine = False
        if not mine:  # held, or the lock of a process that has just finished and taken it away
            raise DownloadError(f"another process is fetching {target}; wait for it, or stop it")
        try:
            yield
        finally:
            if os.name != "nt":
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if os.name == "nt":
            path.unlink()


def _lock(stream: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
