"""ResNets have the weights that are published, and see what they should."""

from __future__ import annotations

import pytest
import torch

from soundmark.networks import build
from soundmark.networks.resnet import Block

# Of torchvision's networks of the paper's table 1, for three input channels and 1000 classes.
PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_as_many_parameters_as_published(name):
    network = build(name, 1000)
    two_channels_less, norm_of_bands = 2 * 7 * 7 * 64, 2 * 128
    assert sum(each.numel() for each in network.parameters()) == PUBLISHED[name] - two_channels_less + norm_of_bands
    assert network.dim == 512


def test_width_scales_every_stage():
    network = build("resnet18?width=5", 2)
    for stage, inputs, outputs in zip(network.stages, (5, 5, 10, 20), (5, 10, 20, 40), strict=True):
        assert stage(torch.zeros(1, inputs, 8, 8)).shape[1] == outputs
    assert network.dim == 40


@pytest.mark.parametrize(("stem", "size"), [("large", (4, 3)), ("small", (13, 10))])
def test_the_stem_decides_at_what_size_blocks_begin(stem, size):
    assert build(f"resnet18?width=2&stem={stem}", 2).stem(torch.zeros(1, 1, 13, 10)).shape == (1, 2, *size)


def test_a_block_that_adds_nothing_passes_its_input_on():
    block = Block(3, 3).eval()
    torch.nn.init.zeros_(block.residual[-1].weight)
    maps = torch.rand(2, 3, 5, 4)
    torch.testing.assert_close(block(maps), maps)
