"""The encoder contract: waveforms in, one vector per moment out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from soundmark.audio import WindowPolicy
from soundmark.errors import AudioError


class Encoder(nn.Module):
    """A frozen listener. Subclasses set the attributes and define `encode`; everything else is shared.

    Attributes:
        spec: canonical name in the grammar with every setting spelled out; it keys the cache of embeddings, so two
            encoders with equal specs must give equal frames.
        sample_rate: Hz of the waveforms it expects.
        dim: length of a frame's vector.
        hop_seconds: time between frames.
        min_seconds: shortest waveform `encode` takes; shorter clips are filled up to it first.
        feature_names: what the components of a frame are, or empty.
        exportable: False where no ONNX graph can be written.
        piece_seconds: most audio encoded at once, which bounds memory: longer recordings are heard piece by piece.
        batched: whether several clips at once take less time than one after the other, as in small networks.
        batch_seconds: most audio in a batch of several clips; 0 is as much as in a piece.
        rounds_up: whether a last, incomplete hop makes a frame; joined encoders of different hops are aligned by it.
        centred_on: the moment that the first frame is centred on, in hops: 0.5 where a frame tells of the hop it stands
            for, 0 where windows are centred on the waveform's beginning, as those of spectrograms are.
    """

    spec: str
    sample_rate: int
    dim: int
    hop_seconds: float
    min_seconds: float = 0.0
    feature_names: tuple[str, ...] = ()
    exportable: bool = True
    piece_seconds: float = 60.0
    batched: bool = False
    batch_seconds: float = 0.0
    rounds_up: bool = False
    centred_on: float = 0.5

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of mono waveforms.

        Args:
            waveforms: (batch, samples) float32 in [-1, 1] at `sample_rate`, at least `min_seconds` long.

        Returns:
            (batch, frames, dim) float32. A clip's frames do not depend on its neighbours in the batch.

        Raises:
            AudioError: if the waveforms are not (batch, samples) or too short.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode")

    def features(self, waveforms: Tensor) -> Tensor:
        """What is summed up over time: (batch, frames, inner) float32. For most encoders the frames themselves.

        An encoder whose own vector of a clip is not made from its frames keeps here what both are made of, and defines
        `moments` and `scene` beside it; then `encode` is `moments(features(waveforms))`.
        """
        return self.encode(waveforms)

    def moments(self, features: Tensor) -> Tensor:
        """Frames (batch, frames, dim) from features, each frame by itself."""
        return features

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """The encoder's own vector of a clip, (batch, dim), from its features' mean and maximum over time.

        Pooling `scene` asks for it. For encoders that have no way of their own it is the mean.
        """
        return mean

    def forward(self, waveforms: Tensor) -> Tensor:
        """`encode`, so that an encoder is a module like any other and can be exported."""
        return self.encode(waveforms)

    @property
    def traceable(self) -> Encoder:
        """The module that a graph is traced from: itself, unless another engine does its work."""
        return self

    @property
    def inner_dim(self) -> int:
        """Length of a row of `features`."""
        return self.dim

    @property
    def identity(self) -> str:
        """All that its frames depend on, for the cache of embeddings: the spec, and a network's weights too."""
        return self.spec

    @property
    def policy(self) -> WindowPolicy:
        """How a clip becomes this encoder's input: any length from `min_seconds` up, short ones zero-filled."""
        return WindowPolicy(min_seconds=self.min_seconds)

    @property
    def min_samples(self) -> int:
        """`min_seconds` in samples."""
        return round(self.min_seconds * self.sample_rate)

    def require_input(self, waveforms: Tensor) -> None:
        """Refuse what `encode` cannot take; for subclasses to call first.

        Raises:
            AudioError: if the waveforms are not (batch, samples) or too short.
        """
        if waveforms.dim() != 2:
            raise AudioError(f"{self.spec} takes waveforms of shape (batch, samples), not {tuple(waveforms.shape)}")
        # A traced graph must stay free of conditions on its input's length; the window policy guards it there.
        if not torch.compiler.is_exporting() and waveforms.shape[1] < self.min_samples:
            raise AudioError(
                f"{self.spec} needs at least {self.min_samples} samples at {self.sample_rate} Hz, not "
                f"{waveforms.shape[1]}: fill short clips first, as the encoder's policy does"
            )
