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
from soundmark.spec import Spec, bounded, take

_CLOSED = ("hear", "onnx")  # other people's, of which nothing but numbers comes out
_OF_TRAINING = ("precision", "engine")  # settings of the encoder that training has its own for


class Finetuned(Network):
    """An encoder that learns, up to one of its layers, and a linear head.

    The MobileNets are trained as they were published, with batch norms that go on measuring. Those of PANNs and
    AudioSep stay folded into the convolutions beside them, whose weights and biases learn. Hugging Face models stay in
    evaluation mode, without dropout or masked spans of their own.

    Args:
        spec: the encoder's name with its settings, `dropout` before the head, and `hidden=true` for the published
            layer between the encoder's vector and what it tags, whose output then joins the vector.
        classes: how many.

    Raises:
        SpecError: for an encoder with nothing to train, or a setting that is unknown or the training's own.
        WeightsError: if the weights are not what they should be.
        DownloadError: if they are not here and cannot be fetched.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        encoder, self.dropout, hidden = _listener(spec)
        self.spec = str(Spec(spec.name, spec.view, "" if encoder.deepest else encoder.layer, spec.settings))
        self.sample_rate, self.policy, self.exportable = encoder.sample_rate, encoder.policy, encoder.exportable
        self.trunk, self.layer, self._deepest = encoder.trunk, encoder.layer, encoder.deepest
        self.trunk.unfreeze(self.layer)
        self.front = _front(self.trunk)
        self.hidden, self.trunk.hidden = self.trunk.hidden if hidden else None, None
        added = _width(self.hidden, encoder.dim) if self.hidden is not None else 0
        self.head = nn.Linear(encoder.dim + added, classes)

    def hear(self, waveforms: Tensor) -> Tensor:
        """See `Network.hear`."""
        return self.trunk.hear(waveforms)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        features = self.trunk.described(heard, [self.layer])[0].float()
        mean = features.mean(1)
        found = self.trunk.scene(mean, features.amax(1)) if self._deepest else mean
        if self.hidden is not None:
            found = torch.cat([found, self.hidden(found).float()], 1)
        return functional.dropout(found, self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`: the encoder's blocks, and the hidden layer."""
        return self.trunk.depths() + ([list(self.hidden.parameters())] if self.hidden is not None else [])


def _listener(spec: Spec) -> tuple[NetworkEncoder, float, bool]:
    """The encoder with nothing folded that training would change, and what is ours: dropout, and the hidden layer."""
    settings = dict(spec.settings)
    for key in _OF_TRAINING:
        if key in settings:
            raise SpecError(
                f"{key}={settings[key]} in {spec.name!r} is for listening, and {spec.name!r} is to be trained here: "
                "leave it out"
            )
    given = {key: settings.pop(key) for key in list(settings) if key in ("dropout", "hidden")}
    ours = take(Spec(spec.name, settings=given), {"dropout": 0.0, "hidden": False})
    bounded(spec, ours, dropout=(0.0, 0.99))
    encoder = _trainable(Spec(spec.name, spec.view, spec.layer, settings))
    if ours["hidden"] and (encoder.trunk.hidden is None or not encoder.deepest):
        raise SpecError(f"hidden=true in {spec.name!r}: only the MobileNets, whole, have such a layer; leave it out")
    return encoder, ours["dropout"], ours["hidden"]


def _trainable(spec: Spec) -> NetworkEncoder:
    if spec.name in mobilenet.WIDTHS:
        return mobilenet.unfolded(spec)
    encoder = None if spec.name in _CLOSED else encoders.load(str(spec))
    if not isinstance(encoder, NetworkEncoder):
        raise SpecError(f"{spec.name!r} has nothing to train: use it with --encoder {spec}, and a head on top")
    return encoder


def _width(layer: nn.Module, dim: int) -> int:
    """How many numbers a layer makes of `dim`."""
    with torch.no_grad():
        return int(layer(torch.zeros(1, dim)).shape[1])


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
