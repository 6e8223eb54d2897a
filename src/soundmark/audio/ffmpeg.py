"""What libsndfile does not read (WebM, M4A, AAC, WMA ...), through the ffmpeg program where it is on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from soundmark.audio.signatures import Kind
from soundmark.errors import AudioError

PATIENCE = 60.0
"""Seconds without a single block before ffmpeg is given up."""

_BLOCK_VALUES = 1 << 19

# Playlists (HLS, concat) are left out, and no network protocol is let in: a file must not make ffmpeg open others.
_DEMUXERS = (
    "matroska,mov,aac,asf,amr,amrnb,amrwb,ac3,eac3,avi,flv,wav,w64,ogg,aiff,caf,mp3,flac,wv,ape,tta,mpc,mpc8,dsf"
)


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
