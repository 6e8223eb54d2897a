"""Pretrained networks as encoders: frames from the last layer, or from any layer on the way to it.

A *trunk* is the network with its front end; an encoder is one layer of it. Encoders joined over one trunk hear a clip
once, so `cnn14@block4+cnn14@block6` costs what `cnn14` costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor, nn

from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError
from soundmark.spec import Spec


@dataclass(frozen=True)
class Layer:
    """What a layer gives.

    Attributes:
        inner: length of a row of its features.
        hop: samples between rows.
        dim: length of a frame made from a row; 0 where rows are frames.
    """

    inner: int
    hop: int
    dim: int = 0


class Trunk(nn.Module):
    """A network with its front end. Subclasses set the attributes and define `hear` and `described`, or `maps`.

    Attributes:
        key: names the network, its weights and everything else its numbers depend on; trunks of equal keys are one.
        sample_rate: Hz.
        layers: every layer by name, the deepest last; that one is the encoder's own.
        hidden: the published layer between the encoder's own vector and what it tags, where there is one to train.
        min_seconds, piece_seconds, batch_seconds, rounds_up, exportable: see `Encoder`.
    """

    key: str
    sample_rate: int
    layers: Mapping[str, Layer]
    min_seconds: float = 0.05
    piece_seconds: float = 60.0
    batch_seconds: float = 0.0
    rounds_up: bool = False
    exportable: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.hidden: nn.Module | None = None

    def maps(self, waveforms: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Features of the layers named, each (batch, frames, inner): the layer's map averaged over frequency.

        Nothing deeper than the deepest of them is computed.
        """
        return self.described(self.hear(waveforms), names)

    def hear(self, waveforms: Tensor) -> Tensor:
        """What comes before anything that can be trained: (batch, samples) to what `described` takes."""
        return waveforms

    def described(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """`maps` of what `hear` gave."""
        raise NotImplementedError(f"{type(self).__name__} must define described")

    def unfreeze(self, deepest: str) -> None:
        """Turn all that computes the layer `deepest` into parameters that learn, and drop what lies beyond it.

        Raises:
            SpecError: if the network can only listen.
        """
        raise SpecError(f"{type(self).__name__} can only listen: it has nothing to train")

    def depths(self) -> list[list[nn.Parameter]]:
        """The parameters in groups, the shallowest first."""
        return [list(self.parameters())]

    def moments(self, features: Tensor) -> Tensor:
        """Frames from features of the deepest layer."""
        return features

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """The published embedding, from mean and maximum over time of the deepest layer's features."""
        return mean


_made: ContextVar[dict[str, Trunk] | None] = ContextVar("_made", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """While it lasts, trunks of equal keys are made once: several layers of a network then need its memory once.

    Not for longer: what one caller does to a network, such as moving it to another device, is not another's business.
    """
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def shared(key: str, make: Callable[[], Trunk]) -> Trunk:
    """The trunk of a key: one that was made within the same `sharing`, or a new one."""
    made = _made.get()
    trunk = made.get(key) if made is not None else None
    if trunk is None:
        trunk = make()
        trunk.key = key
        if made is not None:
            made[key] = trunk
    return trunk


class NetworkEncoder(Encoder):
    """One layer of a trunk.

    Args:
        spec: its name in the grammar, as the user wrote it.
        trunk: the network.

    Raises:
        SpecError: for a layer that the trunk has not.
    """

    batched = True

    def __init__(self, spec: Spec, trunk: Trunk) -> None:
        super().__init__()
        last = list(trunk.layers)[-1]
        self.layer = spec.layer or last
        if self.layer not in trunk.layers:
            raise SpecError(
                f"{spec.name!r} has no layer {self.layer!r}; its layers, from the shallowest to its own last one, are: "
                f"{', '.join(trunk.layers)}"
            )
        self.trunk, self.deepest = trunk, self.layer == last
        self.spec = str(Spec(spec.name, spec.view, "" if self.deepest else self.layer, spec.settings))
        about = trunk.layers[self.layer]
        self.dim, self._inner = about.dim or about.inner, about.inner
        self.sample_rate = trunk.sample_rate
        self.hop_seconds = about.hop / trunk.sample_rate
        self.min_seconds, self.piece_seconds = trunk.min_seconds, trunk.piece_seconds
        self.batch_seconds, self.rounds_up = trunk.batch_seconds, trunk.rounds_up
        self.exportable = trunk.exportable

    @property
    def identity(self) -> str:
        """See `Encoder.identity`."""
        return f"{self.spec}#{self.trunk.key}"

    @property
    def inner_dim(self) -> int:
        """See `Encoder.inner_dim`."""
        return self._inner

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, dim)."""
        return self.moments(self.features(waveforms))

    def features(self, waveforms: Tensor) -> Tensor:
        """The layer's map averaged over frequency: (batch, frames, inner)."""
        self.require_input(waveforms)
        return self.trunk.maps(waveforms, [self.layer])[0]

    def moments(self, features: Tensor) -> Tensor:
        """See `Encoder.moments`."""
        return self.trunk.moments(features) if self.deepest else features

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """See `Encoder.scene`; of a middle layer it is the mean."""
        return self.trunk.scene(mean, peak) if self.deepest else mean
