"""What a teacher's vectors tell beside its probabilities.

Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015; here the hint is the last layer's vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Hints(nn.Module):
    """A linear map from the pupil's vectors to the teacher's. It is for training alone, and no part of the network.

    Args:
        pupil: size of the pupil's vectors.
        teacher: that of the teacher's.
    """

    def __init__(self, pupil: int, teacher: int) -> None:
        super().__init__()
        self.map = nn.Linear(pupil, teacher)
        nn.init.zeros_(self.map.weight)  # nothing is drawn: with hints or without, a seed means the same network
        nn.init.zeros_(self.map.bias)

    def forward(self, pupil: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error between the map of the pupil's vectors and the teacher's.

        Every component of the teacher's is brought to mean 0 and variance 1 over the batch first, so that 1 is what a
        map that knows nothing gives.

        Args:
            pupil: (batch, dim) vectors.
            teacher: (batch, dim of the teacher).

        Returns:
            A scalar; 0 for a single clip, over which nothing varies.
        """
        teacher = teacher.float()
        spread = teacher.std(0, correction=0)
        wanted = (teacher - teacher.mean(0)) / torch.where(spread > 0, spread, torch.inf)
        return functional.mse_loss(self.map(pupil.float()), wanted)
