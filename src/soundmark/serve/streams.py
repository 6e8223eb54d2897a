"""A stream: samples in, windows and events out, as they become known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from soundmark.audio import Window
from soundmark.audio.live import LiveWindows
from soundmark.events import Change
from soundmark.serve import answers
from soundmark.serve.guard import Guard
from soundmark.serve.hearing import Hearing
from soundmark.serve.models import Served
from soundmark.serve.problems import Problem
from soundmark.serve.work import Service

FIRST_SECONDS = 10.0  # until a stream has said what it is
HEAD_BYTES = 16 << 10
REFUSED, GOING_AWAY, DONE = 1008, 1001, 1000
FULL_SCALE = 32768.0


class Opening(BaseModel):
    """The first message of a stream: what its samples are, and what is asked about them."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    sample_rate: int = Field(ge=100, description="Hz")
    encoding: Literal["s16le", "f32le"] = "s16le"
    model: str | None = Field(None, max_length=200)
    top_k: int = Field(5, ge=1, le=100)
    threshold: float | None = Field(None, gt=0, le=1)
    labels: list[str] = Field(default_factory=list, max_length=1000)
    window: float | None = Field(None, ge=0.1, le=60)
    hop: float | None = Field(None, ge=0.05, le=60)
    min_seconds: float = Field(0.0, ge=0, le=3600)
    publish: str | None = Field(None, min_length=1, max_length=80, description="name under which the feed tells of it")
    key: str | None = Field(None, max_length=512, description="for browsers, which cannot send the header")


def samples_in(frame: bytes, encoding: str) -> np.ndarray:
    """float32 (samples,) of a frame.

    Raises:
        ValueError: if it holds no whole samples, or such as are no numbers.
    """
    if encoding == "s16le":
        return np.frombuffer(frame, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
    samples = np.frombuffer(frame, "<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise ValueError("NaN or infinite samples")
    return samples


async def stream(socket: WebSocket, service: Service, guard: Guard) -> None:
    """Serve one stream from its opening to its end."""
    await socket.accept()
    if service.closing or service.streams >= service.settings.max_streams:
        await _refuse(socket, service, Problem(503, "busy", "too many streams at once: try again in a moment"))
        return
    service.streams += 1
    try:
        opening, model, hearing = await _opened(socket, service, guard)
        await _Stream(socket, service, opening, model, hearing).run()
    except Problem as problem:
        await _refuse(socket, service, problem)
    except WebSocketDisconnect:
        pass
    finally:
        service.streams -= 1


async def _refuse(socket: WebSocket, service: Service, problem: Problem) -> None:
    service.meters.refused.labels(problem.code).inc()
    try:
        await socket.send_json({"type": "error"} | problem.content())
        await socket.close(REFUSED, problem.code)
    except (WebSocketDisconnect, RuntimeError):  # it has left
        pass


async def _opened(socket: WebSocket, service: Service, guard: Guard) -> tuple[Opening, Served, Hearing]:
    """What the stream says first, if it may say anything."""
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            message = await socket.receive()
    except TimeoutError:
        raise Problem(408, "slow_body", "the stream did not say what it is: send its opening first") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", GOING_AWAY))
    text = message.get("text") or ""
    if not text or len(text) > HEAD_BYTES:
        raise Problem(400, "bad_request", 'a stream begins with a text such as {"sample_rate": 48000}')
    try:
        opening = Opening.model_validate_json(text)
    except ValidationError as error:
        words = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise Problem(422, "bad_setting", f"the stream's opening is not one: {words}"[:500]) from None
    guard.check_key(socket.headers.get("authorization") or (opening.key and f"Bearer {opening.key}"))
    if opening.sample_rate > service.settings.max_sample_rate:
        raise Problem(422, "sample_rate", f"a stream may have up to {service.settings.max_sample_rate} Hz: resample it")
    model = service.model(opening.model)
    hearing = Hearing(
        model, opening.threshold, opening.labels, opening.window, opening.hop, opening.min_seconds
    )  # fmt: skip
    return opening, model, hearing


class _Stream:
    """A stream that has been opened."""

    def __init__(self, socket: WebSocket, service: Service, opening: Opening, model: Served, hearing: Hearing) -> None:
        self.socket, self.service, self.opening, self.model, self.hearing = socket, service, opening, model, hearing
        settings = hearing.settings
        self.detector = hearing.detector()
        self.windows = LiveWindows(model.classifier.sample_rate, settings.window_seconds, settings.hop_seconds)
        self.taken = 0  # samples

    async def run(self) -> None:
        """Hear it to its end."""
        settings = self.hearing.settings
        await self._say(
            {"type": "ready", "model": self.model.name, "window": settings.window_seconds, "hop": settings.hop_seconds}
        )
        while True:
            frame = await self._frame()
            if frame is None:
                break
            try:
                samples = samples_in(frame, self.opening.encoding)
            except ValueError as error:
                raise Problem(422, "unreadable", f"a frame is no {self.opening.encoding} ({error})") from None
            rate = self.opening.sample_rate
            self.service.meters.heard(len(samples) / rate)
            complete = self.windows.push(samples, rate, self.taken / rate)
            self.taken += len(samples)
            await self._hear(complete)
        await self._hear(self.windows.finish())
        for change in self.detector.finish():
            await self._say(self._event(change))
        duration = self.taken / self.opening.sample_rate
        await self._say({"type": "done", "duration": round(duration, answers.DIGITS)})
        await self.socket.close(DONE)

    async def _frame(self) -> bytes | None:
        """The next samples; None at the end."""
        seconds = self.service.settings.idle_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await self.socket.receive()
        except TimeoutError:
            raise Problem(408, "slow_body", f"the stream was silent for {seconds:g} s: open it anew") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", GOING_AWAY))
        if message.get("bytes") is not None:
            return bytes(message["bytes"])
        try:
            ends = json.loads(message.get("text") or "")["type"] == "end"
        except (ValueError, TypeError, KeyError, RecursionError):
            ends = False
        if not ends:
            raise Problem(400, "bad_request", 'a stream is bytes of samples, and at its end {"type": "end"}')
        return None

    async def _hear(self, windows: Sequence[Window]) -> None:
        classifier = self.model.classifier
        for window in windows:
            start, end = window.start, window.end
            filled = classifier.policy.prepare(window.waveform, classifier.sample_rate)
            row = (await self.service.ask(self.model, filled[None]))[0]
            extended = self.hearing.extended(row[None])[0]
            said = {
                "type": "window",
                "start": round(start, answers.DIGITS),
                "end": round(end, answers.DIGITS),
                "labels": answers.labels(self.model, row, self.opening.top_k),
            }
            if self.model.alarm is not None:
                scores = self.model.alarm.score(row[None])
                said["alarm"] = answers.alarm(self.model.alarm, scores)
            await self._say(said)
            for change in self.detector.push(start, end, extended):
                await self._say(self._event(change))

    def _event(self, change: Change) -> dict[str, Any]:
        return {"type": "event", "change": change.kind, "number": change.number} | answers.event(
            change.event, self.hearing.is_alarm(change.event.label)
        )

    async def _say(self, message: dict[str, Any]) -> None:
        await self.socket.send_json(message)
        if self.opening.publish and message["type"] in ("window", "event"):
            self.service.feed.publish({"source": self.opening.publish} | message)
