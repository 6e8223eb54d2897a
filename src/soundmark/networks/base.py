"""The network contract: waveforms in, logits out, trained end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soundmark.audio import WindowPolicy
from soundmark.networks.front import Front


class Network(nn.Module):
    """Waveforms to logits in three steps: `hear` (fixed), `vectors` and `head` (both trained).

    Subclasses set the attributes and define `vectors`; `hear` needs defining only where there is no front end, and
    `views` where a clip that is measured or recognised is heard more than once.

    Attributes:
        spec: canonical name in the grammar.
        sample_rate: Hz of the waveforms.
        front: the spectrogram that comes first, or None where the network takes waveforms as they are; then nothing is
            kept between epochs and spectrograms cannot be augmented.
        head: the last layer, (dim) to (classes).
        policy: how a clip becomes input. `window_seconds` above 0 makes the network one of a fixed length.
        exportable: False where no ONNX graph can be written.
    """

    spec: str
    sample_rate: int
    front: Front | None
    head: nn.Linear
    policy: WindowPolicy = WindowPolicy()
    exportable: bool = True

    def hear(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) to what `vectors` takes: levels (batch, frames, bands), or the waveforms themselves."""
        return waveforms if self.front is None else self.front(waveforms)

    def vectors(self, heard: Tensor) -> Tensor:
        """What `hear` gave, to one embedding per clip: (batch, dim)."""
        raise NotImplementedError(f"{type(self).__name__} must define vectors")

    def views(self, heard: Tensor) -> Sequence[Tensor]:
        """What `hear` gave of clips that are measured or recognised, changed in as many ways as they are heard."""
        return [heard]

    def whole(self, heard: Tensor) -> Tensor:
        """What `hear` gave of clips that are measured or recognised, to (batch, dim): the mean of their views' vectors.

        The head is linear, so what it says of the mean is the geometric mean of what it says of each view.
        """
        vectors = [self.vectors(view) for view in self.views(heard)]
        return vectors[0] if len(vectors) == 1 else torch.stack(vectors).mean(0)

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) waveforms of whole clips to (batch, classes) logits."""
        logits: Tensor = self.head(self.whole(self.hear(waveforms)))
        return logits

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """The parameters before the head in groups, the shallowest first, for learning rates by depth."""
        last = {id(each) for each in self.head.parameters()}
        return [[each for each in self.parameters() if id(each) not in last]]

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.head.in_features


class Exported(nn.Module):
    """What a model file computes: probabilities and embedding from waveforms."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, samples) to (batch, classes) probabilities and (batch, dim) embedding."""
        vectors = self.network.whole(self.network.hear(waveforms))
        return torch.softmax(self.network.head(vectors), dim=1), vectors


class BandNorm(nn.Module):
    """Batch normalisation of every band of (batch, frames, bands) levels; what it learns is the training side's."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(bands)

    def forward(self, levels: Tensor) -> Tensor:
        """Levels of mean 0 and deviation 1 in every band, of the same shape."""
        normed: Tensor = self.norm(levels.transpose(1, 2)).transpose(1, 2)
        return normed


def mean_and_peak(maps: Tensor) -> Tensor:
    """(batch, channels, frames, bands) maps to (batch, channels): the mean over bands, then mean plus maximum in time.

    Source: the pooling of Kong et al., "PANNs", IEEE/ACM TASLP 28 (2020).
    """
    over_time = maps.float().mean(3)
    return over_time.mean(2) + over_time.amax(2)


def groups(*modules: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of modules, one list each: see `Network.depths`."""
    return [list(module.parameters()) for module in modules]


def he_normal(module: nn.Module) -> None:
    """Draw the kernels of all two-dimensional convolutions inside so that a ReLU after them keeps gradients' size.

    Source: He, Zhang, Ren, Sun: "Delving deep into rectifiers", ICCV 2015.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
