"""The processes that decode: how many there are, what each is given, and who replaces one that is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import soundmark
from soundmark.serve import decoder
from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings

JOBS = 1000  # after so many recordings a process is replaced, lest a library's leaks add up
START_SECONDS = 60.0
PAUSE_SECONDS = 1.0  # before another attempt, where a process does not start
STATUS = {"too_long": 413}

# What a process that decodes knows of ours: where programs and packages are, and no secrets.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "PYTHONHOME", "SYSTEMROOT", "TMPDIR", "TEMP")


@dataclass(frozen=True)
class Sound:
    """A recording, decoded.

    Attributes:
        waveform: float32 (samples,), mono, at the rate that was asked for.
        sample_rate: Hz of the recording itself.
        channels: of the recording itself.
        format: container and coding, for people.
    """

    waveform: np.ndarray
    sample_rate: int
    channels: int
    format: str


class Lost(Exception):
    """A process ended, or took too long, before it answered."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoders:
    """A pool of processes that decode. It belongs to one event loop.

    Attributes:
        lost: how many processes were lost, by reason: `died` or `late`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lost = {"died": 0, "late": 0}
        self._idle: asyncio.Queue[_Process] = asyncio.Queue()
        self._all: set[_Process] = set()
        self._adding: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def ready(self) -> bool:
        """Whether any process is at work or waits for some."""
        return bool(self._all) and not self._closed

    @property
    def processes(self) -> list[int]:
        """Their numbers."""
        return [each.number for each in self._all]

    async def start(self) -> None:
        """Start all processes, and wait until they are ready.

        Raises:
            Lost: if one does not start.
        """
        await asyncio.gather(*(self._add() for _ in range(self.settings.decoders)))

    async def close(self) -> None:
        """End them all."""
        self._closed = True
        for task in list(self._adding):
            task.cancel()
        await asyncio.gather(*self._adding, *self._ending, return_exceptions=True)
        await asyncio.gather(*(each.end() for each in list(self._all)))
        self._all.clear()

    async def decode(self, content: bytes, sample_rate: int) -> Sound:
        """Decode a recording in one of the processes.

        A process that dies is replaced and the recording tried once more, since somebody else may have ended it.

        Args:
            content: a whole file.
            sample_rate: Hz of the waveform.

        Raises:
            Problem: 422 if it cannot be decoded within the limits, 413 if it lasts too long.
        """
        for last in (False, True):
            try:
                return await self._decode(content, sample_rate)
            except Lost as lost:
                self.lost[lost.reason] += 1
                if last or lost.reason == "late":
                    why = "takes too long to decode" if lost.reason == "late" else "ends the process that decodes it"
                    raise Problem(422, "decoder", f"the recording {why}: convert it to WAV or FLAC") from None
        raise AssertionError("unreachable")

    async def _decode(self, content: bytes, sample_rate: int) -> Sound:
        settings = self.settings
        table = {
            "sample_rate": sample_rate, "max_seconds": settings.max_seconds, "max_channels": settings.max_channels,
            "max_sample_rate": settings.max_sample_rate, "cpu_seconds": settings.decode_seconds,
        }  # fmt: skip
        process = await self._idle.get()
        try:
            async with asyncio.timeout(settings.decode_seconds):
                said, raw = await process.ask(table, content)
        except TimeoutError:
            self._replace(process)
            raise Lost("late") from None
        except (OSError, EOFError):
            self._replace(process)
            raise Lost("died") from None
        except BaseException:  # the request was given up: nobody will read the rest of the answer
            self._replace(process)
            raise
        if process.jobs >= JOBS or said.get("code") == "decoder":
            self._replace(process)
        else:
            self._idle.put_nowait(process)
        if "code" in said:
            raise Problem(STATUS.get(said["code"], 422), said["code"], said["message"])
        return Sound(np.frombuffer(raw, "<f4"), said["sample_rate"], said["channels"], said["format"])

    async def _add(self) -> None:
        process = await _Process.start(self.settings)
        self._all.add(process)
        self._idle.put_nowait(process)

    def _replace(self, process: _Process) -> None:
        self._all.discard(process)
        loop = asyncio.get_running_loop()
        ending = loop.create_task(process.end())  # this one is never given up, or the process would live on
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if not self._closed:
            adding = loop.create_task(self._another())
            self._adding.add(adding)
            adding.add_done_callback(self._adding.discard)

    async def _another(self) -> None:
        while True:
            try:
                await self._add()
            except (Lost, OSError):
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return


class _Process:
    """One process, and the pipes to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self.process, self.input, self.output = process, process.stdin, process.stdout
        self.jobs = 0

    @property
    def number(self) -> int:
        return self.process.pid

    @classmethod
    async def start(cls, settings: Settings) -> _Process:
        limits = {"memory_bytes": settings.decoder_bytes, "file_bytes": settings.max_bytes + (1 << 20)}
        self = cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", decoder.__name__, json.dumps(limits),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env=_environment(), start_new_session=True, limit=1 << 20,
            )
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_SECONDS):
                await self.answer()
        except (TimeoutError, OSError, EOFError):
            await self.end()
            raise Lost("died") from None
        except BaseException:
            await self.end()
            raise
        return self

    async def ask(self, table: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        self.jobs += 1
        try:
            self.input.writelines(decoder.pack(table, content))
            await self.input.drain()
        except RuntimeError as error:  # uvloop's word for a pipe that is closed
            raise EOFError(str(error)) from None
        return await self.answer()

    async def answer(self) -> tuple[dict[str, Any], bytes]:
        size = decoder.HEAD.unpack(await self.output.readexactly(decoder.HEAD.size))[0]
        said: dict[str, Any] = json.loads(await self.output.readexactly(size))
        return said, await self.output.readexactly(said["bytes"])

    async def end(self) -> None:
        """Kill it, with whatever it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self.process.pid, signal.SIGKILL)  # its session is its own
            else:
                self.process.kill()
        await self.process.wait()
        transport = getattr(self.process, "_transport", None)
        if transport is not None:  # pipes are closed with it, and with nothing that is public
            transport.close()
        await asyncio.sleep(0)  # in which they are


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    package = str(Path(soundmark.__file__).resolve().parents[1])
    paths = [
        package,
        *(str(Path(part).absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part),
    ]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return kept | threads | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
