"""What the service has to survive: thousands of malformed uploads, killed decoders, an end under load. Linux only.

    python benchmarks/serve_drill.py RECORDING

Every upload has to be answered, or its connection closed where it deserves no answer, with no status of 500 or above
but 503; between them proper requests must be served, and memory must not grow. Then decoders are killed while they
decode, and last the server is told to stop while 32 clients ask.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from serving import Server, answer, request, serving, soundmark

from soundmark.environment import environment
from soundmark.files import write_json

PATIENCE = 90.0
SLOW_SECONDS = 3.0


def flac_of_silence(hours: float) -> bytes:
    """A bomb: hours of sound in a few kilobytes."""
    target = io.BytesIO()
    with soundfile.SoundFile(target, "w", 8000, 1, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(round(hours * 60)):
            sound.write(np.zeros(60 * 8000, np.int16))
    return target.getvalue()


def converted(content: bytes, kind: str) -> bytes:
    """The recording as ffmpeg writes it; nothing where there is no ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return b"\x1aE\xdf\xa3" + bytes(4000)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / f"target.{kind}"
        source.write_bytes(content)
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, target], check=True)
        return target.read_bytes()


def uploads(content: bytes, draw: random.Random) -> dict[str, Callable[[], bytes]]:
    """Malformed requests by kind; each call makes another."""
    wave = io.BytesIO()
    samples, rate = soundfile.read(io.BytesIO(content))
    soundfile.write(wave, samples, rate, format="WAV")
    whole = [wave.getvalue(), content, *(converted(content, kind) for kind in ("webm", "mp3", "flac"))]
    bomb = flac_of_silence(20)

    def cut() -> bytes:
        some = draw.choice(whole)
        return request(some[: draw.randrange(len(some))])

    def damaged() -> bytes:
        some = bytearray(draw.choice(whole))
        for _ in range(draw.choice((1, 10, 1000))):
            some[draw.randrange(len(some))] = draw.randrange(256)
        return request(bytes(some))

    def lying() -> bytes:
        some = bytearray(whole[0])
        place = draw.choice((4, 16, 22, 24, 28, 32, 34, 40))
        some[place : place + 4] = draw.randbytes(4)
        return request(bytes(some))

    def form() -> bytes:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n\r\n'
        parts = head + whole[0][:5000]
        sent = parts[: draw.randrange(len(parts))] + draw.choice((b"", b"\r\n--b--"))
        return request(sent, kind="multipart/form-data; boundary=b")

    return {
        "truncated": cut,
        "damaged": damaged,
        "lying headers": lying,
        "noise": lambda: request(draw.randbytes(draw.randrange(20_000))),
        "bomb": lambda: request(bomb),
        "wrong type": lambda: request(b'{"path": "/etc/passwd"}', kind=draw.choice(("application/json", "text/html"))),
        "form": form,
        "huge headers": lambda: request(b"", more="A: " + "a" * draw.choice((10_000, 100_000, 1_000_000)) + "\r\n"),
        "large body": lambda: request(bytes(17 << 20)),
        "no HTTP": lambda: draw.randbytes(200) + b"\r\n\r\n",
        "wrong length": lambda: request(whole[0]).replace(b"Content-Length: ", b"Content-Length: -"),
        "strange settings": lambda: request(whole[0], f"/v1/events?hop={draw.choice(('nan', '1e-9', '-1', 'inf'))}"),
    }


async def upload(server: Server, content: bytes, manner: str) -> str:
    """Send something; what came back, in a word."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 22)
    try:
        async with asyncio.timeout(PATIENCE):
            if manner == "cut":
                writer.write(content[: len(content) // 2])
                await writer.drain()
                return "cut by us"
            if manner == "slow":
                half = len(content) // 2
                writer.write(content[:half])
                await writer.drain()
                await asyncio.sleep(SLOW_SECONDS)
                writer.write(content[half:])
            else:
                writer.write(content)
            await writer.drain()
            status, _ = await answer(reader)
            return str(status)
    except TimeoutError:
        return "no answer"
    except (OSError, EOFError):
        return "closed"
    finally:
        writer.close()


async def malformed(server: Server, content: bytes, count: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    kinds = uploads(content, draw)
    seen: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in [*kinds, "proper"]}
    waiting = [name for name, _ in zip(iter_forever(list(kinds)), range(count), strict=False)]
    draw.shuffle(waiting)
    memory = [round(server.resident(), 1)]

    async def client() -> None:
        while waiting:
            name = waiting.pop()
            manner = draw.choices(("whole", "cut", "slow"), (90, 8, 2))[0]
            seen[name][await upload(server, kinds[name](), manner)] += 1
            if len(waiting) % 20 == 0:
                seen["proper"][await upload(server, request(content), "whole")] += 1
            if len(waiting) % max(1, count // 10) == 0:
                memory.append(round(server.resident(), 1))

    await asyncio.gather(*(client() for _ in range(16)))
    return {"uploads": count, "answers": {name: dict(each) for name, each in seen.items()}, "server_mib": memory}


def iter_forever(names: list[str]) -> Any:
    while True:
        yield from names


async def killed(server: Server, content: bytes, seconds: float) -> dict[str, Any]:
    """Proper requests, while the processes that decode are killed one after the other."""
    seen: collections.Counter[str] = collections.Counter()
    kills, end = 0, time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            seen[await upload(server, request(content), "whole")] += 1

    async def killer() -> None:
        nonlocal kills
        while time.perf_counter() < end:
            await asyncio.sleep(0.5)
            children = server.tree()[1:]
            if children:
                os.kill(random.choice(children), signal.SIGKILL)
                kills += 1

    await asyncio.gather(killer(), *(client() for _ in range(8)))
    return {"kills": kills, "answers": dict(seen)}


async def stopped(server: Server, content: bytes, clients: int) -> dict[str, Any]:
    """SIGTERM, while so many clients ask. A request that was wholly sent before the signal has to be answered."""
    whole = request(content)
    answered = unanswered = refused = 0
    told = 0.0

    async def client() -> None:
        nonlocal answered, unanswered, refused
        while not told:
            try:
                reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
            except OSError:
                refused += 1
                return
            writer.write(whole)
            await writer.drain()
            sent = time.perf_counter()
            try:
                status, _ = await answer(reader)
                answered += status == 200
            except (OSError, EOFError):
                # What the listening socket had not handed over yet is lost with it, and was never begun.
                unanswered += bool(told) and sent < told - 0.25
            writer.close()

    async def teller() -> None:
        nonlocal told
        await asyncio.sleep(3)
        told = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)

    await asyncio.gather(teller(), *(client() for _ in range(clients)))
    started = time.perf_counter()
    code = await asyncio.to_thread(server.process.wait, 60)
    return {
        "clients": clients, "answered": answered, "unanswered": unanswered, "not_connected": refused, "exit_code": code,
        "seconds_to_end": round(time.perf_counter() - started, 2),
    }  # fmt: skip


def verdict(result: dict[str, Any]) -> list[str]:
    """What went wrong."""
    wrong = []
    for name, seen in result["malformed"]["answers"].items():
        wrong += [f"{name}: {count} x {what}" for what, count in seen.items() if what in ("500", "no answer")]
        if name == "proper":
            wrong += [f"proper: {count} x {what}" for what, count in seen.items() if what not in ("200", "503")]
    memory = result["malformed"]["server_mib"]
    if max(memory[len(memory) // 2 :]) > 1.25 * max(memory[1 : len(memory) // 2 + 1]):
        wrong.append(f"memory grows: {memory} MiB")
    answers = result["killed"]["answers"].items()
    wrong += [f"killed: {count} x {what}" for what, count in answers if what not in ("200", "422", "503")]
    if result["stopped"]["unanswered"]:
        wrong.append(f"{result['stopped']['unanswered']} requests were under way and not answered")
    return wrong


def table(result: dict[str, Any]) -> dict[str, Any]:
    """The result as rows, for the documentation."""

    def told(seen: dict[str, int]) -> str:
        return ", ".join(f"{count} x {what}" for what, count in sorted(seen.items()))

    rows = [[name, sum(seen.values()), told(seen)] for name, seen in result["malformed"]["answers"].items()]
    killed, stopped, memory = result["killed"], result["stopped"], result["malformed"]["server_mib"]
    notes = [
        f"Of {result['malformed']['uploads']} malformed uploads some are cut off by the client, or stand still for "
        f"{SLOW_SECONDS:g} s; `closed` is a connection that got no answer. The server's process had "
        f"{memory[1]:.0f} MiB after a tenth of them and {memory[-1]:.0f} MiB in the end.",
        f"{killed['kills']} processes that decode were killed under 8 clients: {told(killed['answers'])}.",
        f"SIGTERM under {stopped['clients']} clients: {stopped['answered']} requests answered, {stopped['unanswered']} "
        f"left unanswered, ended after {stopped['seconds_to_end']:g} s.",
    ]
    return {"columns": ["uploads", "count", "answers"], "rows": rows, "notes": notes}


def main() -> None:
    """Drill and write results/benchmarks/serve_drill.json."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("recording")
    options.add_argument("--uploads", type=int, default=2000)
    options.add_argument("--kill-seconds", type=float, default=20.0)
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", default="results/benchmarks/serve_drill.json")
    args = options.parse_args()
    content = Path(args.recording).read_bytes()
    with serving(soundmark()) as server:
        result: dict[str, Any] = {
            "title": "What the service survives",
            "command": "python benchmarks/serve_drill.py RECORDING",
            "malformed": asyncio.run(malformed(server, content, args.uploads, args.seed)),
            "killed": asyncio.run(killed(server, content, args.kill_seconds)),
        }
        result["all_processes_mib"] = round(server.resident(children=True), 1)
        result["stopped"] = asyncio.run(stopped(server, content, args.clients))
    result["wrong"] = verdict(result)
    result["environment"] = environment()
    write_json(args.out, result | table(result))
    print(result["malformed"]["answers"], result["killed"], result["stopped"], sep="\n")
    if result["wrong"]:
        sys.exit("\n".join(result["wrong"]))


if __name__ == "__main__":
    main()
