"""Several encoders as one: their frames side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from soundmark.encoders.base import Encoder
from soundmark.encoders.network import NetworkEncoder
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
        rates = [f"{part.sample_rate} Hz" for part in parts]
        if len(set(rates)) > 1:
            raise SpecError(
                f"joined encoders need one rate, but {self.spec!r} has {', '.join(rates)}: give each the same rate"
            )
        self.hop_seconds = max(part.hop_seconds for part in parts)
        # Parts of shorter hops are averaged to the longest, whose moments therefore are the joined frames'.
        self.centred_on = next(part.centred_on for part in parts if part.hop_seconds == self.hop_seconds)
        self.strides = [round(self.hop_seconds / part.hop_seconds) for part in parts]
        if any(
            abs(part.hop_seconds * stride / self.hop_seconds - 1) > 1e-6
            for part, stride in zip(parts, self.strides, strict=True)
        ):
            hops = ", ".join(f"{part.hop_seconds * 1e3:.6g} ms" for part in parts)
            raise SpecError(
                f"joined encoders need hops that fit the longest a whole number of times, but {self.spec!r} has {hops}:"
                " give each the same hop"
            )
        if len({part.spec for part in parts}) < len(parts):
            raise SpecError(f"{self.spec!r} holds the same encoder twice: name it once")
        trunks = {part.trunk.key: part.trunk for part in parts if isinstance(part, NetworkEncoder)}
        for part in parts:
            if isinstance(part, NetworkEncoder):
                part.trunk = trunks[part.trunk.key]
        self.parts = nn.ModuleList(parts)
        self._listeners = list(parts)
        self.sample_rate = parts[0].sample_rate
        self.piece_seconds = min(part.piece_seconds for part in parts)
        self.batched = any(part.batched for part in parts)
        self.batch_seconds = min(part.batch_seconds or part.piece_seconds for part in parts)
        self.rounds_up = any(part.rounds_up for part in parts)
        self.min_seconds = max(part.min_seconds for part in parts)
        self.dim = sum(part.dim for part in parts)
        # Parts that round differently are cut to the shorter, for which a graph has no words.
        self.exportable = all(part.exportable for part in parts) and len({part.rounds_up for part in parts}) == 1
        self.feature_names = _names(parts)
        self._inner = [part.inner_dim for part in parts]

    @property
    def traceable(self) -> Encoder:
        """See `Encoder.traceable`."""
        own = [part.traceable for part in self._listeners]
        return self if own == self._listeners else Joined(own).eval()

    @property
    def identity(self) -> str:
        """See `Encoder.identity`."""
        return "+".join(part.identity for part in self._listeners)

    def encode(self, waveforms: Tensor) -> Tensor:
        """Frames of (batch, samples) waveforms: (batch, frames, sum of the parts' dims)."""
        return self.moments(self.features(waveforms))

    def features(self, waveforms: Tensor) -> Tensor:
        """The parts' features side by side; those of shorter hops averaged to the longest."""
        self.require_input(waveforms)
        rows = self._spectral_rows(waveforms) | self._network_features(waveforms)
        heard = [
            part.finish(waveforms, rows[index])
            if isinstance(part, SpectralEncoder)
            else rows[index]
            if isinstance(part, NetworkEncoder)
            else part.features(waveforms)
            for index, part in enumerate(self._listeners)
        ]
        heard = [
            _averaged(features, stride, up=part.rounds_up)
            for features, stride, part in zip(heard, self.strides, self._listeners, strict=True)
        ]
        if not torch.compiler.is_exporting():
            lengths = sorted({part.shape[1] for part in heard})
            if lengths[-1] - lengths[0] > int(len({part.rounds_up for part in self._listeners}) > 1):
                raise SpecError(f"the parts of {self.spec!r} give {lengths} frames for one clip: they cannot be joined")
            heard = [part[:, : lengths[0]] for part in heard]
        return torch.cat(heard, dim=-1)

    def moments(self, features: Tensor) -> Tensor:
        """See `Encoder.moments`."""
        parts = zip(self._listeners, torch.split(features, self._inner, dim=-1), strict=True)
        return torch.cat([part.moments(own) for part, own in parts], dim=-1)

    def scene(self, mean: Tensor, peak: Tensor) -> Tensor:
        """See `Encoder.scene`: the parts' own vectors, one after the other."""
        parts = zip(
            self._listeners, torch.split(mean, self._inner, dim=-1), torch.split(peak, self._inner, dim=-1), strict=True
        )
        return torch.cat([part.scene(own_mean, own_peak) for part, own_mean, own_peak in parts], dim=-1)

    def _network_features(self, waveforms: Tensor) -> dict[int, Tensor]:
        """Features of every layer, by its index; layers of one network are taken on one way through it."""
        layers = {index: part for index, part in enumerate(self._listeners) if isinstance(part, NetworkEncoder)}
        found: dict[int, Tensor] = {}
        for trunk in {part.trunk.key: part.trunk for part in layers.values()}.values():
            own = {index: part.layer for index, part in layers.items() if part.trunk is trunk}
            found |= zip(own, trunk.maps(waveforms, list(own.values())), strict=True)
        return found

    def _spectral_rows(self, waveforms: Tensor) -> dict[int, Tensor]:
        """What every spectral part says of single frames, by its index; parts of one window share the spectrogram."""
        rows: dict[int, Tensor] = {}
        grids = dict.fromkeys((part.window, part.hop) for part in self._listeners if isinstance(part, SpectralEncoder))
        for grid in grids:
            sharing = {
                index: part
                for index, part in enumerate(self._listeners)
                if isinstance(part, SpectralEncoder) and (part.window, part.hop) == grid
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


def _averaged(features: Tensor, stride: int, *, up: bool) -> Tensor:
    """Features averaged over every `stride` frames; an incomplete last run is dropped, or filled with its last."""
    if stride == 1:
        return features
    if up:
        last = features[:, -1:].expand(-1, stride - 1, -1)
        features = torch.cat([features, last], dim=1)
    return nn.functional.avg_pool1d(features.transpose(1, 2), stride).transpose(1, 2)


def _names(parts: Sequence[Encoder]) -> tuple[str, ...]:
    names = [name for part in parts for name in part.feature_names]
    if not all(part.feature_names for part in parts):
        return ()
    if max(Counter(names).values()) == 1:
        return tuple(names)
    return tuple(f"{index} {name}" for index, part in enumerate(parts, 1) for name in part.feature_names)
