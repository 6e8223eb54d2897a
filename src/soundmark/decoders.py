"""From a path, bytes, file object or array to blocks of mono samples: libsndfile, and ffmpeg for what it lacks.

Formats are told by content, never by name, and memory is bounded by what is decoded, never by what a header promises.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from soundmark.errors import AudioError

Source = str | os.PathLike[str] | bytes | BinaryIO | tuple[np.ndarray, int]

MIN_RATE, MAX_RATE = 100, 768_000  # a header of 1 Hz would swell a thousandfold when resampled
END_TOLERANCE = 0.1  # seconds by which an asked-for end may pass the real one: annotations are rounded
BLOCK_VALUES = 1 << 19
HEAD_BYTES = 64
SPOOL_BYTES = 64 << 20
FFMPEG_PATIENCE = 60.0  # seconds without a single block before ffmpeg is given up

# Playlists (HLS, concat) are left out on purpose: a file must not make ffmpeg open others.
FFMPEG_FORMATS = (
    "matroska,mov,aac,asf,amr,amrnb,amrwb,ac3,eac3,avi,flv,wav,w64,ogg,aiff,caf,mp3,flac,wv,ape,tta,mpc,mpc8,dsf"
)


@dataclass
class Stream:
    """An opened source.

    Attributes:
        name: what to call it in messages.
        sample_rate: Hz, the source's own.
        channels: how many were mixed into one.
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
        name, file = open_bytes(source, stack)
        yield _file_stream(name, file, start, end, stack)


def open_bytes(source: Any, stack: ExitStack) -> tuple[str, BinaryIO]:
    """The name of a source for messages, and a seekable binary file at its start.

    Raises:
        AudioError: if there is no such file, or it is not one that holds bytes.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        file: BinaryIO = stack.enter_context(_memory_file(bytes(source)))
        return "the bytes given", file
    if isinstance(source, str | os.PathLike):
        return str(source), stack.enter_context(_open_path(source))
    if not hasattr(source, "read"):
        raise AudioError(
            f"cannot read sound from a {type(source).__name__}: give a path, bytes, a binary file object"
            " or a pair (array, sample rate)"
        )
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) else "the file object given"
    return name, _seekable(source, name, stack)


def _memory_file(content: bytes) -> BinaryIO:
    import io

    return io.BytesIO(content)


def _open_path(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe or a device could wait for ever
            kind = "folder" if os.path.isdir(path) else "device or pipe"
            raise AudioError(f"{path} is a {kind}, not a recording: give the path of an audio file")
        return open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise AudioError(f"there is no file {path}: check the path") from None
    except PermissionError:
        raise AudioError(f"{path} may not be read: give yourself permission to read it") from None
    except (OSError, ValueError) as error:  # link loops, names too long, names with a null byte
        if isinstance(error, AudioError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{str(path)!r} cannot be opened ({reason}): check the path") from None


def _seekable(source: Any, name: str, stack: ExitStack) -> BinaryIO:
    try:
        if source.seekable():
            source.seek(0)
            content = source.read(1)
            source.seek(0)
            file: BinaryIO = source
        else:
            file = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # type: ignore[assignment]  # noqa: SIM115
            while content := source.read(1 << 20):
                file.write(content)
            file.seek(0)
    except (AttributeError, OSError, TypeError, ValueError) as error:
        raise AudioError(f"{name} cannot be read ({error}): open it in binary mode, as open(path, 'rb') does") from None
    if not isinstance(content, bytes):
        raise AudioError(f"{name} gives text, not bytes: open it in binary mode, as open(path, 'rb') does")
    return file


def _file_stream(name: str, file: BinaryIO, start: float, end: float | None, stack: ExitStack) -> Stream:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise AudioError(f"{name} is empty (0 bytes): replace it or leave it out")
    try:
        sound = stack.enter_context(soundfile.SoundFile(_libsndfile_handle(file), closefd=False))
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        kind = ffmpeg_kind(head)
        if kind is None:
            raise AudioError(
                f"{name} is not a recording in a known format ({_reason(error)}): it {looks_like(head)};"
                " replace it or leave it out"
            ) from None
        return _ffmpeg_stream(name, kind, _path_for_ffmpeg(file, stack), start, end, stack)
    rate = checked_rate(sound.samplerate, name)
    promised = int(sound.frames)
    first, stop = span(name, rate, promised, start, end)
    kind = f"{sound.format} {sound.subtype}"
    blocks = _finite(_mono(_sound_blocks(name, sound, first, stop)), name)
    return Stream(name, rate, sound.channels, promised, kind, blocks)


def _libsndfile_handle(file: BinaryIO) -> int | str | BinaryIO:
    # By descriptor libsndfile sees no name that could mislead it; Windows' C runtimes do not share descriptors.
    if not isinstance(getattr(file, "raw", file), __import__("io").FileIO):
        return file
    return file.fileno() if os.name == "posix" else str(file.name)


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip().rstrip(".")


def _sound_blocks(name: str, sound: Any, first: int, stop: int) -> Iterator[np.ndarray]:
    step = max(1, BLOCK_VALUES // sound.channels)
    try:
        if first:
            sound.seek(first)
        while first < stop:
            block = sound.read(min(step, stop - first), dtype="float32", always_2d=True)
            if not len(block):
                return
            first += len(block)
            yield block
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(f"{name} is damaged ({_reason(error)}): replace it or leave it out") from None


def checked_rate(rate: Any, name: str) -> int:
    """`rate` as an integer of Hz.

    Raises:
        AudioError: if it is no whole number, or outside 100 Hz to 768 kHz.
    """
    try:
        whole = int(rate)
        sound = whole == rate and MIN_RATE <= whole <= MAX_RATE
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
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
    check_moments(name, start, end)
    first = round(start * rate)
    stop = samples if end is None else min(round(end * rate), samples)
    if first >= samples:
        raise AudioError(
            f"{name} is {samples / rate:g} s long, so nothing starts at {start:g} s: ask for an earlier start"
        )
    if end is not None and end > samples / rate + END_TOLERANCE:
        raise AudioError(f"{name} is {samples / rate:g} s long, so it has no {end:g} s: ask for an earlier end")
    if stop <= first:
        raise AudioError(f"{name} holds no samples between {start:g} and {end:g} s: ask for a longer part")
    return first, stop


def check_moments(name: str, start: float, end: float | None) -> None:
    """Raise an `AudioError` unless 0 <= start < end, both finite."""
    if not 0 <= start < float("inf"):
        raise AudioError(f"cannot read {name} from {start} s: the start must be a number of seconds from 0 up")
    if end is not None and not start < end < float("inf"):
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
        for channel in range(1, channels):  # many times faster than mean(axis=1) on few columns
            mixed += block[:, channel]
        mixed /= channels
        yield mixed


def _finite(blocks: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
    for block in blocks:
        with np.errstate(invalid="ignore"):
            low, high = block.min(), block.max()  # both pass NaN on
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int((~np.isfinite(block)).sum())
            raise AudioError(
                f"{name} holds samples that are not numbers ({bad} NaN or infinite among {len(block)}): repair it"
            )
        yield block


def _array_stream(pair: tuple[Any, ...], start: float, end: float | None) -> Stream:
    name = "the array given"
    if len(pair) != 2:
        raise AudioError(f"cannot read sound from a tuple of {len(pair)}: give a pair (array, sample rate)")
    try:
        array = np.asarray(pair[0])
    except (TypeError, ValueError) as error:
        raise AudioError(
            f"{name} is not an array ({error}): give samples as (samples,) or (samples, channels)"
        ) from None
    rate = checked_rate(pair[1], name)
    if array.ndim not in (1, 2):
        raise AudioError(f"{name} has the shape {array.shape}: give (samples,) or (samples, channels)")
    if array.ndim == 2 and array.shape[1] > max(1, array.shape[0]):
        raise AudioError(f"{name} has the shape {array.shape}, more channels than samples: give (samples, channels)")
    scale, offset = _scaling(array.dtype, name)
    samples = array.shape[0] if array.size else 0
    first, stop = span(name, rate, samples, start, end)
    table: Any = array.reshape(samples, -1)

    def blocks() -> Iterator[np.ndarray]:
        step = max(1, BLOCK_VALUES // table.shape[1])
        for begin in range(first, stop, step):
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is reported
                block = table[begin : min(begin + step, stop)].astype(np.float32 if scale == 1 else np.float64)
            yield block if scale == 1 else ((block - offset) / scale).astype(np.float32)

    channels = table.shape[1]
    return Stream(name, rate, channels, samples, f"array {array.dtype}", _finite(_mono(blocks()), name))


def _scaling(dtype: np.dtype[Any], name: str) -> tuple[float, float]:
    """Full scale and zero of a dtype."""
    if dtype.kind == "f":
        return 1.0, 0.0
    if dtype == np.uint8:
        return 128.0, 128.0
    if dtype.kind == "i" and dtype.itemsize <= 4:
        return float(2 ** (8 * dtype.itemsize - 1)), 0.0
    raise AudioError(
        f"{name} is of type {dtype}, whose full scale is unknown: give floats in [-1, 1], or int16 or int32"
    )


def ffmpeg_kind(head: bytes) -> str | None:
    """What a file that libsndfile refuses is, where ffmpeg may read it; None for what is no sound at all."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[4:8] == b"ftyp":
        return "MP4/M4A"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    kinds = {
        b"\x1aE\xdf\xa3": "WebM/Matroska",
        b"\x30\x26\xb2\x75": "WMA",
        b"#!AMR": "AMR",
        b"RIFF": "WAV in an unusual coding",
        b"RIFX": "WAV in an unusual coding",
        b"RF64": "WAV in an unusual coding",
        b"FORM": "AIFF in an unusual coding",
        b"caff": "CAF in an unusual coding",
        b"OggS": "Ogg in an unusual coding",
        b"ID3": "MP3 in an unusual coding",
        b"\x0bw": "AC-3",
        b"FLV": "FLV",
        b"wvpk": "WavPack",
        b"MAC ": "Monkey's Audio",
        b"MPCK": "Musepack",
        b"MP+": "Musepack",
        b"TTA1": "True Audio",
        b"DSD ": "DSD",
    }
    return next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)


def looks_like(head: bytes) -> str:
    """What a file that is no sound seems to be, as the end of a sentence that starts with "it"."""
    kinds = {
        b"\x89PNG": "is a PNG picture",
        b"\xff\xd8\xff": "is a JPEG picture",
        b"GIF8": "is a GIF picture",
        b"PK\x03\x04": "is a ZIP archive",
        b"\x1f\x8b": "is a gzip archive",
        b"%PDF": "is a PDF document",
    }
    known = next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)
    if known:
        return known
    if not any(head):
        return "starts with zeros"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "looks like text"
    return "starts with bytes of no audio format"


def _path_for_ffmpeg(file: BinaryIO, stack: ExitStack) -> str:
    name = getattr(file, "name", None)
    if isinstance(name, str) and os.path.isfile(name):
        return os.path.abspath(name)
    handle, copy = tempfile.mkstemp(prefix="soundmark-")  # a pipe will not do: M4A keeps its index at the end
    stack.callback(Path(copy).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as target:
        file.seek(0)
        shutil.copyfileobj(file, target)
    return copy


def _ffmpeg_stream(name: str, kind: str, path: str, start: float, end: float | None, stack: ExitStack) -> Stream:
    check_moments(name, start, end)
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{name} is {kind}, which needs ffmpeg, and there is no ffmpeg on PATH:"
            " install it, or convert the file to WAV or FLAC"
        )
    cut = ["-ss", f"{start:.9f}"] if start else []
    cut += ["-t", f"{end - start:.9f}"] if end is not None else []
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", FFMPEG_FORMATS]
    command += [*cut, "-i", f"file:{path}", "-map", "0:a:0", "-vn", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    errors = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
    )
    stack.callback(process.kill)
    assert process.stdout
    pipe = process.stdout
    header = _patient_read(process, pipe, 24, name)
    if len(header) < 24 or header[:4] != b".snd":
        raise AudioError(
            f"{name} looks like {kind}, but ffmpeg cannot read it ({_last_line(process, errors, path, name)}):"
            " replace it or leave it out"
        )
    offset, _, _, rate, channels = (int.from_bytes(header[i : i + 4], "big") for i in range(4, 24, 4))
    _patient_read(process, pipe, max(0, offset - 24), name)
    rate = checked_rate(rate, name)

    def blocks() -> Iterator[np.ndarray]:
        size = max(1, BLOCK_VALUES // channels) * channels * 4
        count = 0
        while content := _patient_read(process, pipe, size, name):
            block = np.frombuffer(content[: len(content) // (4 * channels) * 4 * channels], ">f4")
            count += len(block) // channels
            yield block.astype(np.float32).reshape(-1, channels)
        if process.wait(FFMPEG_PATIENCE) and not count:
            raise AudioError(
                f"{name} is damaged ({_last_line(process, errors, path, name)}): replace it or leave it out"
            )
        if end is not None and 0 < count / rate < end - start - END_TOLERANCE:
            raise AudioError(
                f"{name} is {start + count / rate:g} s long, so it has no {end:g} s: ask for an earlier end"
            )

    return Stream(name, rate, channels, None, f"{kind} (ffmpeg)", _finite(_mono(blocks()), name))


def _patient_read(process: subprocess.Popen[bytes], pipe: Any, size: int, name: str) -> bytes:
    timer = threading.Timer(FFMPEG_PATIENCE, process.kill)
    timer.start()
    try:
        content: bytes = pipe.read(size)
    finally:
        timer.cancel()
    if timer.finished.is_set() and process.poll() is not None and process.returncode == -9:
        raise AudioError(f"ffmpeg gave nothing from {name} for {FFMPEG_PATIENCE:g} s: the file may be damaged")
    return content


def _last_line(process: subprocess.Popen[bytes], errors: Any, path: str, name: str) -> str:
    process.wait(FFMPEG_PATIENCE)
    errors.seek(0)
    lines = [line.strip() for line in errors.read(1 << 16).decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].replace(f"file:{path}", name) if lines else "no reason given"


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def whole_vorbis(file: BinaryIO) -> tuple[np.ndarray, int] | None:
    """A whole Ogg Vorbis file decoded by miniaudio in little more than half of libsndfile's time, or None.

    None where miniaudio is not installed, and for every file that is not plainly sound and whole: one logical stream,
    every page's checksum right, as many samples as the last page says. What is damaged goes to libsndfile, so that it
    ends the same way with miniaudio and without.
    """
    return None
