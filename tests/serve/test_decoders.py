"""The processes that decode: what they give, what they refuse, and that losing one costs nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from odd_files import ODD, Impossible
from soundmark.audio import read
from soundmark.errors import AudioError
from soundmark.serve import decoder, decoders
from soundmark.serve.decoders import Decoders
from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings
from tones import wav

Work = Callable[[Decoders], Awaitable[Any]]
posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture
def with_pool(small: Callable[..., Settings]) -> Callable[..., Any]:
    """Run something with a pool of processes, and see that none is left behind."""

    def run(work: Work, **changed: Any) -> Any:
        async def inner() -> Any:
            pool = Decoders(small(**changed))
            await pool.start()
            try:
                return await work(pool)
            finally:
                processes = pool.processes
                await pool.close()
                for number in processes:
                    with pytest.raises(ProcessLookupError):
                        os.kill(number, 0)

        return asyncio.run(inner())

    return run


WANTED = {"sample_rate": 8000, "max_seconds": 10, "max_sample_rate": 192_000, "max_channels": 8}


def test_what_is_decoded_is_what_is_read() -> None:
    content = wav(1.7, rate=44_100, channels=2)
    said, waveform = decoder.decoded(content, WANTED)
    expected, _ = read(content, 8000)
    assert np.array_equal(waveform, expected)
    assert said == {"sample_rate": 44_100, "channels": 2, "format": "WAV PCM_16"}


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_odd_files_give_a_waveform_or_words_without_our_paths(odd: Any, tmp_path: Path) -> None:
    try:
        path = odd.write(tmp_path)
    except Impossible as why:
        pytest.skip(str(why))
    if not path.is_file():
        return  # a folder or a broken link cannot be sent
    try:
        content = path.read_bytes()
    except OSError:
        return
    said = ""
    try:
        _, waveform = decoder.decoded(content, WANTED | {"max_channels": 10_000, "max_sample_rate": 768_000})
        assert np.isfinite(waveform).all()
    except (AudioError, decoder.Refused) as error:
        said = str(error)
    assert "/proc/" not in said
    assert str(tmp_path) not in said


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(AudioError):
        decoder.decoded(b"\x1aE\xdf\xa3" + bytes(100), WANTED)
    assert not list(tmp_path.iterdir())


def test_frames_survive_their_way(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with open(path, "wb", buffering=0) as target:
        decoder.write(target, decoder.pack({"a": 1}, b"xyz"))
        decoder.write(target, decoder.pack({}))
    with open(path, "rb", buffering=0) as source:
        assert decoder.read(source) == ({"a": 1, "bytes": 3}, b"xyz")
        assert decoder.read(source) == ({"bytes": 0}, b"")
        assert decoder.read(source) is None


@posix
def test_a_process_that_is_killed_is_replaced_and_the_request_answered(with_pool: Callable[..., Any]) -> None:
    async def work(pool: Decoders) -> Any:
        (number,) = pool.processes
        os.kill(number, signal.SIGKILL)  # between two requests, or while it decodes: the pool cannot tell
        sound = await pool.decode(wav(), 8000)
        assert pool.processes != [number]
        return sound, pool.lost

    sound, lost = with_pool(work)
    assert len(sound.waveform) == 8000
    assert lost == {"died": 1, "late": 0}


@posix
def test_a_recording_that_always_kills_costs_a_422(with_pool: Callable[..., Any]) -> None:
    async def work(pool: Decoders) -> Any:
        pause = pool._idle.get

        async def get_and_kill() -> Any:
            process = await pause()
            process.process.kill()
            await process.process.wait()
            return process

        pool._idle.get = get_and_kill  # type: ignore[method-assign]
        with pytest.raises(Problem) as problem:
            await pool.decode(wav(), 8000)
        pool._idle.get = pause  # type: ignore[method-assign]
        return problem.value, len((await pool.decode(wav(), 8000)).waveform)

    problem, samples = with_pool(work)
    assert (problem.status, problem.code, samples) == (422, "decoder", 8000)


@posix
def test_one_that_hangs_is_given_up(with_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(pool: Decoders) -> Any:
        (number,) = pool.processes
        os.kill(number, signal.SIGSTOP)
        object.__setattr__(pool.settings, "decode_seconds", 0.2)
        with pytest.raises(Problem) as problem:
            await pool.decode(wav(), 8000)
        object.__setattr__(pool.settings, "decode_seconds", 120.0)
        return problem.value, pool.lost, len((await pool.decode(wav(), 8000)).waveform)

    problem, lost, samples = with_pool(work)
    assert (problem.code, lost, samples) == ("decoder", {"died": 0, "late": 1}, 8000)


def test_a_request_that_is_given_up_leaves_no_answer_for_the_next(with_pool: Callable[..., Any]) -> None:
    async def work(pool: Decoders) -> Any:
        first = asyncio.create_task(pool.decode(wav(9), 8000))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return len((await pool.decode(wav(0.5), 8000)).waveform)

    assert with_pool(work) == 4000


@pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are kept by Linux")
def test_memory_has_an_end(with_pool: Callable[..., Any]) -> None:
    """With room for little more than the interpreter, a long recording cannot be held; the pool goes on."""

    async def work(pool: Decoders) -> Any:
        with pytest.raises(Problem) as problem:
            await pool.decode(wav(290, rate=8000), 192_000)
        return problem.value, len((await pool.decode(wav(), 8000)).waveform)

    problem, samples = with_pool(work, decoder_bytes=320 << 20)
    assert (problem.status, problem.code, samples) == (422, "decoder", 8000)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_knows_no_secrets_and_has_limits(
    with_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDMARK_KEYS", "a-key-for-the-tests")

    async def work(pool: Decoders) -> Any:
        (number,) = pool.processes
        await pool.decode(wav(), 8000)
        return Path(f"/proc/{number}/environ").read_bytes(), Path(f"/proc/{number}/limits").read_text("utf-8")

    environment, limits = with_pool(work)
    assert b"a-key-for-the-tests" not in environment
    rows = {line[:25].strip(): line[25:].split()[0] for line in limits.splitlines()}
    assert int(rows["Max address space"]) == 1 << 30
    assert int(rows["Max core file size"]) == 0
    assert rows["Max cpu time"].isdigit()
    assert int(rows["Max open files"]) == 64


def test_a_process_is_replaced_after_many_jobs(with_pool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "JOBS", 2)

    async def work(pool: Decoders) -> Any:
        seen = set()
        for _ in range(4):
            await pool.decode(wav(0.1), 8000)
            seen |= set(pool.processes)
        return seen, pool.lost

    seen, lost = with_pool(work)
    assert len(seen) >= 2
    assert lost == {"died": 0, "late": 0}


def test_it_ends_with_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soundmark.serve.decoder", '{"memory_bytes": 1073741824, "file_bytes": 1000000}'],
        input=b"", capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.endswith(b'{"ready": true, "bytes": 0}')
