"""Streams: what goes in comes out as windows and events, the same as for a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from soundmark.serve.app import create_app
from soundmark.serve.models import Served
from soundmark.serve.settings import Settings
from soundmark.serve.streams import samples_in

RATE = 8000


@pytest.fixture
def client(loud: Served, small: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app([loud], small(keys=("a-key-for-the-tests",)))) as ready:
        yield ready


def heard(client: TestClient, samples: np.ndarray, step: int, **opening: Any) -> list[dict[str, Any]]:
    """What a stream says from its opening to its end."""
    said = []
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"sample_rate": RATE, "key": "a-key-for-the-tests"} | opening)
        for begin in range(0, len(samples), step):
            socket.send_bytes(samples[begin : begin + step].tobytes())
        socket.send_json({"type": "end"})
        while not said or said[-1]["type"] not in ("done", "error"):
            said.append(socket.receive_json())
    return said


def tone(*parts: tuple[float, float]) -> np.ndarray:
    """int16 samples: seconds and level of each part."""
    levels = np.concatenate([np.full(round(seconds * RATE), level) for seconds, level in parts])
    return np.rint(32767 * levels * np.sin(0.3 * np.arange(len(levels)))).astype("<i2")


def test_a_stream_tells_what_a_recording_tells(client: TestClient) -> None:
    samples = tone((2, 0.001), (2, 0.5), (2, 0.001))
    said = heard(client, samples, 1234, window=0.5, hop=0.25)
    assert said[0] == {"type": "ready", "model": "loudness", "window": 0.5, "hop": 0.25}
    assert said[-1] == {"type": "done", "duration": 6.0}
    size = 36 + 2 * len(samples)
    head = b"RIFF" + size.to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += b"\1\0\1\0" + RATE.to_bytes(4, "little") + (2 * RATE).to_bytes(4, "little") + b"\2\0\x10\0data"
    answer = client.post(
        "/v1/events?window=0.5&hop=0.25", content=head + (size - 36).to_bytes(4, "little") + samples.tobytes(),
        headers={"authorization": "Bearer a-key-for-the-tests"},
    ).json()  # fmt: skip
    windows = [one for one in said if one["type"] == "window"]
    assert [(one["start"], one["end"], one["labels"]) for one in windows] == [
        (one["start"], one["end"], one["labels"]) for one in answer["windows"]
    ]
    ends = [one for one in said if one["type"] == "event" and one["change"] == "end"]
    kept = ("start", "end", "label", "score", "alarm")
    assert [{key: one[key] for key in kept} for one in ends] == answer["events"]
    assert next(one["change"] for one in said if one["type"] == "event") == "new"
    assert any(one["alarm"]["on"] for one in windows)


def test_frames_of_any_size_give_the_same(client: TestClient) -> None:
    samples = tone((1.3, 0.5), (1.7, 0.01))
    opening = {"window": 0.7, "hop": 0.2}
    assert heard(client, samples, 100, **opening) == heard(client, samples, 20_000, **opening)


def test_floats_are_heard_like_integers(client: TestClient) -> None:
    samples = tone((1, 0.5))
    floats = (samples / 32768).astype("<f4")
    assert heard(client, floats, 999, encoding="f32le") == heard(client, samples, 999)


def test_a_short_stream_is_one_window(client: TestClient) -> None:
    said = heard(client, tone((0.2, 0.5)), 100)
    assert [one["type"] for one in said].count("window") == 1


@pytest.mark.parametrize(
    ("opening", "code"),
    [
        ({"key": "a-wrong-key-for-tests"}, "no_key"),
        ({"sample_rate": 5}, "bad_setting"),
        ({"sample_rate": 500_000}, "sample_rate"),
        ({"model": "/etc/passwd"}, "no_model"),
        ({"labels": ["dog"]}, "bad_setting"),
        ({"path": "/etc/passwd"}, "bad_setting"),
        ({"hop": 3, "window": 1}, "bad_setting"),
    ],
)
def test_an_opening_that_is_refused(client: TestClient, opening: dict[str, Any], code: str) -> None:
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"sample_rate": RATE, "key": "a-key-for-the-tests"} | opening)
        assert socket.receive_json()["code"] == code
        with pytest.raises(WebSocketDisconnect) as left:
            socket.receive_json()
        assert (left.value.code, left.value.reason) == (1008, code)


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"odd", "unreadable"), ("[", "bad_request"), ("[" * 5000, "bad_request"), ('{"type": "x"}', "bad_request")],
)
def test_a_frame_that_is_refused(client: TestClient, frame: bytes | str, code: str) -> None:
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"sample_rate": RATE, "key": "a-key-for-the-tests"})
        assert socket.receive_json()["type"] == "ready"
        if isinstance(frame, bytes):
            socket.send_bytes(frame)
        else:
            socket.send_text(frame)
        assert socket.receive_json()["code"] == code


def test_pages_of_other_sites_may_not_open_streams(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as left,
        client.websocket_connect("/v1/stream", headers={"origin": "http://elsewhere.example"}),
    ):
        pass
    assert left.value.reason == "wrong_host"


def test_too_many_streams_are_refused(client: TestClient) -> None:
    service: Any = client.app.state.service  # type: ignore[attr-defined]
    service.streams = service.settings.max_streams
    with client.websocket_connect("/v1/stream") as socket:
        assert socket.receive_json()["code"] == "busy"
    service.streams = 0


def test_samples_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        samples_in(np.array([0, np.nan], "<f4").tobytes(), "f32le")


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_stream_says_how_long_it_was(client: TestClient, rate: int) -> None:
    said = heard(client, np.zeros(10 * rate, "<i2"), rate // 10, sample_rate=rate, window=1, hop=0.5)
    assert said[-1] == {"type": "done", "duration": 10.0}
    assert max(one["end"] for one in said if one["type"] == "window") == pytest.approx(10, abs=0.1)


def test_followers_hear_what_is_published_and_no_more(loud: Served, small: Callable[..., Settings]) -> None:
    import asyncio

    app = create_app([loud], small())
    feed = app.state.service.feed

    async def follow() -> list[Any]:
        messages = feed.follow(0.01)
        silent = await anext(messages)
        for number in range(300):
            feed.publish({"number": number})
        feed.close()
        return [silent, *[message async for message in messages]]

    said = asyncio.run(follow())
    assert said == [None]  # closing leaves nobody waiting, not even for what they missed
    assert len(feed) == 0


def test_a_published_stream_reaches_the_feed(client: TestClient) -> None:
    feed = client.app.state.service.feed  # type: ignore[attr-defined]
    told: list[str] = []
    feed.publish = lambda message: told.append(json.dumps(message))
    heard(client, tone((1, 0.5)), 999)
    assert not told
    heard(client, tone((1, 0.5)), 999, publish="hall")
    assert told
    assert all(json.loads(each)["source"] == "hall" for each in told)
