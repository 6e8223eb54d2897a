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
    try:
        sound = miniaudio.decode(file.content, miniaudio.SampleFormat.FLOAT32, file.channels, file.sample_rate)
    except miniaudio.MiniaudioError:
        return None
    samples = np.frombuffer(sound.samples, np.float32)
    if len(samples) != file.samples * file.channels:
        return None
    return samples.reshape(-1, file.channels), file.sample_rate


@cache
def _miniaudio() -> Any:
    """The package, or None without it; imported late, since who recognises one WAV file should not wait for it."""
    try:
        import miniaudio
    except ImportError:
        return None
    return miniaudio


def clean(content: bytes) -> Clean | None:
    """The file if it is one sound, whole Vorbis stream with well-known headers; None otherwise.

    Page layout by RFC 3533, headers by the Vorbis I specification.
    """
    mirrored = memoryview(
        content.translate(_REVERSED_BITS)
    )  # the page's CRC runs from the high bit, zlib's from the low
    position = number = segments = 0
    ends, packets = [0], [b""]
    granule, flags = -1, 0
    while position < len(content):
        body = position + 27 + (content[position + 26] if position + 27 <= len(content) else 0)
        header = content[position:body]
        lengths = header[27:]
        end = body + sum(lengths)
        if len(header) < 28 or header[:5] != b"OggS\0" or end > len(content):
            return None
        if header[18:22] != number.to_bytes(4, "little") or header[14:18] != content[14:18] or flags & 4:
            return None
        flags = header[5]
        if (
            bool(flags & 2) != (number == 0)
            or _page_checksum(mirrored[position:end]) != mirrored[position + 22 : position + 26]
        ):
            return None
        if len(packets) <= 3:  # the headers are not through yet
            if not _gather(packets, content, body, lengths):
                return None
            if len(packets) > 3:
                ends.append(end)
        else:
            segments += len(lengths)
        granule = int.from_bytes(header[6:14], "little", signed=True)
        position, number = end, number + 1
    if len(ends) < 2 or not flags & 4 or granule <= 0:
        return None
    return _with_known_headers(content, packets, ends[1], granule, segments)


def _page_checksum(mirrored: memoryview) -> bytes:
    """CRC-32 (polynomial 0x04C11DB7, from zero) of a page with zeros for its checksum; all bits mirrored."""
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


def _with_known_headers(content: bytes, packets: list[bytes], sound: int, samples: int, segments: int) -> Clean | None:
    identity, comment, setup = packets[:3]
    if len(identity) != 30 or identity[:11] != b"\x01vorbis\0\0\0\0" or comment[:7] != b"\x03vorbis":
        return None
    channels, blocks = identity[11], identity[28]
    digest = hashlib.blake2b(identity[11:12] + identity[28:29] + setup, digest_size=16).digest()
    longest = segments << (blocks >> 4)  # no packet makes more than a block, whatever the last page says
    if digest not in _LIBVORBIS_SETUPS or max(longest, samples) * channels * 4 > _MAX_DECODED_BYTES:
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
