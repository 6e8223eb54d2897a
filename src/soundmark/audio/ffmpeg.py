"""What libsndfile does not read (WebM, M4A, AAC, WMA ...), through the ffmpeg program where it is on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np

from soundmark.audio.signatures import Kind
from soundmark.errors import AudioError, ListenError

PATIENCE = 60.0
"""Seconds without a single block before ffmpeg is given up."""

_BLOCK_VALUES = 1 << 19
_PIPE_BYTES = 1 << 16
_GLANCE = 0.1  # seconds between looks at a stream
_KEPT_BYTES = 4096  # of what ffmpeg complains of on a stream

# Playlists (HLS, concat) are left out, and no network protocol is let in: a file must not make ffmpeg open others.
_DEMUXERS = (
    "matroska,mov,aac,asf,amr,amrnb,amrwb,ac3,eac3,avi,flv,wav,w64,ogg,aiff,caf,mp3,flac,wv,ape,tta,mpc,mpc8,dsf"
)


# What a stream may be fetched by. No files: a playlist from a stranger's server must not name ours.
_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,srtp,rtmp,rtmps,rtmpt,srt,crypto,mmsh,mmst,ftp"


@dataclass
class Decoded:
    """A file being decoded: Hz, number of channels, and blocks of float32 (samples, channels)."""

    sample_rate: int
    channels: int
    blocks: Iterator[np.ndarray]


def decode(
    path: str, name: str, kind: Kind, refusal: str, start: float, end: float | None, stack: ExitStack
) -> Decoded:
    """Start ffmpeg on a file. It is stopped when `stack` closes.

    Args:
        path: the file to read.
        name: what to call it in messages.
        kind: what it is.
        refusal: why libsndfile would not have it.
        start: first second, sought without decoding what is before it.
        end: last second, or None.
        stack: closes whatever is opened.

    Raises:
        AudioError: if there is no ffmpeg, or it cannot read the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        because = f"a {kind.name} file that libsndfile cannot read ({refusal})" if kind.native else kind.name
        raise AudioError(
            f"{name} is {because}, so it needs ffmpeg, and there is no ffmpeg on PATH:"
            " install ffmpeg, or convert the file to WAV or FLAC"
        )
    cut = ["-ss", f"{start:.9f}"] if start else []
    cut += ["-t", f"{end - start:.9f}"] if end is not None else []
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", _DEMUXERS]
    command += [*cut, "-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    errors = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # a file cannot fill up as a pipe can
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
    except OSError as error:
        raise AudioError(f"{name} is {kind.name}, but ffmpeg does not start ({error}): install it anew") from None
    stack.enter_context(process)
    stack.callback(process.kill)
    header = _read(process, 24, name)
    if len(header) < 24 or header[:4] != b".snd":
        reason = _reason(process, errors, path)
        both = f"neither libsndfile ({refusal}) nor ffmpeg ({reason})"
        who = f"{both} can read it" if kind.native else f"ffmpeg cannot read it ({reason})"
        raise AudioError(f"{name} begins as {kind.name}, but {who}: replace it or leave it out")
    offset, _, _, sample_rate, channels = (int.from_bytes(header[i : i + 4], "big") for i in range(4, 24, 4))
    if not channels:
        raise AudioError(f"{name} has no channels: replace it or leave it out")
    _read(process, offset - 24, name)
    return Decoded(sample_rate, channels, _blocks(process, channels, name))


def _blocks(process: subprocess.Popen[bytes], channels: int, name: str) -> Iterator[np.ndarray]:
    frame = 4 * channels
    while content := _read(process, max(1, _BLOCK_VALUES // channels) * frame, name):
        whole = len(content) // frame * frame
        if whole:
            yield np.frombuffer(content[:whole], ">f4").astype(np.float32).reshape(-1, channels)


def _read(process: subprocess.Popen[bytes], size: int, name: str) -> bytes:
    """So many bytes or all that is left, unless ffmpeg falls silent."""
    silent = threading.Event()

    def give_up() -> None:
        silent.set()
        process.kill()

    pipe: IO[bytes] | None = process.stdout
    assert pipe
    timer = threading.Timer(PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    try:
        content = pipe.read(size) if size > 0 else b""
    finally:
        timer.cancel()
    if silent.is_set():
        raise AudioError(f"ffmpeg gave nothing from {name} for {PATIENCE:g} s: replace the file or leave it out")
    return content


def _reason(process: subprocess.Popen[bytes], errors: IO[bytes], path: str) -> str:
    """The first thing that ffmpeg complained of, which is the most telling one."""
    process.kill()
    process.wait()
    errors.seek(0)
    text = (
        errors.read(1 << 16)
        .decode("utf-8", "replace")
        .replace(f"file:{path}: ", "")
        .replace(path, os.path.basename(path))
    )
    lines = [re.sub(r"^\[[^]]*\] ?", "", line).strip() for line in text.splitlines()]
    first = next(filter(None, lines), "no reason given").rstrip(".")
    return "it holds no sound" if "matches no streams" in first else first[:200]


def connect(
    address: str, name: str, patience: float, over: threading.Event, stack: ExitStack
) -> tuple[Decoded, Callable[[], str]]:
    """Start ffmpeg on a network stream. Blocks come as they arrive, and end when the stream does or falls silent.

    Args:
        address: with its protocol, `rtsp://...`.
        name: what to call it in messages.
        patience: seconds without a byte before the connection is given up.
        over: ends it when it is set.
        stack: stops ffmpeg when it closes.

    Returns:
        The stream, and a function that gives the last thing that ffmpeg complained of.

    Raises:
        ListenError: if there is no ffmpeg that works.
        AudioError: if no sound comes.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ListenError(f"{name} is a network stream, which needs ffmpeg, and there is no ffmpeg on PATH: install it")
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", _PROTOCOLS]
    command += ["-rtsp_transport", "tcp"] if address.startswith("rtsp") else []  # UDP loses sound without a word
    command += ["-i", address, "-map", "0:a:0", "-c:a", "pcm_f32be", "-flush_packets", "1", "-f", "au", "pipe:1"]
    try:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise ListenError(f"{name} needs ffmpeg, which does not start ({error}): install it anew") from None
    stack.enter_context(process)
    stack.callback(process.kill)
    said = _Complaints(process, address)
    watch = _Watch(process, patience, over)
    stack.callback(watch.stop)

    def reason() -> str:
        return f"no sound for {patience:g} s" if watch.barked else said.last()

    header = _exactly(process, 24, watch)
    if len(header) < 24 or header[:4] != b".snd":
        process.kill()
        process.wait()
        raise AudioError(f"{name} gives no sound ({reason()})")
    offset, _, _, rate, channels = (int.from_bytes(header[i : i + 4], "big") for i in range(4, 24, 4))
    _exactly(process, offset - 24, watch)
    return Decoded(rate, max(1, channels), _arriving(process, max(1, channels), watch)), reason


def _exactly(process: subprocess.Popen[bytes], size: int, watch: _Watch) -> bytes:
    """So many bytes, or fewer at the end."""
    content = b""
    while len(content) < size and (part := _some(process, size - len(content), watch)):
        content += part
    return content


def _some(process: subprocess.Popen[bytes], size: int, watch: _Watch) -> bytes:
    assert process.stdout
    part = process.stdout.read(size) or b""
    watch.fed()
    return part


def _arriving(process: subprocess.Popen[bytes], channels: int, watch: _Watch) -> Iterator[np.ndarray]:
    frame, left = 4 * channels, b""
    while part := _some(process, _PIPE_BYTES, watch):
        content = left + part
        whole = len(content) // frame * frame
        left = content[whole:]
        if whole:
            yield np.frombuffer(content[:whole], ">f4").astype(np.float32).reshape(-1, channels)


class _Watch:
    """Ends a process that has given nothing for a while, or that nobody wants any more."""

    def __init__(self, process: subprocess.Popen[bytes], patience: float, over: threading.Event) -> None:
        self.barked = False
        self._process, self._patience, self._over = process, patience, over
        self._last, self._done = time.monotonic(), threading.Event()
        threading.Thread(target=self._run, daemon=True, name="soundmark-watch").start()

    def fed(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(_GLANCE):
            self.barked = time.monotonic() >= self._last + self._patience
            if self.barked or self._over.is_set():
                self._process.kill()
                return


class _Complaints:
    """What ffmpeg says on its error stream, read as it comes, since a full pipe would stop it; the end is kept."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._kept, self._address, self._pipe = b"", address, process.stderr
        self._reader = threading.Thread(target=self._run, daemon=True, name="soundmark-ffmpeg")
        self._reader.start()

    def _run(self) -> None:
        assert self._pipe
        with suppress(OSError, ValueError):  # closed meanwhile
            while part := self._pipe.read(_KEPT_BYTES):
                self._kept = (self._kept + part)[-_KEPT_BYTES:]

    def last(self) -> str:
        """The last line of it, without the address, which may hold a password."""
        self._reader.join(timeout=1.0)
        text = self._kept.decode("utf-8", "replace").replace(self._address, "the stream")
        lines = [re.sub(r"^\[[^]]*\] ?", "", line).strip() for line in text.splitlines()]
        return next(filter(None, reversed(lines)), "the stream ended").rstrip(".")[-200:]
