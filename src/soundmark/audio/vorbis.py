"""Whole Ogg Vorbis files through miniaudio, which takes two thirds of the time that libsndfile takes.

Speed must cost nothing else. stb_vorbis, which miniaudio uses, can be crashed by crafted headers, and it plays damaged
pages as noise. So it is given only files whose every page has the right checksum and whose codebooks are, bit for bit,
those that libvorbis itself writes (a collection comes from one encoder, so all of ESC-50 has the same ones); the
comment header, which nobody needs, is left out. Every other file goes to libsndfile, so that what is damaged or odd
ends the same way with miniaudio and without.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

MAX_FILE_BYTES = 64 << 20
LONGEST_BLOCK = 8192
TAIL_BYTES = 2 * (27 + 255 + 255 * 255)  # two pages of the greatest size
_MAX_DECODED_BYTES = 256 << 20

# BLAKE2b-128 of channels, block sizes and setup header, as written by libvorbis 1.3 for one and two channels: through
# libsndfile at its default quality from 8 to 48 kHz; at qualities 3 and 5 and at 128 and 192 kbit/s from 16 to 48 kHz
# (ESC-50 is the 192 kbit/s one). A header that is not listed costs time, nothing else.
_LIBVORBIS_SETUPS = frozenset(
    bytes.fromhex(digest)
    for digest in (
        "1128df69f82b73d25e4ade384ce4bd7f",
        "12fe9a5455a727c25aea0aea2feeb015",
        "16db8ca07f4c0a6c117489f7b5551bcd",
        "1fe9dcbba79e0d8fe1dc3df1fe410327",
        "368ddec5ae3b11e305efd53a4b9c5e11",
        "3c0537d63ca8e1238ada5306814eece7",
        "3d2eb78724d89aca58d7f0f5d76f02f8",
        "52246ed5bd964d5765ff3022a7116228",
        "58b5f47096977bb42ffb86011636f3cc",
        "606dafadf9c913dee85bec0cf2ae1a88",
        "7295b1f94c096c06d79cf84f37214899",
        "7d384638cf4dd3e5c8266792ec121ceb",
        "9346498d57f08059514774f79fadce6e",
        "977110cf771d0dba1b15f87fd3a9f15a",
        "983f515087e31cacca7aa80e54e10758",
        "9d3b0eb648f5e1c69e78e1ae141f185f",
        "a23aa2688e78389288d51c96d77c21d7",
        "ad3f007f86c1cb51d2c6c671105e4b89",
        "afe180990c0f53a891ef780c2087b96d",
        "b0fe7c0662996a7aab540316798bf7e7",
        "b946c9d354e4e63697b61de16414a3de",
        "c7506a8fc69152d264cf0748d5187c30",
        "d1dfb9a481b0e125246b877cde676c2a",
        "d3003e51877d438f64c44567ae0b4be9",
        "d8c993a8bcb3bddf5b72ec00639bf11d",
        "e28e1ab94a36c1dba4afedde1a571e63",
        "e40fb0f5adffc04b5e78542bcfd531c9",
        "e8a5cdf21a1a29b16cf4b609a7cf5b22",
        "f568daa6f464b613390c2dd668c878b9",
    )
)

_FUNCTIONS = ("open_memory", "get_samples_float", "close")
_COMMENT = b"\x03vorbis" + bytes(8) + b"\x01"
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Clean:
    """A checked file: `content` without comments, and what its headers say."""

    content: bytes
    channels: int
    sample_rate: int
    samples: int


def decode(content: bytes) -> tuple[np.ndarray, int] | None:
    """Decode a whole file, float32 (samples, channels), and its sample rate; or None, for libsndfile to do it."""
    miniaudio = _miniaudio()
    file = clean(content) if miniaudio else None
    if file is None:
        return None
    # miniaudio.decode would do, but it takes a fifth longer, growing its buffer and copying it twice.
    ffi, lib = miniaudio.ffi, miniaudio.lib
    memory = ffi.from_buffer("unsigned char[]", file.content)  # held until the stream is closed
    stream = lib.stb_vorbis_open_memory(memory, len(memory), ffi.new("int *"), ffi.NULL)
    if not stream:
        return None
    try:
        planes = np.empty((file.channels, file.samples), np.float32)
        spare = np.empty((file.channels, 1), np.float32)
        got, more = (
            lib.stb_vorbis_get_samples_float(stream, file.channels, _pointers(ffi, into), into.shape[1])
            for into in (planes, spare)
        )
    finally:
        lib.stb_vorbis_close(stream)
    return (planes.T, file.sample_rate) if (got, more) == (file.samples, 0) else None


def _pointers(ffi: Any, planes: np.ndarray) -> Any:
    return ffi.new("float *[]", [ffi.from_buffer("float *", plane) for plane in planes])


@cache
def _miniaudio() -> Any:
    """The package, or None without it; imported late, since who recognises one WAV file should not wait for it."""
    try:
        import miniaudio
    except ImportError:
        return None
    known = all(hasattr(getattr(miniaudio, "lib", None), f"stb_vorbis_{name}") for name in _FUNCTIONS)
    return miniaudio if known and hasattr(miniaudio, "ffi") else None


def clean(content: bytes) -> Clean | None:
    """The file if it is one sound and whole Vorbis stream with well-known headers; None otherwise.

    Page layout by RFC 3533, headers by the Vorbis I specification.
    """
    mirrored = memoryview(content.translate(_REVERSED_BITS))
    packets = [b""]
    position = number = flags = sound = 0
    granule = -1
    while position < len(content):
        header = content[position : position + 27]
        if len(header) < 27 or header[:5] != b"OggS\0" or flags & 4:  # not a page, or one after the last
            return None
        lengths = content[position + 27 : position + 27 + header[26]]
        body = position + 27 + len(lengths)
        end = body + sum(lengths)
        flags = header[5]
        in_order = header[18:22] == number.to_bytes(4, "little") and bool(flags & 2) == (number == 0)
        if end > len(content) or not in_order or header[14:18] != content[14:18]:
            return None
        if _page_checksum(mirrored[position:end]) != mirrored[position + 22 : position + 26]:
            return None
        if len(packets) <= 3:  # identity, comment and setup are not all through
            if not _gather(packets, content, body, lengths):
                return None
            sound = end
        granule = int.from_bytes(header[6:14], "little", signed=True)
        position, number = end, number + 1
    if len(packets) <= 3 or not flags & 4 or granule <= 0:
        return None
    return _with_known_headers(content, packets, sound, granule)


def _page_checksum(mirrored: memoryview) -> bytes:
    """CRC-32 (polynomial 0x04C11DB7, from zero) of a page with zeros for its checksum; all bits are mirrored.

    The standard's runs from each byte's high bit, and zlib's, which is quick, from the low one.
    """
    register = zlib.crc32(mirrored[:22], 0xFFFFFFFF)
    register = zlib.crc32(b"\0\0\0\0", register)
    return (zlib.crc32(mirrored[26:], register) ^ 0xFFFFFFFF).to_bytes(4, "big")


def _gather(packets: list[bytes], content: bytes, position: int, lengths: bytes) -> bool:
    """Add a page's packets; the last of `packets` is the one not yet whole. False if headers and sound share a page."""
    for length in lengths:
        if len(packets) > 3:
            return False
        packets[-1] += content[position : position + length]
        position += length
        if length < 255:
            packets.append(b"")
    return True


def _with_known_headers(content: bytes, packets: list[bytes], sound: int, samples: int) -> Clean | None:
    identity, comment, setup = packets[:3]
    if len(identity) != 30 or identity[:11] != b"\x01vorbis\0\0\0\0" or comment[:7] != b"\x03vorbis":
        return None
    channels = identity[11]
    digest = hashlib.blake2b(identity[11:12] + identity[28:29] + setup, digest_size=16).digest()
    if digest not in _LIBVORBIS_SETUPS or samples * channels * 4 > _MAX_DECODED_BYTES:
        return None
    lengths = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in (_COMMENT, setup))
    if len(lengths) > 255:
        return None
    first = content[: content.index(identity) + len(identity)]
    second = b"OggS" + bytes(10) + content[14:18] + b"\x01\0\0\0" + bytes(4) + bytes([len(lengths)]) + lengths
    second += _COMMENT + setup
    checksum = _page_checksum(memoryview(second.translate(_REVERSED_BITS))).translate(_REVERSED_BITS)
    second = second[:22] + checksum + second[26:]
    sample_rate = int.from_bytes(identity[12:16], "little")
    return Clean(first + second + content[sound:], channels, sample_rate, samples)


def last_page_begin(tail: bytes) -> int | None:
    """Sample with which the last page of a file begins, by the end of the page before; None where it cannot be told.

    `tail` is the file's last `TAIL_BYTES`.

    libsndfile counts positions wrongly after a seek into the last page, whose sound is cut short of its last block
    (https://github.com/libsndfile/libsndfile/issues/885).
    """
    start = -1
    while (start := tail.find(b"OggS\0", start + 1)) >= 0:
        ends, position = [], start
        while (
            tail[position : position + 5] == b"OggS\0"
            and tail[position + 14 : position + 18] == tail[start + 14 : start + 18]
        ):
            ends.append(int.from_bytes(tail[position + 6 : position + 14], "little", signed=True))
            lengths = tail[position + 27 : position + 27 + tail[position + 26]] if len(tail) > position + 26 else b""
            position += 27 + len(lengths) + sum(lengths)
        if position == len(tail):
            return next((end for end in reversed(ends[:-1]) if end >= 0), None)
    return None
