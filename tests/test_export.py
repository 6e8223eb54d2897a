"""Export: one file that agrees with its learner, or none."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import soundmark
from soundmark import audio, encoders, export, heads
from soundmark.audio import WindowPolicy
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.errors import ModelError, NotExportable, SpecError

ENCODER = "logmel?rate=8000&window=256&hop=128&bands=8"
CLASSES = ("tone", "noise", "clicks")
METADATA = {"clip_seconds": {"median": 0.5, "max": 0.5}, "task": "toy", "licence": "MIT"}


@dataclass
class Learner:
    """The little of a Probe that export asks for."""

    head_name: str
    encoder: Encoder
    pooling: Pooling
    estimator: Any
    classes: tuple[str, ...] = CLASSES

    @property
    def sample_rate(self) -> int:
        return self.encoder.sample_rate

    @property
    def policy(self) -> WindowPolicy:
        return self.encoder.policy


def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(4000) / 8000
    made = []
    for i in range(10):
        hiss = 0.01 * rng.normal(size=4000)
        clicks = (rng.random(4000) < 0.01 + i / 1000) * rng.normal(size=4000)
        made += [0.3 * np.sin(2 * np.pi * (300 + 50 * i) * time) + hiss, 0.2 * rng.normal(size=4000), clicks + hiss]
    return [waveform.astype(np.float32) for waveform in made]


def learner(head: str = "logreg", pooling: str = "mean+std", seed: int = 0) -> Learner:
    encoder, pool = encoders.load(ENCODER), Pooling(pooling)
    with torch.inference_mode():
        X = pool(encoder(torch.from_numpy(np.stack(waveforms())))).numpy()
    y = np.arange(len(X)) % 3
    estimator = heads.build(head, seed)
    if heads.needs_calibration(estimator):
        half = np.arange(len(y)) < len(y) // 2
        estimator = heads.calibrated(estimator, [(np.flatnonzero(half), np.flatnonzero(~half))])
    return Learner(head, encoder, pool, estimator.fit(X, y))


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """PyTorch takes seconds to trace an encoder; the heads behind it are what these tests vary."""
    real, seen = export.export_graph, {}

    def cached(module: Vectors, samples: int, path: Path, **names: Any) -> None:
        key = (module.encoder.spec, module.pooling.text, samples)
        if key not in seen:
            real(module, samples, path, **names)
            seen[key] = Path(path).read_bytes()
        Path(path).write_bytes(seen[key])

    export.export_graph = cached
    yield
    export.export_graph = real


@pytest.mark.parametrize(
    "head",
    ["logreg", "svm", "linear-svm", "forest?trees=20", "knn", "mlp?hidden=8&steps=50", "boosting?iterations=5", "lda"],
)
def test_the_file_agrees_with_the_learner(head: str, tmp_path: Path) -> None:
    fitted = learner(head)
    report = export.export(fitted, tmp_path / "m.onnx", metadata=METADATA, waveforms=waveforms())
    assert report["clips"] == 30
    assert report["embedding"] <= 1e-4
    assert report["share_within"] >= 0.96
    assert report["same_label"] >= 0.96
    assert report["smooth"] == (head.partition("?")[0] in ("logreg", "svm", "linear-svm", "mlp", "lda"))
    assert report["bytes"] == (tmp_path / "m.onnx").stat().st_size
    recognise = soundmark.load(tmp_path / "m.onnx")
    assert recognise.labels == CLASSES
    assert recognise.sample_rate == 8000
    assert recognise.policy == fitted.policy
    assert recognise.metadata["licence"] == "MIT"
    assert recognise.metadata["soundmark_version"] == soundmark.__version__
    assert recognise.metadata["check"]["clips"] == 30
    assert recognise((waveforms()[0], 8000))[0]["label"] == "tone"


def test_equal_learners_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export.export(learner("forest?trees=5"), tmp_path / name, metadata=METADATA, waveforms=waveforms()[:3])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_holds_standard_operators_and_nothing_of_this_machine(tmp_path: Path) -> None:
    export.export(learner(), tmp_path / "m.onnx", metadata=METADATA, waveforms=waveforms()[:3])
    content = (tmp_path / "m.onnx").read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {""}
    assert not model.functions
    for word in (str(Path.cwd()), str(Path(torch.__file__).parent), "site-packages"):
        assert word.encode() not in content


@pytest.mark.parametrize("head", ["logreg", "svm"])
def test_a_compact_file_is_smaller_and_says_nearly_the_same(head: str, tmp_path: Path) -> None:
    fitted, clips = learner(head, pooling="mean+std+max+percentiles+dmean+dstd+modulation"), waveforms()
    sizes, said = [], []
    for compact in (False, True):
        path = tmp_path / f"{compact}.onnx"
        agreed = export.export(fitted, path, metadata=METADATA, waveforms=clips, compact=compact)
        sizes.append(agreed["bytes"])
        model = soundmark.load(path)
        said.append(
            [np.concatenate([said_of(clip) for clip in clips]) for said_of in (model.embed, model.predict_proba)]
        )
        assert model.metadata["check"]["vectors_within"] == (2e-2 if compact else 1e-4)
    assert sizes[1] < sizes[0]
    (vectors, probabilities), (other_vectors, other_probabilities) = said
    assert not np.array_equal(vectors, other_vectors)
    np.testing.assert_allclose(probabilities, other_probabilities, atol=1e-2)


def test_numbers_too_large_for_half_precision_stay_as_they_are() -> None:
    from onnx import helper, numpy_helper

    large, wide = np.full(2000, 1e6, np.float32), np.arange(2000, dtype=np.float32)
    graph = helper.make_graph(
        [], "g", [], [], [numpy_helper.from_array(large, "a"), numpy_helper.from_array(wide, "b")]
    )
    export._shrink(graph)
    assert [constant.name for constant in graph.initializer] == ["a", "b.half"]
    assert [(node.op_type, list(node.output)) for node in graph.node] == [("Cast", ["b"])]


def test_very_large_convolutions_are_kept_in_eight_bits() -> None:
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    kernels = np.random.default_rng(0).standard_normal((150, 150, 3, 3)).astype(np.float32)
    kernels *= np.logspace(-3, 3, 150, dtype=np.float32)[:, None, None, None]  # each kernel has a scale of its own
    kernels[7] = 0.0
    value = helper.make_tensor_value_info("same", 1, kernels.shape)
    node = helper.make_node("Identity", ["k"], ["same"])
    graph = helper.make_graph([node], "g", [], [value], [numpy_helper.from_array(kernels, "k")])
    export._shrink(graph)
    assert sum(len(constant.raw_data) for constant in graph.initializer) < 1.01 * kernels.size
    (back,) = ReferenceEvaluator(helper.make_model(graph)).run(None, {})
    apart = np.abs(back - kernels).max(axis=(1, 2, 3))
    assert (apart <= np.abs(kernels).max(axis=(1, 2, 3)) / 250).all()
    assert not back[7].any()


def test_a_file_that_disagrees_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = learner()
    real = export.head_graph

    def bent(estimator: Any, *args: Any, **names: Any) -> Any:
        other = copy.deepcopy(estimator)
        other[-1].intercept_[0] += 0.1
        return real(other, *args, **names)

    monkeypatch.setattr(export, "head_graph", bent)
    with pytest.raises(ModelError, match="does not agree with the learner, so it was not written"):
        export.export(fitted, tmp_path / "m.onnx", metadata=METADATA, waveforms=waveforms()[:3])
    assert not list(tmp_path.iterdir())


def test_vectors_that_disagree_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = export._vector
    monkeypatch.setattr(export, "_vector", lambda *args: real(*args) * np.float32(1.01))
    with pytest.raises(ModelError, match="vectors"):
        export.export(learner("knn"), tmp_path / "m.onnx", metadata=METADATA, waveforms=waveforms()[:3])
    assert not list(tmp_path.iterdir())


def test_clips_of_any_length_are_checked(tmp_path: Path) -> None:
    lengths = [waveforms()[0][:n] for n in (20, 255, 256, 257, 1000, 4000)] + [np.tile(waveforms()[1], 3)]
    report = export.export(learner(), tmp_path / "m.onnx", metadata=METADATA, waveforms=lengths)
    assert report["clips"] == 7


@pytest.mark.parametrize(
    ("changes", "clips", "says"),
    [
        ({"labels": ["a", "b", "c"]}, 1, "labels are not the learner's classes"),
        ({"metrics": {"accuracy": float("nan")}}, 1, "cannot be written as JSON"),
        ({"metrics": object()}, 1, "cannot be written as JSON"),
        ({"clip_seconds": None}, 1, "clip_seconds"),
        ({}, 0, "at least one"),
    ],
)
def test_what_cannot_be_written(changes: dict[str, Any], clips: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        export.export(learner(), tmp_path / "m.onnx", metadata=METADATA | changes, waveforms=waveforms()[:clips])
    assert not list(tmp_path.iterdir())


def test_what_has_no_graph_is_refused_before_training() -> None:
    unfitted = Learner("svm", encoders.load(ENCODER), Pooling("mean"), None)
    export.check_exportable(unfitted)
    unfitted.encoder.exportable = False
    with pytest.raises(NotExportable, match="has no ONNX graph, so no model file"):
        export.check_exportable(unfitted)
    with pytest.raises(SpecError):
        export.check_exportable(Learner("nonesuch", encoders.load(ENCODER), Pooling("mean"), None))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("head", ["svm", "extra-trees?trees=100", "boosting?iterations=20", "knn"])
def test_real_recordings(head: str, esc50_files: list[Path], tmp_path: Path) -> None:
    files = esc50_files[::40]
    clips = [audio.read(file, 44100)[0] for file in files]
    encoder, pool = encoders.load("logmel"), Pooling("mean+std+max")
    with torch.inference_mode():
        X = np.concatenate([pool(encoder(torch.from_numpy(clip)[None])).numpy() for clip in clips])
    y = np.arange(len(X)) % 5
    classes = tuple("abcde")
    estimator = heads.build(head)
    if heads.needs_calibration(estimator):
        half = np.arange(len(y)) < len(y) // 2
        estimator = heads.calibrated(estimator, [(np.flatnonzero(half), np.flatnonzero(~half))])
    with heads.one_thread():
        fitted = Learner(head, encoder, pool, estimator.fit(X, y), classes)
    said = json.loads(json.dumps(METADATA)) | {"clip_seconds": {"median": 5.0, "max": 5.0}}
    report = export.export(fitted, tmp_path / "m.onnx", metadata=said, waveforms=clips)
    assert report["share_within"] >= 0.98
    assert report["same_label"] == 1
