"""What a trained network says of whole clips, in float32 arithmetic."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from soundmark.networks.bank import Bank
from soundmark.networks.base import Network
from soundmark.networks.machine import Machine

AT_ONCE = 64  # crops' worth of rows


def probabilities(network: Network, bank: Bank, positions: Tensor, *, machine: Machine) -> np.ndarray:
    """(clips, classes) float64 probabilities of whole clips, in float32 arithmetic."""
    device = machine.first()
    network = network.to(device).eval()
    with torch.inference_mode():
        said = logits_of(network, bank, positions, device).double().softmax(1)
    network.cpu()
    found: np.ndarray = said.numpy()
    return found


def logits_of(network: Network, bank: Bank, positions: Tensor, device: torch.device) -> Tensor:
    """(clips, classes) float32 logits, on the CPU; of clips longer than a network of one length, the windows' mean.

    That is the logarithm of the mean probability, so that it is the same for the loss, the accuracy and the result.
    """
    found: Tensor | None = None
    # Training may round as graphics cards like to (TF32); what is said of a test clip is rounded as little as can be.
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
        for same in bank.alike(torch.unique(positions), AT_ONCE):
            heard = bank.whole(same, device)
            heard = network.hear(heard) if bank.values.dim() == 1 else heard
            said = _heard_whole(network, heard, bank).float().cpu()
            if found is None:
                found = said.new_zeros(len(bank.lengths), said.shape[1])
            found[same] = said
    assert found is not None
    return found[positions]


def _heard_whole(network: Network, heard: Tensor, bank: Bank) -> Tensor:
    size = bank.crop if bank.values.dim() == 2 or network.front is None else 1 + bank.crop // network.front.hop
    if not bank.policy.window_seconds or heard.shape[1] <= size:
        logits: Tensor = network.head(network.vectors(heard))
        return logits
    last = heard.shape[1] - size
    firsts = [*range(0, last, size), last]
    said = [network.head(network.vectors(heard[:, first : first + size])).log_softmax(1) for first in firsts]
    return torch.stack(said).logsumexp(0) - math.log(len(said))
