"""The service as a process of its own: what it prints, serves, refuses and leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from soundmark import cli
from soundmark.errors import ServeError, SpecError
from soundmark.serve import server
from soundmark.serve.settings import Settings
from tones import wav

PATIENCE = 120.0
ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def raw(url: str, content: bytes, *, end: bool = True) -> bytes:
    """What comes back on a connection of its own until it is closed."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=PATIENCE) as connection:
        try:
            connection.sendall(content)
            if end:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            return b""
        return answer


def test_it_serves_and_ends_when_told(started: Callable[..., Any]) -> None:
    with started() as service:
        answer = httpx.post(f"{service.url}/v1/classify", content=wav(level=0.5), timeout=PATIENCE)
        assert answer.json()["labels"][0]["label"] == "loud"
        assert "server" not in answer.headers
        assert "Listen" not in httpx.get(service.url).text.partition("<body>")[0]
    assert service.process.returncode in (0, -signal.SIGTERM)


def test_what_is_no_request_costs_nothing(started: Callable[..., Any]) -> None:
    post = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
    with started("--max-megabytes", "0.1") as service:
        assert b" 400 " in raw(service.url, b"\x16\x03\x01\x02\x00 not http\r\n\r\n").split(b"\r\n")[0]
        assert b" 431 " in raw(service.url, b"GET / HTTP/1.1\r\nA: " + b"a" * 200_000, end=False).split(b"\r\n")[0]
        large = post + b"Content-Length: 1000000\r\n\r\n" + bytes(1000)
        assert b" 413 " in raw(service.url, large, end=False).split(b"\r\n")[0]
        chunks = b"10000\r\n" + bytes(65536) + b"\r\n"
        endless = post + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * chunks
        assert b" 413 " in raw(service.url, endless, end=False).split(b"\r\n")[0]
        raw(service.url, post + b"Content-Length: 1000\r\n\r\nRIFF")  # cut in the middle
        assert httpx.post(f"{service.url}/v1/classify", content=wav(), timeout=PATIENCE).status_code == 200
    assert service.process.stderr


@posix
def test_requests_under_way_are_answered_when_it_is_told_to_stop(started: Callable[..., Any]) -> None:
    content = wav(60, rate=44_100)
    with started() as service, ThreadPoolExecutor(4) as pool:
        begun = threading.Barrier(5)

        def ask() -> int:
            begun.wait()
            return httpx.post(f"{service.url}/v1/events", content=content, timeout=PATIENCE).status_code

        answers = [pool.submit(ask) for _ in range(4)]
        begun.wait()
        while _serving(service.url) < 4:  # all four are inside
            if any(each.done() for each in answers):
                break
        service.process.send_signal(signal.SIGTERM)
        assert {each.result() for each in answers} == {200}
        service.process.wait(PATIENCE)


def _serving(url: str) -> int:
    found = re.search(r"^soundmark_serving (\S+)$", httpx.get(f"{url}/metrics", timeout=PATIENCE).text, re.MULTILINE)
    assert found
    return int(float(found[1]))


@posix
def test_streams_and_followers_do_not_keep_it_from_ending(started: Callable[..., Any]) -> None:
    with (
        started() as service,
        connect(f"{service.url.replace('http', 'ws')}/v1/stream") as stream,
        httpx.stream("GET", f"{service.url}/v1/feed", timeout=PATIENCE) as feed,
    ):
        lines = feed.iter_lines()
        assert next(lines).startswith(":")
        stream.send(json.dumps({"sample_rate": 8000, "publish": "hall"}))
        assert json.loads(stream.recv())["type"] == "ready"
        stream.send(bytes(2 * 8000 * 3))
        assert json.loads(stream.recv())["type"] == "window"
        data = next(line for line in lines if line.startswith("data: "))
        assert json.loads(data[6:])["source"] == "hall"
        service.process.send_signal(signal.SIGTERM)
        list(lines)  # to their end
        service.process.wait(PATIENCE)


@posix
def test_several_processes_share_address_and_meters(started: Callable[..., Any]) -> None:
    with started("--workers", "2", SOUNDMARK_KEYS="a-key-for-the-tests") as service:
        headers = {"authorization": "Bearer a-key-for-the-tests"}
        for _ in range(6):  # each on a connection of its own
            assert (
                httpx.post(f"{service.url}/v1/classify", content=wav(), headers=headers, timeout=PATIENCE).status_code
                == 200
            )
        assert httpx.post(f"{service.url}/v1/classify", content=wav(), timeout=PATIENCE).status_code == 401
        text = httpx.get(f"{service.url}/metrics", headers=headers, timeout=PATIENCE).text
        assert 'soundmark_requests_total{method="POST",path="/v1/classify",status="200"} 6.0' in text


def test_the_examples_of_the_page_work(started: Callable[..., Any], tmp_path: Path) -> None:
    """The client of ten lines, and the line of curl, as docs/serve.md has them."""
    text = (ROOT / "docs" / "serve.md").read_text("utf-8")
    (client,) = re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(client.splitlines()) <= 10
    (tmp_path / "dog.wav").write_bytes(wav(level=0.5))
    with started() as service:
        (tmp_path / "client.py").write_text(client.replace("http://127.0.0.1:8000", service.url), "utf-8")
        done = subprocess.run([sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.startswith("loud 100.0 %\n")


def test_an_address_that_is_taken_is_an_error_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with server.bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert server.address(listening) == f"http://127.0.0.1:{port}"
        with pytest.raises(ServeError, match="choose another"):
            server.bound("127.0.0.1", port)
        assert cli.main(["serve", "--port", str(port)]) == 1
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached from the network"),
        (["--keys", "no/such/file"], "cannot read the keys"),
        (["--model", "no/such.onnx"], "there is no model file"),
        (["--model", "a=mark1", "--model", "a=mark1"], "two models are called"),
        (["--alarm", "none"], "has no thresholds for a view 'none'"),
    ],
)
def test_what_cannot_be_served_is_said(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--port", "0", *options]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)]
)
def test_what_is_this_machine_alone(host: str, expected: bool) -> None:
    assert server.is_loopback(host) == expected


def test_keys_are_not_shown() -> None:
    assert "a-key-for-the-tests" not in repr(Settings(keys=("a-key-for-the-tests",)))
    with pytest.raises(SpecError, match="max_bytes"):
        Settings(max_bytes=0)
