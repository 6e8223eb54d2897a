"""A process that decodes recordings of strangers, one after the other, and can be lost without harm.

It is started by `soundmark.serve.decoders`. On its standard input come frames, each a recording with what it may be;
on its standard output goes a frame for each, a waveform or what is wrong. It holds no keys, is the only one that sees
a stranger's bytes, and has limits on memory, processor time and files. Where the platform has none, the time limit of
the parent remains.

A frame is the length of a JSON table (4 bytes, big-endian), the table, and as many bytes as its `bytes` says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from soundmark.audio.decoders import Stream, opened
from soundmark.audio.waveforms import resample_blocks
from soundmark.errors import AudioError

HEAD = struct.Struct(">I")
MAX_FRAME = 1 << 31
NAME = "the recording"
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # of Linux


class Refused(Exception):
    """The recording is beyond a limit."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def pack(table: dict[str, Any], content: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """A frame, as parts to write one after the other."""
    head = json.dumps(table | {"bytes": len(content)}).encode()
    return [HEAD.pack(len(head)) + head, content]


def main() -> None:
    """Answer frames until the input ends."""
    for name in ("SIGINT", "SIGTERM"):  # the parent ends it, when nothing is being decoded any more
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # a library that prints must not write into a frame
        os.dup2(nowhere, number)
    for stream in (source, target):
        _widen(stream)
    limits = json.loads(sys.argv[1])
    allow_processor = _bounded(limits["memory_bytes"], limits["file_bytes"])
    write(target, pack({"ready": True}))
    while frame := read(source):
        table, content = frame
        allow_processor(table["cpu_seconds"])
        try:
            said, waveform = decoded(content, table)
        except Refused as error:
            write(target, pack({"code": error.code, "message": str(error)}))
        except AudioError as error:
            write(target, pack({"code": "unreadable", "message": str(error)}))
        except MemoryError:
            write(target, pack({"code": "decoder", "message": f"{NAME} needs too much memory to be decoded"}))
            return  # what is left in memory now is unknown: a new process takes over
        else:
            write(target, pack(said, waveform.data.cast("B")))
            del waveform


def decoded(content: bytes, wanted: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """A recording as a waveform, within limits.

    Args:
        content: a whole file.
        wanted: `sample_rate` of the waveform, and `max_seconds`, `max_sample_rate`, `max_channels`.

    Returns:
        What it was (`sample_rate`, `channels`, `format`), and float32 (samples,).

    Raises:
        Refused: if it is beyond a limit; nothing beyond is decoded then.
        AudioError: if it cannot be read.
    """
    with _as_path(content) as source:
        try:
            with opened(source) as stream:
                _check(stream, wanted)
                rate = wanted["sample_rate"]
                most = int(wanted["max_seconds"] * stream.sample_rate)
                blocks = list(resample_blocks(_counted(stream.blocks, most, wanted), stream.sample_rate, rate))
                said = {"sample_rate": stream.sample_rate, "channels": stream.channels, "format": stream.format}
        except AudioError as error:
            words = str(error).replace(str(source), NAME) if isinstance(source, str) else str(error)
            raise AudioError(words.replace("the bytes given", NAME)) from None
    if not sum(map(len, blocks)):
        raise AudioError(f"{NAME} holds no samples: replace it or leave it out")
    return said, np.ascontiguousarray(np.concatenate(blocks), dtype="<f4")


def _check(stream: Stream, wanted: dict[str, Any]) -> None:
    if stream.sample_rate > wanted["max_sample_rate"]:
        raise Refused(
            "sample_rate",
            f"{NAME} has {stream.sample_rate} Hz, and up to {wanted['max_sample_rate']} are taken: resample it",
        )
    if stream.channels > wanted["max_channels"]:
        raise Refused(
            "too_many_channels",
            f"{NAME} has {stream.channels} channels, and up to {wanted['max_channels']} are taken: mix it down",
        )
    if stream.samples is not None and stream.samples > wanted["max_seconds"] * stream.sample_rate:
        raise _too_long(wanted)


def _counted(blocks: Iterator[np.ndarray], most: int, wanted: dict[str, Any]) -> Iterator[np.ndarray]:
    """The blocks, unless there are more samples than a header said, or than any header could say."""
    count = 0
    for block in blocks:
        count += len(block)
        if count > most:
            raise _too_long(wanted)
        yield block


def _too_long(wanted: dict[str, Any]) -> Refused:
    return Refused("too_long", f"{NAME} lasts longer than the {wanted['max_seconds']:g} s that are taken: cut it")


@contextlib.contextmanager
def _as_path(content: bytes) -> Iterator[str | bytes]:
    """A path under which this process and ffmpeg can read the content, in memory alone; the content elsewhere."""
    try:
        number = os.memfd_create("recording")
    except (AttributeError, OSError):
        yield content
        return
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(number, left) :]
        path = f"/proc/{os.getpid()}/fd/{number}"
        yield path if os.path.exists(path) else content
    finally:
        os.close(number)


def _bounded(memory_bytes: int, file_bytes: int) -> Callable[[float], None]:
    """Set the limits of this process; what comes back allows it so many more seconds on a processor."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit remains
        return lambda seconds: None

    def lower(which: int, value: int) -> None:
        _, hard = resource.getrlimit(which)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS has no limit on address space
            resource.setrlimit(which, (least, least))

    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_AS, memory_bytes)
    lower(resource.RLIMIT_FSIZE, file_bytes)
    lower(resource.RLIMIT_NOFILE, 64)

    def allow(seconds: float) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))

    return allow


def _widen(stream: BinaryIO) -> None:
    """Let a pipe hold a whole waveform, so that it passes in one go."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.fcntl(stream.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)


def read(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """A frame; None where the input has ended."""
    head = _exactly(source, HEAD.size)
    if head is None:
        return None
    text = _exactly(source, HEAD.unpack(head)[0])
    table: dict[str, Any] = json.loads(text or b"{}")
    content = _exactly(source, table.get("bytes", 0))
    return None if content is None else (table, content)


def _exactly(source: BinaryIO, size: int) -> bytes | None:
    content = bytearray(size)
    view, place = memoryview(content), 0
    while place < size:
        count = source.readinto(view[place:])  # type: ignore[attr-defined]
        if not count:
            return None
        place += count
    return bytes(content)


def write(target: BinaryIO, parts: list[bytes | memoryview]) -> None:
    """Write a frame."""
    for part in parts:
        left = memoryview(part)
        while left:
            left = left[target.write(left) :]


if __name__ == "__main__":
    main()
