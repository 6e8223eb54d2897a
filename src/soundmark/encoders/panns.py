"""PANNs: Cnn14, Cnn10, Cnn6 and MobileNetV1, trained on AudioSet's tags.

Source: Kong, Cao, Iqbal, Wang, Wang, Plumbley, "PANNs: large-scale pretrained audio neural networks for audio pattern
recognition", IEEE/ACM TASLP 28 (2020), and the checkpoints at https://zenodo.org/record/3987831. Tensors have the
checkpoints' own names; while loading, batch norms are folded into the convolutions before them.

Frames are the time steps of the last map, averaged over frequency, each through `fc1` and a ReLU. The networks' own
vector of a clip, pooling `scene`, puts maximum plus mean over time through the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark import frontends
from soundmark.encoders import fused, weights
from soundmark.encoders.network import Layer, NetworkEncoder, Trunk, shared
from soundmark.spec import Spec

RATE, WINDOW, HOP, BANDS, FMIN, FMAX = 32000, 1024, 320, 64, 50.0, 14000.0
TAGS = 527
"""AudioSet's classes."""

_USUAL_CLIPS, _USUAL_FRAMES = 8, 501  # what weights are laid out for: a batch of 5-s clips
_NARROW = 4  # columns of a map from which on all clips of a batch go together, as rows of one matrix
_SLIM = (64, 128, 256, 512)
_CHANNELS = {"cnn14": (*_SLIM, 1024, 2048), "cnn10": _SLIM, "cnn6": _SLIM}
_MOBILE = (
    (32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1),
)  # fmt: skip


class Stage(nn.Module):
    """Convolutions one after the other, and average pooling over `pool` x `pool`."""

    def __init__(self, convolutions: Sequence[fused.Convolution], pool: int = 1) -> None:
        super().__init__()
        self.convolutions, self.pool = nn.ModuleList(convolutions), pool

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channels, time, frequency) to the same of the next stage."""
        for convolution in self.convolutions:
            maps = convolution(maps)
        return functional.avg_pool2d(maps, self.pool) if self.pool > 1 else maps


class Panns(Trunk):
    """One of the networks, with its front end.

    Args:
        name: `cnn14`, `cnn10`, `cnn6` or `mobilenetv1`.
        state: the tensors of its checkpoint; large ones are taken out as they are used, so that Cnn14's 300 MB are not
            in memory twice.
        source: the file they come from, for messages.
        precision: of the convolutions, `float32` or `bf16`.

    Raises:
        WeightsError: if tensors are missing, unknown or of the wrong shape.
    """

    sample_rate = RATE
    piece_seconds = 15.0  # of a long recording; all in all it then stays under 1 GiB
    batch_seconds = 40.0  # eight 5-s clips
    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, state: dict[str, Tensor], source: str, precision: str = "float32") -> None:
        super().__init__()
        weights.fill(blank(name), state, source)
        self.dtype = fused.DTYPES[precision]
        self.exportable = precision == "float32"
        self.spectrogram = frontends.PowerSpectrogram(WINDOW, HOP, pad_mode="reflect", precise=True)
        self.filterbank = frontends.Filterbank(frontends.mel_weights(RATE, WINDOW, BANDS, FMIN, FMAX))
        scale, shift = fused.norm(state, "bn0")
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("shift", shift.float(), persistent=False)
        mobile = name == "mobilenetv1"
        stages, pools, widths = _mobile_stages(state, self.dtype) if mobile else _stages(name, state, self.dtype)
        self.stages = nn.ModuleList(stages)
        self.layers, stride = {}, 1
        self._alone = 0
        for place, (pool, width) in enumerate(zip(pools, widths, strict=True)):
            self._alone += BANDS // stride > _NARROW
            stride *= pool
            self.layers[f"block{place + (not mobile)}"] = Layer(width, HOP * stride)
        self.fc1 = fused.Linear(state["fc1.weight"], state["fc1.bias"], slope=0.0)
        self.fc_audioset = fused.Linear(state["fc_audioset.weight"], state["fc_audioset.bias"])
        self.layers[list(self.layers)[-1]] = Layer(widths[-1], HOP * stride, len(state["fc1.bias"]))
        self.min_seconds = (stride - 1) * HOP / RATE  # so many frames that pooling leaves one
        fused.pack(self)

    def hear(self, waveforms: Tensor) -> Tensor:
        """See `Trunk.hear`: `levels`."""
        return self.levels(waveforms)

    def levels(self, waveforms: Tensor) -> Tensor:
        """The log-mel spectrogram, dB: (batch, frames, 64)."""
        return self.spectrogram.map(waveforms, lambda power: frontends.decibels(self.filterbank(power)))

    def described(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """See `Trunk.described`."""
        levels = torch.addcmul(self.shift, heard, self.scale).to(self.dtype)
        maps = levels.unsqueeze(3).permute(0, 3, 1, 2)
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        stages = list(zip(self.layers, self.stages, strict=True))
        stages = stages[: 1 + max(list(self.layers).index(name) for name in names)]
        if self._alone and not torch.compiler.is_exporting():
            # The wide maps of a single clip stay in the processor's cache; those of a batch do not.
            early, stages = stages[: self._alone], stages[self._alone :]
            maps = torch.cat([_through(early, clip, found) for clip in torch.split(maps, 1)])
            maps = maps.contiguous(memory_format=torch.channels_last)
        _through(stages, maps, found)
        return [torch.cat(found[name]) for name in names]

    def unfreeze(self, deepest: str) -> None:
        """See `Trunk.unfreeze`. Batch norms stay folded, and MobileNetV1's pooling stays part of its convolutions."""
        last = list(self.layers).index(deepest) + 1
        if last < len(self.layers):
            del self.fc1
        del self.fc_audioset
        self.layers, self.stages = dict(list(self.layers.items())[:last]), self.stages[:last]
        self._alone = 0  # a batch learns together
        fused.unfreeze(self)

    def depths(self) -> list[list[nn.Parameter]]:
        """See `Trunk.depths`: by stage, and `fc1`."""
        found = [list(part.parameters()) for part in (*self.stages, *([self.fc1] if hasattr(self, "fc1") else []))]
        found[0] += self.parameters(recurse=False)
        return found

    def moments(self, features: Tensor) -> Tensor:
        """Frames from the last map: `relu(fc1)` of every time step."""
        frames: Tensor = self.fc1(features)
        return frames

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """The published embedding: `relu(fc1)` of maximum plus mean over time."""
        vectors: Tensor = self.fc1(mean + peak)
        return vectors

    def tags(self, scene: Tensor) -> Tensor:
        """Probabilities of AudioSet's tags from the published embedding: (batch, 527)."""
        scores: Tensor = self.fc_audioset(scene)
        return scores.sigmoid()


def _through(stages: Sequence[tuple[str, nn.Module]], maps: Tensor, heard: dict[str, list[Tensor]]) -> Tensor:
    """Maps through some stages; the features of those that `heard` names are appended there."""
    for name, stage in stages:
        maps = stage(maps)
        if name in heard:
            heard[name].append(maps.float().mean(3).transpose(1, 2))
    return maps


def load(spec: Spec) -> NetworkEncoder:
    """`cnn14`, `cnn10`, `cnn6` or `mobilenetv1`, with the published weights or those of `weights=PATH`.

    Raises:
        SpecError: for an unknown setting or layer.
        WeightsError: if the weights are not what they should be.
        DownloadError: if they are not here and cannot be fetched.
    """
    said, path, precision = weights.chosen(spec)
    key = f"{spec.name}:{weights.digest(path)}:{precision}"
    trunk = shared(key, lambda: Panns(spec.name, weights.load(path, mapped=False), str(path), precision))
    return NetworkEncoder(said, trunk)


def blank(name: str) -> nn.Module:
    """A module with the names and shapes of a checkpoint, and no memory behind them."""
    with torch.device("meta"):
        if name == "mobilenetv1":
            network = nn.ModuleDict({"features": _blank_mobile()})
        else:
            network = nn.ModuleDict()
            for place, (inner, outer) in enumerate(pairwise((1, *_CHANNELS[name])), 1):
                block = nn.ModuleDict({"conv1": _conv(inner, outer, _kernel(name)), "bn1": nn.BatchNorm2d(outer)})
                if name != "cnn6":
                    block.update({"conv2": _conv(outer, outer, 3), "bn2": nn.BatchNorm2d(outer)})
                network[f"conv_block{place}"] = block
        width = 1024 if name == "mobilenetv1" else _CHANNELS[name][-1]
        network["fc1"], network["fc_audioset"] = nn.Linear(width, width), nn.Linear(width, TAGS)
        network["bn0"] = nn.BatchNorm2d(BANDS)
        # Fixed kernels of the front end, which checkpoints carry along; ours is computed.
        bins = WINDOW // 2 + 1
        kernels = {part: nn.Conv1d(1, bins, WINDOW, bias=False) for part in ("conv_real", "conv_imag")}
        network["spectrogram_extractor"] = nn.ModuleDict({"stft": nn.ModuleDict(kernels)})
        network["logmel_extractor"] = nn.ParameterDict({"melW": torch.empty(bins, BANDS)})
    return network


def _conv(inner: int, outer: int, size: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, size, groups=groups, bias=False)


def _kernel(name: str) -> int:
    return 5 if name == "cnn6" else 3


def _blank_mobile() -> nn.ModuleList:
    (first, _), *_rest = _MOBILE
    # Places in between are pooling and activations, which hold nothing.
    stages = [nn.ModuleDict({"0": _conv(1, first, 3), "2": nn.BatchNorm2d(first)})]
    for (inner, _), (outer, _) in pairwise(_MOBILE):
        stages.append(
            nn.ModuleDict(
                {
                    "0": _conv(inner, inner, 3, groups=inner),
                    "2": nn.BatchNorm2d(inner),
                    "4": _conv(inner, outer, 1),
                    "5": nn.BatchNorm2d(outer),
                }
            )
        )
    return nn.ModuleList(stages)


def _stages(name: str, state: dict[str, Tensor], dtype: torch.dtype) -> tuple[list[Stage], list[int], tuple[int, ...]]:
    """Stages of Cnn14, Cnn10 or Cnn6, the pooling of each, and their channels."""
    channels = _CHANNELS[name]
    pools = [2] * 5 + [1] if name == "cnn14" else [2] * 4
    stages, frames, columns = [], _USUAL_FRAMES, BANDS
    for place, pool in enumerate(pools, 1):
        block, made = f"conv_block{place}", list[fused.Convolution]()
        for part in ("1", "2") if name != "cnn6" else ("1",):
            scale, shift = fused.norm(state, f"{block}.bn{part}")
            made.append(_convolution(state.pop(f"{block}.conv{part}.weight"), scale, shift, (frames, columns), dtype))
            made[-1].pack()  # at once, so that no more than one is there twice
        stages.append(Stage(made, pool))
        frames, columns = frames // pool, columns // pool
    return stages, pools, channels


def _convolution(
    weight: Tensor, scale: Tensor, shift: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> fused.Convolution:
    """A convolution with its batch norm and ReLU, for maps of a usual size (frames, columns)."""
    inner, edge = weight.shape[1], weight.shape[2] // 2
    if size[1] <= _NARROW and edge == 1:
        return fused.Gathered(fused.scaled(weight, scale), shift, (_USUAL_CLIPS, inner, *size), slope=0.0, dtype=dtype)
    return fused.Convolution(
        fused.scaled(weight, scale), shift, (1, inner, *size), padding=(edge, edge), slope=0.0, dtype=dtype
    )


def _mobile_stages(state: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[list[Stage], list[int], tuple[int, ...]]:
    """Stages of MobileNetV1, the pooling of each, and their channels.

    Pooling comes between a convolution and its batch norm, so all three are one.
    """
    stages, inner, frames, columns = [], 1, _USUAL_FRAMES, BANDS
    for place, (outer, pool) in enumerate(_MOBILE):
        name, made = f"features.{place}", []
        scale, shift = fused.norm(state, f"{name}.2")
        weight = fused.pooled(fused.scaled(state[f"{name}.0.weight"], scale), (pool, pool))
        made.append(
            fused.Convolution(
                weight, shift, (1, inner, frames, columns), stride=(pool, pool), padding=(1, 1),
                groups=inner, slope=0.0, dtype=dtype,
            )
        )  # fmt: skip
        frames, columns = frames // pool, columns // pool
        if place:
            scale, shift = fused.norm(state, f"{name}.5")
            weight = fused.scaled(state[f"{name}.4.weight"], scale)
            made.append(fused.Convolution(weight, shift, (1, inner, frames, columns), slope=0.0, dtype=dtype))
        for convolution in made:
            convolution.pack()
        stages.append(Stage(made))
        inner = outer
    return stages, [pool for _, pool in _MOBILE], tuple(width for width, _ in _MOBILE)
