"""Any module with the HEAR API as an encoder: `hear:package.module`.

The API is three functions, `load_model(path)`, `get_timestamp_embeddings(audio, model)` and
`get_scene_embeddings(audio, model)`, which dozens of published encoders offer. Frames are its timestamp embeddings, or
with `embedding=scene` its scene embedding, one frame for a whole clip.

Source: Turian et al., "HEAR: Holistic Evaluation of Audio Representations" (2022), https://hearbenchmark.com.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from soundmark.encoders import probing
from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError
from soundmark.files import file_digest
from soundmark.spec import Spec, take

RATES = (16000, 22050, 32000, 44100, 48000)
"""Hz that the API allows."""

FUNCTIONS = ("load_model", "get_timestamp_embeddings", "get_scene_embeddings")
"""What a module must define."""

MODEL_ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
"""Whole numbers that its model must have."""

EVEN = 0.01
"""How far a step between timestamps may be from their mean step, as a share of it."""

_PROBE_SECONDS = 5.0
_DEFAULTS = {"weights": "", "embedding": "timestamp"}


class HearEncoder(Encoder):
    """A module with the HEAR API.

    One clip is heard at a time: the API does not promise that a module may be called from several threads, nor that a
    clip's embeddings do not depend on its neighbours.

    Args:
        spec: `hear:package.module` with settings.

    Raises:
        SpecError: if the module is not installed, or what it offers is not the HEAR API.
    """

    exportable = False

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        if not spec.view or spec.layer:
            raise SpecError("hear takes the name of a module, and no layer: write hear:package.module")
        settings = take(spec, _DEFAULTS)
        if settings["embedding"] not in ("timestamp", "scene"):
            raise SpecError(f"embedding={settings['embedding']} in {spec}: it is timestamp or scene")
        self.scenes = settings["embedding"] == "scene"
        given = {key: value for key, value in settings.items() if value != _DEFAULTS[key]}
        self.spec = str(Spec("hear", spec.view, settings=given))
        self.module = imported(spec.view)
        weights = settings["weights"]
        self.model = loaded_model(self.module, weights).eval().requires_grad_(False)
        self.sample_rate = self.model.sample_rate
        self.dim = self.model.scene_embedding_size if self.scenes else self.model.timestamp_embedding_size
        self._lock = threading.Lock()
        self.min_seconds = probing.shortest(self._heard, self.sample_rate, self.spec)
        self.hop_seconds, self.centred_on = self.piece_seconds, 0.5
        if not self.scenes:
            self.hop_seconds, self.centred_on = self._measured()
        self._digest = probing.digest(dict(self.model.state_dict()) | _files(self.module, weights))

    @property
    def identity(self) -> str:
        """See `Encoder.identity`: the model's tensors, its code and its file of weights."""
        return f"{self.spec}#{self._digest}"

    def encode(self, waveforms: Tensor) -> Tensor:
        """Embeddings of (batch, samples) waveforms: (batch, frames, dim).

        Raises:
            AudioError: if the waveforms are not (batch, samples) or too short.
            SpecError: if the module fails, or gives what the API does not allow.
        """
        self.require_input(waveforms)
        try:
            return torch.cat([self._heard(waveform[None]) for waveform in waveforms])
        except SpecError:
            raise
        except Exception as error:  # code of strangers: no telling what it raises
            raise SpecError(
                f"{self.spec} fails on {waveforms.shape[1] / self.sample_rate:.3g} s of sound: "
                f"{probing.first_line(error)}"
            ) from error

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """The scene embedding, with `embedding=scene`.

        Raises:
            SpecError: without it, for the scene embedding cannot be had from those of timestamps.
        """
        if not self.scenes:
            raise SpecError(
                f"{self.spec} hears its timestamp embeddings, from which its scene embedding cannot be made: for that "
                f"write embedding=scene, as in hear:{self.module.__name__}?embedding=scene, with any pooling"
            )
        return mean

    def _heard(self, waveform: Tensor) -> Tensor:
        """Frames (1, frames, dim) of one clip."""
        return self._called(waveform, "get_scene_embeddings")[:, None] if self.scenes else self._stamped(waveform)[0]

    def _stamped(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (1, frames, dim) and their times (1, frames), ms."""
        given = self._called(waveform, "get_timestamp_embeddings")
        if not (isinstance(given, tuple | list) and len(given) == 2):
            raise SpecError(f"get_timestamp_embeddings of {self.spec} returns no pair of embeddings and timestamps")
        embeddings, times = (self._tensor(part, "get_timestamp_embeddings") for part in given)
        if embeddings.dim() != 3 or embeddings.shape[::2] != (1, self.dim) or times.shape != embeddings.shape[:2]:
            raise SpecError(
                f"get_timestamp_embeddings of {self.spec} returns shapes {tuple(embeddings.shape)} and "
                f"{tuple(times.shape)} for one clip, not (1, times, {self.dim}) and (1, times)"
            )
        return embeddings.float(), times.double()

    def _called(self, waveform: Tensor, function: str) -> Any:
        with self._lock, torch.no_grad():
            given = getattr(self.module, function)(waveform, self.model)
        if function == "get_timestamp_embeddings":
            return given
        embedding = self._tensor(given, function)
        if embedding.shape != (1, self.dim):
            raise SpecError(
                f"get_scene_embeddings of {self.spec} returns the shape {tuple(embedding.shape)} for one clip, not "
                f"(1, {self.dim})"
            )
        return embedding.float()

    def _tensor(self, value: object, function: str) -> Tensor:
        if not isinstance(value, Tensor):
            raise SpecError(f"{function} of {self.spec} returns a {type(value).__name__}, not a tensor of PyTorch")
        return value.detach()

    def _measured(self) -> tuple[float, float]:
        """Seconds between frames, and the moment of the first in such hops."""
        try:
            times = self._stamped(probing.noise(round(_PROBE_SECONDS * self.sample_rate)))[1][0] / 1e3
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                f"{self.spec} fails on {_PROBE_SECONDS:g} s of noise: {probing.first_line(error)}"
            ) from error
        if len(times) < 2:
            raise SpecError(
                f"{self.spec} gives {len(times)} timestamp(s) for {_PROBE_SECONDS:g} s, so the time between them cannot"
                " be told: use embedding=scene"
            )
        steps = times.diff()
        hop, uneven = float(steps.mean()), float((steps - steps.mean()).abs().max())
        if not hop > 0 or uneven > EVEN * hop:
            raise SpecError(
                f"the timestamps of {self.spec} are not evenly spaced: steps of {float(steps.min()) * 1e3:.6g} to "
                f"{float(steps.max()) * 1e3:.6g} ms; use embedding=scene"
            )
        # Timestamps are rounded to single precision on the way; hops are whole samples nearly always.
        samples = hop * self.sample_rate
        if abs(samples - round(samples)) < 0.02:
            hop = round(samples) / self.sample_rate
        return hop, float(times[0]) / hop


def imported(name: str) -> ModuleType:
    """The module of a name, with the functions of the HEAR API.

    Raises:
        SpecError: if it is not installed, cannot be imported, or lacks a function.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SpecError(
                f"there is no module {name}: install the package that holds it, or put its folder into PYTHONPATH"
            ) from None
        raise SpecError(f"the module {name} needs {error.name}, which is not installed: pip install it") from None
    except Exception as error:  # its own code runs
        raise SpecError(f"the module {name} cannot be imported: {probing.first_line(error)}") from error
    lacking = [function for function in FUNCTIONS if not callable(getattr(module, function, None))]
    if lacking:
        raise SpecError(f"the module {name} has not the HEAR API: it lacks {', '.join(lacking)}")
    return module


def loaded_model(module: ModuleType, weights: str = "") -> Any:
    """What its `load_model` gives, checked.

    Raises:
        SpecError: if it fails, or gives no module of PyTorch with the API's attributes.
    """
    load: Callable[..., Any] = module.load_model
    where = f"load_model({weights!r})" if weights else "load_model()"
    try:
        with torch.random.fork_rng(devices=[]):  # layers are initialised before their weights are read
            model = load(weights) if weights else load()
    except Exception as error:
        raise SpecError(f"{where} of {module.__name__} fails: {probing.first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise SpecError(
            f"{where} of {module.__name__} returns a {type(model).__module__}.{type(model).__name__}: Soundmark hears "
            "HEAR modules of PyTorch only"
        )
    for name in MODEL_ATTRIBUTES:
        value = getattr(model, name, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpecError(f"the model of {module.__name__} has {name}={value!r}: HEAR asks for a whole number")
    return model


def _files(module: ModuleType, weights: str) -> dict[str, object]:
    """Digests of the module's code and of its weights, where these are files."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)  # what it imports stands beside it
    code = [file for folder in getattr(top, "__path__", []) for file in sorted(Path(folder).rglob("*.py"))]
    files = [*map(str, code), *([] if code else [getattr(module, "__file__", None) or ""]), weights]
    return {path: file_digest(path) for path in files if path and Path(path).is_file()}


def hear(spec: Spec) -> HearEncoder:
    """`hear:package.module`: any module with the HEAR API."""
    return HearEncoder(spec)
