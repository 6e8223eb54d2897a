from __future__ import annotations

import copy
import functools
import json
import pickle

import numpy as np
import onnxruntime
import pytest
import torch

from soundmark import encoders
from soundmark.encoders import panns
from soundmark.encoders.base import Encoder
from soundmark.encoders.check import check_encoder
from soundmark.encoders.graph import export_graph
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.errors import DownloadError, SpecError, WeightsError

NAMES = ("cnn14", "cnn10", "cnn6", "mobilenetv1")
TAIL = {"cnn14": 32, "cnn10": 16, "cnn6": 16, "mobilenetv1": 32}
# Of the reference implementation, on stand-in weights and one second of the probe sound: length, and largest numbers.
REFERENCE = {
    "cnn14": (725.1905, {142: 77.8985, 192: 68.4697, 533: 69.6827, 1494: 85.3051}),
    "cnn10": (1378.1353, {41: 234.2296, 217: 238.506, 387: 222.546, 404: 213.498}),
    "cnn6": (1558.6455, {180: 248.6359, 312: 235.6569, 338: 308.3752, 359: 227.6393}),
    "mobilenetv1": (179.571, {296: 20.7211, 581: 23.5589, 774: 22.5755, 877: 20.9855}),
}


@pytest.fixture(scope="module")
def load(stand_in_file):
    @functools.cache
    def loaded(name: str, layer: str = "", **settings: str) -> Encoder:
        said = "&".join(f"{key}={value}" for key, value in ({"weights": stand_in_file(name)} | settings).items())
        return encoders.load(f"{name}{layer and '@' + layer}?{said}")

    return loaded


def scenes(encoder, waveforms):
    return Vectors(encoder, Pooling("scene"))(waveforms)


@pytest.mark.parametrize("name", NAMES)
def test_the_embedding_is_the_references(name, load, probe):
    (vector,) = scenes(load(name), probe(1.0, seed=1)[None])
    length, largest = REFERENCE[name]
    assert float(vector.norm()) == pytest.approx(length, rel=1e-5)
    assert {place: float(vector[place]) for place in largest} == pytest.approx(largest, rel=2e-5)


@pytest.mark.golden
@pytest.mark.parametrize("name", NAMES)
def test_parity_with_the_reference_outputs(name, golden, load, probe, relative):
    expected = np.load(golden / "panns.npz")
    encoder = load(name)
    for seconds, seeds in ((5, (0, 10)), (1, (1, 11))):
        waveforms = torch.stack([probe(seconds, seed) for seed in seeds])
        levels = encoder.trunk.levels(waveforms)[:, ::10]
        np.testing.assert_allclose(levels, expected[f"logmel/{seconds}s"], atol=1e-4, rtol=0)
        vectors = scenes(encoder, waveforms)
        for ours, theirs in zip(vectors, expected[f"{name}/{seconds}s/embedding"], strict=True):
            assert relative(ours.numpy(), theirs) < 1e-5
        tags = encoder.trunk.tags(vectors)
        np.testing.assert_allclose(tags, expected[f"{name}/{seconds}s/clipwise_output"], atol=1e-4, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize("name", NAMES)
def test_tensors_are_those_of_the_published_checkpoint(name, golden):
    expected = json.loads((golden / f"panns_{name}_keys.json").read_text())
    assert {key: list(value.shape) for key, value in panns.blank(name).state_dict().items()} == expected


@pytest.mark.parametrize(("name", "dim"), [("cnn6", 512), ("mobilenetv1", 1024)])
def test_they_keep_the_contract(name, dim, load):
    report = check_encoder(load(name))
    assert report.dim == dim
    assert report.frames_per_second == pytest.approx(100 / TAIL[name])


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_time_steps_from_the_shortest_clip_on(name, load):
    encoder = load(name)
    assert encoder.min_samples == (TAIL[name] - 1) * 320
    for samples in (encoder.min_samples, 40_000):
        frames = encoder(0.1 * torch.ones(1, samples))
        assert frames.shape == (1, (1 + samples // 320) // TAIL[name], encoder.dim)
        assert (frames >= 0).all()  # a ReLU was last


def test_clips_of_a_batch_do_not_meet(load, probe):
    encoder = load("cnn14")
    waveforms = torch.stack([probe(0.7, seed) for seed in range(3)])
    together, alone = encoder(waveforms), torch.cat([encoder(clip[None]) for clip in waveforms])
    assert float((together - alone).norm() / alone.norm()) < 1e-5


def test_the_scene_is_made_of_maximum_and_mean_before_the_last_layer(load, probe, stand_ins):
    encoder, waveform = load("cnn6"), probe(1.0)[None]
    features = encoder.features(waveform)
    assert features.shape == (1, 6, encoder.inner_dim)
    weight, bias = (stand_ins("cnn6")[f"fc1.{part}"] for part in ("weight", "bias"))
    through = [torch.relu(rows @ weight.T + bias) for rows in (features, features.mean(1) + features.amax(1))]
    torch.testing.assert_close(encoder(waveform), through[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scenes(encoder, waveform), through[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "layer", "dim", "hop"), [("cnn6", "block2", 128, 4), ("mobilenetv1", "block0", 32, 2)]
)
def test_middle_layers(name, layer, dim, hop, load, probe):
    encoder = load(name, layer)
    assert (encoder.dim, encoder.hop_seconds) == (dim, hop * 0.01)
    waveforms = torch.stack([probe(1.0), probe(1.0, 1)])
    frames = encoder(waveforms)
    assert frames.shape == (2, 101 // hop, dim)
    torch.testing.assert_close(encoder(waveforms[1:])[0], frames[1])


def test_joined_layers_hear_once(load, stand_in_file, probe, monkeypatch):
    weights = f"?weights={stand_in_file('cnn6')}"
    joined = encoders.load(f"cnn6@block2{weights}+cnn6{weights}")
    heard, levels = [], panns.Panns.levels
    monkeypatch.setattr(panns.Panns, "levels", lambda self, waveforms: heard.append(1) or levels(self, waveforms))
    frames = joined(probe(1.0)[None])
    assert len(heard) == 1
    assert frames.shape == (1, 6, 128 + 512)
    torch.testing.assert_close(frames[..., 128:], load("cnn6")(probe(1.0)[None]))


def test_layers_of_one_network_are_read_once_and_other_callers_have_their_own(stand_in_file, monkeypatch):
    first, second = (f"mobilenetv1@{block}?weights={stand_in_file('mobilenetv1')}" for block in ("block2", "block4"))
    read, real = [], encoders.weights.load
    monkeypatch.setattr(encoders.weights, "load", lambda *given, **named: read.append(given) or real(*given, **named))
    joined = encoders.load(f"{first}+{second}")
    assert len(read) == 1
    assert joined.parts[0].trunk is joined.parts[1].trunk
    assert encoders.load(first).trunk is not joined.parts[0].trunk


def test_an_unknown_layer_is_refused_with_those_there_are(load):
    with pytest.raises(SpecError, match=r"no layer 'block9'; .* block1, block2, block3, block4"):
        load("cnn6", "block9")


@pytest.mark.parametrize("name", NAMES)
def test_bf16_agrees(name, load, probe):
    waveforms = torch.stack([probe(1.0), probe(1.0, 1)])
    half = load(name, precision="bf16")
    exact, rounded = scenes(load(name), waveforms), scenes(half, waveforms)
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rounded).min() > 0.9999
    assert not torch.equal(exact, rounded)
    assert not half.exportable


def test_bf16_is_in_the_name_and_float32_is_not(load, stand_in_file):
    weights = stand_in_file("cnn6")
    assert load("cnn6", precision="bf16").spec == f"cnn6?precision=bf16&weights={weights}"
    assert load("cnn6", precision="float32").spec == f"cnn6?weights={weights}"
    assert load("cnn6").identity != load("cnn6", precision="bf16").identity


@pytest.mark.slow
def test_the_graph_is_the_encoder(load, probe, tmp_path, relative):
    encoder = load("cnn6")
    vectors = Vectors(encoder, Pooling("mean+scene"))
    waveforms = torch.stack([probe(1.3), probe(1.3, 3)])
    expected = vectors(waveforms)
    export_graph(vectors, encoder.min_samples, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for batch, samples in ((2, waveforms.shape[1]), (1, encoder.min_samples)):
        (got,) = session.run(None, {"audio": waveforms[:batch, :samples].numpy()})
        assert relative(got, vectors(waveforms[:batch, :samples]).numpy()) < 1e-4
    assert torch.equal(vectors(waveforms), expected)  # exporting left no trace


def test_gathered_patches_are_taken_back_for_the_graph(load, probe):
    encoder = load("cnn14")
    waveform = probe(0.4)[None]
    before = encoder(waveform)
    weight = encoder.trunk.stages[-1].convolutions[0]
    weight.unpack()
    torch.testing.assert_close(encoder(waveform), before, rtol=1e-4, atol=1e-4)
    weight.pack()
    assert torch.equal(encoder(waveform), before)


def test_copies_listen_too_and_so_does_what_was_moved(load, probe):
    encoder, waveform = copy.deepcopy(load("cnn6")), probe(0.3)[None]
    expected = load("cnn6")(waveform)
    for other in (encoder, pickle.loads(pickle.dumps(load("cnn6"))), copy.deepcopy(load("cnn6")).to("cpu")):
        torch.testing.assert_close(other(waveform), expected, rtol=1e-4, atol=1e-4)


def test_tensors_that_do_not_fit_are_named(stand_ins, tmp_path):
    state = dict(stand_ins("cnn6"))
    del state["conv_block2.bn1.bias"]
    state["head.weight"], state["fc1.bias"] = torch.zeros(3), torch.zeros(7)
    torch.save({"model": state}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError) as caught:
        encoders.load(f"cnn6?weights={tmp_path / 'odd.pth'}")
    for part in ("odd.pth", "conv_block2.bn1.bias", "head.weight", r"fc1.bias (7,) instead of (512,)"):
        assert part in str(caught.value)


def test_another_networks_weights_are_refused(stand_in_file):
    with pytest.raises(WeightsError, match="missing"):
        encoders.load(f"cnn10?weights={stand_in_file('cnn6')}")


@pytest.mark.parametrize("name", ["cnn14", "audiosep"])
def test_without_weights_the_message_says_which_file_is_missing_and_where_it_comes_from(name, monkeypatch):
    monkeypatch.setattr("soundmark.encoders.weights.fetch", refuse)
    with pytest.raises(DownloadError) as caught:
        encoders.load(name)
    checkpoint = encoders.weights.CHECKPOINTS[name]
    assert checkpoint.file in str(caught.value)
    assert checkpoint.url in str(caught.value)


def refuse(url, *_, **__):
    raise DownloadError(f"cannot fetch {url}: no network")
