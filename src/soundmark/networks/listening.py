"""What a trained network says of whole clips, in float32 arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def vectors(network: Network, bank: Bank, positions: Tensor, *, machine: Machine) -> np.ndarray:
    """(clips, dim) float32 vectors of whole clips; of clips longer than a network of one length, the windows' mean."""
    device = machine.first()
    network = network.to(device).eval()

    def say(heard: Tensor) -> Tensor:
        windows = _windows(network, heard, bank)
        return torch.stack([network.whole(window) for window in windows]).mean(0)

    with torch.inference_mode():
        found: np.ndarray = _said(network, bank, positions, device, say).numpy()
    network.cpu()
    return found


def logits_of(network: Network, bank: Bank, positions: Tensor, device: torch.device) -> Tensor:
    """(clips, classes) float32 logits, on the CPU; of clips longer than a network of one length, the windows' mean.

    That is the logarithm of the mean probability, so that it is the same for the loss, the accuracy and the result.
    """

    def say(heard: Tensor) -> Tensor:
        windows = _windows(network, heard, bank)
        logits = [network.head(network.whole(window)) for window in windows]
        together: Tensor = logits[0]
        if len(logits) > 1:
            together = torch.stack([each.log_softmax(1) for each in logits]).logsumexp(0) - math.log(len(logits))
        return together

    return _said(network, bank, positions, device, say)


def _said(
    network: Network, bank: Bank, positions: Tensor, device: torch.device, say: Callable[[Tensor], Tensor]
) -> Tensor:
    """(clips, numbers) float32 on the CPU: what is said of each clip, those of one length together."""
    found: Tensor | None = None
    # Training may round as graphics cards like to (TF32); what is said of a test clip is rounded as little as can be.
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
        for same in bank.alike(torch.unique(positions), AT_ONCE):
            heard = bank.whole(same, device)
            heard = network.hear(heard) if bank.values.dim() == 1 else heard
            said = say(heard).float().cpu()
            if found is None:
                found = said.new_zeros(len(bank.lengths), said.shape[1])
            found[same] = said
    assert found is not None
    return found[positions]


def _windows(network: Network, heard: Tensor, bank: Bank) -> list[Tensor]:
    """Clips whole, or in windows where the network hears one length only."""
    size = bank.crop if bank.values.dim() == 2 or network.front is None else 1 + bank.crop // network.front.hop
    if not bank.policy.window_seconds or heard.shape[1] <= size:
        return [heard]
    last = heard.shape[1] - size
    return [heard[:, first : first + size] for first in [*range(0, last, size), last]]
