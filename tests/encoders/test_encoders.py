from __future__ import annotations

import pytest
import torch

from soundmark import encoders
from soundmark.encoders import ENCODERS, Encoder
from soundmark.encoders.joined import Joined
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.errors import SpecError

PLAIN = [name for name in ENCODERS if name not in CHECKPOINTS]  # pretrained ones are tested where their weights are
NOISE = 0.1 * torch.randn(2, 30_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PLAIN)
def test_every_name_loads_frozen_and_listening(name):
    encoder = encoders.load(name)
    assert isinstance(encoder, Encoder)
    assert encoder.spec.startswith(f"{name}?")
    assert not encoder.training
    assert not any(value.requires_grad for value in encoder.parameters())


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(SpecError, match=r"no encoder called 'mel'; there are: handcrafted, linear, logfreq, logmel"):
        encoders.load("mel")


def test_joined_frames_stand_side_by_side():
    joined = encoders.load("logmel+mfcc?deltas=true+handcrafted")
    parts = [encoders.load(text) for text in ("logmel", "mfcc?deltas=true", "handcrafted")]
    assert isinstance(joined, Joined)
    assert joined.spec == "+".join(part.spec for part in parts)
    assert joined.dim == sum(part.dim for part in parts) == len(joined.feature_names)
    assert joined.min_seconds == max(part.min_seconds for part in parts)
    torch.testing.assert_close(joined(NOISE), torch.cat([part(NOISE) for part in parts], -1), rtol=1e-4, atol=1e-3)


def test_a_joined_spectrogram_is_computed_once(monkeypatch):
    joined = encoders.load("logmel+mfcc+logmel?window=1024")
    windows = []
    monkeypatch.setattr(
        "soundmark.frontends.PowerSpectrogram._blocks",
        lambda self, *_: windows.append(self.window) or torch.ones(2, 59, self.bins),
    )
    joined(NOISE)
    assert windows == [2048, 1024]


def test_frames_of_a_shorter_hop_are_averaged():
    joined, fine, coarse = (encoders.load(text) for text in ("mfcc+mfcc?hop=256", "mfcc?hop=256", "mfcc"))
    heard, expected = joined(NOISE), fine(NOISE)
    assert joined.hop_seconds == coarse.hop_seconds
    length = heard.shape[1]
    torch.testing.assert_close(heard[..., :20], coarse(NOISE)[:, :length])
    torch.testing.assert_close(heard[..., 20:], (expected[:, : 2 * length : 2] + expected[:, 1 : 2 * length : 2]) / 2)


def test_equal_names_of_different_parts_are_numbered():
    joined = encoders.load("mfcc+mfcc?window=1024&bands=64")
    assert joined.feature_names[0] == "1 mfcc 0"
    assert joined.feature_names[20] == "2 mfcc 0"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("logmel+mfcc?rate=32000", r"need one rate, but .* has 44100 Hz, 32000 Hz"),
        ("logmel+mfcc?hop=300", r"need hops that fit .* has 11.61 ms, 6.80272 ms"),
        ("logmel+logmel", "the same encoder twice"),
        ("logmel+", "cannot read the name"),
    ],
)
def test_parts_that_do_not_fit_are_refused(spec, message):
    with pytest.raises(SpecError, match=message):
        encoders.load(spec)


def test_parts_of_unequal_length_are_refused():
    joined = encoders.load("logmel?window=1024&hop=500+logmel?window=1023&hop=500")
    assert joined(NOISE[:, :29_999]).shape[1] == 60
    with pytest.raises(SpecError, match=r"give \[60, 61\] frames"):
        joined(NOISE)


@pytest.mark.parametrize("spec", [*PLAIN, "mfcc?deltas=true", "logmel+handcrafted"])
def test_frames_do_not_depend_on_the_batch(spec, sounds):
    encoder = encoders.load(spec)
    length = min(map(len, sounds.values()))
    clips = torch.stack([torch.from_numpy(clip[:length]) for clip in sounds.values()])
    together = encoder(clips)
    for size in (1, 2):
        apart = torch.cat([encoder(part) for part in clips.split(size)])
        distances = (together - apart).norm(dim=(1, 2)) / apart.norm(dim=(1, 2))
        assert distances.max() < 1e-6


def test_both_threads_and_one_agree(sounds):
    encoder = encoders.load("logmel")
    clip = torch.from_numpy(sounds["beats"])[None]
    threads = torch.get_num_threads()
    try:
        frames = []
        for count in (1, 2):
            torch.set_num_threads(count)
            frames.append(encoder(clip))
    finally:
        torch.set_num_threads(threads)
    assert (frames[0] - frames[1]).norm() / frames[0].norm() < 1e-6
