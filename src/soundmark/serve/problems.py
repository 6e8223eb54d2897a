"""What a request is refused for: a status, a short code for programs, and words for people."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

CODES = {
    "bad_request": "the request cannot be understood",
    "no_key": "no key, or a wrong one",
    "wrong_host": "called under a name that is not the service's, or by another site's page",
    "not_found": "no such address",
    "no_model": "no such model",
    "wrong_method": "the address does not take this method",
    "slow_body": "the body did not arrive in time",
    "too_large": "the body has too many bytes",
    "not_audio": "the content type is not that of a recording",
    "bad_setting": "a setting is not what it may be",
    "unreadable": "the body is no recording that can be decoded",
    "too_long": "the recording lasts too long",
    "too_many_channels": "the recording has too many channels",
    "sample_rate": "the recording's sample rate is too high",
    "too_many_windows": "so many windows are not computed in one request",
    "decoder": "decoding took too long, too much memory, or ended the process that decodes",
    "model_failed": "the model cannot be run on this recording",
    "internal": "a mistake of the service",
    "busy": "too many requests at once",
    "too_slow": "the request took too long",
    "closing": "the service is being stopped",
}
"""Every code that an error may bear, and what it means."""

RETRY_SECONDS = 1

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Problem(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        code: one of `CODES`.
        message: what is wrong, and what to do.
        headers: that go with it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: dict[str, str] = {}
        if status == 401:
            self.headers["WWW-Authenticate"] = 'Bearer realm="soundmark"'
        if status == 503:
            self.headers["Retry-After"] = str(RETRY_SECONDS)

    def content(self) -> dict[str, str]:
        """The body of the answer."""
        return {"error": self.message, "code": self.code}


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem, by ASGI's own means."""
    body = json.dumps(problem.content(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))} | problem.headers
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
