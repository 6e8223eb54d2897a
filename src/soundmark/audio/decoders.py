"""From a path, bytes, file object or array to blocks of mono samples.

libsndfile reads what it can, miniaudio helps it with whole Ogg Vorbis files, and ffmpeg reads the rest. Formats are
told by content, never by name, and memory is bounded by what is decoded, never by what a header promises.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from soundmark import remote
from soundmark.audio import ffmpeg, signatures, vorbis
from soundmark.errors import AudioError, RemoteError

Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]

MIN_RATE, MAX_RATE = 100, 768_000  # a header that says 1 Hz would swell thousands of times when resampled
END_TOLERANCE = 0.1  # seconds by which an asked-for end may pass the real one: annotations are rounded

_BLOCK_VALUES = 1 << 19
_SPOOL_BYTES = 64 << 20
_REFUSALS = (soundfile.SoundFileError, RuntimeError, TypeError, ValueError)


@dataclass
class Stream:
    """An opened source.

    Attributes:
        name: what to call it in messages.
        sample_rate: Hz, the source's own.
        channels: how many are mixed into one.
        samples: samples per channel in the whole source as its header says, or None where only decoding tells.
        format: container and coding, for people.
        blocks: mono float32 (samples,) of the part asked for; finite, each its own memory.
    """

    name: str
    sample_rate: int
    channels: int
    samples: int | None
    format: str
    blocks: Iterator[np.ndarray]


@contextmanager
def opened(source: Source, start: float = 0.0, end: float | None = None) -> Iterator[Stream]:
    """Open a source between two moments; nothing is decoded until the blocks are asked for.

    Raises:
        AudioError: if it cannot be read, or has nothing between `start` and `end`.
    """
    if isinstance(source, tuple):
        yield _array_stream(source, start, end)
        return
    with ExitStack() as stack:
        name, file, path = open_bytes(source, stack)
        yield _file_stream(name, file, path, start, end, stack)


def open_bytes(source: Any, stack: ExitStack) -> tuple[str, BinaryIO, str | None]:
    """A source's name for messages, a seekable binary file at its start, and its path where it has one.

    Raises:
        AudioError: if there is no such file, or it is not one that holds bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return "the bytes given", io.BytesIO(source), None
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if remote.is_url(path):
            return path, _at_address(path, stack), None
        return path, stack.enter_context(_open_path(path)), path
    if not hasattr(source, "read"):
        raise AudioError(
            f"cannot read sound from a {type(source).__name__}: give a path, bytes, a binary file object"
            " or a pair (array, sample rate)"
        )
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) else "the file object given"
    return name, _seekable(source, name, stack), None


def _open_path(path: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise AudioError(f"there is no file {path}: check the path") from None
    except PermissionError:
        raise AudioError(f"{path} may not be read: give yourself permission to read it") from None
    except (OSError, ValueError) as error:  # link loops, names too long, names with a null byte
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path!r} cannot be opened ({reason}): check the path") from None
    kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"  # reading a pipe could wait for ever
    raise AudioError(f"{path} is a {kind}, not a recording: give the path of an audio file")


def _at_address(url: str, stack: ExitStack) -> BinaryIO:
    try:
        return _Guarded(remote.opened(remote.Url(url), stack))  # type: ignore[return-value]
    except RemoteError as error:
        raise AudioError(str(error)) from None


def _seekable(source: Any, name: str, stack: ExitStack) -> BinaryIO:
    """The file object itself, or a copy of what a pipe gives (in memory up to 64 MiB, then on disk)."""
    try:
        if source.seekable():
            source.seek(0)
            some, file = source.read(1), source
            source.seek(0)
        else:
            some, file = source.read(1), stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
            file.write(some)
            shutil.copyfileobj(source, file)
            file.seek(0)
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise AudioError(f"{name} cannot be read ({error}): give a binary file, as open(path, 'rb') does") from None
    if not isinstance(some, bytes):
        raise AudioError(f"{name} gives text, not bytes: open it in binary mode, as open(path, 'rb') does")
    return _Guarded(file)  # type: ignore[return-value]


class _Guarded:
    """What libsndfile sees of a stranger's file object: no name to mislead it, and no exception in callbacks."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size) or b""
        except Exception as error:  # C cannot carry it: it is raised after the call
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return int(self.file.seek(offset, whence))
        except Exception as error:
            self.error = error
            return 0

    def tell(self) -> int:
        return int(self.file.tell())


def _file_stream(
    name: str, file: BinaryIO, path: str | None, start: float, end: float | None, stack: ExitStack
) -> Stream:
    check_moments(name, start, end)
    head = file.read(signatures.HEAD_BYTES)
    if not head:
        raise AudioError(f"{name} is empty (0 bytes): replace it or leave it out")
    if head[:4] == b"OggS" and b"\x01vorbis" in head and not start and end is None:
        whole = _whole_vorbis(file)
        if whole:
            table, rate = whole
            blocks = _finite(_mono(iter([table])), name)
            return Stream(name, checked_rate(rate, name), table.shape[1], len(table), "OGG VORBIS", blocks)
    file.seek(0)
    try:
        # By descriptor libsndfile sees no name that could mislead it; Windows' C runtimes do not share descriptors.
        handle = file if path is None else path if os.name == "nt" else file.fileno()
        sound = stack.enter_context(soundfile.SoundFile(handle, closefd=False))
    except _REFUSALS as error:
        _raise_error_of(file, name)
        kind = signatures.kind_of(head)
        if kind:
            return _ffmpeg_stream(name, kind, _reason(error), path or _copy(file, stack), start, end, stack)
        raise AudioError(f"{name} {signatures.looks_like(head)}{_aside(error)}: replace it or leave it out") from None
    rate = checked_rate(sound.samplerate, name)
    first, stop = span(name, rate, sound.frames, start, end)
    blocks = _finite(_mono(_sound_blocks(name, file, sound, first, stop)), name)
    return Stream(name, rate, sound.channels, sound.frames, f"{sound.format} {sound.subtype}", blocks)


def _whole_vorbis(file: BinaryIO) -> tuple[np.ndarray, int] | None:
    if file.seek(0, os.SEEK_END) > vorbis.MAX_FILE_BYTES:
        return None
    file.seek(0)
    return vorbis.decode(file.read())


def _sound_blocks(name: str, file: BinaryIO, sound: Any, first: int, stop: int) -> Iterator[np.ndarray]:
    step = max(1, _BLOCK_VALUES // sound.channels)
    try:
        if first:
            _seek(file, sound, first)
        while first < stop:
            block = sound.read(min(step, stop - first), dtype="float32", always_2d=True)
            _raise_error_of(file, name)
            if not len(block):
                return
            first += len(block)
            yield block
    except _REFUSALS as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name} is damaged or cut short ({_reason(error)}): replace it or leave it out") from None


def _seek(file: BinaryIO, sound: Any, first: int) -> None:
    """Go to a sample. In Vorbis, where libsndfile's aim is unsure, go some blocks and a page earlier and listen on."""
    near = first
    if sound.subtype == "VORBIS":
        place = file.tell()  # libsndfile reads on from here
        file.seek(max(0, file.seek(0, os.SEEK_END) - vorbis.TAIL_BYTES))
        near = min(first, vorbis.last_page_begin(file.read()) or 0)
        near = max(0, near - vorbis.LONGEST_BLOCK)
        file.seek(place)
    if near:
        sound.seek(near)
    while near < first:
        heard = len(sound.read(min(first - near, _BLOCK_VALUES // sound.channels), dtype="float32", always_2d=True))
        near += heard or first - near


def _raise_error_of(file: BinaryIO, name: str) -> None:
    if isinstance(file, _Guarded) and file.error:
        raise AudioError(f"{name} could not be read to its end ({file.error}): try again") from None


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).removeprefix("Error :").strip().rstrip(".")
    return "no sound in it" if text.startswith("File does not exist") else text  # libsndfile's word for any failure


def _aside(error: Exception) -> str:
    reason = _reason(error)
    return "" if reason == "Format not recognised" else f" ({reason})"


def _ffmpeg_stream(
    name: str, kind: signatures.Kind, refusal: str, path: str, start: float, end: float | None, stack: ExitStack
) -> Stream:
    decoded = ffmpeg.decode(os.path.abspath(path), name, kind, refusal, start, end, stack)
    rate = checked_rate(decoded.sample_rate, name)

    def blocks() -> Iterator[np.ndarray]:
        count = 0
        for block in _finite(_mono(decoded.blocks), name):
            count += len(block)
            yield block
        if not count:
            where = f" after {start:g} s" if start else ""
            raise AudioError(f"{name} holds no samples{where}: ask for an earlier start, or replace it")
        if end is not None and count / rate < end - start - END_TOLERANCE:
            raise AudioError(
                f"{name} is {start + count / rate:g} s long, so it has no {end:g} s: ask for an earlier end"
            )

    return Stream(name, rate, decoded.channels, None, f"{kind.name} (ffmpeg)", blocks())


def _copy(file: BinaryIO, stack: ExitStack) -> str:
    """The content as a temporary file, since M4A keeps its index at the end, where a pipe cannot reach it."""
    handle, path = tempfile.mkstemp(prefix="soundmark-")
    stack.callback(Path(path).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as target:
        file.seek(0)
        shutil.copyfileobj(file, target)
    return path


def checked_rate(rate: Any, name: str) -> int:
    """`rate` as an integer of Hz.

    Raises:
        AudioError: if it is no whole number, or outside 100 Hz to 768 kHz.
    """
    try:
        whole = int(rate)
        good = whole == rate and MIN_RATE <= whole <= MAX_RATE
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise AudioError(
            f"{name} has a sample rate of {rate!r}: it must be a whole number from {MIN_RATE} to {MAX_RATE} Hz"
        )
    return whole


def span(name: str, rate: int, samples: int, start: float, end: float | None) -> tuple[int, int]:
    """First sample and the one after the last, between two moments of a recording of so many samples.

    Raises:
        AudioError: if there is nothing between them, or `end` is more than 0.1 s beyond the recording's end.
    """
    if samples <= 0:
        raise AudioError(f"{name} holds no samples: replace it or leave it out")
    seconds = samples / rate
    first = round(start * rate)
    stop = samples if end is None else min(round(end * rate), samples)
    if first >= samples:
        raise AudioError(f"{name} is {seconds:g} s long, so nothing starts at {start:g} s: ask for an earlier start")
    if end is not None and end > seconds + END_TOLERANCE:
        raise AudioError(f"{name} is {seconds:g} s long, so it has no {end:g} s: ask for an earlier end")
    if stop <= first:
        raise AudioError(f"{name} holds no samples between {start:g} and {end:g} s: ask for a longer part")
    return first, stop


def check_moments(name: str, start: Any, end: Any) -> None:
    """Raise an `AudioError` unless 0 <= start < end, both finite; an end of None is the recording's."""
    try:
        good_start = 0 <= start < float("inf")
        good_end = end is None or start < end < float("inf")
    except TypeError:
        raise AudioError(f"cannot read {name} from {start!r} to {end!r}: give numbers of seconds") from None
    if not good_start:
        raise AudioError(f"cannot read {name} from {start} s: the start must be a number of seconds from 0 up")
    if not good_end:
        raise AudioError(
            f"cannot read {name} from {start} to {end} s: the end must be a number of seconds after the start"
        )


def _mono(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        channels = block.shape[1]
        if channels == 1:
            yield block[:, 0]
            continue
        mixed = block[:, 0].copy()
        for channel in range(1, channels):  # many times faster than mean(axis=1) over few columns
            mixed += block[:, channel]
        mixed /= channels
        yield mixed


def _finite(blocks: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
    for block in blocks:
        with np.errstate(invalid="ignore"):
            low, high = float(block.min()), float(block.max())  # both pass NaN on
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int((~np.isfinite(block)).sum())
            raise AudioError(
                f"{name} holds samples that are not numbers ({bad} NaN or infinite among {len(block)}):"
                " repair it or leave it out"
            )
        yield block


def _array_stream(pair: tuple[Any, ...], start: float, end: float | None) -> Stream:
    name = "the array given"
    check_moments(name, start, end)
    if len(pair) != 2:
        raise AudioError(f"cannot read sound from a tuple of {len(pair)}: give a pair (array, sample rate)")
    try:
        array = np.asarray(pair[0])
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"{name} is not an array ({error}): give samples as (samples,) or (samples, channels)"
        ) from None
    rate = checked_rate(pair[1], name)
    if array.ndim not in (1, 2):
        raise AudioError(f"{name} has the shape {array.shape}: give (samples,) or (samples, channels)")
    if array.ndim == 2 and array.shape[1] > max(1, array.shape[0]) and array.size:
        raise AudioError(f"{name} has the shape {array.shape}, more channels than samples: give (samples, channels)")
    scale, zero = _full_scale(array.dtype, name)
    first, stop = span(name, rate, len(array) if array.size else 0, start, end)
    table: Any = array.reshape(len(array), -1)

    def blocks() -> Iterator[np.ndarray]:
        step = max(1, _BLOCK_VALUES // table.shape[1])
        for begin in range(first, stop, step):
            part = table[begin : min(begin + step, stop)]
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is then reported
                yield part.astype(np.float32) if scale == 1 else ((part - zero) / scale).astype(np.float32)

    return Stream(name, rate, table.shape[1], len(table), f"array {array.dtype}", _finite(_mono(blocks()), name))


def _full_scale(dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    """Full scale and zero of a type."""
    if dtype.kind == "f":
        return 1.0, 0.0
    if dtype == np.uint8:
        return 128.0, 128.0
    if dtype.kind == "i" and dtype.itemsize <= 4:
        return float(2 ** (8 * dtype.itemsize - 1)), 0.0
    raise AudioError(
        f"{name} is of type {dtype}, whose full scale is unknown: give floats in [-1, 1], or int16 or int32"
    )
