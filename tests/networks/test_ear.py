"""How bands hear, against how they were made."""

from __future__ import annotations

import pytest
import torch

from soundmark.frontends import mel_frequencies
from soundmark.networks.ear import a_weighting, ear
from soundmark.networks.front import LogMel

RATE, HOP = 8000, 80
CPU = torch.device("cpu")
FRONT = LogMel(RATE, 256, HOP, 40)


@pytest.mark.parametrize("bands", [20, 40])
def test_bands_are_found_where_they_are(bands):
    front = LogMel(RATE, 256, HOP, bands)
    centres = ear(front, CPU).centres
    torch.testing.assert_close(
        centres.double(), torch.from_numpy(mel_frequencies(bands, 0, RATE / 2)[1:-1]), rtol=0.03, atol=0
    )
    assert ear(front, CPU) is ear(front, CPU)


def test_noise_is_as_loud_as_it_is():
    known = ear(FRONT, CPU)
    torch.testing.assert_close(known.noise.mean(0), known.white, rtol=0.1, atol=0)
    assert float((known.noise @ known.loudness).mean()) == pytest.approx(1.0, abs=0.02)
    with torch.inference_mode():
        measured = ear(LogMel(RATE, 256, HOP, 20), CPU)
    assert not measured.centres.is_inference()


def test_a_weighting_is_the_standards():
    found = a_weighting(torch.tensor([31.5, 100.0, 1000.0, 2500.0, 10_000.0]))
    torch.testing.assert_close(found.float(), torch.tensor([-39.4, -19.1, 0.0, 1.3, -2.5]), rtol=0, atol=0.15)
