"""What a file is by its first bytes."""

from __future__ import annotations

import pytest

from soundmark.audio.signatures import Kind, kind_of, looks_like


def test_kinds_are_told_by_first_bytes() -> None:
    assert kind_of(b"\xff\xf1\x50\x80") == Kind("AAC", native=False)
    assert kind_of(b"\xff\xfb\x90\x44") is None, "that is MP3, which libsndfile reads"
    assert kind_of(b"RIFF1234AVI LIST") == Kind("AVI", native=False)
    assert kind_of(b"RIFF1234WAVEfmt ") == Kind("WAV", native=True)
    assert kind_of(b"") is None
    assert kind_of(b"\xff") is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x89PNG\r\n", "PNG picture"),
        (b"fLaC", "begins as FLAC"),
        (b"\xff\xfb\x90", "begins as MP3"),
        (b"\xff", "no recording in a known format"),
        (b"\0\0", "zeros"),
        (b"hello\n", "looks like text"),
        ("Gr\u00fc\u00dfe".encode(), "looks like text"),
        (b"hello\x01", "no recording in a known format"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    ],
)
def test_what_is_no_sound_is_named(head: bytes, words: str) -> None:
    assert words in looks_like(head)
