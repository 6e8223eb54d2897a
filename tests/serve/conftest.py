"""A service of small models, in this process and as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from soundmark import model
from soundmark.serve.models import Served, served
from soundmark.serve.settings import Settings

pytest.importorskip("fastapi", reason="SKIPPED FOR WANT OF THE EXTRA serve: the service is not tested")

PATIENCE = 120.0  # seconds; a busy machine is no failure


@pytest.fixture
def loud(tiny_model: Callable[..., bytes]) -> Served:
    """A model that tells quiet from loud, and gives alarm when it is loud."""
    content = tiny_model(name="loudness", alarm_thresholds={"0.05": 0.7}, unknown_below=0.6)
    return served(model.load(content, threads=1))


@pytest.fixture
def small() -> Callable[..., Settings]:
    """Settings for tests: one process that decodes, one graph at a time."""

    def settings(**changed: Any) -> Settings:
        return Settings(**({"decoders": 1, "runs": 1, "hosts": ("testserver",), "decode_seconds": PATIENCE} | changed))

    return settings


class Running(NamedTuple):
    """A service in a process of its own."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture
def started(tmp_path: Path, tiny_model: Callable[..., bytes]) -> Callable[..., Any]:
    """Start `soundmark serve` on a free port, with the tiny model and more options."""
    path = tmp_path / "loudness.onnx"
    path.write_bytes(tiny_model(alarm_thresholds={"0.05": 0.7}, unknown_below=0.6))

    @contextmanager
    def start(*options: str, **environment: str) -> Iterator[Running]:
        command = [sys.executable, "-m", "soundmark", "serve", "--port", "0", "--model", str(path), "--decoders", "1"]
        process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        assert process.stderr
        try:
            line = process.stderr.readline()
            assert "serving loudness at http" in line, line + process.stderr.read()
            url = line.split()[-1]
            wait_until_ready(url, process)
            yield Running(url, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.stderr.close()

    return start


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """Until it would serve a request."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the service does not become ready")
