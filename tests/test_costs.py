from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB

from soundmark import costs, encoders, heads
from soundmark.encoders.pooling import Pooling
from soundmark.learners import Heard
from soundmark.tasks.base import Task

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


def test_memory_is_the_most_that_is_there_at_a_time() -> None:
    weights = torch.zeros(300, 250)
    with torch.inference_mode(), costs.Watch() as watch:
        one = torch.zeros(1000, 250)  # a megabyte
        two = one + 1
        assert watch.peak == 2_000_000
        del one
        three = two.reshape(-1).view(250, 1000) + 1  # views take nothing
        assert watch.peak == 2_000_000
        del two
        product = three @ weights.t().reshape(250, 300).t().repeat(4, 1)[:1000]
    assert 2_000_000 < watch.peak < 4_000_000
    assert product.shape == (250, 250)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
def test_weights_whose_layout_is_hidden_take_nothing() -> None:
    with torch.inference_mode(), costs.Watch() as watch:
        hidden = torch.zeros(100, 250).to_mkldnn()
        assert hidden.is_mkldnn
        shown = hidden.to_dense() + 1
    assert shown.sum() == 25_000
    assert 100_000 <= watch.peak <= 300_000


@pytest.mark.weights
def test_what_a_network_with_convolutions_in_one_pass_costs(toy: Task, checkpoint: Callable[[str], Path]) -> None:
    weights = torch.load(checkpoint("mn04"), map_location="cpu", weights_only=True)
    kernels = sum(each.numel() for name, each in weights.items() if name.startswith("features") and each.dim() > 1)
    found = costs.of_encoder(toy, Heard(encoders.load("mn04"), Pooling("mean")), clips=1)
    assert kernels <= found["encoder_parameters"] < 1.03 * kernels  # and a bias for every channel
    assert 0.064 < found["encode_mb"] < 100  # half a second at 32 kHz, and its maps


def test_what_encoding_costs(toy: Task) -> None:
    heard = Heard(encoders.load(ENCODER), Pooling("mean"))
    found = costs.of_encoder(toy, heard)
    assert found["encoder_parameters"] == 0
    assert found["encode_ms"] > 0
    again = costs.of_encoder(toy, heard)
    assert again["encode_mb"] == found["encode_mb"]
    samples, frames = 8000, 32
    assert 4 * (samples + 512 * frames) / 1e6 <= found["encode_mb"] < 1


def test_clips_that_cannot_be_read_cost_nothing_that_is_known(broken: Task) -> None:
    heard = Heard(encoders.load(ENCODER), Pooling("mean"))
    unreadable = replace(broken, clips=broken.clips[:1])
    assert costs.of_encoder(unreadable, heard) == {"encoder_parameters": 0, "encode_ms": None, "encode_mb": None}
    assert costs.of_encoder(broken, heard)["encode_ms"] > 0


@pytest.mark.parametrize(
    ("head", "numbers"),
    [("logreg", 2 * 8 + 9 * 3), ("three-layer?hidden=5&epochs=2", 2 * 8 + 9 * 5 + 6 * 5 + 6 * 3)],
)
def test_what_a_head_costs(head: str, numbers: int | None) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 8)).astype(np.float32), np.arange(60) % 3
    found = costs.of_head(heads.build(head).fit(X, y), X, 3)
    assert found["head_parameters"] == numbers
    assert found["head_ms"] > 0


def test_a_head_without_a_graph_has_no_number_of_parameters() -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 8)), np.arange(60) % 3
    assert costs.of_head(GaussianNB().fit(X, y), X, 3)["head_parameters"] is None
