"""The classifier: one recording in, labels out, by ONNX Runtime alone."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import soundmark
from soundmark import audio, model, published
from soundmark.errors import AudioError, ModelError
from soundmark.tasks import View

RATE = 8000


def sound(seconds: float, level: float = 0.05) -> np.ndarray:
    return np.full(round(seconds * RATE), level, dtype=np.float32)


def loudness(level: float) -> float:
    """What the tiny model says: the probability of loud for a constant level."""
    return 1 / (1 + math.exp(-(40 * level - 4)))


@pytest.fixture
def recognise(tiny_model: Callable[..., bytes]) -> model.Classifier:
    return soundmark.load(tiny_model())


def test_it_answers_like_hugging_face(recognise: model.Classifier) -> None:
    said = recognise((sound(1, 0.2), RATE))
    assert [one["label"] for one in said] == ["loud", "quiet"]
    assert said[0]["score"] == pytest.approx(loudness(0.2), abs=1e-5)
    assert isinstance(said[0]["score"], float)
    assert len(recognise((sound(1), RATE), top_k=1)) == 1
    assert len(recognise((sound(1), RATE), top_k=None)) == 2


def test_it_takes_paths_bytes_files_and_any_rate(recognise: model.Classifier, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, np.full(44100, 0.2, np.float32), 44100)
    score = recognise(path)[0]["score"]
    assert score == pytest.approx(loudness(0.2), abs=2e-2)
    assert recognise(str(path))[0]["score"] == score
    assert recognise(path.read_bytes())[0]["score"] == score
    assert recognise(io.BytesIO(path.read_bytes()))[0]["score"] == score


def test_what_it_says_of_itself(recognise: model.Classifier) -> None:
    assert recognise.labels == ("quiet", "loud")
    assert recognise.sample_rate == RATE
    assert recognise.policy.min_seconds == 0.1
    assert recognise.thresholds == {"loud": 0.7}
    assert recognise.metadata["task"] == "toy"
    assert repr(recognise) == "<Classifier the model given: 2 labels at 8000 Hz>"


def test_batches_and_vectors(recognise: model.Classifier) -> None:
    batch = np.stack([sound(1, level) for level in (0.0, 0.1, 0.3)])
    probabilities = recognise.predict_proba(batch)
    assert probabilities.shape == (3, 2)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities[:, 1], [loudness(v) for v in (0.0, 0.1, 0.3)], atol=1e-5)
    np.testing.assert_allclose(recognise.embed(batch)[:, 0], [0.0, 0.1, 0.3], atol=1e-6)
    assert recognise.embed(sound(1)).shape == (1, 2)
    assert recognise.embed(sound(1).astype(np.float64)).dtype == np.float32


def test_large_batches_go_through_in_parts(recognise: model.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.stack([sound(0.5, level) for level in np.linspace(0, 0.5, 7)])
    whole = recognise.predict_proba(batch)
    monkeypatch.setattr(model, "BATCH_SECONDS", 1.0)
    np.testing.assert_array_equal(recognise.predict_proba(batch), whole)


def test_short_clips_are_filled_by_the_policy(recognise: model.Classifier, tiny_model: Callable[..., bytes]) -> None:
    clip = sound(0.05, 0.4)
    assert recognise((clip, RATE))[0]["score"] == pytest.approx(loudness(0.2), abs=1e-5), "half of it is silence"
    loop = soundmark.load(tiny_model(policy={"min_seconds": 0.1, "fill": "loop"}))
    assert loop((clip, RATE))[0]["score"] == pytest.approx(loudness(0.4), abs=1e-5)


def test_recordings_up_to_half_as_long_again_are_heard_whole(recognise: model.Classifier) -> None:
    assert [window[:2] for window in recognise.windows((sound(1.5), RATE))] == [(0.0, 1.5)]
    assert [window[:2] for window in recognise.windows((sound(0.3), RATE))] == [(0.0, 0.3)]


def test_long_recordings_are_cut_and_the_last_window_ends_with_them(recognise: model.Classifier) -> None:
    recording = np.concatenate([sound(2, 0.0), sound(0.5, 0.4)])
    cut = list(recognise.windows((recording, RATE)))
    assert [(start, end) for start, end, _ in cut] == [(0, 1), (1, 2), (1.5, 2.5)]
    np.testing.assert_allclose([row[1] for *_, row in cut], [loudness(v) for v in (0, 0, 0.2)], atol=1e-5)
    scores = {one["label"]: one["score"] for one in recognise((recording, RATE))}
    assert scores["loud"] == pytest.approx(np.mean([loudness(v) for v in (0, 0, 0.2)]), abs=1e-5)


def test_the_loudest_window_may_speak_for_all(tiny_model: Callable[..., bytes]) -> None:
    recognise = soundmark.load(tiny_model(policy={"combine": "max"}))
    recording = np.concatenate([sound(2, 0.0), sound(1, 0.4)])
    assert recognise((recording, RATE), top_k=None)[0]["score"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts"),
    [
        (1.0, 0.25, None, [0, 0.25, 0.5, 0.75]),
        (1.0, 0.5, 0.25, [0, 0.25, 0.5]),
        (1.1, 0.5, 0.25, [0, 0.25, 0.5, 0.6]),
        (1.0, 0.3, 0.5, [0, 0.5, 0.7]),
        (0.4, 0.5, None, [0]),
        (0.5, 0.5, None, [0]),
        (0.51, 0.5, None, [0, 0.01]),
        (0.501, 0.5, None, [0]),
    ],
)
def test_windows_that_are_asked_for(
    recognise: model.Classifier, seconds: float, window: float, hop: float | None, starts: list[float]
) -> None:
    cut = list(recognise.windows((sound(seconds), RATE), window, hop))
    np.testing.assert_allclose([start for start, _, _ in cut], starts, atol=1e-9)
    assert all(end - start == pytest.approx(min(window, seconds)) for start, end, _ in cut)


def test_windows_hear_what_stands_there(recognise: model.Classifier) -> None:
    rng = np.random.default_rng(0)
    recording = rng.uniform(-0.4, 0.4, 3 * RATE).astype(np.float32) * np.linspace(0, 1, 3 * RATE, dtype=np.float32)
    for start, end, row in recognise.windows((recording, RATE), 0.3, 0.07):
        part = recording[round(start * RATE) : round(end * RATE)]
        np.testing.assert_allclose(row, recognise.predict_proba(part)[0], atol=1e-5)


def test_the_policys_own_windows(tiny_model: Callable[..., bytes]) -> None:
    recognise = soundmark.load(tiny_model(policy={"window_seconds": 0.5, "hop_seconds": 0.25}))
    assert [start for start, *_ in recognise.windows((sound(1), RATE))] == [0, 0.25, 0.5]
    assert [start for start, *_ in recognise.windows((sound(1), RATE), 0.25)] == [0, 0.25, 0.5, 0.75]
    assert recognise((sound(0.25, 0.4), RATE))[0]["score"] == pytest.approx(loudness(0.2), abs=1e-5)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 601])
def test_windows_of_no_length(recognise: model.Classifier, value: float) -> None:
    with pytest.raises(AudioError, match="above 0"):
        recognise.windows((sound(1), RATE), value)


VIEW = View("noise", "toy", "", {"quiet": "silence"}, others="sound")


def test_a_view_sums(tiny_model: Callable[..., bytes]) -> None:
    recognise = soundmark.load(tiny_model())
    viewed = recognise.with_view(VIEW)
    assert viewed.labels == ("silence", "sound")
    assert viewed.thresholds == {}
    assert viewed.metadata["view"] == "noise"
    batch = np.stack([sound(1, 0.05), sound(1, 0.2)])
    np.testing.assert_allclose(viewed.predict_proba(batch), recognise.predict_proba(batch), atol=1e-6)
    both = viewed.with_view(View("all", "", "", {"sound": "sound", "silence": "silence"}))
    np.testing.assert_allclose(both.predict_proba(batch), recognise.predict_proba(batch), atol=1e-6)
    assert recognise.labels == ("quiet", "loud"), "the model itself is as it was"


def test_a_view_has_the_thresholds_that_the_file_holds_for_it(tiny_model: Callable[..., bytes]) -> None:
    views = {"noise": {"thresholds": {"sound": 0.3, "elsewhere": 0.9}}, "other": {"thresholds": {"silence": 0.2}}}
    viewed = soundmark.load(tiny_model(views=views)).with_view(VIEW)
    assert viewed.thresholds == {"sound": 0.3}
    assert viewed.metadata["thresholds"] == {"sound": 0.3}


def test_a_view_of_labels_that_may_occur_together_takes_the_surest(tiny_model: Callable[..., bytes]) -> None:
    class Both:
        name = "both"

        def matrix(self, labels):
            return np.array([[1.0], [1.0]]), ("any",)

    recognise = soundmark.load(tiny_model(kind="multi", thresholds={}))
    said = recognise.with_view(Both()).predict_proba(sound(1, 0.2))
    assert said[0, 0] == pytest.approx(loudness(0.2), abs=1e-5)


def test_unknown_is_answered_where_it_is_asked_for(tiny_model: Callable[..., bytes]) -> None:
    recognise = soundmark.load(tiny_model(unknown_below=0.7))
    unsure = (sound(1, 0.1), RATE)  # quiet and loud alike
    plain = recognise(unsure)
    assert {answer["label"] for answer in plain} == {"quiet", "loud"}
    said = recognise(unsure, unknown=True)
    assert said[0] == {"label": "unknown", "score": pytest.approx(1 - plain[0]["score"])}
    assert said[1:] == plain
    assert recognise(unsure, top_k=1, unknown=True) == said[:1]
    sure = (sound(1, 0.4), RATE)
    assert recognise(sure, unknown=True) == recognise(sure)


def test_without_a_threshold_nothing_is_unknown(tiny_model: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match="no threshold below which a sound is unknown"):
        soundmark.load(tiny_model())((sound(1), RATE), unknown=True)
    viewed = soundmark.load(tiny_model(unknown_below=0.7)).with_view(VIEW)
    assert "unknown_below" not in viewed.metadata
    with pytest.raises(ModelError, match="without a view"):
        viewed((sound(1), RATE), unknown=True)


def test_threads_share_a_classifier(recognise: model.Classifier) -> None:
    wanted = [recognise.predict_proba(sound(0.5, level)) for level in np.linspace(0, 0.5, 8)]
    failures: list[int] = []

    def work() -> None:
        for _ in range(20):
            for level, said in zip(np.linspace(0, 0.5, 8), wanted, strict=True):
                if not np.array_equal(recognise.predict_proba(sound(0.5, level)), said):
                    failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    "waveforms",
    [
        np.zeros((2, 0), np.float32),
        np.zeros(0, np.float32),
        np.zeros((1, 2, 3), np.float32),
        np.zeros((1, 800), np.int16),
        np.array([[np.nan] * 800], np.float32),
        np.array([["a"] * 800]),
    ],
)
def test_waveforms_that_cannot_be_heard(recognise: model.Classifier, waveforms: np.ndarray) -> None:
    with pytest.raises(AudioError):
        recognise.predict_proba(waveforms)


def test_recordings_that_cannot_be_read(recognise: model.Classifier, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="there is no file"):
        recognise(tmp_path / "none.wav")
    with pytest.raises(AudioError):
        recognise(b"not a sound")


def test_a_path_a_run_and_bytes_are_the_same_model(tiny_model: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    for source in (tmp_path, str(tmp_path / "model.onnx"), tiny_model()):
        assert soundmark.load(source, threads=1).labels == ("quiet", "loud")


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name, says in (
        ("none.onnx", "there is no model file"),
        ("empty.onnx", "cannot be used"),
        ("folder", "there is no model file"),
        ("a\0b", "cannot read"),
    ):
        with pytest.raises(ModelError, match=says):
            soundmark.load(tmp_path / name)


def test_what_the_runtime_refuses_is_explained_in_a_line(
    tiny_model: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    def unknown(made) -> None:
        made.graph.node.append(helper.make_node("NoSuchOperator", ["audio"], ["more"]))

    with pytest.raises(ModelError, match="NoSuchOperator") as caught:
        soundmark.load(tiny_model(unknown))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_fails_on_a_recording_is_an_error_of_the_model(tiny_model: Callable[..., bytes]) -> None:
    def narrow(made) -> None:  # the graph then takes waveforms of two samples only
        made.graph.node.insert(0, helper.make_node("Gemm", ["audio", "weights"], ["gone"]))

    with pytest.raises(ModelError, match="fails on 1 waveforms of 8000 samples"):
        soundmark.load(tiny_model(narrow)).predict_proba(sound(1))


def test_a_graph_cannot_take_all_memory(tiny_model: Callable[..., bytes]) -> None:
    """The shape is computed, so only the runtime's arena can stop it."""

    def swell(made) -> None:
        made.graph.node.insert(0, helper.make_node("Shape", ["audio"], ["shape"]))
        made.graph.node.insert(1, helper.make_node("Mul", ["shape", "shape"], ["square"]))
        made.graph.node.insert(2, helper.make_node("Expand", ["bias_row", "square"], ["swollen"]))
        made.graph.node.insert(3, helper.make_node("ReduceSum", ["swollen"], ["sum"], keepdims=0))
        made.graph.node[4].input[0] = "audio"
        made.graph.node.insert(5, helper.make_node("Add", ["size", "sum"], ["more"]))
        made.graph.node[6].input[0] = "more"
        tensor = helper.make_tensor("bias_row", 1, [1, 1], [1.0])
        made.graph.initializer.append(tensor)

    with pytest.raises(ModelError, match="fails on"):
        soundmark.load(tiny_model(swell)).predict_proba(np.zeros((1, 100_000), np.float32))


@pytest.mark.parametrize("output", ["probabilities", "embedding"])
def test_answers_that_are_not_numbers_are_an_error(tiny_model: Callable[..., bytes], output: str) -> None:
    def poison(made) -> None:
        made.graph.node.insert(0, helper.make_node("Log", ["audio"], ["log"]))
        made.graph.node[1].input[0] = "log"

    recognise = soundmark.load(tiny_model(poison))
    with pytest.raises(ModelError, match="not numbers"):
        (recognise.predict_proba if output == "probabilities" else recognise.embed)(-sound(1))


LIGHT = """
import sys

HEAVY = {"torch", "sklearn", "scipy", "librosa", "pandas", "pyarrow", "matplotlib", "onnx", "skl2onnx", "jinja2"}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import numpy as np
import soundmark
from soundmark.cli import main

print(soundmark.load(sys.argv[1])((np.zeros(8000, np.float32), 8000))[0]["label"])
code = main(["classify", sys.argv[2], "--model", sys.argv[1], "--top", "1"])
print(code, sorted(HEAVY & set(sys.modules)))
"""


def test_recognising_needs_neither_pytorch_nor_scikit_learn(tiny_model: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(tiny_model())
    audio.write(tmp_path / "a.wav", sound(1, 0.4), RATE)
    words = [sys.executable, "-c", LIGHT, str(tmp_path / "m.onnx"), str(tmp_path / "a.wav")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "quiet"
    assert "loud" in done.stdout
    assert lines[-1] == "0 []"
    assert not done.stderr


def test_the_package_offers_load_and_classifier() -> None:
    assert soundmark.load is published.load
    assert soundmark.Classifier is model.Classifier
    with pytest.raises(AttributeError):
        _ = soundmark.nothing
