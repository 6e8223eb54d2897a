"""Where live sound comes from: a microphone, a pipe, a network stream, or a recording played as if it were live.

A source gives blocks in the order of time. What breaks off is tried again for ever, after growing pauses; times go on
by the clock, so that what was missed is missing from the timeline and nothing is moved.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from soundmark.audio import decoders, ffmpeg, pcm
from soundmark.errors import AudioError, ListenError, SoundmarkError

Say = Callable[[str], None]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a source is tried again; doubled each time
STEADY_SECONDS = 30.0  # of sound after which the pauses begin anew
PATIENCE = 20.0  # seconds without sound after which a source is given up and tried again
GAP_SECONDS = 0.1  # at least, between what came before a source broke off and what came after
BLOCK_SECONDS = 0.1  # of a pipe, a microphone and a recording that is played


@dataclass(frozen=True)
class Block:
    """A moment of sound.

    Attributes:
        start: second since listening began.
        samples: float32 (samples,), mono.
        rate: Hz.
    """

    start: float
    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.rate


class Source(Protocol):
    """What can be listened to."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def live(self) -> bool | None:
        """Whether it goes on by itself and cannot wait; None if that shows in how quickly blocks come."""
        ...

    def blocks(self, say: Say) -> Iterator[Block]:
        """The sound, until it ends or `close` is called. What goes wrong on the way is said in words.

        Raises:
            SoundmarkError: if it cannot be listened to at all.
        """
        ...

    def close(self) -> None:
        """Have `blocks` end soon; may be called from another thread, and more than once."""
        ...


@dataclass
class Recording:
    """A recording of any length.

    Attributes:
        path: of the file.
        realtime: play it at its own pace.
    """

    path: str
    realtime: bool = False
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    @property
    def live(self) -> bool:
        """Played at its own pace, it does not wait."""
        return self.realtime

    def blocks(self, say: Say) -> Iterator[Block]:
        """Its samples, as `soundmark.audio.read` would give them."""
        begun, count = time.monotonic(), 0
        with decoders.opened(self.path) as stream:
            rate = stream.sample_rate
            step = max(1, round(BLOCK_SECONDS * rate)) if self.realtime else 1 << 19
            for block in stream.blocks:
                for first in range(0, len(block), step):
                    part = block[first : first + step]
                    early = begun + (count + len(part)) / rate - time.monotonic()
                    if self._over.wait(max(0.0, early) if self.realtime else 0):
                        return
                    yield Block(count / rate, part, rate)
                    count += len(part)

    def close(self) -> None:
        """Stop."""
        self._over.set()


@dataclass
class Pipe:
    """Raw samples, or WAV, from a file object that is read once.

    Attributes:
        file: an unbuffered binary file; `read` may give less than it is asked for.
        given: what its samples are where it has no WAV header.
        name: for messages.
    """

    file: Any
    given: pcm.Layout | None = None
    name: str = "standard input"
    live: bool | None = None
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def blocks(self, say: Say) -> Iterator[Block]:
        """What is written into the pipe, as it comes."""
        layout, content = pcm.layout(self._exactly, self.given)
        left = layout.size
        step = max(1, round(BLOCK_SECONDS * layout.rate)) * layout.frame
        count = 0
        while not self._over.is_set():
            whole = len(content) // layout.frame * layout.frame
            if whole:
                samples = pcm.mono(content[:whole], layout)
                yield Block(count / layout.rate, samples, layout.rate)
                count, content = count + len(samples), content[whole:]
            part = self._read(step if left is None else min(step, left))
            if not part:
                break
            left = None if left is None else left - len(part)
            content += part
        if not count and not self._over.is_set():
            raise AudioError(f"{self.name} gives no samples: look at what writes into it")

    def _read(self, size: int) -> bytes:
        """Some bytes; none at the end."""
        try:
            return self.file.read(size) or b"" if size else b""
        except (OSError, ValueError) as error:
            raise ListenError(f"{self.name} cannot be read any more ({error})") from None

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size and (part := self._read(size - len(content))):
            content += part
        return content

    def close(self) -> None:
        """Stop at the next block. A pipe that gives nothing cannot be woken; whoever waits for it should not."""
        self._over.set()


@dataclass
class _Again:
    """Something that is opened again whenever it breaks off.

    Attributes:
        once: end with it instead.
        patience: seconds without sound before it counts as broken off.
    """

    once: bool = False
    patience: float = PATIENCE
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def name(self) -> str:
        """For messages."""
        raise NotImplementedError

    def _sound(self, stack: ExitStack, say: Say) -> Iterator[tuple[np.ndarray, int]]:
        """(samples, rate) until it breaks off, which raises an error that says why."""
        raise NotImplementedError

    def blocks(self, say: Say) -> Iterator[Block]:
        """What comes, with pauses where nothing does."""
        begun, position, pause = time.monotonic(), 0.0, FIRST_PAUSE
        first = True
        while not self._over.is_set():
            heard = 0.0
            try:
                with ExitStack() as stack:
                    for samples, rate in self._sound(stack, say):
                        if not heard:  # by the clock, since nothing tells how much was missed
                            position = 0.0 if first else max(position + GAP_SECONDS, time.monotonic() - begun)
                            begun = time.monotonic() if first else begun
                            first = False
                        if self._over.is_set():
                            return
                        yield Block(position, samples, rate)
                        position += len(samples) / rate
                        heard += len(samples) / rate
                reason = f"{self.name} ended"
            except ListenError:
                raise  # trying again would not help
            except SoundmarkError as error:
                if self.once:
                    raise
                reason = str(error)
            if self.once or self._over.is_set():
                return
            pause = FIRST_PAUSE if heard >= STEADY_SECONDS else pause
            say(f"{reason}; trying again in {pause:g} s")
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Stop, and let go of what is open."""
        self._over.set()


@dataclass
class Stream(_Again):
    """A network stream, through ffmpeg: rtsp, http, udp, srt and others.

    Attributes:
        address: with its protocol.
    """

    address: str = ""
    live: bool | None = None

    @property
    def name(self) -> str:
        """The address without user and password, and without a query, which may hold keys."""
        return re.sub(r"//[^/@]*@", "//", self.address).partition("?")[0]

    def _sound(self, stack: ExitStack, say: Say) -> Iterator[tuple[np.ndarray, int]]:
        decoded, reason = ffmpeg.connect(self.address, self.name, self.patience, self._over, stack)
        rate = decoders.checked_rate(decoded.sample_rate, self.name)
        for block in decoded.blocks:
            yield pcm.sound(block.mean(axis=1)), rate
        if not self._over.is_set() and not self.once:
            raise AudioError(f"{self.name} broke off ({reason()})")


@dataclass
class Microphone(_Again):
    """A sound card's input, through sounddevice (extra `listen`).

    Attributes:
        device: its number, or a part of its name; None for the system's default.
        rate: Hz; None for the device's own.
    """

    device: int | str | None = None
    rate: int | None = None
    live: bool | None = True

    @property
    def name(self) -> str:
        """As it was asked for."""
        return "the microphone" if self.device is None else f"the input device {self.device!r}"

    def _sound(self, stack: ExitStack, say: Say) -> Iterator[tuple[np.ndarray, int]]:
        sounddevice = library()
        blocks: queue.Queue[bytes] = queue.Queue(maxsize=round(LONGEST_PAUSE / BLOCK_SECONDS))
        lost = threading.Event()

        def heard(data: Any, frames: int, clock: Any, status: Any) -> None:
            if status:
                lost.set()
            with suppress(queue.Full):  # who reads has stopped
                blocks.put_nowait(bytes(data))

        try:
            found = sounddevice.query_devices(self.device, "input")
            rate = self.rate or int(found["default_samplerate"])
            stream = sounddevice.RawInputStream(
                samplerate=rate, blocksize=round(BLOCK_SECONDS * rate), device=self.device, channels=1,
                dtype="float32", callback=heard,
            )  # fmt: skip
            stack.enter_context(stream)
        except Exception as error:  # PortAudio's errors have no base of the library's own that is always there
            raise AudioError(
                f"{self.name} cannot be opened ({error}): `soundmark listen --list-devices` shows what there is"
            ) from None
        while not self._over.is_set():
            try:
                content = blocks.get(timeout=self.patience)
            except queue.Empty:
                raise AudioError(f"{self.name} has fallen silent") from None
            if lost.is_set():
                lost.clear()
                say(f"{self.name} lost some sound: the machine is too busy to take it")
            yield pcm.sound(np.frombuffer(content, np.float32)), rate


def library() -> Any:
    """The module sounddevice.

    Raises:
        ModuleNotFoundError: if it is not installed.
        ListenError: if the PortAudio library, which it needs, is not.
    """
    try:
        import sounddevice
    except OSError as error:  # its way to say that there is no PortAudio
        raise ListenError(
            f"a microphone needs the PortAudio library ({error}): install it (Debian, Ubuntu: apt install"
            " libportaudio2), or pipe sound in, as in `arecord -f S16_LE -r 44100 | soundmark listen -`"
        ) from None
    return sounddevice


def devices() -> list[tuple[int, str, int, int]]:
    """Inputs of the machine: number, name, channels, Hz.

    Raises:
        ListenError: if they cannot be listed.
    """
    sounddevice = library()
    try:
        listed = list(sounddevice.query_devices())
    except Exception as error:  # as above
        raise ListenError(f"the devices cannot be listed ({error})") from None
    return [
        (place, str(each["name"]), int(each["max_input_channels"]), int(each["default_samplerate"]))
        for place, each in enumerate(listed)
        if each["max_input_channels"] > 0
    ]
