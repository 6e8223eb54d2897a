"""Networks by name: `cnn?width=32`, trained end to end from waveforms.

A new network is a class made from a parsed name and the number of classes, and one line in `NETWORKS`. The pretrained
encoders with weights of their own are networks too: `mn04` is fine-tuned.
"""

from __future__ import annotations

from collections.abc import Callable

from soundmark.encoders import ADAPTERS, ENCODERS
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.networks import cnn, conv1d, densenet, mark1, mlp, resnet
from soundmark.networks.base import Network
from soundmark.networks.finetuned import Finetuned
from soundmark.spec import Spec, lookup, parse

NETWORKS: dict[str, Callable[[Spec, int], Network]] = {
    "cnn": cnn.Cnn,
    "conv1d": conv1d.Conv1d,
    **dict.fromkeys(densenet.BLOCKS, densenet.DenseNet),
    "mark1": mark1.Mark1,
    "mlp": mlp.Mlp,
    **dict.fromkeys(resnet.BLOCKS, resnet.ResNet),
}
"""Every network by name."""


def build(text: str, classes: int) -> Network:
    """The network that `text` names, with fresh weights drawn from PyTorch's global generator.

    Args:
        text: a name with settings, such as `cnn?width=32`.
        classes: how many.

    Raises:
        SpecError: for an unknown name or setting, or a value out of bounds.
    """
    spec = parse(text)
    if spec.name in ENCODERS or spec.name in ADAPTERS:
        return Finetuned(spec, classes)
    known = NETWORKS | dict.fromkeys((*CHECKPOINTS, "hf"), Finetuned)
    network: Network = lookup("network", spec.name, known)(spec, classes)
    return network


__all__ = ["NETWORKS", "Network", "build"]
