"""Pretrained encoders as networks: `mn04` goes on learning from where it was published.

A clip's vector is the encoder's own (`scene`), of its last layer or of any on the way to it; dropout and a new linear
layer come after. Before the first step of training it is the encoder's vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark import encoders
from soundmark.encoders import mobilenet, panns
from soundmark.encoders.network import NetworkEncoder, Trunk
from soundmark.errors import SpecError
from soundmark.frontends import Filterbank, PowerSpectrogram, decibels
from soundmark.networks.base import Network
from soundmark.networks.front import Front
from soundmark.spec import Spec, take

_CLOSED = ("hear", "onnx")  # other people's, of which nothing but numbers comes out
_OF_TRAINING = ("precision", "engine")  # settings of the encoder that training has its own for


class Finetuned(Network):
    """An encoder that learns, up to one of its layers, and a linear head.

    The MobileNets are trained as they were published, with batch norms that go on measuring. Those of PANNs and
    AudioSep stay folded into the convolutions beside them, whose weights and biases learn. Hugging Face models stay in
    evaluation mode, without dropout or masked spans of their own.

    Args:
        spec: the encoder's name with its settings, and `dropout` before the head.
        classes: how many.

    Raises:
        SpecError: for an encoder with nothing to train, or a setting that is unknown or the training's own.
        WeightsError: if the weights are not what they should be.
        DownloadError: if they are not here and cannot be fetched.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        encoder, self.dropout = _listener(spec)
        self.spec = str(Spec(spec.name, spec.view, "" if encoder.deepest else encoder.layer, spec.settings))
        self.sample_rate, self.policy, self.exportable = encoder.sample_rate, encoder.policy, encoder.exportable
        self.trunk, self.layer, self._deepest = encoder.trunk, encoder.layer, encoder.deepest
        self.trunk.unfreeze(self.layer)
        self.front = _front(self.trunk)
        self.head = nn.Linear(encoder.dim, classes)

    def hear(self, waveforms: Tensor) -> Tensor:
        """See `Network.hear`."""
        return self.trunk.hear(waveforms)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        features = self.trunk.described(heard, [self.layer])[0].float()
        mean = features.mean(1)
        found = self.trunk.scene(mean, features.amax(1)) if self._deepest else mean
        return functional.dropout(found, self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`: the encoder's blocks."""
        return self.trunk.depths()


def _listener(spec: Spec) -> tuple[NetworkEncoder, float]:
    """The encoder with nothing folded that training would change, and the dropout before the head."""
    settings = dict(spec.settings)
    for key in _OF_TRAINING:
        if key in settings:
            raise SpecError(
                f"{key}={settings[key]} in {spec.name!r} is for listening, and {spec.name!r} is to be trained here: "
                "leave it out"
            )
    given = {"dropout": settings.pop("dropout")} if "dropout" in settings else {}
    dropout: float = take(Spec(spec.name, settings=given), {"dropout": 0.0})["dropout"]
    if not 0 <= dropout < 1:
        raise SpecError(f"dropout={dropout:g} in {spec.name!r} is out of bounds: it lies from 0 to below 1")
    plain = Spec(spec.name, spec.view, spec.layer, settings)
    if spec.name in mobilenet.WIDTHS:
        return mobilenet.unfolded(plain), dropout
    encoder = None if spec.name in _CLOSED else encoders.load(str(plain))
    if not isinstance(encoder, NetworkEncoder):
        raise SpecError(f"{spec.name!r} has nothing to train: use it with --encoder {plain}, and a head on top")
    return encoder, dropout


def _front(trunk: Trunk) -> Front | None:
    """The trunk's spectrogram as a front end, where it has one that sounds can be mixed in."""
    if isinstance(trunk, mobilenet.MobileNet):
        return MobileNetFront(trunk.front)
    if isinstance(trunk, panns.Panns):
        return PannsFront(trunk.spectrogram, trunk.filterbank)
    return None


class MobileNetFront(Front):
    """Levels of the MobileNets: `0.2 ln(power + 1e-5) + 0.9` of Kaldi's mel bands after pre-emphasis."""

    def __init__(self, inner: mobilenet.LogMel) -> None:
        super().__init__()
        self.inner = inner
        self.sample_rate, self.hop, self.bands = mobilenet.RATE, mobilenet.HOP, mobilenet.BANDS
        self.low, self.high = mobilenet.RATE / mobilenet.LENGTH, mobilenet.TOP

    def forward(self, waveforms: Tensor) -> Tensor:
        """See `Front.forward`; `1 + (samples - 1) // 320` frames."""
        levels: Tensor = self.inner(waveforms)
        return levels

    def power(self, levels: Tensor) -> Tensor:
        """See `Front.power`."""
        return self.inner.power(levels)

    def levels(self, power: Tensor) -> Tensor:
        """See `Front.levels`."""
        return self.inner.levels(power)


class PannsFront(Front):
    """Levels of PANNs in dB: `10 log10(max(power, 1e-10))` of 64 mel bands."""

    def __init__(self, spectrogram: PowerSpectrogram, filterbank: Filterbank) -> None:
        super().__init__()
        self.spectrogram, self.filterbank = spectrogram, filterbank
        self.sample_rate, self.hop, self.bands = panns.RATE, panns.HOP, panns.BANDS
        self.low, self.high = panns.FMIN, panns.FMAX

    def forward(self, waveforms: Tensor) -> Tensor:
        """See `Front.forward`; `1 + samples // 320` frames."""
        return self.spectrogram.map(waveforms, lambda power: self.levels(self.filterbank(power)))

    def power(self, levels: Tensor) -> Tensor:
        """See `Front.power`."""
        return torch.pow(10.0, levels / 10.0)

    def levels(self, power: Tensor) -> Tensor:
        """See `Front.levels`."""
        return decibels(power)
