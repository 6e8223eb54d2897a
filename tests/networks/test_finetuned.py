"""Pretrained encoders as networks: they begin as published, and all of them learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from soundmark import encoders
from soundmark.encoders import convolution, fused, mobilenet
from soundmark.errors import SpecError
from soundmark.networks import build
from soundmark.networks.check import check_network

LAYERS = [
    "mn01",
    "mn01@block5",
    "cnn14",
    "cnn14@block5",
    "cnn10",
    "cnn6@block2",
    "mobilenetv1",
    "mobilenetv1@block3",
    "audiosep",
    "audiosep@block5",
    "audiosep@block2",
]


def published(name, clips):
    """An encoder's own vector of clips."""
    encoder = encoders.load(name)
    features = encoder.features(clips)
    return encoder.scene(features.mean(1), features.amax(1))


def noise(clips, samples, seed=0):
    return 0.1 * torch.randn(clips, samples, generator=torch.Generator().manual_seed(seed))


def assert_it_begins_as_the_encoder(name):
    network, clips = build(name, 3).eval(), noise(2, 40_000)
    with torch.no_grad():
        found, wanted = network.vectors(network.hear(clips)), published(name, clips)
    assert (found - wanted).norm() < 1e-4 * wanted.norm()
    assert (network.spec, network.dim) == (name, wanted.shape[1])
    assert network.policy == encoders.load(name).policy


@pytest.mark.parametrize("name", LAYERS)
def test_it_begins_as_the_encoder(pretrained, name):
    assert_it_begins_as_the_encoder(pretrained(name))


@pytest.mark.parametrize("name", ["mn01", "cnn14", "cnn6@block3", "mobilenetv1@block4", "audiosep", "audiosep@block3"])
def test_the_contract(pretrained, name):
    # The graph of a layer on the way is a part of the whole one's.
    assert len(check_network(pretrained(name), graph="@" not in name)) == 10 + ("@" not in name)


@pytest.mark.weights
def test_the_real_network_keeps_the_contract_and_begins_as_published(checkpoint):
    name = f"mn04?weights={checkpoint('mn04')}"
    assert_it_begins_as_the_encoder(name)
    assert len(check_network(name)) == 11
    network = build(name, 50)
    assert network.dim == 384
    with torch.device("meta"):
        whole = mobilenet.Published(0.4)
    tags = sum(each.numel() for each in whole.classifier.parameters())
    own = sum(each.numel() for each in network.head.parameters())
    assert sum(each.numel() for each in network.parameters()) - own == (
        sum(each.numel() for each in whole.parameters()) - tags
    )


def test_the_published_hidden_layer_joins_the_vector(pretrained):
    name, clips = pretrained("mn01?hidden=true"), noise(2, 40_000)
    network = build(name, 3).eval()
    with torch.no_grad():
        found, wanted = network.vectors(network.hear(clips)), published(pretrained("mn01"), clips)
    whole = mobilenet.read("mn01", name.partition("weights=")[2])
    assert found.shape == (2, network.dim)
    torch.testing.assert_close(found[:, : wanted.shape[1]], wanted, rtol=1e-3, atol=1e-4)
    hidden = functional.hardswish(whole.classifier[2](wanted))
    torch.testing.assert_close(found[:, wanted.shape[1] :], hidden, rtol=1e-3, atol=1e-4)
    assert len(network.depths()) == 18
    assert {id(each) for each in network.depths()[-1]} == {id(each) for each in network.hidden.parameters()}
    assert all(each.requires_grad for each in network.hidden.parameters())
    assert len(check_network(name)) == 11


@pytest.mark.parametrize("name", ["mn01@block5?hidden=true", "cnn14?hidden=true"])
def test_only_whole_mobilenets_have_a_hidden_layer(pretrained, name):
    with pytest.raises(SpecError, match="only the MobileNets, whole, have such a layer"):
        build(pretrained(name), 3)


def test_batch_norms_of_mobilenets_go_on_measuring(pretrained):
    network = build(pretrained("mn01"), 3).train()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    network(noise(3, 16_000))
    assert len(norms) == 43
    assert all(norm.weight.requires_grad and norm.eps == 1e-3 for norm in norms)
    assert not any(torch.equal(mean, norm.running_mean) for mean, norm in zip(before, norms, strict=True))


@pytest.mark.parametrize("name", ["cnn14", "audiosep"])
def test_nothing_stays_packed(pretrained, name):
    network = build(pretrained(name), 3)
    parts = [part for part in network.modules() if isinstance(part, fused.Packed)]
    fused.pack(network)
    assert parts
    assert all(part._packed is None and isinstance(part.weight, nn.Parameter) for part in parts)


@pytest.mark.parametrize(("name", "groups"), [("mn01", 17), ("mn01@block5", 6), ("cnn14", 7), ("cnn6@block2", 2), ("audiosep", 6)])  # fmt: skip # noqa: E501
def test_depths_are_blocks(pretrained, name, groups):
    network = build(pretrained(name), 3)
    depths = network.depths()
    assert len(depths) == groups
    assert not any(each is other for each in network.head.parameters() for group in depths for other in group)


def test_a_layer_on_the_way_drops_what_lies_beyond(pretrained):
    whole, part = (build(pretrained(f"cnn10{layer}"), 3) for layer in ("", "@block2"))
    assert len(list(part.trunk.parameters())) < len(list(whole.trunk.parameters()))
    assert part.dim == 6
    assert build(pretrained("mn01@block16"), 3).spec == pretrained("mn01")


def test_dropout_comes_before_the_head(pretrained):
    network = build(pretrained("mn01?dropout=0.5"), 3)
    levels = network.hear(noise(2, 16_000))
    assert "dropout=0.5" in network.spec
    with torch.no_grad():
        assert (network.train().vectors(levels) == 0).float().mean() > 0.3
        assert (network.eval().vectors(levels) == 0).float().mean() < 0.1


@pytest.mark.parametrize("name", ["mn01", "cnn6"])
def test_spectrograms_can_be_kept(pretrained, name):
    network, clips = build(pretrained(name), 3).eval(), noise(2, 16_000)
    levels = network.front(clips)
    assert levels.shape == (2, 50 + (name == "cnn6"), network.front.bands)
    assert torch.equal(network.hear(clips), levels)
    louder = network.front(2 * clips)
    torch.testing.assert_close(network.front.levels(4 * network.front.power(levels)), louder, rtol=1e-4, atol=1e-3)
    assert network.front.frames_per_second == 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logmel?bands=32", r"'logmel' has nothing to train: use it with --encoder logmel\?bands=32"),
        ("handcrafted", "'handcrafted' has nothing to train: use it with --encoder"),
        ("onnx:model.onnx", "'onnx' has nothing to train: use it with --encoder onnx:model.onnx"),
        ("hear:package.module", "'hear' has nothing to train"),
        ("mn04?precision=bf16", "precision=bf16 in 'mn04' is for listening"),
        ("cnn14?engine=int8", "engine=int8 in 'cnn14' is for listening"),
        ("mn04?dropout=1", "dropout=1 in 'mn04' is out of bounds"),
        ("mn04?dropout=much", "dropout=much in 'mn04' should be of type float"),
        ("mn04:view", "'mn04' has no views"),
        ("mn04?hidden=maybe", "hidden=maybe in 'mn04' should be"),
    ],
)
def test_what_cannot_be_trained_is_refused(name, message):
    with pytest.raises(SpecError, match=message):
        build(name, 3)


def test_what_is_folded_can_only_listen(pretrained):
    trunk = encoders.load(pretrained("mn01")).trunk
    with pytest.raises(SpecError, match="MobileNet can only listen"):
        trunk.unfreeze("block16")


def test_loading_a_mobilenet_draws_the_heads_numbers_alone(pretrained):
    name = pretrained("mn01")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = build(name, 3).head
        torch.manual_seed(3)
        assert torch.equal(head.weight, nn.Linear(head.in_features, 3).weight)


def test_depthwise_convolutions_learn_the_same_in_mixed_precision():
    generator = torch.Generator().manual_seed(0)
    maps, kernel = torch.randn(2, 6, 9, 8, generator=generator), torch.randn(6, 1, 3, 3, generator=generator)
    kernel.requires_grad_()
    wanted = functional.conv2d(maps, kernel, None, 2, 1, 1, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution.convolved(maps.bfloat16(), kernel, None, 2, (1, 1), 6)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=5e-2)
    (gradient,) = torch.autograd.grad(found.float().sum(), kernel)
    assert gradient.dtype == torch.float32


# --- Hugging Face --------------------------------------------------------------------------------------------------


@pytest.fixture
def hugging(tmp_path):
    """A small wav2vec2 and a small Whisper with random weights, in folders."""
    t = pytest.importorskip(
        "transformers", reason="SKIPPED FOR WANT OF TRANSFORMERS: Hugging Face models are not tested"
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    wave = t.Wav2Vec2Config(
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, mask_time_prob=0.5, **sizes
    )
    layers = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_attention_heads": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "vocab_size": 60}
    whisper = t.WhisperConfig(d_model=16, decoder_layers=1, max_source_positions=50, **layers, **tokens)
    bars = t.utils.logging.is_progress_bar_enabled()
    t.utils.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, model, extractor in (
            ("wav2vec2", t.Wav2Vec2Model(wave), t.Wav2Vec2FeatureExtractor()),
            ("whisper", t.WhisperModel(whisper), t.WhisperFeatureExtractor(chunk_length=1)),
        ):
            model.save_pretrained(tmp_path / name)
            extractor.save_pretrained(tmp_path / name)
    if bars:
        t.utils.logging.enable_progress_bar()
    return tmp_path


@pytest.mark.parametrize("model", ["wav2vec2", "wav2vec2@1", "whisper"])
def test_hugging_face_models_keep_the_contract(hugging, model):
    name = f"hf:{hugging / model}"
    assert_it_begins_as_the_encoder(name)
    assert len(check_network(name)) == 11
    network = build(name, 3)
    assert not network.exportable
    assert network.front is None


def test_of_hugging_face_models_what_a_layer_does_not_need_stays_frozen(hugging):
    network = build(f"hf:{hugging / 'wav2vec2'}@1", 3).train()
    layers = network.trunk.listener.encoder.layers
    assert all(each.requires_grad for each in layers[0].parameters())
    assert not any(each.requires_grad for each in layers[1].parameters())
    assert not network.trunk.listener.training  # neither dropout nor masked spans
    assert network.training
    depths = network.depths()
    assert len(depths) == 2
    assert len(depths[1]) == len(list(layers[0].parameters()))
