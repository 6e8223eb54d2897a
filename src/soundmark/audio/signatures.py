"""What a file is by its first bytes, asked when libsndfile has refused it."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 64
"""How much of a file these functions want to see."""

# First bytes of what ffmpeg may read, and whether it is a container of libsndfile's in a coding that libsndfile lacks.
_NEEDS_FFMPEG = {
    b"\x1aE\xdf\xa3": ("WebM/Matroska", False),
    b"0&\xb2u": ("WMA", False),
    b"#!AMR": ("AMR", False),
    b"\x0bw": ("AC-3", False),
    b"FLV": ("FLV", False),
    b"wvpk": ("WavPack", False),
    b"MAC ": ("Monkey's Audio", False),
    b"MPCK": ("Musepack", False),
    b"MP+": ("Musepack", False),
    b"TTA1": ("True Audio", False),
    b"DSD ": ("DSD", False),
    b"RIFF": ("WAV", True),
    b"RIFX": ("WAV", True),
    b"RF64": ("WAV", True),
    b"FORM": ("AIFF", True),
    b"caff": ("CAF", True),
    b"OggS": ("Ogg", True),
    b"ID3": ("MP3", True),
}


@dataclass(frozen=True)
class Kind:
    """What a file is by its first bytes: its name, and whether libsndfile knows the container."""

    name: str
    native: bool


def kind_of(head: bytes) -> Kind | None:
    """What a file that libsndfile refuses is, where ffmpeg may read it; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Kind("AVI", False)
    if head[4:8] == b"ftyp":
        return Kind("MP4/M4A", False)
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return Kind("AAC", False)
    return next((Kind(*kind) for magic, kind in _NEEDS_FFMPEG.items() if head.startswith(magic)), None)


_WHAT_ELSE = {
    b"\x89PNG": "is a PNG picture, not a recording",
    b"\xff\xd8\xff": "is a JPEG picture, not a recording",
    b"GIF8": "is a GIF picture, not a recording",
    b"PK\x03\x04": "is a ZIP archive, not a recording",
    b"\x1f\x8b": "is a gzip archive, not a recording",
    b"%PDF": "is a PDF document, not a recording",
    b"version https://git-lfs": "is a Git LFS pointer, for which git lfs pull fetches the recording",
    b"fLaC": "begins as FLAC but is damaged or cut short",
}


def looks_like(head: bytes) -> str:
    """What a file is that has no known format, by its first bytes."""
    for magic, words in _WHAT_ELSE.items():
        if head.startswith(magic):
            return words
    if head[0] == 0xFF and head[1:] and head[1] & 0xE0 == 0xE0:
        return "begins as MP3 but is damaged or cut short"
    if not any(head):
        return "is no recording in a known format, but starts with zeros"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "is no recording in a known format, but looks like text"
    return "is no recording in a known format"
