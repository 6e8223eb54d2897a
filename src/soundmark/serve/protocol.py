"""HTTP as uvicorn speaks it, with an end to its patience: with headers that never end, and bodies nobody wants."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0  # until the headers are all there; also for a connection that says nothing
HEADER_BYTES = 32 << 10
REST_SECONDS = 2.0  # in which a client may go on sending after its answer

_TOO_LONG = b'{"error": "the headers are too long: send fewer", "code": "bad_request"}'
_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"


class Patient(HttpToolsProtocol):
    """One connection."""

    _head = 0  # bytes of headers that have not ended yet
    _reading = True  # headers
    _refused = False  # what comes now is let go
    _whole = True  # whether the body has ended
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The first request must come soon."""
        super().connection_made(transport)
        self._within(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Headers that do not end are refused; the parser would collect them for ever."""
        if self._refused:
            return
        if self._reading:
            self._head += len(data)
        super().data_received(data)
        if self._reading and self._head > HEADER_BYTES and not self.transport.is_closing():
            self._refused = True
            self.transport.write(_REFUSAL + b"content-length: %d\r\n\r\n" % len(_TOO_LONG) + _TOO_LONG)
            self.transport.write_eof()
            self._within(REST_SECONDS)  # closed at once, it would be reset, and the answer lost

    def on_message_begin(self) -> None:
        """Headers begin."""
        super().on_message_begin()
        self._reading, self._head = True, 0
        self._within(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """Headers have ended; the application has its own patience with the body."""
        self._reading, self._head, self._whole = False, 0, False
        self._done()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body has ended."""
        self._whole = True
        self._done()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out, perhaps before the body was in."""
        super().on_response_complete()
        if not self._whole and not self.transport.is_closing():
            self._within(REST_SECONDS)

    def _within(self, seconds: float) -> None:
        self._done()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _done(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
