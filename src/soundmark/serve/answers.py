"""The shape of every answer: for the OpenAPI document, with examples, and for those who make them."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from soundmark.events import Event as Found
from soundmark.events import find
from soundmark.serve.hearing import Hearing
from soundmark.serve.models import Alarm, Served
from soundmark.serve.problems import CODES
from soundmark.serve.work import Heard

DIGITS = 6


class Error(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": "the recording is empty (0 bytes): replace it or leave it out",
                "code": "unreadable",
            }
        }
    )
    error: str = Field(description="what is wrong, and what to do")
    code: str = Field(description="; ".join(f"`{code}`: {text}" for code, text in CODES.items()))


class Label(BaseModel):
    """A label with its score, as Hugging Face's `audio-classification` answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"label": "dog", "score": 0.970842}})
    label: str
    score: float = Field(ge=0, le=1)


class Said(BaseModel):
    """The alarm: a class that is looked for, such as danger."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"label": "danger", "score": 0.91, "threshold": 0.42, "on": True}}
    )
    label: str
    score: float = Field(ge=0, le=1, description="of the window that shows it best")
    threshold: float = Field(ge=0, le=1, description="from which score on it is taken to be there")
    on: bool


class Window(BaseModel):
    """A part of the recording."""

    start: float = Field(ge=0, description="seconds")
    end: float = Field(ge=0, description="seconds")
    labels: list[Label] = Field(description="best first")
    alarm: float | None = Field(None, description="score of the class looked for; none where the model has no alarm")


class Recording(BaseModel):
    """What came in."""

    duration: float = Field(ge=0, description="seconds")
    sample_rate: int = Field(description="Hz")
    channels: int
    format: str

    model_config = ConfigDict(
        json_schema_extra={"example": {"duration": 5.0, "sample_rate": 44100, "channels": 1, "format": "WAV PCM_16"}}
    )


class Classified(BaseModel):
    """What a recording sounds like."""

    model: str
    recording: Recording
    labels: list[Label] = Field(description="of the whole recording, best first")
    windows: list[Window] = Field(description="over time; a short recording is one window")
    alarm: Said | None = None


class Event(BaseModel):
    """A sound, from when to when."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"start": 1.5, "end": 4.0, "label": "siren", "score": 0.93, "alarm": False}}
    )
    start: float = Field(ge=0, description="seconds")
    end: float = Field(ge=0, description="seconds")
    label: str
    score: float = Field(ge=0, le=1, description="the highest of its windows")
    alarm: bool = Field(description="whether it is the class looked for, such as danger")


class Happened(BaseModel):
    """The events of a recording, and what they were found in."""

    model: str
    recording: Recording
    events: list[Event] = Field(description="by start, end and label")
    labels: list[Label] = Field(description="of the whole recording, best first")
    windows: list[Window]
    alarm: Said | None = None


class Embedded(BaseModel):
    """Vectors of a recording."""

    model: str
    recording: Recording
    dim: int
    starts: list[float] = Field(description="seconds, one per vector")
    ends: list[float] = Field(description="seconds, one per vector")
    vectors: list[list[float]]


class Model(BaseModel):
    """What a model says of itself."""

    name: str
    labels: list[str]
    kind: str = Field(description="`single`: one label per recording; `multi`: several")
    sample_rate: int
    policy: dict[str, Any]
    clip_seconds: dict[str, float]
    unknown_below: float | None
    alarm: dict[str, Any] | None
    about: str
    task: str
    headline: dict[str, Any] | None = Field(description="the score measured by the protocol, with its interval")
    licence: str
    soundmark_version: str


class Models(BaseModel):
    """The models of the service; the first answers where none is asked for."""

    models: list[Model]


class Health(BaseModel):
    """Whether the service lives, or would take a request now."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})
    status: str


def recording(heard: Heard) -> dict[str, Any]:
    """What came in."""
    sound = heard.sound
    return {
        "duration": round(heard.duration, DIGITS),
        "sample_rate": sound.sample_rate,
        "channels": sound.channels,
        "format": sound.format,
    }


def labels(model: Served, probabilities: np.ndarray, top_k: int, below: float | None = None) -> list[dict[str, Any]]:
    """The best labels with their scores."""
    best = model.classifier.top(probabilities, top_k, unknown_below=below)
    return [{"label": one["label"], "score": round(min(1.0, max(0.0, one["score"])), DIGITS)} for one in best]


def alarm(said: Alarm | None, scores: np.ndarray | None) -> dict[str, Any] | None:
    """The alarm of a whole recording, from (windows,) scores."""
    if said is None or scores is None:
        return None
    best = float(scores.max())
    return {
        "label": said.label,
        "score": round(best, DIGITS),
        "threshold": said.threshold,
        "on": best >= said.threshold,
    }


def classified(model: Served, heard: Heard, top_k: int, unknown: bool) -> dict[str, Any]:
    """The answer to `/v1/classify`."""
    below = model.classifier.unknown_below if unknown else None
    scores = None if model.alarm is None else model.alarm.score(heard.rows)
    windows = [
        {"start": start, "end": end, "labels": labels(model, row, top_k, below)}
        | ({} if scores is None else {"alarm": round(float(scores[place]), DIGITS)})
        for place, (start, end, row) in enumerate(zip(heard.starts, heard.ends, heard.rows, strict=True))
    ]
    whole = model.classifier.combine(list(heard.rows))
    return {
        "model": model.name,
        "recording": recording(heard),
        "labels": labels(model, whole, top_k, below),
        "windows": windows,
        "alarm": alarm(model.alarm, scores),
    }


def event(found: Found, is_alarm: bool) -> dict[str, Any]:
    """An event."""
    return {
        "start": round(found.start, DIGITS),
        "end": round(found.end, DIGITS),
        "label": found.label,
        "score": round(min(1.0, found.score), DIGITS),
        "alarm": is_alarm,
    }


def happened(model: Served, heard: Heard, hearing: Hearing, top_k: int) -> dict[str, Any]:
    """The answer to `/v1/events`.

    Raises:
        EventError: if the windows do not follow each other, which they do.
    """
    timeline = zip(heard.starts, heard.ends, hearing.extended(heard.rows), strict=True)
    found = find(timeline, hearing.labels, hearing.settings)
    return classified(model, heard, top_k, False) | {
        "events": [event(each, hearing.is_alarm(each.label)) for each in found]
    }


def embedded(model: Served, heard: Heard) -> dict[str, Any]:
    """The answer to `/v1/embed`."""
    return {
        "model": model.name,
        "recording": recording(heard),
        "dim": int(heard.rows.shape[1]),
        "starts": heard.starts,
        "ends": heard.ends,
        "vectors": [[round(float(value), DIGITS + 2) for value in row] for row in heard.rows],
    }
