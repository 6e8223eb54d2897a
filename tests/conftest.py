"""Fixtures shared by every test. Those that need real data skip, and say what is missing."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from soundmark import tasks
from soundmark.files import data_folders
from soundmark.tasks.base import Task

# A busy machine is no failure, and every run draws the same examples.
hypothesis.settings.register_profile("soundmark", deadline=None, derandomize=True)
hypothesis.settings.load_profile("soundmark")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own, so none sees what another, or the user, has left behind."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SOUNDMARK_CACHE", str(folder))
    return folder


@pytest.fixture
def esc50_root() -> Path:
    """Folder of the real ESC-50."""
    for folder in data_folders():
        if (folder / "ESC-50" / "meta" / "esc50.csv").is_file():
            return folder / "ESC-50"
    pytest.skip("SKIPPED FOR WANT OF DATA: no ESC-50 in SOUNDMARK_DATA; real recordings are not tested")


@pytest.fixture
def esc50_files(esc50_root: Path) -> list[Path]:
    """Every real clip of ESC-50, sorted by name."""
    return sorted((esc50_root / "audio").iterdir())


@pytest.fixture
def sample() -> Callable[[str], Task]:
    """Load a task on the sample of its data set, or skip."""

    def load(text: str) -> Task:
        from soundmark.errors import TaskError

        try:
            return tasks.load(text, allow_partial=True)
        except TaskError as error:
            if "is not here" not in str(error):
                raise
        pytest.skip(f"SKIPPED FOR WANT OF DATA: no sample of {text} in SOUNDMARK_DATA; real recordings are not tested")

    return load


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a local server of the files in tmp_path/web."""
    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def checkpoint() -> Callable[[str], Path]:
    """Give the path of a real checkpoint by the name of its encoder, or skip."""

    def path(name: str) -> Path:
        from soundmark.encoders import weights

        found = weights.located(name)
        if found is None:
            file = weights.CHECKPOINTS[name].file
            pytest.skip(f"SKIPPED FOR WANT OF WEIGHTS: no {file} in SOUNDMARK_WEIGHTS; real weights are not tested")
        return found

    return path


@pytest.fixture
def golden() -> Path:
    """Folder of the outputs of reference implementations."""
    folder = os.environ.get("SOUNDMARK_GOLDEN")
    if not folder or not (Path(folder) / "fill_weights.py").is_file():
        pytest.skip("SKIPPED FOR WANT OF GOLDEN NUMBERS: SOUNDMARK_GOLDEN names no such folder; parity is not tested")
    return Path(folder)


@pytest.fixture(scope="session")
def ray_session(toy_cache: Path) -> Iterator[Any]:
    """One Ray for all tests that need it, since it takes seconds to start; it sees the small toy task's clips."""
    why = "SKIPPED FOR WANT OF RAY: pip install 'soundmark[ray]'; clusters are not tested"
    pytest.importorskip("ray", reason=why, exc_type=ImportError)
    from soundmark import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDMARK_CACHE", str(toy_cache))
        with cluster.connected(workers=2) as (ray, _):
            yield ray


@pytest.fixture
def running_ray(ray_session: Any) -> Any:
    """Ray, running."""
    return ray_session


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the tests that only read the toy task, so that its clips are made once."""
    return tmp_path_factory.mktemp("toy-cache")


@pytest.fixture
def toy(toy_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The toy task in small: ten classes, ten half-second clips each, five folds."""
    monkeypatch.setenv("SOUNDMARK_CACHE", str(toy_cache))
    return tasks.load("toy?clips=10&seconds=0.5")


@pytest.fixture
def broken(toy: Task, tmp_path: Path) -> Task:
    """A copy of the toy task in which one clip is empty, one is text and one is missing."""
    root = tmp_path / "broken"
    shutil.copytree(toy.root, root)
    (root / toy.clips[0].path).write_bytes(b"")
    (root / toy.clips[15].path).write_text("not a sound", encoding="utf-8")
    (root / toy.clips[27].path).unlink()
    return replace(toy, root=root)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., bytes]:
    """Make a model file that hears how loud a waveform is: labels quiet and loud, 8000 Hz, no encoder, no PyTorch."""
    return _tiny_model


def _tiny_model(mutate: Callable[[Any], None] | None = None, **said: Any) -> bytes:
    """`said` changes the metadata (None drops an entry); `mutate` changes the onnx.ModelProto before it is written."""
    from onnx import TensorProto, helper, numpy_helper

    metadata = {
        "format": 1,
        "labels": ["quiet", "loud"],
        "kind": "single",
        "sample_rate": 8000,
        "policy": {"min_seconds": 0.1},
        "clip_seconds": {"median": 1.0, "max": 1.0},
        "thresholds": {"loud": 0.7},
        "task": "toy",
        "view": "",
    } | said
    constants = {
        "axis": np.array([1], np.int64),
        "weights": np.array([[-20.0, 20.0], [0.0, 0.0]], np.float32),
        "bias": np.array([2.0, -2.0], np.float32),
    }
    nodes = [
        helper.make_node("Abs", ["audio"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axis"], ["mean"], keepdims=1),
        helper.make_node("ReduceMax", ["size", "axis"], ["max"], keepdims=1),
        helper.make_node("Concat", ["mean", "max"], ["embedding"], axis=1),
        helper.make_node("MatMul", ["embedding", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["batch", "samples"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])
            for name in ("probabilities", "embedding")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    kept = {key: value for key, value in metadata.items() if value is not None}
    helper.set_model_props(model, {"soundmark": json.dumps(kept)})
    if mutate:
        mutate(model)
    content: bytes = model.SerializeToString()
    return content
