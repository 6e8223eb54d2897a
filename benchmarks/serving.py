"""What the benchmark and the drill of the service share: servers, and a client that costs as little as possible.

Client and server share the cores here, so the client writes bytes that were made before and reads no more than it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

READY_SECONDS = 120.0


@dataclass
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def tree(self) -> list[int]:
        """The server's process and all beneath it; Linux only."""
        found, waiting = [], [self.process.pid]
        while waiting:
            number = waiting.pop()
            found.append(number)
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{number}/task").iterdir():
                    waiting += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def resident(self, *, children: bool = False) -> float:
        """MiB in memory: of the server's process, or of all of them."""
        total = 0
        for number in self.tree() if children else [self.process.pid]:
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{number}/status").read_text().splitlines()
                total += int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
        return total / 1024


@contextlib.contextmanager
def serving(words: list[str], ready: str = "/readyz") -> Iterator[Server]:
    """Start a command that prints its address last on the first line, and end it."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | {"SOUNDMARK_KEYS": ""})
    assert process.stderr
    line = process.stderr.readline().split()
    if not line or not line[-1].startswith("http"):
        sys.exit(f"{words[:4]} did not start: {' '.join(line)} {process.stderr.read()}")
    host, _, port = line[-1].removeprefix("http://").rpartition(":")
    server = Server(process, host, int(port))
    try:
        wait(server, ready)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stderr.close()


def wait(server: Server, ready: str) -> None:
    """Until the server would answer."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(server.url + ready, timeout=5):
            return
        time.sleep(0.1)
    sys.exit(f"{server.url} does not become ready")


def soundmark(*options: str) -> list[str]:
    return [sys.executable, "-m", "soundmark", "serve", "--port", "0", *options]


def request(
    content: bytes, path: str = "/v1/classify", kind: str = "application/octet-stream", more: str = ""
) -> bytes:  # fmt: skip
    """A whole request, as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n{more}\r\n".encode() + content


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer.

    Raises:
        EOFError: if the connection ends before.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = int(head[9:12]), 0
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            length = int(line[15:])
    return status, await reader.readexactly(length)


@dataclass
class Tally:
    """Answers of one load: seconds by status, and what was not answered."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0
    wall: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def report(self, status: int = 200) -> dict[str, object]:
        """Requests per second and percentiles of the answers with a status."""
        times = sorted(self.seconds.get(status, []))
        return {
            "answers": len(times),
            "per_second": round(len(times) / self.wall, 2) if self.wall else None,
            "ms": {f"p{p}": round(1000 * times[min(len(times) - 1, len(times) * p // 100)], 1) for p in (50, 95, 99)}
            if times
            else None,
            "others": {str(key): len(rows) for key, rows in sorted(self.seconds.items()) if key != status},
            "lost": self.lost,
        }


async def load(server: Server, requests: list[bytes], clients: int, seconds: float) -> Tally:
    """So many clients, each asking again as soon as it is answered, on a connection of its own."""
    tally = Tally()
    started = time.perf_counter()

    async def client(number: int) -> None:
        place, connection = number, None
        while time.perf_counter() - started < seconds:
            try:
                connection = connection or await asyncio.open_connection(server.host, server.port, limit=1 << 20)
                begun = time.perf_counter()
                connection[1].write(requests[place % len(requests)])
                status, _ = await answer(connection[0])
                tally.add(status, time.perf_counter() - begun)
            except (OSError, EOFError):
                tally.lost += 1
                connection = None
            place += clients
            if connection is None:
                await asyncio.sleep(0.01)
        if connection:
            connection[1].close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    tally.wall = time.perf_counter() - started
    return tally
