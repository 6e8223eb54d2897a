"""Odd and malformed recordings, each written by a small function, with what reading it must give.

`ODD` is a plain list. `write(folder)` makes the file and returns its path; it raises `Impossible` where this machine
cannot make it (no ffmpeg, no links, a superuser who may read everything). `outcome` is "ok" or "error", and `words` a
regular expression that the message must match, case aside.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16_000


class Impossible(Exception):
    """This machine cannot make the file."""


class Odd(NamedTuple):
    name: str
    write: Callable[[Path], Path]
    outcome: str
    words: str = ""


def tone(seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A soft tone: float64 (samples,) or (samples, channels), each channel an octave higher and half as loud."""
    times = np.arange(round(seconds * rate)) / rate
    columns = [0.4 / 2**c * np.sin(2 * np.pi * 220 * 2 ** (c % 4) * times) for c in range(channels)]
    return columns[0] if channels == 1 else np.stack(columns, axis=1)


def wav_bytes(
    data: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    byte_rate: int | None = None,
) -> bytes:
    """A WAV file from its parts, any of which may lie."""
    align = channels * bits // 8 % 2**16
    fmt = struct.pack(
        "<HHIIHH", tag, channels, rate, rate * align % 2**32 if byte_rate is None else byte_rate, align, bits
    )
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def pcm16(seconds: float = 0.5) -> bytes:
    return np.rint(tone(seconds) * 32767).astype("<i2").tobytes()


def sound(name: str, subtype: str, *, format: str, channels: int = 1, rate: int = RATE, seconds: float = 0.5):
    """A writer of a proper file in one of libsndfile's formats, under any name."""

    def write(folder: Path) -> Path:
        if format not in soundfile.available_formats() or subtype not in soundfile.available_subtypes(format):
            raise Impossible(f"this libsndfile has no {format} {subtype}")
        path = folder / name
        soundfile.write(path, tone(seconds, rate, channels), rate, subtype=subtype, format=format)
        return path

    return write


def content(name: str, make: Callable[[], bytes]) -> Callable[[Path], Path]:
    """A writer of given bytes."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make())
        return path

    return write


def floats(name: str, change: Callable[[np.ndarray], None]) -> Callable[[Path], Path]:
    """A writer of a 32-bit float WAV whose samples were changed in place."""

    def write(folder: Path) -> Path:
        samples = tone().astype(np.float32)
        change(samples)
        path = folder / name
        path.write_bytes(wav_bytes(samples.astype("<f4").tobytes(), tag=3, bits=32))
        return path

    return write


def cut(make: Callable[[Path], Path], name: str, keep: float) -> Callable[[Path], Path]:
    """A writer of the first part of what another writes: `keep` of its bytes, or that many if above 1."""

    def write(folder: Path) -> Path:
        whole = make(folder)
        bytes_ = whole.read_bytes()
        whole.unlink()
        path = folder / name
        path.write_bytes(bytes_[: int(keep if keep > 1 else keep * len(bytes_))])
        return path

    return write


def damaged(make: Callable[[Path], Path], name: str, begin: float, end: float) -> Callable[[Path], Path]:
    """A writer of what another writes with every byte between two fractions of it turned over."""

    def write(folder: Path) -> Path:
        whole = make(folder)
        bytes_ = bytearray(whole.read_bytes())
        whole.unlink()
        for place in range(int(begin * len(bytes_)), int(end * len(bytes_))):
            bytes_[place] ^= 0x55
        path = folder / name
        path.write_bytes(bytes_)
        return path

    return write


def converted(name: str, *arguments: str, channels: int = 1) -> Callable[[Path], Path]:
    """A writer that has ffmpeg convert a tone."""

    def write(folder: Path) -> Path:
        program = shutil.which("ffmpeg")
        if program is None:
            raise Impossible("there is no ffmpeg")
        source, path = folder / "for-ffmpeg.wav", folder / name
        soundfile.write(source, tone(1.0, 48_000, channels), 48_000)
        command = [program, "-nostdin", "-v", "error", "-y", "-i", str(source), "-fflags", "+bitexact", *arguments]
        made = subprocess.run([*command, f"file:{path}"], capture_output=True, timeout=60, check=False)
        source.unlink()
        if made.returncode:
            raise Impossible(f"this ffmpeg cannot make {name}: {made.stderr.decode(errors='replace')[-200:]}")
        return path

    return write


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def _extensible(bits: int = 24) -> bytes:
    samples = np.rint(tone() * (2**23 - 1)).astype("<i4")
    data = samples.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, RATE * 3, 3, bits, 22, bits, 4) + guid
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _lying_flac() -> bytes:
    """A FLAC whose header promises 2**36 - 1 samples (275 GB as floats)."""
    import io

    buffer = io.BytesIO()
    soundfile.write(buffer, tone(), RATE, format="FLAC", subtype="PCM_16")
    bytes_ = bytearray(buffer.getvalue())
    bytes_[21] |= 0x0F
    bytes_[22:26] = b"\xff\xff\xff\xff"
    return bytes(bytes_)


def _folder(folder: Path) -> Path:
    path = folder / "folder.wav"
    path.mkdir()
    return path


def _missing(folder: Path) -> Path:
    return folder / "missing.wav"


def _link(name: str, target: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        try:
            path.symlink_to(target)
        except OSError as error:
            raise Impossible(f"no links here: {error}") from None
        return path

    return write


def _good_link(folder: Path) -> Path:
    (folder / "linked.bin").write_bytes(wav_bytes(pcm16()))
    return _link("link.wav", "linked.bin")(folder)


def _fifo(folder: Path) -> Path:
    path = folder / "pipe.wav"
    if not hasattr(os, "mkfifo"):
        raise Impossible("no named pipes here")
    os.mkfifo(path)
    return path


def _forbidden(folder: Path) -> Path:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        raise Impossible("the superuser may read everything")
    path = folder / "forbidden.wav"
    path.write_bytes(wav_bytes(pcm16()))
    path.chmod(0)
    return path


def _set(place: slice | int, value: float) -> Callable[[np.ndarray], None]:
    def change(samples: np.ndarray) -> None:
        samples[place] = value

    return change


def _noise(size: int) -> bytes:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()


_FLAC = sound("whole.flac", "PCM_16", format="FLAC")
_OGG = sound("whole.ogg", "VORBIS", format="OGG", seconds=2.0)
_LONG_OGG = sound("whole.ogg", "VORBIS", format="OGG", channels=8, seconds=8.0)
_MP3 = sound("whole.mp3", "MPEG_LAYER_III", format="MP3", seconds=2.0)
_WAV = sound("whole.wav", "PCM_16", format="WAV")
_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/hostname\n#EXT-X-ENDLIST\n"
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 441044\n"

ODD: list[Odd] = [
    # Every coding that a data set may hold.
    Odd("8-bit unsigned WAV", sound("u8.wav", "PCM_U8", format="WAV"), "ok"),
    Odd("16-bit WAV", sound("s16.wav", "PCM_16", format="WAV"), "ok"),
    Odd("24-bit WAV", sound("s24.wav", "PCM_24", format="WAV"), "ok"),
    Odd("32-bit integer WAV", sound("s32.wav", "PCM_32", format="WAV"), "ok"),
    Odd("32-bit float WAV", sound("f32.wav", "FLOAT", format="WAV"), "ok"),
    Odd("64-bit float WAV", sound("f64.wav", "DOUBLE", format="WAV"), "ok"),
    Odd("24-bit WAVE_EXTENSIBLE", content("extensible.wav", _extensible), "ok"),
    Odd("mu-law WAV", sound("ulaw.wav", "ULAW", format="WAV"), "ok"),
    Odd("IMA ADPCM WAV", sound("ima.wav", "IMA_ADPCM", format="WAV"), "ok"),
    Odd("Microsoft ADPCM WAV", sound("ms.wav", "MS_ADPCM", format="WAV"), "ok"),
    Odd("RF64", sound("rf64.wav", "PCM_16", format="RF64"), "ok"),
    Odd("W64", sound("w64.w64", "PCM_16", format="W64"), "ok"),
    Odd("AIFF", sound("aiff.aiff", "PCM_16", format="AIFF"), "ok"),
    Odd("AU", sound("au.au", "PCM_16", format="AU"), "ok"),
    Odd("CAF", sound("caf.caf", "PCM_16", format="CAF"), "ok"),
    Odd("FLAC", sound("s16.flac", "PCM_16", format="FLAC"), "ok"),
    Odd("24-bit FLAC", sound("s24.flac", "PCM_24", format="FLAC"), "ok"),
    Odd("Ogg Vorbis", sound("vorbis.ogg", "VORBIS", format="OGG"), "ok"),
    Odd("Opus", sound("opus.opus", "OPUS", format="OGG"), "ok"),
    Odd("MP3", sound("mp3.mp3", "MPEG_LAYER_III", format="MP3"), "ok"),
    Odd("stereo MP3", sound("stereo.mp3", "MPEG_LAYER_III", format="MP3", channels=2), "ok"),
    Odd("M4A", converted("aac.m4a", "-c:a", "aac"), "ok"),
    Odd("M4A Apple Lossless", converted("alac.m4a", "-c:a", "alac"), "ok"),
    Odd("AAC without a container", converted("adts.aac", "-c:a", "aac"), "ok"),
    Odd("WebM with Opus, as browsers record", converted("opus.webm", "-c:a", "libopus"), "ok"),
    Odd("WMA", converted("wma.wma", "-c:a", "wmav2"), "ok"),
    Odd("AC-3", converted("ac3.ac3", "-c:a", "ac3"), "ok"),
    Odd("G.722 WAV, unknown to libsndfile", converted("g722.wav", "-c:a", "g722", "-ar", "16000"), "ok"),
    # Odd but sound.
    Odd("0.01 s", sound("short.wav", "PCM_16", format="WAV", seconds=0.01), "ok"),
    Odd("a single sample", content("one.wav", lambda: wav_bytes(b"\x00\x10")), "ok"),
    Odd("8 channels", sound("eight.wav", "PCM_16", format="WAV", channels=8), "ok"),
    Odd("192 kHz", sound("192k.wav", "PCM_24", format="WAV", rate=192_000), "ok"),
    Odd("11,127 Hz", sound("11127.wav", "PCM_16", format="WAV", rate=11_127), "ok"),
    Odd("digital silence", content("silence.wav", lambda: wav_bytes(bytes(32_000))), "ok"),
    Odd("floats beyond full scale", floats("loud.wav", _set(slice(10, 20), 3.5)), "ok"),
    Odd("FLAC named .wav", sound("flac.wav", "PCM_16", format="FLAC"), "ok"),
    Odd("MP3 named .wav", sound("mp3.wav", "MPEG_LAYER_III", format="MP3"), "ok"),
    Odd("WAV named .mp3", sound("wav.mp3", "PCM_16", format="WAV"), "ok"),
    Odd("WAV named .raw", sound("wav.raw", "PCM_16", format="WAV"), "ok"),
    Odd("WAV named .txt", sound("wav.txt", "PCM_16", format="WAV"), "ok"),
    Odd("M4A named .wav", converted("m4a.wav", "-c:a", "aac", "-f", "ipod"), "ok"),
    Odd("WebM named .ogg", converted("webm.ogg", "-c:a", "libopus", "-f", "webm"), "ok"),
    Odd("WAV without an ending", sound("noending", "PCM_16", format="WAV"), "ok"),
    Odd("a difficult name", sound("- a 'name' 100% é声.wav", "PCM_16", format="WAV"), "ok"),
    Odd("a difficult name for ffmpeg", converted("-i %d é声.m4a", "-c:a", "aac"), "ok"),
    Odd("a link to a recording", _good_link, "ok"),
    Odd("WAV with sizes of a stream", content("s.wav", lambda: wav_bytes(pcm16(), data_size=2**32 - 1)), "ok"),
    Odd("WAV that promises 4 GB", content("4g.wav", lambda: wav_bytes(pcm16(0.03), data_size=4_000_000_000)), "ok"),
    Odd("WAV with a broken RIFF size", content("riff.wav", lambda: wav_bytes(pcm16(), riff_size=5)), "ok"),
    Odd(
        "WAV with chunks before and after",
        content("list.wav", lambda: wav_bytes(pcm16(), before=b"LIST\4\0\0\0INFO", after=b"junk\3\0\0\0abc")),
        "ok",
    ),
    Odd("WAV with a wrong byte rate", content("byterate.wav", lambda: wav_bytes(pcm16(), byte_rate=1)), "ok"),
    Odd("WAV cut inside a sample", content("half.wav", lambda: wav_bytes(pcm16()[:-1])), "ok"),
    Odd("WAV cut short", cut(_WAV, "cut.wav", 0.5), "ok"),
    Odd("Ogg cut short between pages", cut(_LONG_OGG, "cut.ogg", 0.7), "ok"),
    Odd("MP3 cut short", cut(_MP3, "cut.mp3", 0.6), "ok"),
    # Nothing that can be heard.
    Odd("empty file", content("empty.wav", bytes), "error", "is empty"),
    Odd("WAV cut inside its header", cut(_WAV, "header.wav", 20), "error", "begins as WAV"),
    Odd("WAV of four bytes", cut(_WAV, "four.wav", 4), "error", "begins as WAV"),
    Odd("WAV without samples", content("zero.wav", lambda: wav_bytes(b"")), "error", "no samples"),
    Odd("NaN samples", floats("nan.wav", _set(slice(5, 8), np.nan)), "error", "3 NaN or infinite"),
    Odd("infinite samples", floats("inf.wav", _set(7, np.inf)), "error", "1 NaN or infinite"),
    Odd("nothing but -infinity", floats("minf.wav", _set(slice(None), -np.inf)), "error", "NaN or infinite"),
    Odd("sample rate 0", content("rate0.wav", lambda: wav_bytes(pcm16(), rate=0)), "error", "rate0.wav"),
    Odd("sample rate 1", content("rate1.wav", lambda: wav_bytes(pcm16(), rate=1)), "error", "sample rate of 1"),
    Odd("sample rate 2**32 - 1", content("r.wav", lambda: wav_bytes(pcm16(), rate=2**32 - 1)), "error", "r.wav"),
    Odd("no channels", content("channels0.wav", lambda: wav_bytes(pcm16(), channels=0)), "error", "channels0.wav"),
    Odd("65,535 channels", content("c.wav", lambda: wav_bytes(pcm16(), channels=65_535)), "error", "c.wav"),
    Odd("0 bits per sample", content("bits.wav", lambda: wav_bytes(pcm16(), bits=0)), "error", "bits.wav"),
    Odd("unknown coding", content("tag.wav", lambda: wav_bytes(pcm16(), tag=0x4321)), "error", "tag.wav"),
    Odd("text named .wav", content("text.wav", lambda: b"not a sound at all\n" * 50), "error", "looks like text"),
    Odd("text named .gsm", content("text.gsm", lambda: b"not a sound at all\n" * 50), "error", "looks like text"),
    Odd("text named .raw", content("text.raw", lambda: b"not a sound at all\n" * 50), "error", "looks like text"),
    Odd(
        "a web page named .mp3", content("404.mp3", lambda: b"<!DOCTYPE html><h1>404</h1>"), "error", "looks like text"
    ),
    Odd("a Git LFS pointer", content("lfs.flac", lambda: _POINTER), "error", "Git LFS"),
    Odd("a playlist named .wav", content("list.wav", lambda: _PLAYLIST), "error", "looks like text"),
    Odd("a PNG named .wav", content("png.wav", _png), "error", "PNG"),
    Odd("a ZIP named .ogg", content("zip.ogg", lambda: b"PK\3\4" + _noise(300)), "error", "ZIP"),
    Odd(
        "random bytes", content("random.wav", lambda: b"\x17" + _noise(5000)), "error", "no recording in a known format"
    ),
    Odd("zeros", content("zeros.wav", lambda: bytes(5000)), "error", "zeros"),
    Odd("only the magic of FLAC", content("magic.flac", lambda: b"fLaC"), "error", "magic.flac"),
    Odd("FLAC without frames", cut(_FLAC, "header.flac", 60), "error", "header.flac"),
    Odd("Ogg headers without sound", cut(_OGG, "header.ogg", 200), "error", "header.ogg"),
    Odd("only the magic of Ogg", content("magic.ogg", lambda: b"OggS" + bytes(60)), "error", "magic.ogg"),
    Odd("an ID3 tag without sound", content("id3.mp3", lambda: b"ID3\3\0\0\0\0\0\n" + bytes(10)), "error", "id3.mp3"),
    Odd("MP3 frames of noise", content("noise.mp3", lambda: b"\xff\xfb\x90\x44" + _noise(4000)), "error", "noise.mp3"),
    Odd("M4A cut short", cut(converted("whole.m4a", "-c:a", "aac"), "cut.m4a", 0.5), "error", "cut.m4a"),
    Odd("only the magic of WebM", content("magic.webm", lambda: b"\x1aE\xdf\xa3" + bytes(60)), "error", "ffmpeg"),
    Odd(
        "a video without sound",
        converted("silent.mp4", "-f", "lavfi", "-i", "color=s=16x16:d=0.2", "-map", "1:v", "-c:v", "mpeg4"),
        "error",
        "silent.mp4",
    ),
    Odd("a folder named .wav", _folder, "error", "is a folder"),
    Odd("no such file", _missing, "error", "no file"),
    Odd("a link to nothing", _link("dangling.wav", "nowhere.wav"), "error", "no file"),
    Odd("a link to itself", _link("loop.wav", "loop.wav"), "error", "loop.wav"),
    Odd("a named pipe", _fifo, "error", "device or pipe"),
    Odd("a file nobody may read", _forbidden, "error", "permission"),
    # Damage inside. A FLAC decoder tells it and refuses; Ogg leaves out the page; WAV and MP3 cannot know.
    Odd("FLAC that promises 2**36 samples", content("lying.flac", _lying_flac), "error", "damaged or cut short"),
    Odd("FLAC cut short", cut(_FLAC, "cut.flac", 0.6), "error", "damaged or cut short"),
    Odd("FLAC with damaged frames", damaged(_FLAC, "damaged.flac", 0.5, 0.6), "error", "damaged or cut short"),
    Odd("Ogg cut inside its only page", cut(_OGG, "cut.ogg", 0.6), "error", "begins as Ogg"),
    Odd("Ogg whose only page is damaged", damaged(_OGG, "damaged.ogg", 0.6, 0.62), "error", "begins as Ogg"),
    Odd("Ogg with a damaged page", damaged(_LONG_OGG, "page.ogg", 0.6, 0.62), "ok"),
    Odd("MP3 with damaged frames", damaged(_MP3, "damaged.mp3", 0.5, 0.6), "ok"),
    Odd("WAV with damaged samples", damaged(_WAV, "damaged.wav", 0.5, 0.6), "ok"),
]


def written(folder: Path) -> list[tuple[Odd, Path]]:
    """Write all that can be made here, each in a folder of its own inside `folder`."""
    made = []
    for place, odd in enumerate(ODD):
        home = folder / f"{place:03}"
        home.mkdir()
        try:
            made.append((odd, odd.write(home)))
        except Impossible:
            continue
    return made
