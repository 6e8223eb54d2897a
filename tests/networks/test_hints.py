"""A teacher's vectors: what a map of the pupil's makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from soundmark.networks.hints import Hints

PUPIL = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
MIXED = PUPIL @ torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


def error(hints: Hints, pupil: Tensor, teacher: Tensor) -> float:
    return float(hints(pupil, teacher).detach())


def test_who_knows_nothing_errs_by_one() -> None:
    assert error(Hints(4, 6), PUPIL, MIXED * 1000 + 7) == pytest.approx(1, abs=1e-4)


def test_what_is_a_linear_map_can_be_learnt() -> None:
    hints = Hints(4, 6)
    step = torch.optim.Adam(hints.parameters(), lr=0.05)
    for _ in range(300):
        step.zero_grad()
        hints(PUPIL, MIXED).backward()
        step.step()
    assert error(hints, PUPIL, MIXED) < 1e-3


def test_what_never_varies_is_nothing_to_learn() -> None:
    assert error(Hints(4, 6), PUPIL, torch.full((200, 6), 3.0)) == 0
    assert error(Hints(4, 6), PUPIL[:1], MIXED[:1]) == 0


def test_it_asks_more_of_the_pupil_once_the_map_knows_something() -> None:
    hints = Hints(4, 6)
    torch.nn.init.normal_(hints.map.weight, generator=torch.Generator().manual_seed(2))
    pupil = PUPIL.clone().requires_grad_()
    hints(pupil, MIXED).backward()
    assert pupil.grad is not None
    assert pupil.grad.abs().sum() > 0
