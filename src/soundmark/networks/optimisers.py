"""What moves the weights: optimisers with rates by depth, averages of weights, and classes that weigh the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from soundmark.networks.base import Network
from soundmark.networks.lesson import Lesson
from soundmark.networks.settings import Training


def class_weights(lesson: Lesson) -> Tensor | None:
    """Of balanced classes: each clip weighs inversely to how many its class has; absent classes weigh nothing."""
    if not lesson.training.balance:
        return None
    counts = torch.bincount(lesson.targets, minlength=lesson.classes).float()
    return torch.where(counts > 0, len(lesson.targets) / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)


def optimiser(network: Network, training: Training, beside: nn.Module | None = None) -> torch.optim.Optimizer:
    """One group of parameters for every depth and the head, with and without weight decay.

    What learns `beside` the network goes with the head.

    Biases and norms are not decayed, as is usual (He et al., "Bag of tricks", CVPR 2019).
    """
    depths = [list(each) for each in network.depths()]
    peaks = [training.rate * training.layer_decay ** (len(depths) - place) for place in range(len(depths))]
    groups: list[dict[str, Any]] = []

    def add(parameters: Sequence[nn.Parameter], peak: float, head: bool) -> None:
        for decay, some in (
            (training.decay, [each for each in parameters if each.dim() > 1]),
            (0.0, [each for each in parameters if each.dim() <= 1]),
        ):
            if some:
                groups.append({"params": some, "lr": peak, "peak": peak, "weight_decay": decay, "head": head})

    for parameters, peak in zip(depths, peaks, strict=True):
        add(parameters, peak, head=False)
    last = [*network.head.parameters(), *(beside.parameters() if beside is not None else ())]
    add(last, training.head_rate or training.rate, head=True)
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=training.momentum, nesterov=training.momentum > 0)
    maker = torch.optim.Adam if training.optimiser == "adam" else torch.optim.AdamW
    return maker(groups, fused=True)


def average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every weight and running statistic of `averaged` towards those of `network`."""
    mine, theirs = list(averaged.state_dict().values()), list(network.state_dict().values())
    moving = [place for place, value in enumerate(mine) if value.is_floating_point()]
    torch._foreach_lerp_([mine[i] for i in moving], [theirs[i].detach() for i in moving], 1.0 - decay)
    for place, value in enumerate(mine):
        if not value.is_floating_point():
            value.copy_(theirs[place])
