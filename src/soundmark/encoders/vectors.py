"""From waveforms to one vector per clip: an encoder and a pooling as one module."""

from __future__ import annotations

from torch import Tensor, nn

from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling


class Vectors(nn.Module):
    """An encoder and the pooling of its frames; the exported graph is traced from it."""

    def __init__(self, encoder: Encoder, pooling: Pooling) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) waveforms to (batch, dim of the vector)."""
        return self.pool(self.encoder.features(waveforms))

    def pool(self, features: Tensor) -> Tensor:
        """Vectors of whole clips from their features."""
        names = set(self.pooling.names)
        scene = self.encoder.scene(features.mean(1), features.amax(1)) if "scene" in names else None
        # Frames may cost more than the vector that is asked for.
        frames = features if scene is not None and names == {"scene"} else self.encoder.moments(features)
        vectors: Tensor = self.pooling(frames, scene)
        return vectors
