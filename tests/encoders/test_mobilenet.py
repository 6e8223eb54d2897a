import copy
import importlib.util
import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from soundmark import audio, encoders
from soundmark.encoders import convolution, mobilenet, weights
from soundmark.encoders.check import check_encoder
from soundmark.encoders.convolution import Convolution, folded
from soundmark.encoders.graph import export_graph
from soundmark.encoders.mobilenet import WIDTHS, Published, Tagger, kaldi_mel_weights
from soundmark.errors import SpecError, WeightsError
from soundmark.frontends import PowerSpectrogram

RATE = 32_000
# What EfficientAT's own code gives for `chirp(1, seed=1)`: the first ten numbers of the embedding, and the four highest
# of the 527 tags before the sigmoid.
EMBEDDING = [
    *(-0.2968325, 0.08030323, -0.174805, -0.1119218, 0.3811753),
    *(-0.2893965, -0.2055503, 0.2661391, -0.2683944, -0.05522286),
]
LOGITS = {137: -0.730093, 239: -3.14179, 158: -3.37202, 138: -3.37411}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """Checkpoints of random numbers, mn01 and mn04, by name."""
    folder = tmp_path_factory.mktemp("stand-ins")

    def filled(value, name, generator):
        if name.endswith("num_batches_tracked"):
            return value
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            return 1 + 0.1 * noise.abs()
        return (name.endswith("weight") + 0.1 * noise) if value.dim() == 1 else noise * (2 / value[0].numel()) ** 0.5

    paths = {}
    for name in ("mn01", "mn04"):
        state = Published(WIDTHS[name]).state_dict()
        generator = torch.Generator().manual_seed(4)
        torch.save({key: filled(value, key, generator) for key, value in state.items()}, folder / f"{name}.pt")
        paths[name] = folder / f"{name}.pt"
    return paths


def chirp(seconds, seed):
    """The signal of the reference outputs: a rising tone in noise, with a gap and a click."""
    samples = round(seconds * RATE)
    time = np.arange(samples) / RATE
    noise = np.convolve(
        np.random.Generator(np.random.PCG64(seed)).standard_normal(samples), np.ones(8) / 8, mode="same"
    )
    sound = 0.4 * np.sin(2 * np.pi * (100 * time + 600 * time**2)) + 0.1 * noise
    sound[samples // 3 : samples // 3 + samples // 10] = 0.0
    sound[samples // 2] = 0.9
    return torch.from_numpy(sound.astype(np.float32))


# --- against the reference -----------------------------------------------------------------------------------------


@pytest.mark.golden
def test_names_and_shapes_are_those_of_the_published_checkpoint(golden):
    wanted = json.loads((golden / "mn04_keys.json").read_text("utf-8"))
    assert {name: list(value.shape) for name, value in Published(0.4).state_dict().items()} == wanted


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mn04", 0.98), ("mn05", 1.43), ("mn10", 4.88), ("mn20", 17.91), ("mn30", 39.09), ("mn40", 68.43)],
)
def test_every_width_has_as_many_parameters_as_published(name, millions):
    with torch.device("meta"):
        network = Published(WIDTHS[name])
    assert round(sum(value.numel() for value in network.parameters()) / 1e6, 2) == millions


@pytest.mark.weights
def test_a_few_numbers_of_the_reference(checkpoint):
    """What EfficientAT says of a second of sound; the whole of it is held in the tests below."""
    tagger = Tagger(mobilenet.read("mn04", checkpoint("mn04"))).eval()
    with torch.inference_mode():
        _, embedding = tagger(chirp(1, seed=1)[None])
        logits = tagger.logits(embedding)[0]
    wanted = torch.tensor(EMBEDDING)
    assert (embedding[0, : len(wanted)] - wanted).norm() < 1e-5 * wanted.norm()
    assert logits.topk(4).indices.tolist() == list(LOGITS)
    torch.testing.assert_close(logits[list(LOGITS)], torch.tensor(list(LOGITS.values())), rtol=0, atol=1e-4)


@pytest.mark.weights
@pytest.mark.golden
@pytest.mark.parametrize(("seconds", "seeds"), [(5, (0, 10)), (1, (1, 11))])
@pytest.mark.parametrize("fused", [True, False])
def test_parity_on_the_probe_signals(checkpoint, golden, monkeypatch, relative, seconds, seeds, fused):
    if not fused:
        monkeypatch.setattr(convolution, "_fused", None)
    wanted = np.load(golden / "mn04.npz")
    encoder = encoders.load(f"mn04?weights={checkpoint('mn04')}")
    tagger = Tagger(mobilenet.read("mn04", checkpoint("mn04"))).eval()
    clips = torch.stack([chirp(seconds, seed) for seed in seeds])
    probe = _probe(golden)
    assert all(np.array_equal(clip, probe(seconds, seed=seed)) for clip, seed in zip(clips.numpy(), seeds, strict=True))
    with torch.inference_mode():
        levels = tagger.trunk.front(clips).transpose(1, 2)[:, :, ::10].numpy()
        embedding = encoder.encode(clips).mean(1)
        logits = tagger.logits(embedding).numpy()
    assert np.abs(levels - wanted[f"{seconds}s/logmel"]).max() < 1e-4
    assert relative(embedding.numpy(), wanted[f"{seconds}s/embedding"]) < 1e-5
    assert np.abs(logits - wanted[f"{seconds}s/logits"]).max() < 1e-4


def _probe(golden):
    spec = importlib.util.spec_from_file_location("fill_weights", golden / "fill_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.probe_signal


@pytest.mark.weights
@pytest.mark.golden
@pytest.mark.data
def test_parity_on_real_clips(checkpoint, golden, esc50_root, relative):
    soxr = pytest.importorskip("soxr")
    wanted = np.load(golden / "mn04.npz")
    encoder = encoders.load(f"mn04?weights={checkpoint('mn04')}")
    tagger = Tagger(mobilenet.read("mn04", checkpoint("mn04"))).eval()
    files = {path.stem: path for path in (esc50_root / "audio").iterdir()}
    for name, embedding, logits in zip(
        *(wanted[f"esc50/{what}"] for what in ("filename", "embedding", "logits")), strict=True
    ):
        clip, rate = audio.read(files[str(name).removesuffix(".wav")])
        clip = soxr.resample(np.pad(clip, (0, max(0, 220_500 - len(clip))))[:220_500], rate, RATE, "HQ")
        with torch.inference_mode():
            found = encoder.encode(torch.from_numpy(clip)[None]).mean(1)
            assert relative(found[0].numpy(), embedding) < 1e-4
            assert np.abs(tagger.logits(found)[0].numpy() - logits).max() < 1e-4


@pytest.mark.weights
def test_bf16_is_near(checkpoint, sounds):
    clips = torch.stack([torch.from_numpy(clip[:RATE]) for clip in sounds.values()])
    path = checkpoint("mn04")
    whole, half = (encoders.load(f"mn04?weights={path}{more}")(clips).mean(1) for more in ("", "&precision=bf16"))
    assert half.dtype == torch.float32
    assert functional.cosine_similarity(whole, half).min() > 0.97


# --- against plain arithmetic --------------------------------------------------------------------------------------


def plain_network(state, bands):
    """The published network, written down once more: nothing folded, fused or turned. Maps of every block."""

    def conv(x, name, stride=1, activation=None):
        kernel = state[f"{name}.0.weight"]
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[2] // 2, 1, x.shape[1] // kernel.shape[1])
        norm = [state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *norm, eps=1e-3)
        return activation(x) if activation else x

    maps = [conv(bands, "features.0", 2, functional.hardswish)]
    strides = {2: 2, 4: 2, 7: 2, 13: 2}
    for index in range(1, 16):
        activation = functional.relu if index < 7 else functional.hardswish
        before = inner = maps[-1]
        block = f"features.{index}.block"
        last = max(int(name.split(".")[3]) for name in state if name.startswith(f"{block}."))
        for part in range(last):
            name = f"{block}.{part}"
            if f"{name}.0.weight" in state:
                depthwise = state[f"{name}.0.weight"].shape[1] == 1
                inner = conv(inner, name, strides.get(index, 1) if depthwise else 1, activation)
                continue
            first, bias, second, shift = (
                state[f"{name}.conc_se_layers.0.{which}"]
                for which in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
            )
            squeezed = functional.linear(inner.mean((2, 3)), first, bias).relu()
            inner = inner * functional.linear(squeezed, second, shift).sigmoid()[:, :, None, None]
        after = conv(inner, f"{block}.{last}")
        maps.append(after + before if after.shape == before.shape and index not in strides else after)
    return [*maps, conv(maps[-1], "features.16", 1, functional.hardswish)]


@pytest.mark.parametrize("name", ["mn01", "mn04"])
@pytest.mark.parametrize("fused", [True, False])
def test_every_layer_is_what_plain_arithmetic_gives(stand_ins, monkeypatch, name, fused, relative):
    if not fused:
        monkeypatch.setattr(convolution, "_fused", None)
    trunk = encoders.load(f"{name}?weights={stand_ins[name]}").trunk
    clips = torch.stack([chirp(0.7, 3), chirp(0.7, 4)])
    with torch.inference_mode():
        maps = plain_network(weights.load(stand_ins[name]), trunk.front(clips).transpose(1, 2)[:, None])
        found = trunk.maps(clips, list(trunk.layers))
    for (layer, about), ours, theirs in zip(trunk.layers.items(), found, maps, strict=True):
        assert ours.shape == (2, -(-22_400 // about.hop), about.inner), layer
        assert relative(ours.numpy(), theirs.mean(2).transpose(1, 2).numpy()) < 1e-5, layer


def test_the_front_end_is_what_plain_arithmetic_gives():
    clip = chirp(0.3, 5).double()
    emphasised = np.diff(clip.numpy()) + 0.03 * clip.numpy()[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = np.hanning(800)
    rows = np.stack([padded[i : i + 1024] * window for i in range(0, len(padded) - 1023, 320)])
    bands = np.abs(np.fft.rfft(rows)) ** 2 @ kaldi_mel_weights(RATE, 1024, 128, 0.0, 15_000.0).double().numpy().T
    wanted = (np.log(bands + 1e-5) + 4.5) / 5
    with torch.inference_mode():
        found = mobilenet.LogMel()(clip.float()[None])[0].numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-4


def test_a_symmetric_window_ends_as_it_begins():
    hann = PowerSpectrogram(800, 320, length=1024, periodic=False).hann
    torch.testing.assert_close(hann, hann.flip(0))
    assert hann[0] == hann[-1] == 0


def test_kaldi_bands_are_even_on_their_scale():
    table = kaldi_mel_weights(16_000, 512, 23, 20.0, 8000.0).numpy()
    assert table.shape == (23, 257)
    assert (table[:, -1] == 0).all()
    inner = table[:, 2:200].sum(0)  # between the first and the last centre, neighbouring triangles add up to one
    np.testing.assert_allclose(inner[inner > 0.999], 1.0, atol=1e-6)
    mel = 1127 * np.log1p(np.arange(257) * 31.25 / 700)
    centres = (table * mel).sum(1) / table.sum(1)
    assert np.ptp(np.diff(centres)[8:]) < 30


@pytest.mark.parametrize("activation", ["none", "relu", "hardswish"])
def test_folding_keeps_what_is_computed(activation):
    generator = torch.Generator().manual_seed(0)
    raw, norm = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), nn.BatchNorm2d(12)
    norm.running_mean.normal_(generator=generator)
    norm.running_var.uniform_(0.5, 2, generator=generator)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
    maps = torch.randn(3, 8, 11, 6, generator=generator)
    after = {"none": nn.Identity(), "relu": nn.ReLU(), "hardswish": nn.Hardswish()}[activation]
    with torch.inference_mode():
        ours = Convolution(*folded(raw, norm), stride=2, groups=4, activation=activation)
        wanted = after(norm.eval()(raw(maps)))
        torch.testing.assert_close(ours(maps), wanted, rtol=1e-4, atol=1e-5)
        for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            torch.testing.assert_close(copied(maps), wanted, rtol=1e-4, atol=1e-5)
    assert (ours.inputs, ours.outputs) == (8, 12)


# --- as an encoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mn01", "mn04@block4", "mn04@block9", "mn04?precision=bf16"])
def test_the_contract(stand_ins, name):
    own = "&" if "?" in name else "?"
    report = check_encoder(encoders.load(f"{name}{own}weights={stand_ins[name[:4]]}"))
    assert report.frames_per_second == {"mn01": 3.125, "mn04@block4": 12.5, "mn04@block9": 6.25}.get(name, 3.125)


def test_the_mean_of_the_frames_is_the_embedding(stand_ins):
    encoder = encoders.load(f"mn04?weights={stand_ins['mn04']}")
    tagger = Tagger(mobilenet.read("mn04", stand_ins["mn04"])).eval()
    clip = chirp(1.3, 6)[None]
    with torch.inference_mode():
        probabilities, embedding = tagger(clip)
        features = encoder.features(clip)
        torch.testing.assert_close(encoder.scene(features.mean(1), features.amax(1)), embedding)
    assert encoder.dim == embedding.shape[1] == 384
    assert probabilities.shape == (1, 527)
    assert 0 <= probabilities.min() <= probabilities.max() <= 1


def test_layers_are_joined_on_one_pass(stand_ins, monkeypatch):
    path = stand_ins["mn01"]
    joined = encoders.load(f"mn01@block4?weights={path}+mn01?weights={path}")
    assert joined.spec == f"mn01@block4?weights={path}+mn01?weights={path}"
    calls = []
    monkeypatch.setattr(mobilenet.LogMel, "_levels", counted(calls, mobilenet.LogMel._levels))
    frames = joined.encode(chirp(0.5, 7)[None])
    assert len(calls) == 1
    assert frames.shape == (1, 2, joined.dim)


def counted(calls, function):
    def wrapper(*arguments):
        calls.append(1)
        return function(*arguments)

    return wrapper


def test_names(stand_ins):
    path = stand_ins["mn04"]
    assert encoders.load(f"mn04@block16?weights={path}&precision=float32").spec == f"mn04?weights={path}"
    keys = {encoders.load(f"mn04?weights={path}{more}").identity for more in ("", "&precision=bf16")}
    assert len(keys) == 2
    assert all(weights.digest(path) in key for key in keys)
    with pytest.raises(SpecError, match=r"no layer 'conv1'; .* are: block0, .*, block16"):
        encoders.load(f"mn04@conv1?weights={path}")
    with pytest.raises(WeightsError, match=r"do not fit Published and may be of another network: \d+ missing"):
        encoders.load(f"mn04?weights={stand_ins['mn01']}")


def test_loading_draws_no_random_numbers(stand_ins):
    before = torch.get_rng_state()
    encoders.load(f"mn01?weights={stand_ins['mn01']}")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_the_graph_agrees(stand_ins, tmp_path, relative):
    import onnxruntime

    encoder = encoders.load(f"mn01@block4?weights={stand_ins['mn01']}")
    export_graph(encoder, RATE, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for seconds in (0.05, 0.5, 1.1):
        clips = torch.stack([chirp(seconds, 8), chirp(seconds, 9)])
        (found,) = session.run(None, {"audio": clips.numpy()})
        assert relative(found, encoder.encode(clips).numpy()) < 1e-4
