"""Any ONNX file with a stated rate as an encoder: `onnx:some/dir/file.onnx?rate=16000`.

rate     Hz of the waveforms that the graph takes; files do not say it, so it must be given
output   name of the output that is heard, where there are several
window   seconds that the graph takes, for graphs of one length; a length fixed in the file is found there
hop      seconds between frames, where measuring gets it wrong (see below)

The graph takes one waveform as (samples,), (batch, samples) or (batch, 1, samples), in floating-point numbers. What it
gives are frames, (batch, frames, dim), or one vector, (batch, dim), both without `batch` if the waveform has none. A
vector stands for a window, or for a whole clip where no window is given.

The hop of frames is measured by where longer clips gain frames; in windows it is the window's length over the number of
frames, which is wrong where a spectrogram is centred and has a frame more: then say `hop`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from soundmark.encoders import probing
from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError
from soundmark.files import file_digest
from soundmark.spec import Spec, take

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_DEFAULTS: dict[str, Any] = {"rate": 0, "output": "", "window": 0.0, "hop": 0.0}


class OnnxEncoder(Encoder):
    """A graph that ONNX Runtime runs, one clip and one window at a time, so that none knows of its neighbours.

    It is no part of a model file: the graph may hold operators, control flow or lengths that model files do not allow.

    Args:
        spec: `onnx:PATH?rate=HZ` with settings.

    Raises:
        SpecError: if the file is not there, does not load, or takes and gives something else than waveforms and frames.
    """

    exportable = False

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.path = _path(spec)
        settings = take(spec, _DEFAULTS)
        if not 1000 <= settings["rate"] <= 384_000:
            raise SpecError(
                f"onnx:{self.path} needs the sample rate that it was made for, in Hz: onnx:{self.path}?rate=16000"
            )
        for key in ("window", "hop"):
            if not 0 <= settings[key] <= 600:
                raise SpecError(f"{key}={settings[key]:g} in {spec} is out of bounds: give seconds from 0 to 600")
        self.spec = str(Spec("onnx", spec.view, settings=spec.settings))
        self.sample_rate = settings["rate"]
        self.session = _session(self.path)
        self._digest = file_digest(self.path)
        self._input, self._type, self._rank, fixed = _input(self.session, self.path)
        self.output = _output(self.session, self.path, settings["output"])
        self.window = round(settings["window"] * self.sample_rate)
        if fixed and self.window not in (0, fixed):
            raise SpecError(
                f"window={settings['window']:g} in {spec} is {self.window} samples, but the file takes exactly {fixed} "
                f"({fixed / self.sample_rate:g} s): leave the setting out"
            )
        self.window = self.window or fixed
        self.rounds_up = bool(self.window)
        try:
            self._hear_first(settings["hop"])
        except SpecError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise SpecError(
                f"{self.path} fails on noise at {self.sample_rate} Hz: {probing.first_line(error)}"
            ) from None

    def _hear_first(self, hop: float) -> None:
        """Find out dim, hop and the shortest clip; `hop` in seconds is believed where it is given."""
        rate = self.sample_rate
        if self.window:
            self.min_seconds = 0.05
            frames, self.dim = self._heard(probing.noise(self.window)).shape[1:]
            samples = hop * rate or self.window / frames
            if samples > self.window:
                raise SpecError(f"hop={hop:g} in {self.spec} is longer than the window of {self.window / rate:g} s")
            # A centred spectrogram has a frame more than there are hops; what is left over overlaps the next window.
            self.advance = round(min(frames, max(1, math.floor(self.window / samples + 1e-6))) * samples)
            self.hop_seconds = samples / rate
            self.piece_seconds = max(1, int(self.piece_seconds * rate / self.advance)) * self.advance / rate
            return
        self.min_seconds = probing.shortest(self._heard, rate, self.spec)
        start = max(rate // 2, round(self.min_seconds * rate))
        self.dim = self._heard(probing.noise(start)).shape[2]
        samples = probing.hop_samples(lambda length: self._heard(probing.noise(length)).shape[1], rate, start)
        if not samples and hop:
            raise SpecError(
                f"hop={hop:g} in {self.spec} says nothing: the file gives one vector for a clip of any length"
            )
        self.hop_seconds = hop or samples / rate or self.piece_seconds

    @property
    def identity(self) -> str:
        """See `Encoder.identity`: the file's content, wherever it lies."""
        settings = (self.sample_rate, self.output, self.window, self.hop_seconds)
        return f"onnx#{self._digest}#{settings}"

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, dim).

        Raises:
            AudioError: if the waveforms are not (batch, samples) or too short.
            SpecError: if ONNX Runtime fails on them.
        """
        self.require_input(waveforms)
        try:
            return torch.cat([self._frames(waveform[None]) for waveform in waveforms])
        except SpecError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise SpecError(f"{self.path} fails on {waveforms.shape[1]} samples: {probing.first_line(error)}") from None

    def _frames(self, waveform: Tensor) -> Tensor:
        if not self.window:
            return self._heard(waveform)
        parts = [self._heard(part) for part in probing.windows(waveform, self.window, self.advance, self.window)]
        return probing.end_to_end(parts, self.advance, self.hop_seconds * self.sample_rate, waveform.shape[1])

    def _heard(self, waveform: Tensor) -> Tensor:
        """Frames (1, frames, dim) of one waveform (1, samples) as the graph takes it."""
        samples = waveform.numpy().astype(self._type)
        given = samples[0] if self._rank == 1 else samples if self._rank == 2 else samples[:, None]
        (answer,) = self.session.run([self.output], {self._input: given})
        found = np.asarray(answer)
        if found.dtype.kind != "f":
            raise SpecError(f"the output {self.output} of {self.path} is {found.dtype}, not floating-point numbers")
        if self._rank == 1:
            found = found[None]
        if found.ndim == 2:
            found = found[:, None]
        if found.ndim != 3 or found.shape[0] != 1 or 0 in found.shape[2:]:
            raise SpecError(
                f"the output {self.output} of {self.path} has the shape {found.shape} for one clip: it must be (1, "
                "frames, dim) or (1, dim)"
            )
        return torch.from_numpy(found.astype(np.float32))


def _path(spec: Spec) -> Path:
    if spec.layer:
        raise SpecError(f"{spec}: an ONNX file has no layers; if the @ is part of its path, rename it")
    if not spec.view:
        raise SpecError("onnx takes the path of a file and its rate: onnx:some/dir/file.onnx?rate=16000")
    path = Path(spec.view).expanduser()
    if not path.is_file():
        raise SpecError(
            f"there is no file {path}: check the path (a + in it is read as the joining of two encoders, ? and @ as "
            "what settings and a layer begin with: rename such a file)"
        )
    return path


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest is talk
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # clips are the parallelism
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # From its content: then all that frames depend on is in the digest, and no file beside it is read.
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise SpecError(
            f"{path} cannot be used: {probing.first_line(error)} (data beside the file are not read: save it as one)"
        ) from None


def _input(session: Any, path: Path) -> tuple[str, Any, int, int]:
    """Name, type and rank of the waveform, and its length where the file fixes it, else 0."""
    inputs = session.get_inputs()
    listed = ", ".join(f"{one.name} {one.type}{one.shape}" for one in inputs)
    if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) not in (1, 2, 3):
        raise SpecError(f"{path} must take one waveform of floating-point numbers, but it takes: {listed}")
    shape = inputs[0].shape
    sizes = [size if isinstance(size, int) and size > 0 else 0 for size in shape]
    if any(size > 1 for size in sizes[:-1]):
        raise SpecError(f"{path} must take (batch, samples) with a batch of any size or 1, but it takes: {listed}")
    return inputs[0].name, _TYPES[inputs[0].type], len(shape), sizes[-1]


def _output(session: Any, path: Path, wanted: str) -> str:
    outputs = {one.name: one for one in session.get_outputs()}
    listed = ", ".join(f"{name} {one.shape}" for name, one in outputs.items())
    if wanted and wanted not in outputs:
        raise SpecError(f"{path} has no output {wanted!r}; it has: {listed}")
    if not wanted and len(outputs) > 1:
        raise SpecError(f"{path} has several outputs: choose one with output=NAME: {listed}")
    return wanted or next(iter(outputs))


def onnx(spec: Spec) -> OnnxEncoder:
    """`onnx:PATH?rate=HZ`: any ONNX file that takes waveforms."""
    return OnnxEncoder(spec)
