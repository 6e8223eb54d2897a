from __future__ import annotations

import pytest
import torch

from soundmark import encoders
from soundmark.encoders import ENCODERS
from soundmark.encoders.base import Encoder
from soundmark.encoders.check import ContractError, check_encoder
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.errors import SoundmarkError

PLAIN = [name for name in ENCODERS if name not in CHECKPOINTS]  # pretrained ones are tested where their weights are


@pytest.mark.parametrize(
    "spec", [*PLAIN, "logmel?rate=16000&window=1023&hop=300+mfcc?rate=16000&window=511&hop=300&bands=40"]
)
def test_every_encoder_keeps_the_contract(spec):
    encoder = encoders.load(spec)
    report = check_encoder(encoder)
    assert report.spec == encoder.spec
    assert report.dim == encoder.dim
    assert report.frames_per_second == pytest.approx(1 / encoder.hop_seconds)
    assert report.milliseconds > 0
    assert "neighbours" in report.checks


class Sound(Encoder):
    """A small encoder that keeps the contract, for others to break: mean power of every 100 samples."""

    spec, sample_rate, dim, hop_seconds, min_seconds = "mine", 8000, 2, 100 / 8000, 0.1

    def __init__(self):
        super().__init__()
        self.register_buffer("heard", torch.zeros(()))
        self.eval()

    def encode(self, waveforms):
        self.require_input(waveforms)
        power = waveforms.unfold(-1, 100, 100).square().mean(-1, keepdim=True)
        return torch.cat([power, power.sqrt()], dim=-1)


def test_an_encoder_of_ones_own_keeps_it():
    assert check_encoder(Sound()).dim == 2


class NoName(Sound):
    spec = ""
    feature_names = ("a", "a", "b")


class Learning(Sound):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.train()

    def encode(self, waveforms):
        return self.gain * super().encode(waveforms)


class Deaf(Sound):
    def encode(self, waveforms):
        return super().encode(waveforms)[:, :5]


class Flat(Sound):
    def encode(self, waveforms):
        return super().encode(waveforms).mean(1)


class Double(Sound):
    def encode(self, waveforms):
        return super().encode(waveforms).double()


class Logarithm(Sound):
    def encode(self, waveforms):
        return super().encode(waveforms).log()


class Random(Sound):
    def encode(self, waveforms):
        frames = super().encode(waveforms)
        return frames + torch.rand_like(frames)


class Counting(Sound):
    def encode(self, waveforms):
        self.heard += 1
        return super().encode(waveforms)


class Normalising(Sound):
    def encode(self, waveforms):
        frames = super().encode(waveforms)
        return frames / frames.amax().clamp_min(1e-9)


class Overwriting(Sound):
    def encode(self, waveforms):
        return super().encode(waveforms.mul_(0.5))


class Eager(Sound):
    def encode(self, waveforms):
        return super().encode(torch.nn.functional.pad(waveforms, (0, 800)))


class Crashing(Sound):
    def encode(self, waveforms):
        if waveforms.shape[1] > 10_000:
            raise RuntimeError("out of memory")
        return super().encode(waveforms)


@pytest.mark.parametrize(
    ("encoder", "faults"),
    [
        (NoName, ["spec is ''", "3 feature_names for a dim of 2", "holds a name twice"]),
        (Learning, ["training mode", "parameters require gradients: gain"]),
        (Deaf, ["more frames, but there were 0"]),
        (Flat, [r"shape \(2, 2\), not \(2, frames, 2\)"]),
        (Double, ["torch.float64, not float32"]),
        (Logarithm, ["silence gives frames that are not finite"]),
        (Random, ["other frames the second time", "random numbers"]),
        (Counting, ["parameters or buffers"]),
        (Normalising, ["with other clips in the batch"]),
        (Overwriting, ["changes the waveforms"]),
        (Eager, ["shorter than its min_seconds"]),
        (Crashing, ["shapes: raised RuntimeError: out of memory"]),
    ],
)
def test_what_breaks_it_is_listed(encoder, faults):
    with pytest.raises(ContractError) as caught:
        check_encoder(encoder())
    for fault in faults:
        caught.match(fault)


def test_it_is_an_error_of_ours_and_an_assertion():
    assert issubclass(ContractError, SoundmarkError)
    assert issubclass(ContractError, AssertionError)


def test_a_base_encoder_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Encoder must define encode"):
        Encoder()(torch.zeros(1, 10))
