"""Modules with the HEAR API, made up here, through the adapter."""

from __future__ import annotations

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from soundmark import embeddings, encoders
from soundmark.encoders.check import check_encoder
from soundmark.errors import SpecError


class Listener(nn.Module):
    """Power and amplitude of every 25 ms; of a scene, their maxima and the mean power."""

    sample_rate, timestamp_embedding_size, scene_embedding_size = 16000, 2, 3

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.dropout = nn.Dropout(0.5)  # a module that is handed out in training mode


def load_model(path=""):
    if path:
        return Listener(float(torch.load(path, weights_only=True)))
    return Listener()


def moments(audio, model):
    if audio.shape[1] < 1600:
        raise RuntimeError("too short")
    power = model.dropout(model.gain * audio.unfold(1, 400, 400).square().mean(2, keepdim=True))
    return torch.cat([power, power.sqrt()], dim=2)


def get_timestamp_embeddings(audio, model):
    embeddings = moments(audio, model)
    times = 25.0 * torch.arange(embeddings.shape[1]) + 12.5
    return embeddings, times.expand(len(audio), -1)


def get_scene_embeddings(audio, model):
    embeddings = moments(audio, model)
    return torch.cat([embeddings.amax(1), embeddings[..., :1].mean(1)], dim=1)


@pytest.fixture
def module(monkeypatch):
    """The module above under a name, with parts replaced or taken away by `module(part=...)`."""

    def make(**changed):
        made = types.ModuleType("made_up.hear")
        for function in (load_model, get_timestamp_embeddings, get_scene_embeddings):
            setattr(made, function.__name__, function)
        for name, value in changed.items():
            setattr(made, name, value)
        monkeypatch.setitem(sys.modules, "made_up", types.ModuleType("made_up"))
        monkeypatch.setitem(sys.modules, "made_up.hear", made)
        return made

    make()
    return make


NOISE = 0.1 * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))


def test_timestamp_embeddings_are_frames(module):
    encoder = encoders.load("hear:made_up.hear")
    assert check_encoder(encoder).dim == 2
    assert (encoder.hop_seconds, encoder.min_seconds, encoder.centred_on) == (0.025, 0.1, 0.5)
    assert encoder.spec == "hear:made_up.hear"
    assert not encoder.exportable
    assert torch.equal(encoder(NOISE), get_timestamp_embeddings(NOISE, Listener().eval())[0])


def test_a_scene_embedding_is_one_frame(module, toy):
    encoder = encoders.load("hear:made_up.hear?embedding=scene")
    assert check_encoder(encoder).dim == 3
    expected = get_scene_embeddings(NOISE, Listener().eval())
    assert torch.equal(encoder(NOISE)[:, 0], expected)
    found = embeddings.embed(toy, encoder, "scene", progress=False)
    assert found.vectors.shape == (len(toy.clips), 3)


def test_scenes_are_not_made_up_from_timestamps(module, toy):
    with pytest.raises(SpecError, match=r"write embedding=scene, as in hear:made_up.hear\?embedding=scene"):
        embeddings.embed(toy, "hear:made_up.hear", "scene", progress=False)


def test_weights_are_passed_on_and_tell_encoders_apart(module, tmp_path):
    torch.save(torch.tensor(2.0), tmp_path / "a.pt")
    torch.save(torch.tensor(3.0), tmp_path / "b.pt")
    plain = encoders.load("hear:made_up.hear")
    one, two = (encoders.load(f"hear:made_up.hear?weights={tmp_path}/{name}.pt") for name in "ab")
    torch.testing.assert_close(one(NOISE)[..., 0], 2 * plain(NOISE)[..., 0])
    assert one.spec == f"hear:made_up.hear?weights={tmp_path}/a.pt"
    torch.save(torch.tensor(3.0), tmp_path / "a.pt")
    again = encoders.load(one.spec)
    assert len({each.identity for each in (plain, one, two, again)}) == 4


def test_our_own_encoders_come_back_through_the_api():
    ours = encoders.load("logmel?rate=16000")
    back = encoders.load("hear:soundmark.hear?weights=logmel?rate=16000")
    assert back.hop_seconds == ours.hop_seconds
    assert back.centred_on == ours.centred_on == 0
    assert torch.equal(back(NOISE), ours(NOISE))
    assert check_encoder(back).dim == 64


def test_calls_do_not_overlap(module):
    """The API does not promise that a module may be called from several threads."""
    busy = []

    def slow(audio, model):
        assert not busy
        busy.append(1)
        try:
            return get_scene_embeddings(audio, model)
        finally:
            busy.pop()

    module(get_scene_embeddings=slow)
    encoder = encoders.load("hear:made_up.hear?embedding=scene")
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(encoder, [NOISE] * 8))) == 8


def numpy_answer(audio, model):
    return tuple(part.detach().numpy() for part in get_timestamp_embeddings(audio, model))


def no_pair(audio, model):
    return moments(audio, model)


def late(audio, model):
    embeddings, times = get_timestamp_embeddings(audio, model)
    return embeddings, times.square()


def single(audio, model):
    embeddings, times = get_timestamp_embeddings(audio, model)
    return embeddings[:, :1], times[:, :1]


def failing(*_):
    raise RuntimeError("out\nof order")


class Slow(Listener):
    sample_rate = 16000.0


class Wide(Listener):
    timestamp_embedding_size = 5
    scene_embedding_size = 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"load_model": None, "get_scene_embeddings": None}, "lacks load_model, get_scene_embeddings"),
        ({"load_model": failing}, r"load_model\(\) of made_up.hear fails: RuntimeError: out of order"),
        ({"load_model": lambda: "a model"}, "returns a builtins.str: Soundmark hears HEAR modules of PyTorch only"),
        ({"load_model": Slow}, r"sample_rate=16000.0: HEAR asks for a whole number"),
        ({"load_model": Wide}, r"returns shapes \(1, 4, 2\) and \(1, 4\) for one clip, not \(1, times, 5\)"),
        ({"get_timestamp_embeddings": failing}, "cannot listen, not even to 5 s of noise at 16000 Hz: RuntimeError"),
        ({"get_timestamp_embeddings": numpy_answer}, "returns a ndarray, not a tensor of PyTorch"),
        ({"get_timestamp_embeddings": no_pair}, "returns no pair"),
        ({"get_timestamp_embeddings": late}, "are not evenly spaced: steps of"),
        ({"get_timestamp_embeddings": single}, r"gives 1 timestamp\(s\) for 5 s"),
    ],
)
def test_what_breaks_the_api_is_refused_in_plain_words(module, changed, message):
    module(**changed)
    with pytest.raises(SpecError, match=message):
        encoders.load("hear:made_up.hear")


def test_scenes_of_another_shape_are_refused(module):
    module(load_model=Wide)
    with pytest.raises(SpecError, match=r"returns the shape \(1, 3\) for one clip, not \(1, 5\)"):
        encoders.load("hear:made_up.hear?embedding=scene")


def test_a_failure_at_work_is_told_in_plain_words(module):
    encoder = encoders.load("hear:made_up.hear")
    encoder.module.get_timestamp_embeddings = failing
    with pytest.raises(SpecError, match="fails on 1 s of sound: RuntimeError: out of order"):
        encoder(NOISE)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hear", "write hear:package.module"),
        ("hear:made_up.hear@3", "no layer"),
        ("hear:made_up.hear?embedding=both", "it is timestamp or scene"),
        ("hear:made_up.hear?rate=3", "has no setting 'rate'"),
        ("hear:made_up.other", "no module made_up.other: install the package"),
        ("hear:no_such_package.hear", "no module no_such_package.hear: install the package"),
    ],
)
def test_names_that_do_not_fit_are_refused(module, spec, message):
    with pytest.raises(SpecError, match=message):
        encoders.load(spec)


def test_modules_that_do_not_import_say_what_they_lack(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needs_more.py").write_text("import no_such_package", encoding="utf-8")
    (tmp_path / "broken_code.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(SpecError, match="module needs_more needs no_such_package, which is not installed"):
        encoders.load("hear:needs_more")
    with pytest.raises(SpecError, match="broken_code cannot be imported: ZeroDivisionError"):
        encoders.load("hear:broken_code")
