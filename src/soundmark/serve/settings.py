"""What a service takes and what it refuses, as plain data."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields

from soundmark.errors import SpecError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Settings:
    """Limits of one server process, keys, and how much it does at once.

    Attributes:
        max_bytes: of a request's body.
        max_seconds: of a recording.
        max_sample_rate: Hz, of a recording or a stream.
        max_channels: of a recording.
        max_windows: that one recording may be cut into.
        max_requests: being served at once; one more is refused.
        max_waiting: waveforms that wait for the model; while there are so many, recordings are refused.
        max_streams: WebSocket streams at once.
        max_followers: readers of the feed at once.
        body_seconds: until its body is all there.
        decode_seconds: of decoding one recording.
        request_seconds: of everything together.
        idle_seconds: until a stream that sends nothing is closed.
        decoder_bytes: address space of a process that decodes.
        decoders: processes that decode.
        runs: graphs that run at once, each on one core.
        batch_rows: waveforms of equal length that go through a graph together.
        keys: any one of them opens the service; none asks for no key.
        hosts: names under which it may be called; empty takes any.

    Raises:
        SpecError: if a limit is not a number above 0, or a key is too short to keep anybody out.
    """

    max_bytes: int = 16 << 20
    max_seconds: float = 300.0
    max_sample_rate: int = 192_000
    max_channels: int = 8
    max_windows: int = 1000
    max_requests: int = 64
    max_waiting: int = 64
    max_streams: int = 64
    max_followers: int = 64
    body_seconds: float = 30.0
    decode_seconds: float = 15.0
    request_seconds: float = 60.0
    idle_seconds: float = 60.0
    decoder_bytes: int = 1 << 30
    decoders: int = field(default_factory=cores)
    runs: int = field(default_factory=cores)
    batch_rows: int = 8
    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = LOOPBACK

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("keys", "hosts") and not 0 < value < math.inf:
                raise SpecError(f"the service's {each.name} is {value}: give a number above 0")
        for key in self.keys:
            if not 16 <= len(key) <= 512 or not key.isascii() or not key.isprintable() or " " in key:
                raise SpecError(
                    "a key has 16 to 512 printable ASCII characters without blanks: make one with "
                    "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
                )
