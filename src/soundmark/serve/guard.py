"""What every request passes first: names, keys and limits; and what every answer carries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from soundmark.serve.problems import Problem, send_problem
from soundmark.serve.work import Service

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

LEFT = 499  # what is counted where the client left before its answer
METHODS = ("GET", "HEAD", "POST")

# The page loads nothing but its own files, and talks to nobody but its own service.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob:; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_NO_STORE = (b"cache-control", b"no-store")

log = logging.getLogger("soundmark.serve")


class Guard:
    """ASGI middleware around everything else.

    Args:
        app: what comes after it.
        service: whose settings it keeps.
        paths: that are counted by their names.
    """

    def __init__(self, app: App, service: Service, paths: frozenset[str]) -> None:
        self.app, self.service, self.paths = app, service, paths
        self.keys = [_digest(key) for key in service.settings.keys]

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            try:
                self._check_origin(Headers(scope=scope))
            except Problem as problem:
                self.service.meters.refused.labels(problem.code).inc()
                await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
                return
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        started, status = time.perf_counter(), LEFT
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [*_RAW_HEADERS, _NO_STORE] if _is_private(scope["path"]) else _RAW_HEADERS
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        try:
            await self._served(scope, receive, answer)
        except Problem as problem:
            self.service.meters.refused.labels(problem.code).inc()
            if status == LEFT:
                await send_problem(answer, problem)
        except ClientDisconnect:
            pass
        except Exception:  # a mistake of ours: the client hears as much and no more
            log.exception("a request to %s failed", path)
            if status == LEFT:
                await send_problem(answer, Problem(500, "internal", "a mistake of the service; its log says more"))
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.service.meters.answered(path, method, status, time.perf_counter() - started)

    async def _served(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        headers, service = Headers(scope=scope), self.service
        self._check_origin(headers)
        if _is_private(scope["path"]):
            self.check_key(headers.get("authorization"))
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if service.serving >= service.settings.max_requests:
            raise Problem(503, "busy", "too many requests at once: try again in a moment")
        service.serving += 1
        try:
            async with asyncio.timeout(service.settings.request_seconds):
                await self.app(scope, receive, send)
        except TimeoutError:
            seconds = service.settings.request_seconds
            raise Problem(
                503, "too_slow", f"not done after {seconds:g} s: try again when less is going on, or send less"
            ) from None
        finally:
            service.serving -= 1

    def check_key(self, authorization: str | None) -> None:
        """Let pass who has a key, where keys are asked for.

        Args:
            authorization: the header's value.

        Raises:
            Problem: 401 otherwise.
        """
        if not self.keys:
            return
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        known = [hmac.compare_digest(given, each) for each in self.keys]  # all of them: time tells nothing
        if scheme.lower() != "bearer" or not any(known):
            raise Problem(401, "no_key", "this service asks for a key: send the header `Authorization: Bearer KEY`")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """Keep out pages of other sites, which a browser would let send to a service on its own machine.

        Raises:
            Problem: 403 for such a request, or one under another name than the service's.
        """
        hosts, host = self.service.settings.hosts, headers.get("host", "")
        if hosts and _name(host) not in hosts:
            raise Problem(
                403,
                "wrong_host",
                f"the service is not called {host[:80]!r}: use its own name, or start it with --host-name",
            )
        origin = headers.get("origin")
        if origin and origin != "null" and urlsplit_netloc(origin) != host.lower():
            raise Problem(
                403, "wrong_host", "the request comes from another site's page, and only the service's own may"
            )
        if origin == "null" or headers.get("sec-fetch-site") == "cross-site":
            raise Problem(
                403, "wrong_host", "the request comes from another site's page, and only the service's own may"
            )


def urlsplit_netloc(origin: str) -> str:
    """Host and port of an origin, in lower case; "" where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_private(path: str) -> bool:
    return path.startswith("/v1/") or path == "/metrics"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _name(host: str) -> str:
    """A host without its port, in lower case."""
    host = host.lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
