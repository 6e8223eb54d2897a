"""What the service answers, and what it refuses, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from soundmark.audio import read
from soundmark.errors import ModelError, SpecError
from soundmark.serve import bodies
from soundmark.serve.app import create_app
from soundmark.serve.models import Served, by_name
from soundmark.serve.problems import CODES
from soundmark.serve.settings import Settings
from tones import wav


@pytest.fixture
def client(loud: Served, small: Callable[..., Settings]) -> Iterator[TestClient]:
    with TestClient(create_app([loud], small(max_seconds=10, max_bytes=400_000, max_windows=500))) as ready:
        yield ready


def refusal(answer: Any) -> tuple[int, str]:
    said = answer.json()
    assert set(said) == {"error", "code"}
    assert said["code"] in CODES
    assert "Traceback" not in said["error"]
    return answer.status_code, said["code"]


def test_a_body_and_a_form_give_what_the_classifier_gives(client: TestClient, loud: Served) -> None:
    for level, best in ((0.001, "quiet"), (0.5, "loud")):
        content = wav(level=level)
        raw = client.post("/v1/classify", content=content)
        form = client.post("/v1/classify", files={"file": ("a.wav", content)})
        assert raw.status_code == 200
        assert raw.json() == form.json()
        expected = loud.classifier(content)
        assert raw.json()["labels"][0]["label"] == best == expected[0]["label"]
        assert raw.json()["labels"][0]["score"] == pytest.approx(expected[0]["score"], abs=1e-5)
        assert raw.json()["alarm"]["on"] == (best == "loud")
        assert raw.json()["recording"] == {
            "duration": 1.0, "sample_rate": 8000, "channels": 1, "format": "WAV PCM_16",
        }  # fmt: skip


def test_plain_answers_have_the_shape_of_hugging_face(client: TestClient) -> None:
    said = client.post("/v1/classify?plain=true&top_k=1", content=wav()).json()
    assert [set(one) for one in said] == [{"label", "score"}]


def test_windows_are_those_of_the_classifier(client: TestClient, loud: Served) -> None:
    content = wav(3.3, 0.05, rate=16_000)
    said = client.post("/v1/classify?window=1&hop=0.5", content=content).json()["windows"]
    expected = list(loud.classifier.windows(content, 1, 0.5))
    assert np.allclose([(one["start"], one["end"]) for one in said], [(a, b) for a, b, _ in expected])
    for one, (_, _, row) in zip(said, expected, strict=True):
        assert {each["label"]: each["score"] for each in one["labels"]} == pytest.approx(
            dict(zip(loud.classifier.labels, row, strict=True)), abs=1e-5
        )


def test_vectors_are_those_of_the_classifier(client: TestClient, loud: Served) -> None:
    content = wav()
    said = client.post("/v1/embed", content=content).json()
    waveform, _ = read(content, 8000)
    assert np.allclose(said["vectors"], loud.classifier.embed(waveform), atol=1e-6)
    assert said["dim"] == 2


def test_events_begin_and_end_where_the_sound_does(client: TestClient) -> None:
    quiet = np.frombuffer(wav(2, 0.001)[44:], "<i2")
    loud = np.frombuffer(wav(2, 0.5)[44:], "<i2")
    head = wav(6, 0.001)[:44]
    content = head + np.concatenate([quiet, loud, quiet]).tobytes()
    said = client.post("/v1/events?window=0.5&hop=0.25", content=content).json()
    (event,) = said["events"]
    assert event["label"] == "loud"
    assert event["alarm"]
    assert event["start"] == pytest.approx(2, abs=0.5)
    assert event["end"] == pytest.approx(4, abs=0.5)
    assert len(said["windows"]) > 10
    assert said["alarm"]["on"]


def test_unknown_is_said_where_it_is_asked_for(client: TestClient) -> None:
    said = client.post("/v1/classify?unknown=true&top_k=2", content=wav(level=0.157)).json()  # near the middle
    assert said["labels"][0]["label"] == "unknown"


def test_models_say_what_they_are(client: TestClient) -> None:
    (said,) = client.get("/v1/models").json()["models"]
    assert said["name"] == "loudness"
    assert said["labels"] == ["quiet", "loud"]
    assert said["alarm"] == {"label": "loud", "title": "", "threshold": 0.7, "sounds": ["loud"]}


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/v1/classify", {"content": b""}, (422, "unreadable")),
        ("/v1/classify", {"content": b"not a sound"}, (422, "unreadable")),
        ("/v1/classify", {"content": wav(11, rate=4000)}, (413, "too_long")),
        ("/v1/classify", {"content": wav(0.01, rate=400_000)}, (422, "sample_rate")),
        ("/v1/classify", {"content": wav(0.1, channels=9)}, (422, "too_many_channels")),
        ("/v1/classify", {"content": bytes(400_001)}, (413, "too_large")),
        ("/v1/classify?hop=0.01", {"content": wav(10.0)}, (422, "too_many_windows")),
        ("/v1/classify?hop=0", {"content": wav()}, (422, "bad_setting")),
        ("/v1/classify?top_k=x", {"content": wav()}, (422, "bad_setting")),
        ("/v1/classify?top=3", {"content": wav()}, (422, "bad_setting")),
        ("/v1/embed?top_k=3", {"content": wav()}, (422, "bad_setting")),
        ("/v1/events?label=dog", {"content": wav()}, (422, "bad_setting")),
        ("/v1/classify?model=../../etc/passwd", {"content": wav()}, (404, "no_model")),
        ("/v1/classify", {"json": {"path": "/etc/passwd"}}, (415, "not_audio")),
        ("/v1/classify", {"files": {"other": (None, b"x")}}, (400, "bad_request")),
        ("/v1/classify", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, (400, "bad_request")),
        (
            "/v1/classify",
            {"content": b"--b\r\nCon", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            (400, "bad_request"),
        ),
        (
            "/v1/classify",
            {"content": b"--b\r\n\r\nx\r\n" * 20, "headers": {"content-type": "multipart/form-data; boundary=b"}},
            (400, "bad_request"),
        ),
        ("/v1/nothing", {"content": b""}, (404, "not_found")),
        ("/healthz", {"content": b""}, (405, "wrong_method")),
        ("/v1/embed", {"content": wav(), "headers": {"origin": "http://elsewhere.example"}}, (403, "wrong_host")),
        ("/v1/embed", {"content": wav(), "headers": {"host": "elsewhere.example"}}, (403, "wrong_host")),
        ("/v1/embed", {"content": wav(), "headers": {"sec-fetch-site": "cross-site"}}, (403, "wrong_host")),
    ],
)  # fmt: skip
def test_what_is_refused_and_how(client: TestClient, path: str, sent: dict[str, Any], expected: Any) -> None:
    assert refusal(client.post(path, **sent)) == expected
    assert client.post("/v1/classify", content=wav()).status_code == 200  # and the service goes on


def test_keys_open_what_they_should(loud: Served, small: Callable[..., Settings]) -> None:
    keys = ("the first key of two", "the-second-key-of-two")
    with pytest.raises(SpecError, match="16 to 512"):
        small(keys=keys)
    keys = ("the-first-key-of-two", keys[1])
    with TestClient(create_app([loud], small(keys=keys))) as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for path in ("/v1/models", "/metrics"):
            answer = client.get(path)
            assert refusal(answer) == (401, "no_key")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            for wrong in ("Bearer", "Bearer x", f"Basic {keys[0]}", f"Bearer {keys[0]}x"):
                assert client.get(path, headers={"authorization": wrong}).status_code == 401
            for key in keys:
                assert client.get(path, headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert refusal(client.post("/v1/classify", content=wav())) == (401, "no_key")


def test_too_much_at_once_is_refused_at_once(client: TestClient) -> None:
    service: Any = client.app.state.service  # type: ignore[attr-defined]
    service.serving = service.settings.max_requests
    answer = client.post("/v1/classify", content=wav())
    assert refusal(answer) == (503, "busy")
    assert answer.headers["retry-after"] == "1"
    service.serving = 0
    service.batches.waiting = service.settings.max_waiting
    assert refusal(client.post("/v1/classify", content=wav())) == (503, "busy")
    service.batches.waiting = 0
    assert client.post("/v1/classify", content=wav()).status_code == 200


def test_a_request_that_takes_too_long_is_given_up(loud: Served, small: Callable[..., Settings]) -> None:
    with TestClient(create_app([loud], small(request_seconds=1e-6))) as client:
        assert refusal(client.post("/v1/classify", content=wav())) == (503, "too_slow")
        assert client.get("/healthz").status_code == 200


def test_a_mistake_of_ours_is_an_answer_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> bytes:
        raise KeyError("secret")

    monkeypatch.setattr(bodies, "recording", broken)
    answer = client.post("/v1/classify", content=wav())
    assert refusal(answer) == (500, "internal")
    assert "secret" not in answer.text


def test_what_happened_is_counted(client: TestClient) -> None:
    client.post("/v1/classify", content=wav())
    client.post("/v1/classify", content=b"")
    client.get("/a/made/up/path")
    text = client.get("/metrics").text
    assert 'soundmark_requests_total{method="POST",path="/v1/classify",status="200"} 1.0' in text
    assert 'soundmark_requests_total{method="POST",path="/v1/classify",status="422"} 1.0' in text
    assert 'soundmark_refused_total{code="unreadable"} 1.0' in text
    assert "soundmark_audio_seconds_total 1.0" in text
    assert "soundmark_decoders 1.0" in text
    assert "made" not in text


def test_answers_are_not_kept_and_load_nothing_from_elsewhere(client: TestClient) -> None:
    headers = client.get("/v1/models").headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_document_has_examples_and_every_status(client: TestClient) -> None:
    said = client.get("/openapi.json").json()
    for path in ("/v1/classify", "/v1/events", "/v1/embed"):
        post = said["paths"][path]["post"]
        assert {"multipart/form-data", "application/octet-stream"} <= set(post["requestBody"]["content"])
        assert {"200", "400", "401", "408", "413", "415", "422", "503"} <= set(post["responses"])
    for name in ("Label", "Error", "Said", "Recording", "Event"):
        assert "example" in said["components"]["schemas"][name]


def test_two_models_of_one_name_are_refused(loud: Served) -> None:
    with pytest.raises(ModelError, match="NAME=FILE"):
        by_name([loud, loud])
    with pytest.raises(ModelError, match="--model"):
        by_name([])
