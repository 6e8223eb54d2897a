from __future__ import annotations

import functools
import json

import numpy as np
import onnxruntime
import pytest
import torch

from soundmark import encoders
from soundmark.encoders import audiosep
from soundmark.encoders.base import Encoder
from soundmark.encoders.check import check_encoder
from soundmark.encoders.graph import export_graph
from soundmark.encoders.pooling import Pooling
from soundmark.encoders.vectors import Vectors
from soundmark.errors import WeightsError

# Of the reference implementation, on stand-in weights and one second of the probe sound: length, and largest numbers.
REFERENCE = 220.7607, {81: -34.2851, 148: 30.7831, 178: 36.3466, 214: 30.7009}


@pytest.fixture(scope="module")
def load(stand_in_file):
    @functools.cache
    def loaded(layer: str = "", precision: str = "float32") -> Encoder:
        return encoders.load(f"audiosep{layer}?weights={stand_in_file('audiosep')}&precision={precision}")

    return loaded


def test_the_mean_of_the_frames_is_the_references_embedding(load, probe):
    vector = load()(probe(1.0, seed=1)[None]).mean(1)[0]
    length, largest = REFERENCE
    assert float(vector.norm()) == pytest.approx(length, rel=1e-5)
    assert {place: float(vector[place]) for place in largest} == pytest.approx(largest, rel=2e-5)


@pytest.mark.golden
def test_parity_with_the_reference_outputs(golden, load, probe, relative):
    expected = np.load(golden / "audiosep.npz")
    encoder = load()
    for seconds, seeds in ((5, (0, 10)), (1, (1, 11))):
        waveforms = torch.stack([probe(seconds, seed) for seed in seeds])
        magnitude = encoder.trunk.magnitude(waveforms)[:, ::20, ::16]
        # The reference transforms by convolution in float32, whose own error at a magnitude of 150 is 2e-4.
        np.testing.assert_allclose(magnitude, expected[f"{seconds}s/magnitude"], atol=1e-4, rtol=2e-6)
        frames = encoder(waveforms)
        assert relative(frames.numpy(), expected[f"{seconds}s/frames"]) < 1e-5
        for ours, theirs in zip(frames.mean(1), expected[f"{seconds}s/embedding"], strict=True):
            assert relative(ours.numpy(), theirs) < 1e-5


@pytest.mark.golden
def test_tensors_are_those_of_the_published_checkpoint(golden):
    expected = json.loads((golden / "audiosep_keys.json").read_text())
    own = {f"ss_model.{key}": list(value.shape) for key, value in audiosep.blank().state_dict().items()}
    assert own == expected


@pytest.mark.slow
def test_it_keeps_the_contract(load):
    report = check_encoder(load())
    assert (report.dim, report.frames_per_second) == (384, pytest.approx(3.125))


@pytest.mark.parametrize("samples", [9920, 9921, 32_000])
def test_maps_made_in_parts_are_the_whole(samples, load, probe, monkeypatch):
    trunk = load().trunk
    levels = trunk._levels(probe(1.0)[None, :samples])
    names = list(trunk.layers)
    whole = trunk._whole(levels, names)
    monkeypatch.setattr(audiosep, "_MAP_BYTES", 1 << 18)  # two rows or four at a time
    parts = trunk._in_parts(levels, names)
    for place, name in enumerate(names, 1):
        about = trunk.layers[name]
        assert parts[name].shape == (1, levels.shape[2] >> min(place, 5), about.inner)
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", range(1, 12))
@pytest.mark.parametrize("most", [0, 2, 5])
def test_cuts_leave_no_row_out_and_none_alone(rows, most):
    cuts = list(audiosep._cuts(rows, most))
    assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])]
    assert cuts[-1][1] == rows
    assert all(first % 2 == 0 and last - first >= min(2, rows) for first, last in cuts)


def test_middle_layers_stop_where_they_are(load, probe, monkeypatch):
    encoder = load("@block2")
    monkeypatch.setattr(audiosep.Last, "forward", None)
    frames = encoder(torch.stack([probe(0.5), probe(0.5, 1)]))
    assert frames.shape == (2, 51 // 4, 64)
    assert encoder.hop_seconds == 0.04


def test_bf16_agrees(load, probe):
    waveforms = torch.stack([probe(1.0), probe(1.0, 1)])
    exact, rounded = load()(waveforms), load(precision="bf16")(waveforms)
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact.mean(1), rounded.mean(1)).min() > 0.999


@pytest.mark.slow
def test_the_graph_is_the_encoder(load, probe, tmp_path, relative):
    encoder = load()
    vectors = Vectors(encoder, Pooling("mean"))
    waveforms = torch.stack([probe(0.7), probe(0.7, 3)])
    export_graph(vectors, encoder.min_samples, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for batch, samples in ((2, waveforms.shape[1]), (1, encoder.min_samples)):
        (got,) = session.run(None, {"audio": waveforms[:batch, :samples].numpy()})
        assert relative(got, vectors(waveforms[:batch, :samples]).numpy()) < 1e-4


def test_every_form_of_the_checkpoint_is_read(stand_ins, tmp_path, load, probe):
    bare = stand_ins("audiosep")
    prefixed = {f"ss_model.{key}": value for key, value in bare.items()}
    clap = {"query_encoder.model.logit_scale_a": torch.zeros(())}
    waveform = probe(0.4)[None]
    expected = load()(waveform)
    for number, content in enumerate((bare, prefixed, {"state_dict": prefixed | clap, "epoch": 3})):
        path = tmp_path / f"pytorch_model-{number}.bin"
        torch.save(content, path)
        assert torch.equal(encoders.load(f"audiosep?weights={path}")(waveform), expected)


def test_unknown_tensors_are_named_and_the_decoders_are_known(stand_ins, tmp_path):
    state = dict(stand_ins("audiosep"))
    assert "base.decoder_block6.conv_block2.shortcut.bias" in state
    state["base.encoder_block7.bias"] = torch.zeros(3)
    del state["film.encoder_block1->conv_block1->beta1.bias"]
    torch.save(state, tmp_path / "odd.bin")
    with pytest.raises(WeightsError) as caught:
        encoders.load(f"audiosep?weights={tmp_path / 'odd.bin'}")
    assert "1 missing: film.encoder_block1->conv_block1->beta1.bias" in str(caught.value)
    assert "1 unexpected: base.encoder_block7.bias" in str(caught.value)
