"""`conv1d`: two convolutions over time, for which every mel band is a channel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from soundmark.networks.base import BandNorm, Network, groups
from soundmark.networks.front import take_settings
from soundmark.spec import Spec, bounded


class Conv1d(Network):
    """Two convolutions over time with batch norm and ReLU, pooling between them; mean plus maximum over time; linear.

    Args:
        spec: its name; `width` is the number of channels of the first convolution, of which the second has twice as
            many, `kernel` their length in frames, `dropout` comes before the head.
        classes: how many.

    Raises:
        SpecError: for a setting that is unknown or out of bounds.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        defaults = {"width": 128, "kernel": 9, "dropout": 0.2}
        self.front, own = take_settings(spec, defaults, window=1024, hop=256, bands=128)
        bounded(spec, own, width=(1, 8192), kernel=(1, 255), dropout=(0.0, 0.99))
        self.spec, self.sample_rate, self.dropout = str(spec), self.front.sample_rate, own["dropout"]
        self.policy = self.front.policy(frames=4)
        self.norm = BandNorm(self.front.bands)
        self.first = _normed(self.front.bands, own["width"], own["kernel"])
        self.second = _normed(own["width"], 2 * own["width"], own["kernel"])
        self.head = nn.Linear(2 * own["width"], classes)

    def vectors(self, heard: Tensor) -> Tensor:
        """See `Network.vectors`."""
        rows = self.first(self.norm(heard).transpose(1, 2))
        rows = self.second(functional.max_pool1d(rows, 4)).float()
        return functional.dropout(rows.mean(2) + rows.amax(2), self.dropout, self.training)

    def depths(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Network.depths`."""
        return groups(self.norm, self.first, self.second)


def _normed(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # As long as wanted on either side, so that even kernels keep a row's length within one frame too.
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
    )
