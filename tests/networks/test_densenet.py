"""DenseNets have the weights that are published, and pass on what they were given."""

from __future__ import annotations

import torch

from soundmark.networks import build
from soundmark.networks.densenet import Layer


def test_it_has_as_many_parameters_as_published():
    network = build("densenet121", 1000)
    # torchvision's network of the paper's table 1 has 7,978,856, for three input channels and 1000 classes.
    two_channels_less, norm_of_bands = 2 * 7 * 7 * 64, 2 * 128
    assert sum(each.numel() for each in network.parameters()) == 7_978_856 - two_channels_less + norm_of_bands
    assert network.dim == 1024
    assert sum(isinstance(part, torch.nn.Conv2d | torch.nn.Linear) for part in network.modules()) == 121


def test_a_layer_adds_to_what_it_was_given():
    layer, maps = Layer(6, 2).eval(), torch.randn(2, 6, 5, 4)
    found = layer(maps.clone())
    assert found.shape == (2, 8, 5, 4)
    assert torch.equal(found[:, :6], maps)
