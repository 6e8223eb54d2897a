"""The HEAR API for every Soundmark encoder, so that other people's benchmarks can run it; and a validator of that API.

import soundmark.hear

model = soundmark.hear.load_model("logmel?rate=32000")
vectors = soundmark.hear.get_scene_embeddings(audio, model)  # (clips, model.scene_embedding_size)
frames, times = soundmark.hear.get_timestamp_embeddings(audio, model)  # (clips, moments, dim) and (clips, moments), ms

Source: Turian et al., "HEAR: Holistic Evaluation of Audio Representations" (2022), https://hearbenchmark.com.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from soundmark import encoders
from soundmark.encoders import Encoder
from soundmark.encoders.hear import EVEN, RATES, imported, loaded_model
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.probing import first_line
from soundmark.encoders.vectors import Vectors
from soundmark.errors import AudioError, SpecError

DEFAULT = "mn04"
"""The encoder that `load_model()` loads."""


class HearModel(nn.Module):
    """An encoder with the attributes that the HEAR API asks for.

    Attributes:
        encoder: the encoder.
        sample_rate: Hz of the audio that it takes.
        scene_embedding_size: length of the vector of a clip.
        timestamp_embedding_size: length of the vector of a moment.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.timestamp_embedding_size = encoder.dim
        self.scene_embedding_size = Pooling("scene").output_dim(encoder.dim)

    def forward(self, audio: Tensor) -> Tensor:
        """`get_scene_embeddings`."""
        return get_scene_embeddings(audio, self)


def load_model(model_file_path: str = "") -> HearModel:
    """The encoder of a name.

    Args:
        model_file_path: a name in Soundmark's grammar, such as `mn04` or `logmel?rate=16000`; `mn04` without one. HEAR
            calls it a path, since most modules have one network and many files of weights.

    Raises:
        SpecError: for an unknown name, or an encoder whose sample rate HEAR does not allow.
    """
    encoder = encoders.load(model_file_path or DEFAULT)
    if encoder.sample_rate not in RATES:
        allowed = ", ".join(map(str, RATES))
        raise SpecError(
            f"{encoder.spec} hears at {encoder.sample_rate} Hz, but HEAR allows {allowed} Hz only: choose one of these "
            "by its rate setting, if it has one"
        )
    return HearModel(encoder).eval()


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One vector of each clip, the encoder's own (pooling `scene`).

    Clips of any length are heard piece by piece, and short ones filled with silence, as everywhere in Soundmark.

    Args:
        audio: (clips, samples) float32 in [-1, 1] at `model.sample_rate`, on the model's device.
        model: from `load_model`.

    Returns:
        (clips, scene_embedding_size) float32, on the device of `audio`.

    Raises:
        AudioError: if the audio is not of that shape, or empty.
        SpecError: if the model is not one of `load_model`.
    """
    encoder = _require(audio, model)
    with torch.no_grad():
        return torch.cat([_scene(some, encoder) for some in _batches(audio, encoder)])


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Vectors of each clip's moments: the encoder's frames.

    Args:
        audio: (clips, samples) float32 in [-1, 1] at `model.sample_rate`, on the model's device.
        model: from `load_model`.

    Returns:
        (clips, moments, timestamp_embedding_size) float32, and the times that they are centred on, (clips, moments)
        float32, ms, one hop apart. Frames centred beyond the clip's end, which tell of silence filled in, are left out.

    Raises:
        AudioError: if the audio is not of that shape, or empty.
        SpecError: if the model is not one of `load_model`.
    """
    encoder = _require(audio, model)
    with torch.no_grad():
        frames = torch.cat([_frames(some, encoder) for some in _batches(audio, encoder)])
    length = 1e3 * audio.shape[1] / encoder.sample_rate
    hops = torch.arange(frames.shape[1], dtype=torch.float64) + encoder.centred_on
    times = 1e3 * encoder.hop_seconds * hops
    # A clip shorter than half a hop has one moment all the same, and that is somewhere in it.
    count = max(1, int((times <= length).sum()))
    times = times[:count].clamp_max(length).float().to(audio.device)
    return frames[:, :count], times.expand(len(audio), -1).clone()


def _require(audio: Tensor, model: HearModel) -> Encoder:
    if not isinstance(model, HearModel):
        raise SpecError(f"the model is a {type(model).__name__}: give what soundmark.hear.load_model returns")
    if not isinstance(audio, Tensor) or audio.dim() != 2 or 0 in audio.shape or not audio.is_floating_point():
        given = f"{audio.dtype} {tuple(audio.shape)}" if isinstance(audio, Tensor) else type(audio).__name__
        raise AudioError(f"audio must be a tensor of floating-point numbers, (clips, samples), not {given}")
    return model.encoder


def _batches(audio: Tensor, encoder: Encoder) -> Iterator[Tensor]:
    """Few clips at a time, for the memory that many would take; a clip's vectors do not depend on it."""
    most = max(1, int(encoder.piece_seconds * encoder.sample_rate / audio.shape[1]))
    yield from torch.split(audio.float(), most)


def _filled(audio: Tensor, encoder: Encoder) -> Tensor:
    """Clips that are too short filled as the encoder's policy says."""
    if audio.shape[1] >= encoder.min_samples:
        return audio
    rows = [encoder.policy.prepare(row.cpu().numpy(), encoder.sample_rate) for row in audio]
    return torch.stack([torch.from_numpy(row) for row in rows]).to(audio.device)


def _scene(audio: Tensor, encoder: Encoder) -> Tensor:
    """(clips, dim) of clips of any length."""
    pieces = torch.split(audio, round(encoder.piece_seconds * encoder.sample_rate), dim=1)
    if len(pieces) == 1:
        return Vectors(encoder, Pooling("scene")).pool(encoder.features(_filled(audio, encoder)))
    totals, peaks, frames = [], [], 0
    for piece in pieces:
        features = encoder.features(_filled(piece, encoder))
        totals.append(features.double().sum(1))
        peaks.append(features.amax(1))
        frames += features.shape[1]
    mean = (torch.stack(totals).sum(0) / frames).float()
    return encoder.scene(mean, torch.stack(peaks).amax(0))


def _frames(audio: Tensor, encoder: Encoder) -> Tensor:
    """(clips, frames, dim) of clips of any length, one hop apart throughout.

    Encoders differ in how many frames a piece has at its end, so every piece is heard a little further than it reaches.
    """
    hop = encoder.hop_seconds * encoder.sample_rate
    count = max(1, int(encoder.piece_seconds * encoder.sample_rate / hop + 1e-6))
    further = encoder.min_samples + round(min(hop, encoder.sample_rate / 10))
    if audio.shape[1] <= count * hop:
        return encoder.encode(_filled(audio, encoder))
    parts = []
    for number in range(1 << 30):
        begin, end = round(number * count * hop), round((number + 1) * count * hop)
        last = end + further >= audio.shape[1]
        frames = encoder.encode(_filled(audio[:, begin : None if last else end + further], encoder))
        parts.append(frames if last else frames[:, :count])
        if last:
            break
    return torch.cat(parts, dim=1)


# --- The validator -------------------------------------------------------------------------------------------------


def validate(module: str | ModuleType, path: str = "") -> list[str]:
    """Everything in which a module breaks the HEAR API; nothing if it keeps it.

    The same is checked as by the benchmark's own validator, which needs TensorFlow, and some more: that embeddings are
    finite on silence and on noise, and that a clip's do not depend on the other clips of a batch.

    Args:
        module: a module with the API, or its name.
        path: what `load_model` is given; nothing if empty.

    Raises:
        SpecError: if the module cannot be imported or lacks a function, so that nothing can be checked.
    """
    listener = imported(module) if isinstance(module, str) else module
    try:
        model = loaded_model(listener, path)
    except SpecError as error:
        return [str(error)]
    model.eval()
    faults = []
    if model.sample_rate not in RATES:
        faults.append(f"sample_rate is {model.sample_rate}, and HEAR allows {', '.join(map(str, RATES))}")
    for check in (_check_scenes, _check_timestamps):
        try:
            faults += check(listener, model)
        except Exception as error:  # code of strangers: no telling what it raises
            faults.append(f"{check.__name__.removeprefix('_check_')} cannot be had: {first_line(error)}")
    return faults


def _check_scenes(module: Any, model: Any) -> Iterator[str]:
    def hear(audio: Tensor) -> list[Tensor]:
        return [module.get_scene_embeddings(audio, model)]

    for name, audio in _audio(model).items():
        (embeddings,) = hear(audio)
        yield from _of_tensor("scene embeddings", embeddings, audio, 2, model.scene_embedding_size, name)
    yield from _of_batch("scene embeddings", hear, model)


def _check_timestamps(module: Any, model: Any) -> Iterator[str]:
    def hear(audio: Tensor) -> list[Tensor]:
        return list(module.get_timestamp_embeddings(audio, model))

    for name, audio in _audio(model).items():
        given = hear(audio)
        if len(given) != 2:
            yield f"get_timestamp_embeddings returns {len(given)} things, not embeddings and timestamps"
            return
        embeddings, times = given
        faults = list(
            _of_tensor("timestamp embeddings", embeddings, audio, 3, model.timestamp_embedding_size, name)
        ) or list(_of_times(times, embeddings, 1e3 * audio.shape[1] / model.sample_rate, name))
        yield from faults
        if faults:
            return
    yield from _of_batch("timestamp embeddings", hear, model)


def _of_tensor(what: str, value: object, audio: Tensor, dims: int, size: int, name: str) -> Iterator[str]:
    """Faults of the embeddings of some clips."""
    if not isinstance(value, Tensor):
        yield f"{what} are a {type(value).__name__}, not a tensor"
        return
    if value.dim() != dims or value.shape[0] != audio.shape[0] or value.shape[-1] != size:
        wanted = f"({audio.shape[0]}, {'times, ' * (dims - 2)}{size})"
        yield f"{what} of {audio.shape[0]} clip(s) have the shape {tuple(value.shape)}, not {wanted}"
    elif value.dtype != torch.float32:
        yield f"{what} are {value.dtype}, not float32"
    elif value.device != audio.device:
        yield f"{what} are on {value.device}, and the audio is on {audio.device}"
    elif not torch.isfinite(value).all():
        yield f"{what} of {name} are not finite"


def _of_times(times: object, embeddings: Tensor, length: float, name: str) -> Iterator[str]:
    """Faults of the timestamps of some clips of `length` milliseconds."""
    if not isinstance(times, Tensor) or times.shape != embeddings.shape[:2]:
        shape = tuple(times.shape) if isinstance(times, Tensor) else type(times).__name__
        yield f"timestamps have the shape {shape}, not {tuple(embeddings.shape[:2])} as the embeddings' clips and times"
        return
    if not times.is_floating_point():
        yield f"timestamps are {times.dtype}, not floating-point numbers"
        return
    times = times.double()
    if not torch.equal(times, times[:1].expand_as(times)):
        yield "timestamps differ between clips of one batch"
    steps = times.diff(dim=1)
    if not times.shape[1]:
        yield f"{name} has no timestamps"
    elif (steps <= 0).any():
        yield "timestamps do not grow"
    elif times.min() < 0 or times.max() > length:
        yield f"timestamps of {length:g} ms of audio run from {float(times.min()):g} to {float(times.max()):g} ms"
    elif times.shape[1] > 1:
        if (steps - steps.mean()).abs().max() > EVEN * steps.mean():
            yield f"timestamps are not evenly spaced: {float(steps.min()):g} to {float(steps.max()):g} ms apart"
        elif times[0, -1] + 2 * steps.mean() < _COVERED * length:
            yield (
                f"timestamps of {length:g} ms of audio end at {float(times[0, -1]):g} ms: are they in milliseconds, "
                "and does the module hear clips to their end?"
            )


def _of_batch(what: str, hear: Callable[[Tensor], list[Tensor]], model: Any) -> Iterator[str]:
    """Faults of clips that are heard together and alone."""
    audio = torch.cat(list(_audio(model).values()))
    together = hear(audio)
    alone = [hear(clip[None]) for clip in audio]
    for index, both in enumerate(zip(*alone, strict=True)):
        rows = torch.cat(both)
        if rows.shape != together[index].shape:
            yield f"{what} of clips alone and in a batch have other shapes: {tuple(both[0].shape)} each"
            continue
        apart = (rows - together[index]).flatten(1).norm(dim=1)
        if (apart > _ALIKE * rows.flatten(1).norm(dim=1).clamp_min(1e-12)).any():
            yield f"{what} of a clip change with the other clips of its batch"


def _audio(model: Any) -> dict[str, Tensor]:
    """Clips of two seconds, on the model's device."""
    device = next((value.device for value in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 2 * model.sample_rate, generator=generator) * 2 - 1
    return {"silence": torch.zeros(1, 2 * model.sample_rate, device=device), "noise": noise.to(device)}


_COVERED = 0.5  # share of a clip that timestamps must reach at least
_ALIKE = 1e-3  # relative L2; generous, for only dependence is at stake, and no module's arithmetic
