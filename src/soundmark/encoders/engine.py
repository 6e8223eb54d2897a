"""Other engines for an encoder: ONNX Runtime, in single precision or with 8-bit integers.

`mn04?engine=onnx` runs the encoder's exported graph, front end inside; `mn04?engine=int8` runs it with the weights and
activations of its convolutions and matrix products quantised to 8 bits. The graph is written to the user's cache on
first use. What an engine costs in agreement and gives in speed is measured in `benchmarks/engines.py`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from soundmark.encoders.base import Encoder
from soundmark.encoders.graph import OPSET, export_graph
from soundmark.errors import NotExportable, SpecError
from soundmark.files import atomic_path, cache_dir
from soundmark.spec import Spec

ENGINES = ("torch", "onnx", "int8")
_FORMAT = 1  # raise it when graphs are written differently
_CALIBRATION_SECONDS = 5.0


class Engine(Encoder):
    """An encoder whose features come from ONNX Runtime.

    Args:
        inner: the encoder; the model file is still written from it.
        engine: `onnx` or `int8`.

    Raises:
        NotExportable: if the encoder has no graph.
    """

    def __init__(self, inner: Encoder, engine: str) -> None:
        super().__init__()
        if not inner.exportable:
            raise NotExportable(
                f"{inner.spec} has no ONNX graph, so it cannot run with engine={engine}: leave that out"
            )
        self.inner, self.engine = inner, engine
        self.exportable = engine != "int8"  # the file would be written in full precision, and disagree
        self.spec = _with_engine(inner.spec, engine)
        self.sample_rate, self.dim, self.hop_seconds = inner.sample_rate, inner.dim, inner.hop_seconds
        self.min_seconds, self.piece_seconds = inner.min_seconds, inner.piece_seconds
        self.rounds_up, self.feature_names, self.centred_on = inner.rounds_up, inner.feature_names, inner.centred_on
        self.batched, self.batch_seconds = inner.batched, inner.batch_seconds
        self._session = _session(_graph(inner, engine))

    @property
    def identity(self) -> str:
        """See `Encoder.identity`."""
        return f"{self.inner.identity}|{self.engine}{_FORMAT}|onnxruntime {version('onnxruntime')}"

    @property
    def inner_dim(self) -> int:
        """See `Encoder.inner_dim`."""
        return self.inner.inner_dim

    @property
    def traceable(self) -> Encoder:
        """See `Encoder.traceable`."""
        return self.inner.traceable

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, dim)."""
        return self.moments(self.features(waveforms))

    def features(self, waveforms: Tensor) -> Tensor:
        """See `Encoder.features`."""
        self.require_input(waveforms)
        heard: np.ndarray = self._session.run(None, {"audio": np.ascontiguousarray(waveforms.numpy())})[0]
        return torch.from_numpy(heard)

    def moments(self, features: Tensor) -> Tensor:
        """See `Encoder.moments`."""
        return self.inner.moments(features)

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """See `Encoder.scene`."""
        return self.inner.scene(mean, peak)


def split_engine(spec: Spec) -> tuple[Spec, str]:
    """A name without its engine, and the engine.

    Raises:
        SpecError: for an engine there is not.
    """
    settings = dict(spec.settings)
    engine = settings.pop("engine", "torch")
    if engine not in ENGINES:
        raise SpecError(f"there is no engine {engine!r} for {spec.name!r}; there are: {', '.join(ENGINES)}")
    return Spec(spec.name, spec.view, spec.layer, settings), engine


def _with_engine(spec: str, engine: str) -> str:
    return f"{spec}{'&' if '?' in spec else '?'}engine={engine}"


class _Features(nn.Module):
    """What the graph computes."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, waveforms: Tensor) -> Tensor:
        return self.encoder.features(waveforms)


def _graph(encoder: Encoder, engine: str) -> Path:
    """The graph's file in the user's cache, written if it is not there."""
    about = f"{encoder.identity}|{engine}|{_FORMAT}|{OPSET}"
    path = cache_dir() / "graphs" / f"{hashlib.blake2b(about.encode(), digest_size=12).hexdigest()}.onnx"
    if not path.exists():
        samples = max(encoder.min_samples, encoder.sample_rate)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.onnx"
            export_graph(_Features(encoder), samples, plain)
            with atomic_path(path) as temporary:
                if engine == "int8":
                    _quantise(plain, temporary, encoder)
                else:
                    temporary.write_bytes(plain.read_bytes())
                try:
                    _session(temporary)
                except Exception as error:  # ONNX Runtime has a class of its own for every ill
                    raise NotExportable(f"ONNX Runtime cannot run {encoder.spec} with engine={engine}") from error
    return path


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the clips are the parallelism
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def _quantise(plain: Path, path: Path, encoder: Encoder) -> None:
    """Static quantisation, its ranges taken from synthesised sounds: no recording is needed, and equal bytes result."""
    import logging

    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = plain.with_name("prepared.onnx")
    logging.disable(logging.WARNING)  # of what a graph of ours does not need
    try:
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _Calibration(encoder),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
    finally:
        logging.disable(logging.NOTSET)


class _Calibration:
    """Sounds of every loudness and colour, one at a time, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, encoder: Encoder) -> None:
        self._clips: Iterator[np.ndarray] = iter(_sounds(encoder))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next clip, or None at the end."""
        clip = next(self._clips, None)
        return None if clip is None else {"audio": clip[None]}


def _sounds(encoder: Encoder) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    samples = round(_CALIBRATION_SECONDS * encoder.sample_rate)
    seconds = np.arange(samples) / encoder.sample_rate
    clips = []
    for level in (0.003, 0.03, 0.3):
        white = rng.standard_normal(samples)
        brown = np.cumsum(white - white.mean())
        chirp = np.sin(2 * np.pi * (60.0 * seconds + rng.uniform(100, 700) * seconds**2))
        knocks = white * np.exp(-20.0 * (seconds % 0.5))
        chord = sum(np.sin(2 * np.pi * f * seconds) for f in (220.0, 277.2, 329.6, 880.0))
        sounds = (white, brown, chirp + 0.05 * white, knocks, chord)
        clips += [(level * sound / np.abs(sound).max()).astype(np.float32) for sound in sounds]
    return clips
