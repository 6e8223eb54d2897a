from __future__ import annotations

import math

import pytest
import torch

from soundmark.encoders import probing
from soundmark.errors import SoundmarkError, SpecError


@pytest.mark.parametrize(
    ("hop", "reach"), [(160, 400), (320, 400), (512, 2048), (551.25, 1024), (1, 1), (1600, 100), (16000, 20000)]
)
def test_a_hop_is_measured_from_the_number_of_frames(hop, reach):
    measured = probing.hop_samples(lambda samples: int((samples - reach) / hop) + 1, 16000, max(8000, reach))
    assert measured == pytest.approx(hop, abs=0.3)
    assert hop != int(hop) or measured == hop


def test_what_gives_one_vector_however_long_a_clip_has_no_hop():
    assert probing.hop_samples(lambda _: 1, 16000, 8000) == 0


def test_the_shortest_clip_is_the_first_that_gives_frames():
    def listen(clip):
        if clip.shape[1] < 1000:
            raise ValueError("too short")
        return torch.zeros(1, (clip.shape[1] - 1000) // 1000, 2)

    assert probing.shortest(listen, 16000, "x") == 0.2


def test_what_never_listens_says_why():
    def broken(clip):
        raise KeyError("no such\nlayer")

    with pytest.raises(SpecError, match=r"x cannot listen, not even to 5 s of noise at 8000 Hz: KeyError: 'no such"):
        probing.shortest(broken, 8000, "x")
    with pytest.raises(SpecError, match="it gives no frames"):
        probing.shortest(lambda clip: torch.zeros(1, 0, 2), 8000, "x")

    def refused(clip):
        raise SoundmarkError("in its own words")

    with pytest.raises(SoundmarkError, match="in its own words"):
        probing.shortest(refused, 8000, "x")


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 1000, 1234])
@pytest.mark.parametrize("window", [1000, 1300])
def test_windows_end_to_end_are_the_frames_of_the_whole(samples, window):
    clip = torch.arange(float(samples)).repeat(2, 1)

    def frames(part):
        padded = torch.nn.functional.pad(part, (0, window - part.shape[1]))
        return padded[:, ::100, None]

    parts = [frames(part) for part in probing.windows(clip, window, 1000, shortest=50)]
    whole = probing.end_to_end(parts, 1000, 100, samples)
    assert torch.equal(whole[0, :, 0], torch.arange(0.0, samples, 100))
    assert whole.shape == (2, math.ceil(samples / 100), 1)


def test_digests_tell_values_and_types_apart():
    one = {"a": torch.ones(2), "b": "text"}
    assert probing.digest(one) == probing.digest(dict(reversed(one.items())))
    others = [one | {"a": torch.zeros(2)}, one | {"a": torch.ones(2).half()}, one | {"b": "else"}, {"a": torch.ones(2)}]
    assert len({probing.digest(each) for each in [one, *others]}) == 5
    assert probing.digest({"a": torch.tensor(True), "b": torch.ones(3, dtype=torch.bfloat16)})
