"""The server around the application: its socket, its processes, its end."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from soundmark.errors import ServeError
from soundmark.serve.settings import LOOPBACK

BACKLOG = 2048
CONNECTIONS = 900  # of one process; the usual limit of open files is 1024
IDLE_SECONDS = 30  # until a connection without a request is closed
GRACE_SECONDS = 30  # for requests that are being served when the service is stopped
STREAM_BYTES = 1 << 20  # of one message on a stream


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can call a service bound to this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        ServeError: if the address cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=False)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServeError(
            f"cannot listen on {host} port {port} ({reason}): choose another with --host or --port"
        ) from None


def address(listening: socket.socket) -> str:
    """Where the page is."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: Any, listening: socket.socket, workers: int = 1) -> None:
    """Serve until told to stop; requests under way are finished first.

    Args:
        app: an ASGI application; with several workers the place of a function without arguments that makes one, as
            `module:function`, since each process makes its own.
        listening: from `bound`; closed at the end.
        workers: server processes.
    """
    config = uvicorn.Config(
        app, factory=workers > 1, workers=workers, http="soundmark.serve.protocol:Patient",
        log_level="error", access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG,
        limit_concurrency=CONNECTIONS, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
        ws_max_size=STREAM_BYTES, ws_max_queue=8,
    )  # fmt: skip
    with listening:
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listening])
            return
        from uvicorn.supervisors import Multiprocess

        with _shared_meters():
            Multiprocess(config, sockets=[listening]).run()


@contextlib.contextmanager
def _shared_meters() -> Iterator[None]:
    """A folder in which the processes add up what they count; numbers only."""
    with tempfile.TemporaryDirectory(prefix="soundmark-meters-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


@contextlib.contextmanager
def told_to_stop(tell: Callable[[], None]) -> Iterator[None]:
    """Have `tell` called when a signal asks the server to stop, before the server acts on it.

    The server waits for every answer to end, and a feed would never end of itself.
    """
    kept: dict[int, Any] = {}

    def handle(number: int, frame: Any) -> None:
        tell()
        kept[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for which in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(which)
            if callable(handler):
                kept[which] = handler
                signal.signal(which, handle)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
