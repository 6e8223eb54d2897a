"""Outwards: our encoders through the HEAR API, and the validator."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

import soundmark.hear
from soundmark import encoders
from soundmark.embeddings import embed
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.errors import AudioError, SpecError
from soundmark.hear import get_scene_embeddings, get_timestamp_embeddings, load_model, validate

NOISE = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))


class Peaks(Encoder):
    """Mean size of every 100 samples; its own vector of a clip is the highest of them."""

    spec, sample_rate, dim, hop_seconds, min_seconds, piece_seconds = "peaks", 16000, 1, 100 / 16000, 0.05, 60.0
    inner_dim = 2

    def encode(self, waveforms):
        return self.moments(self.features(waveforms))

    def features(self, waveforms):
        self.require_input(waveforms)
        size = waveforms.unfold(1, 100, 100).abs().mean(2, keepdim=True)
        return torch.cat([size, 2 * size], dim=2)

    def moments(self, features):
        return features[..., :1]

    def scene(self, mean, peak):
        return mean[:, :1] + peak[:, 1:]


PLAIN = [name for name in encoders.ENCODERS if name not in CHECKPOINTS]


def test_a_pretrained_encoder_keeps_the_api(checkpoint):
    checkpoint("mn04")
    assert validate("soundmark.hear", "mn04") == []


@pytest.fixture
def peaks(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "mn04", lambda spec: Peaks())


@pytest.mark.parametrize("name", [*PLAIN, "logmel?rate=16000+mfcc?rate=16000"])
def test_every_encoder_keeps_the_api(name):
    assert validate("soundmark.hear", name) == []


def test_without_a_name_it_is_mn04(peaks):
    model = load_model()
    assert isinstance(model, nn.Module)
    assert isinstance(model.encoder, Peaks)
    assert not model.training
    assert (model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size) == (16000, 1, 1)
    assert validate(soundmark.hear) == []


def test_scenes_are_the_encoders_own_vectors(peaks):
    model = load_model()
    expected = Vectors(model.encoder, Pooling("scene"))(NOISE)
    assert torch.equal(get_scene_embeddings(NOISE, model), expected)
    assert torch.equal(model(NOISE), expected)
    assert torch.equal(get_scene_embeddings(NOISE.double(), model), expected)


def test_scenes_are_what_embed_gives(toy):
    from soundmark.embeddings import waveform

    model = load_model("logmel?rate=16000&bands=16")
    vectors = embed(toy, model.encoder, "scene", progress=False).vectors
    for clip, vector in list(zip(toy.clips, vectors, strict=True))[::20]:
        audio = torch.from_numpy(waveform(toy, clip, model.encoder))[None]
        torch.testing.assert_close(get_scene_embeddings(audio, model)[0], torch.from_numpy(vector))


@pytest.mark.parametrize(("name", "first", "hop"), [("mn04", 3.125, 6.25), ("mfcc?rate=32000&hop=320", 0.0, 10.0)])
def test_times_are_the_moments_that_frames_are_centred_on(peaks, name, first, hop):
    model = load_model(name)
    frames, times = get_timestamp_embeddings(NOISE, model)
    assert torch.equal(frames, model.encoder(NOISE))
    expected = first + hop * torch.arange(frames.shape[1])
    torch.testing.assert_close(times, expected.expand(3, -1))


@pytest.mark.parametrize("samples", [1, 10, 60, 799])
def test_short_clips_are_filled_and_have_moments_within(peaks, samples):
    model = load_model()
    frames, times = get_timestamp_embeddings(NOISE[:, :samples], model)
    assert 1 <= frames.shape[1] == times.shape[1] <= 8
    assert times.max() <= 1e3 * samples / 16000
    filled = nn.functional.pad(NOISE[:, :samples], (0, 800 - samples))
    assert torch.equal(frames, model.encoder(filled)[:, : frames.shape[1]])
    assert torch.equal(get_scene_embeddings(NOISE[:, :samples], model), get_scene_embeddings(filled, model))


@pytest.mark.parametrize("name", ["mn04", "logmel?rate=16000&window=256&hop=100&bands=8"])
def test_long_clips_are_heard_piece_by_piece(peaks, name):
    """Pieces of 0.1 s and a bit; centred windows see them begin in silence, at two frames in sixteen."""
    model = load_model(name)
    frames, times = get_timestamp_embeddings(NOISE, model)
    scenes = get_scene_embeddings(NOISE, model)
    model.encoder.piece_seconds = 0.1013
    pieces, same_times = get_timestamp_embeddings(NOISE, model)
    assert torch.equal(times, same_times)
    assert pieces.shape == frames.shape
    near = 0 if name == "mn04" else 2
    for begin in range(0, frames.shape[1], 16):
        inner = slice(begin + near * (begin > 0), begin + 16)
        torch.testing.assert_close(pieces[:, inner], frames[:, inner], rtol=1e-4, atol=1e-3)
    tolerance = 1e-2 if name == "mn04" else 1.0
    torch.testing.assert_close(get_scene_embeddings(NOISE, model), scenes, rtol=tolerance, atol=tolerance)


def test_a_batch_is_heard_in_bounded_parts(peaks):
    model = load_model()
    heard = get_timestamp_embeddings(NOISE, model)[0]
    sizes = []
    encode = model.encoder.encode
    model.encoder.encode = lambda waveforms: sizes.append(tuple(waveforms.shape)) or encode(waveforms)
    model.encoder.piece_seconds = 1.0
    assert torch.equal(get_timestamp_embeddings(NOISE, model)[0], heard)
    assert sizes == [(2, 8000), (1, 8000)]


def test_rates_that_hear_does_not_allow_are_refused():
    with pytest.raises(SpecError, match="hears at 8000 Hz, but HEAR allows 16000, 22050, 32000, 44100, 48000 Hz only"):
        load_model("logmel?rate=8000")


@pytest.mark.parametrize("audio", [NOISE[0], NOISE[:, :0], NOISE[:0], NOISE.int(), NOISE.numpy(), None])
def test_other_audio_is_refused(peaks, audio):
    for listen in (get_scene_embeddings, get_timestamp_embeddings):
        with pytest.raises(AudioError, match=r"audio must be a tensor of floating-point numbers, \(clips, samples\)"):
            listen(audio, load_model())


def test_other_models_are_refused():
    with pytest.raises(SpecError, match="the model is a Linear: give what"):
        get_scene_embeddings(NOISE, nn.Linear(1, 1))


# --- The validator -------------------------------------------------------------------------------------------------


class Model(nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 2, 2


def scenes(audio, _):
    return torch.stack([audio.mean(1), audio.square().mean(1)], dim=1)


def stamps(audio, _):
    blocks = audio.unfold(1, 800, 800)
    times = 50.0 * torch.arange(blocks.shape[1]) + 25
    return torch.stack([blocks.mean(2), blocks.square().mean(2)], dim=2), times.expand(len(audio), -1)


def module(**changed):
    parts = {"load_model": Model, "get_scene_embeddings": scenes, "get_timestamp_embeddings": stamps} | changed
    return types.SimpleNamespace(__name__="made_up", **parts)


def of_times(change):
    def changed(audio, model):
        embeddings, times = stamps(audio, model)
        return embeddings, change(times.clone())

    return changed


def with_attribute(name, value):
    return type("Changed", (Model,), {name: value})


class NoSize(nn.Module):
    sample_rate, scene_embedding_size = 16000, 2


def test_a_sound_module_has_no_faults():
    assert validate(module()) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"load_model": lambda: 1 / 0}, "fails: ZeroDivisionError"),
        ({"load_model": dict}, "returns a builtins.dict"),
        ({"load_model": NoSize}, "timestamp_embedding_size=None"),
        ({"load_model": with_attribute("sample_rate", 16000.0)}, "sample_rate=16000.0"),
        ({"load_model": with_attribute("sample_rate", 8000)}, "sample_rate is 8000, and HEAR allows 16000, 22050"),
        ({"load_model": with_attribute("scene_embedding_size", 3)}, r"scene embeddings of 1 .* \(1, 2\), not \(1, 3\)"),
        ({"load_model": with_attribute("timestamp_embedding_size", 3)}, r"\(1, 40, 2\), not \(1, times, 3\)"),
        ({"get_scene_embeddings": lambda audio, _: scenes(audio, _).numpy()}, "scene embeddings are a ndarray"),
        ({"get_scene_embeddings": lambda audio, _: scenes(audio, _).double()}, "are torch.float64, not float32"),
        ({"get_scene_embeddings": lambda audio, _: scenes(audio, _).log()}, "scene embeddings of silence are not fin"),
        ({"get_scene_embeddings": lambda audio, _: scenes(audio, _)[:1]}, r"of 3 clip\(s\) have the shape \(1, 2\)"),
        ({"get_scene_embeddings": lambda audio, _: scenes(audio - audio.mean(0), _)}, "change with the other clips"),
        ({"get_scene_embeddings": lambda *_: 1 / 0}, "scenes cannot be had: ZeroDivisionError"),
        (
            {"get_scene_embeddings": lambda audio, _: scenes(audio, _).to("meta")},
            "are on meta, and the audio is on cpu",
        ),
        ({"get_timestamp_embeddings": lambda audio, _: stamps(audio, _)[:1]}, "returns 1 things"),
        ({"get_timestamp_embeddings": lambda audio, _: stamps(audio, _)[0]}, "returns 1 things"),
        ({"get_timestamp_embeddings": of_times(lambda times: times[:, 1:])}, r"timestamps have the shape \(1, 39\)"),
        ({"get_timestamp_embeddings": of_times(lambda times: times.int())}, "timestamps are torch.int32"),
        ({"get_timestamp_embeddings": of_times(lambda times: times.flip(1))}, "timestamps do not grow"),
        ({"get_timestamp_embeddings": of_times(lambda times: times.square() / 2000)}, "not evenly spaced"),
        ({"get_timestamp_embeddings": of_times(lambda times: times / 1000)}, "are they in milliseconds"),
        ({"get_timestamp_embeddings": of_times(lambda times: times + 1000)}, "run from 1025 to 2975 ms"),
        ({"get_timestamp_embeddings": of_times(lambda times: times - 100)}, "run from -75"),
        (
            {"get_timestamp_embeddings": of_times(lambda times: times + torch.arange(len(times))[:, None])},
            "timestamps differ between clips",
        ),
        ({"get_timestamp_embeddings": lambda audio, _: stamps(audio - audio.mean(0), _)}, "change with the other"),
    ],
)
def test_the_validator_catches(changed, fault):
    import re

    faults = validate(module(**changed))
    assert any(re.search(fault, each) for each in faults), faults


def test_it_lists_all_faults_at_once():
    faults = validate(
        module(
            load_model=with_attribute("sample_rate", 8000),
            get_scene_embeddings=lambda *_: None,
            get_timestamp_embeddings=lambda *_: 1 / 0,
        )
    )
    assert len(faults) >= 3


def test_what_cannot_be_imported_cannot_be_checked():
    with pytest.raises(SpecError, match="no module no_such_module"):
        validate("no_such_module")
