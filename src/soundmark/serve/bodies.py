"""A request's body: read within bounds of size and time, in memory alone, and the recording taken out of it."""

from __future__ import annotations

import asyncio
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings

LINGER_SECONDS = 2.0
MAX_PARTS = 16
FIELD = "file"
# Programs that send a file as it is often say nothing better than these.
_RAW = ("", "application/octet-stream", "application/ogg", "application/x-www-form-urlencoded", "binary/octet-stream")


async def recording(request: Request, settings: Settings) -> bytes:
    """The recording in a request's body: the body itself, or a file in a multipart form.

    Raises:
        Problem: 400 if a form cannot be read, 408 if the body is slow, 413 if it is large, 415 if it is something else.
        ClientDisconnect: if the client has left.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = kind == b"multipart/form-data"
    name = kind.decode("latin-1").lower()
    if not form and name not in _RAW and not name.startswith(("audio/", "video/")):
        await linger(request, settings)
        raise Problem(
            415,
            "not_audio",
            f"{name[:80]} is no type of a recording: send the file itself, or a form with it as `file`",
        )
    content = await _body(request, settings)
    if not form:
        return content
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise Problem(400, "bad_request", "the form says no boundary between its parts: let your client set the type")
    return _file_of(content, boundary)


async def _body(request: Request, settings: Settings) -> bytes:
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > settings.max_bytes:
        await linger(request, settings)
        raise _too_large(settings)
    content = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                if len(content) + len(part) > settings.max_bytes:
                    content.clear()
                    await linger(request, settings)
                    raise _too_large(settings)
                content += part
    except TimeoutError:
        raise Problem(
            408, "slow_body", f"the body was not all here after {settings.body_seconds:g} s: send it faster, or less"
        ) from None
    return bytes(content)


def _too_large(settings: Settings) -> Problem:
    return Problem(
        413, "too_large", f"the body has more than the {settings.max_bytes:,} bytes that are taken: cut or compress it"
    )


async def linger(request: Request, settings: Settings) -> None:
    """Hear a refused client out for a moment: one that is still sending would miss the answer otherwise."""
    left = settings.max_bytes
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0:
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _file_of(content: bytes, boundary: bytes) -> bytes:
    """The part called `file`, or else the first that has a file's name."""
    reader = _Form()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(content)
        parser.finalize()
    except MultipartParseError:
        raise Problem(400, "bad_request", "the form is damaged or cut short: send it again") from None
    if not reader.ended:
        raise Problem(400, "bad_request", "the form is cut short: send it again")
    files = [part for part in reader.parts if part.name == FIELD] or [part for part in reader.parts if part.is_file]
    if files:
        return bytes(files[0].content)
    raise Problem(400, "bad_request", "the form holds no file: send the recording as `file`")


class _Part:
    def __init__(self) -> None:
        self.name = ""
        self.is_file = False
        self.content = bytearray()


class _Form:
    """What the parser of forms tells."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._field, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:  # a mapping; its type's name differs between the library's versions
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self.parts[-1].content.extend(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise Problem(400, "bad_request", f"the form has more than {MAX_PARTS} parts: send the recording alone")
        self.parts.append(_Part())

    def _header(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
            self.parts[-1].is_file = b"filename" in options
        self._field.clear()
        self._value.clear()

    def _end(self) -> None:
        self.ended = True
