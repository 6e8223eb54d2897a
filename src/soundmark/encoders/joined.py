"""Several encoders as one: their frames side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soundmark.encoders.base import Encoder
from soundmark.encoders.spectral import SpectralEncoder
from soundmark.errors import SpecError


class Joined(Encoder):
    """Frames of several encoders concatenated along the dimension; what they share is computed once.

    Args:
        parts: encoders of equal rate and hop.

    Raises:
        SpecError: if rate or hop differ, or the same encoder stands twice.
    """

    def __init__(self, parts: Sequence[Encoder]) -> None:
        super().__init__()
        self.spec = "+".join(part.spec for part in parts)
        for what, values in (
            ("rate", [f"{part.sample_rate} Hz" for part in parts]),
            ("hop", [f"{part.hop_seconds * 1e3:.6g} ms" for part in parts]),
        ):
            if len(set(values)) > 1:
                raise SpecError(
                    f"joined encoders need one {what}, but {self.spec!r} has {', '.join(values)}: "
                    f"give each the same {what}"
                )
        if len({part.spec for part in parts}) < len(parts):
            raise SpecError(f"{self.spec!r} holds the same encoder twice: name it once")
        self.parts = nn.ModuleList(parts)
        self.sample_rate, self.hop_seconds = parts[0].sample_rate, parts[0].hop_seconds
        self.min_seconds = max(part.min_seconds for part in parts)
        self.dim = sum(part.dim for part in parts)
        self.exportable = all(part.exportable for part in parts)
        self.feature_names = _names(parts)

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, sum of the parts' dims)."""
        self.require_input(waveforms)
        rows = self._spectral_rows(waveforms)
        frames = [
            part.finish(waveforms, rows[index]) if isinstance(part, SpectralEncoder) else part(waveforms)
            for index, part in enumerate(self.parts)
        ]
        lengths = {part.shape[1] for part in frames} if not torch.compiler.is_exporting() else {0}
        if len(lengths) > 1:
            raise SpecError(
                f"the parts of {self.spec!r} give {sorted(lengths)} frames for one clip: they cannot be joined"
            )
        return torch.cat(frames, dim=-1)

    def _spectral_rows(self, waveforms: Tensor) -> dict[int, Tensor]:
        """What every spectral part says of single frames, by its index; parts of one window share the spectrogram."""
        rows: dict[int, Tensor] = {}
        for window in dict.fromkeys(part.window for part in self.parts if isinstance(part, SpectralEncoder)):
            sharing = {
                index: part
                for index, part in enumerate(self.parts)
                if isinstance(part, SpectralEncoder) and part.window == window
            }
            spectrogram = max((part.spectrogram for part in sharing.values()), key=lambda one: one.precise)
            sizes: list[int] = []

            def describe(
                power: Tensor, sharing: dict[int, SpectralEncoder] = sharing, sizes: list[int] = sizes
            ) -> Tensor:
                described = [part.describe(power) for part in sharing.values()]
                sizes[:] = [part.shape[-1] for part in described]
                return torch.cat(described, dim=-1)

            together = spectrogram.map(waveforms, describe)
            rows |= zip(sharing, torch.split(together, sizes, dim=-1), strict=True)
        return rows


def _names(parts: Sequence[Encoder]) -> tuple[str, ...]:
    names = [name for part in parts for name in part.feature_names]
    if not all(part.feature_names for part in parts):
        return ()
    if max(Counter(names).values()) == 1:
        return tuple(names)
    return tuple(f"{index} {name}" for index, part in enumerate(parts, 1) for name in part.feature_names)
