"""EfficientAT's MobileNets: AudioSet tagging at a hundredth of the cost of the networks that taught them.

`mn04` hears 32 kHz through 128 mel bands and gives 384 numbers every 0.32 s; the mean of its frames is the published
embedding. `mn01` to `mn40` are the same network at widths from 0.1 to 4.

Sources:
    Schmid, Koutini, Widmer: "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation",
    ICASSP 2023, https://github.com/fschmid56/EfficientAT
    Howard et al.: "Searching for MobileNetV3", ICCV 2019 (the network, its Table 1)
    Povey et al.: "The Kaldi speech recognition toolkit", ASRU 2011 (the mel bands)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.encoders import weights
from soundmark.encoders.convolution import Convolution, NormedConvolution, folded
from soundmark.encoders.network import Layer, NetworkEncoder, Trunk, shared
from soundmark.frontends import Filterbank, PowerSpectrogram, bin_frequencies, plain
from soundmark.spec import Spec

WIDTHS: dict[str, float] = {
    "mn01": 0.1,
    "mn02": 0.2,
    "mn04": 0.4,
    "mn05": 0.5,
    "mn10": 1.0,
    "mn20": 2.0,
    "mn30": 3.0,
    "mn40": 4.0,
}
"""Every network by name, with its factor on the number of channels."""

RATE, LENGTH, WINDOW, HOP = 32_000, 1024, 800, 320
BANDS, TOP = 128, 15_000.0  # Hz
EMPHASIS = 0.97
FLOOR = 1e-5  # power added to every band
TAGS = 527
# AudioSet's clips last 10 s. Squeeze-and-excitation weighs channels by their mean over the whole input, so what the
# network does at one moment depends on how much it hears at once, and it has learnt to hear so much.
PIECE_SECONDS = 10.0
BATCH_SECONDS = 40.0  # eight clips of 5 s: so narrow a network takes longer to call than to compute for one

# Size of the kernel, channels between, channels out, squeeze-and-excitation, activation, stride.
_BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)


def mobilenet(spec: Spec) -> NetworkEncoder:
    """`mn04` and its sisters: frames from the last layer, or from `@block0` to `@block16`; `weights`, `precision`."""
    spec, path, precision = weights.chosen(spec)
    key = f"{spec.name}#{weights.digest(path)}#{precision}"
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    return NetworkEncoder(spec, shared(key, lambda: MobileNet(read(spec.name, path), key, kind)))


def unfolded(spec: Spec) -> NetworkEncoder:
    """The same to be trained, with batch norms of its own; to listen, `mobilenet` is quicker."""
    spec, path, _ = weights.chosen(spec)
    key = f"{spec.name}#{weights.digest(path)}#unfolded"
    return NetworkEncoder(spec, MobileNet(read(spec.name, path), key, make=normed_convolution))


def read(name: str, path: str | os.PathLike[str]) -> Published:
    """A network as it is published, with the weights of a checkpoint.

    Raises:
        WeightsError: if the file cannot be read, or holds another network.
    """
    with torch.device("meta"):  # made without drawing random numbers, which are others' to draw
        network = Published(WIDTHS[name])
    network.to_empty(device="cpu")
    weights.fill(network, weights.load(path), path)
    return network.eval().requires_grad_(False)


# --- the network as published --------------------------------------------------------------------------------------


class Published(nn.Module):
    """The published network, tensor by tensor under the published names; `MobileNet` and `Tagger` compute with them.

    Args:
        width: factor on the number of channels.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        inputs = scaled(16, width)
        self.features = nn.Sequential(_normed(1, inputs, 3))
        for size, between, outputs, excited, _, _ in _BLOCKS:
            self.features.append(_Inverted(inputs, scaled(between, width), scaled(outputs, width), size, excited))
            inputs = scaled(outputs, width)
        self.features.append(_normed(inputs, 6 * inputs, 1))
        hidden = scaled(1280, width)
        # Pooling, flattening and dropout hold no weights, but their places count.
        self.classifier = nn.Sequential(
            nn.Identity(),
            nn.Identity(),
            nn.Linear(6 * inputs, hidden),
            nn.Identity(),
            nn.Identity(),
            nn.Linear(hidden, TAGS),
        )


class _Inverted(nn.Module):
    """Weights of an inverted residual block: expansion, depthwise convolution, excitation, projection."""

    def __init__(self, inputs: int, between: int, outputs: int, size: int, excited: bool) -> None:
        super().__init__()
        self.block = nn.Sequential()
        if between != inputs:
            self.block.append(_normed(inputs, between, 1))
        self.block.append(_normed(between, between, size, between))
        if excited:
            self.block.append(_Excitation(between))
        self.block.append(_normed(between, outputs, 1))


class _Excitation(nn.Module):
    """Weights of squeeze-and-excitation over channels; the published network has room for others beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([_Gates(channels)])

    @property
    def gates(self) -> _Gates:
        found = self.conc_se_layers[0]
        assert isinstance(found, _Gates)
        return found


class _Gates(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels // 4)
        self.fc1, self.fc2 = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)


def _normed(inputs: int, outputs: int, size: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, groups=groups, bias=False), nn.BatchNorm2d(outputs, eps=1e-3)
    )  # fmt: skip


def scaled(channels: int, width: float) -> int:
    """Channels of a layer at a width: a multiple of eight."""
    return divisible(channels * width)


def divisible(channels: float) -> int:
    """The nearest multiple of eight, of at least eight and nine tenths of `channels`, as MobileNets have it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


# --- the network as it computes ------------------------------------------------------------------------------------


class LogMel(nn.Module):
    """The network's front end: pre-emphasis, power spectrogram, Kaldi's mel bands, their logarithm, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = PowerSpectrogram(WINDOW, HOP, length=LENGTH, pad_mode="reflect", periodic=False)
        self.filterbank = Filterbank(kaldi_mel_weights(RATE, LENGTH, BANDS, 0.0, TOP))

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) waveforms at 32 kHz to (batch, frames, bands), `1 + (samples - 1) // 320` frames."""
        emphasised = waveforms[:, 1:] - EMPHASIS * waveforms[:, :-1]
        return self.spectrogram.map(emphasised, self._levels)

    def _levels(self, power: Tensor) -> Tensor:
        return self.levels(self.filterbank(power))

    @staticmethod
    def levels(power: Tensor) -> Tensor:
        """Levels of power, for every band by itself."""
        return 0.2 * torch.log(power + FLOOR) + 0.9

    @staticmethod
    def power(levels: Tensor) -> Tensor:
        """Power of levels, not negative."""
        return (torch.exp((levels - 0.9) / 0.2) - FLOOR).clamp_min(0.0)


def kaldi_mel_weights(rate: int, window: int, bands: int, fmin: float, fmax: float) -> Tensor:
    """Triangles of height one, straight on the mel scale itself: Kaldi's mel filterbank.

    The scale is 1127 ln(1 + f / 700). A triangle is evaluated at the bins' places in mel, not in Hz; the bin at half
    the rate belongs to none.

    Returns:
        (bands, bins) float32.
    """
    low, high = (1127.0 * math.log1p(frequency / 700.0) for frequency in (fmin, fmax))
    places = 1127.0 * np.log1p(bin_frequencies(rate, window) / 700.0)
    step = (high - low) / (bands + 1)
    centres = low + step * np.arange(1, bands + 1)[:, None]
    triangles = np.maximum(0.0, 1.0 - np.abs(places - centres) / step)
    triangles[:, -1] = 0.0
    return torch.from_numpy(triangles.astype(np.float32))


Part = Convolution | NormedConvolution
Make = Callable[[nn.Module, torch.dtype, str, int], Part]
"""Makes a convolution of a published one with its batch norm: given a precision, an activation and a stride."""


class MobileNet(Trunk):
    """A MobileNet and its front end: to listen, normalisation folded in, or to train, with batch norms of its own.

    Maps run (batch, channels, frames, bands), so that a spectrogram goes in as it comes, and kernels are turned to fit.

    Args:
        network: the published one.
        key: see `Trunk`.
        precision: of the convolutions; the front end and what comes out are float32.
        make: makes its convolutions: `folded_convolution` to listen, `normed_convolution` to train.
    """

    sample_rate = RATE
    piece_seconds = PIECE_SECONDS
    batch_seconds = BATCH_SECONDS
    rounds_up = True

    def __init__(
        self, network: Published, key: str, precision: torch.dtype = torch.float32, make: Make | None = None
    ) -> None:
        super().__init__()
        make = make or folded_convolution
        self.key, self.precision, self.trainable = key, precision, make is normed_convolution
        self.exportable = precision == torch.float32
        self.front = LogMel()
        self.hidden = nn.Sequential(network.classifier[2], nn.Hardswish()) if self.trainable else None
        stem, *inverted, last = network.features
        parts: list[Part | _Block] = [make(stem, precision, "hardswish", 2)]
        hops = [2]
        for published, (_, _, _, _, activation, stride) in zip(inverted, _BLOCKS, strict=True):
            assert isinstance(published, _Inverted)
            parts.append(_Block(published.block, precision, activation, stride, make))
            hops.append(hops[-1] * stride)
        parts.append(make(last, precision, "hardswish", 1))
        hops.append(hops[-1])
        self.blocks = nn.ModuleList(parts)
        self.layers: Mapping[str, Layer] = {
            f"block{index}": Layer(part.outputs, HOP * hop)
            for index, (part, hop) in enumerate(zip(parts, hops, strict=True))
        }

    def hear(self, waveforms: Tensor) -> Tensor:
        """See `Trunk.hear`: levels (batch, frames, bands)."""
        levels: Tensor = self.front(waveforms)
        return levels

    def described(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """See `Trunk.described`."""
        maps = heard.unsqueeze(1).to(self.precision)
        if plain(maps):
            maps = maps.contiguous(memory_format=torch.channels_last)
            if self.precision != torch.float32:
                # How a batch is divided among instructions shows in the third digit here, so clips go one by one.
                each = [self._maps(one, names) for one in torch.split(maps, 1)]
                return [torch.cat(parts) for parts in zip(*each, strict=True)]
        return self._maps(maps, names)

    def unfreeze(self, deepest: str) -> None:
        """See `Trunk.unfreeze`; what has been folded can only listen."""
        if not self.trainable:
            super().unfreeze(deepest)
        self.blocks = self.blocks[: 1 + int(deepest.removeprefix("block"))]
        self.requires_grad_(True)

    def depths(self) -> list[list[nn.Parameter]]:
        """See `Trunk.depths`."""
        return [list(block.parameters()) for block in self.blocks]

    def _maps(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        deepest = max(int(name.removeprefix("block")) for name in names)
        found: dict[str, Tensor] = {}
        for index, block in enumerate(self.blocks):
            if index > deepest:
                break
            heard = block(heard)
            if f"block{index}" in names:
                found[f"block{index}"] = heard.float().mean(3).transpose(1, 2)
        return [found[name] for name in names]


class _Block(nn.Module):
    """An inverted residual block."""

    def __init__(
        self, published: nn.Sequential, precision: torch.dtype, activation: str, stride: int, make: Make
    ) -> None:
        super().__init__()
        *expansion, depthwise, projection = [part for part in published if isinstance(part, nn.Sequential)]
        excitation = [part for part in published if isinstance(part, _Excitation)]
        self.depthwise = make(depthwise, precision, activation, stride)
        first = make(expansion[0], precision, activation, 1) if expansion else None
        self.expansion = first or nn.Identity()
        self.gates = _Excite(excitation[0].gates) if excitation else None
        self.projection = make(projection, precision, "none", 1)
        self.stride, self.outputs = stride, self.projection.outputs
        self.residual = stride == 1 and (first or self.depthwise).inputs == self.outputs

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.depthwise(self.expansion(maps))
        if self.gates is not None:
            inner = inner * self.gates(inner)
        found: Tensor = self.projection(inner)
        return found + maps if self.residual else found


class _Excite(nn.Module):
    """Squeeze-and-excitation: a gate from 0 to 1 for every channel, from the channels' means over the whole input."""

    def __init__(self, published: _Gates) -> None:
        super().__init__()
        self.fc1, self.fc2 = published.fc1, published.fc2

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = functional.relu(self.fc1(maps.mean((2, 3), dtype=torch.float32)))
        return torch.sigmoid(self.fc2(squeezed)).to(maps.dtype)[:, :, None, None]


def folded_convolution(published: nn.Module, precision: torch.dtype, activation: str, stride: int) -> Part:
    """To listen: see `Make`."""
    convolution, norm = _pair(published)
    kernel, bias = folded(convolution, norm)
    return Convolution(
        kernel.transpose(2, 3).to(precision),
        bias.to(precision),
        stride=stride,
        groups=convolution.groups,
        activation=activation,
    )


def normed_convolution(published: nn.Module, precision: torch.dtype, activation: str, stride: int) -> Part:
    """To train: see `Make`. It is float32, whatever the precision; training has its own ways to be quick."""
    convolution, norm = _pair(published)
    kernel, groups = convolution.weight.transpose(2, 3), convolution.groups
    return NormedConvolution(kernel, norm, stride=stride, groups=groups, activation=activation)


def _pair(published: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    assert isinstance(published, nn.Sequential)
    convolution, norm = published[0], published[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return convolution, norm


class Tagger(nn.Module):
    """A network with its head: waveforms to the probabilities of AudioSet's tags, and the embedding.

    Args:
        network: the published one.
    """

    def __init__(self, network: Published) -> None:
        super().__init__()
        self.trunk = MobileNet(network, "tagger")
        self.hidden, self.tags = network.classifier[2], network.classifier[5]

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) at 32 kHz to (batch, 527) probabilities and the (batch, dim) embedding."""
        embedding = self.trunk.maps(waveforms, [list(self.trunk.layers)[-1]])[0].mean(1)
        return torch.sigmoid(self.logits(embedding)), embedding

    def logits(self, embedding: Tensor) -> Tensor:
        """What the probabilities are the sigmoid of, from embeddings."""
        found: Tensor = self.tags(functional.hardswish(self.hidden(embedding)))
        return found
