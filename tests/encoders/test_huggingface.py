"""Hugging Face models as encoders: every family in small, with random weights, saved and loaded without a network."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from soundmark import embeddings, encoders
from soundmark.encoders.check import check_encoder
from soundmark.errors import DownloadError, MissingExtra, SpecError


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip(
        "transformers", reason="SKIPPED FOR WANT OF TRANSFORMERS: Hugging Face models are not tested"
    )


CONVOLUTIONS = {
    "conv_dim": (16,) * 7,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 60,
    "max_source_positions": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
AST = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_length": 104,
}
CLAP = {
    "patch_embeds_hidden_size": 8,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 1],
    "hidden_size": 64,
    "projection_dim": 12,
    "num_mel_bins": 32,
    "spec_size": 128,
    "window_size": 4,
}
CLAP_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 60,
    "projection_dim": 12,
}


@pytest.fixture(scope="module")
def models(library, tmp_path_factory):
    """A folder that holds one of each."""
    folder = tmp_path_factory.mktemp("models")
    t = library
    wave = t.Wav2Vec2FeatureExtractor()
    clap = t.ClapConfig(audio_config=t.ClapAudioConfig(**CLAP).to_dict(), text_config=CLAP_TEXT, projection_dim=12)
    layer_norm = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
    fused = t.ClapAudioConfig(**CLAP, enable_fusion=True)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(t.audio_utils.warnings, "warn", lambda *_: None)  # of AST's filterbank
        torch.manual_seed(0)
        bars = t.utils.logging.is_progress_bar_enabled()
        t.utils.logging.disable_progress_bar()
        for name, model, extractor in [
            ("wav2vec2", t.Wav2Vec2Model(t.Wav2Vec2Config(**CONVOLUTIONS)), wave),
            (
                "wavlm",
                t.WavLMModel(t.WavLMConfig(**CONVOLUTIONS, **layer_norm)),
                t.Wav2Vec2FeatureExtractor(return_attention_mask=True),
            ),
            ("whisper", t.WhisperModel(t.WhisperConfig(**WHISPER)), t.WhisperFeatureExtractor(chunk_length=1)),
            ("ast", t.ASTModel(t.ASTConfig(**AST)), t.ASTFeatureExtractor(max_length=104)),
            (
                "clap",
                t.ClapModel(clap),
                t.ClapFeatureExtractor(truncation="rand_trunc", max_length_s=1, feature_size=32),
            ),
            (
                "clap-tower",
                t.ClapAudioModelWithProjection(fused),
                t.ClapFeatureExtractor(truncation="fusion", max_length_s=1, feature_size=32),
            ),
        ]:
            model.save_pretrained(folder / name)
            extractor.save_pretrained(folder / name)
        if bars:
            t.utils.logging.enable_progress_bar()
    return folder


FAMILIES = {
    "wav2vec2": (16, 320),
    "wavlm": (16, 320),
    "whisper": (16, 320),
    "ast": (16, 1600),
    "clap": (64, 3000),
    "clap-tower": (64, 3000),
}
NOISE = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_contract(models, family):
    encoder = encoders.load(f"hf:{models / family}")
    # Matrix products of other sizes round otherwise; a clip that knew of its neighbours would differ by far more.
    assert check_encoder(encoder, tolerance=1e-5).spec == f"hf:{models / family}"
    dim, hop = FAMILIES[family]
    assert (encoder.dim, encoder.hop_seconds) == (dim, hop / encoder.sample_rate)
    assert encoder.min_seconds == 0.05
    assert not encoder.exportable


@pytest.mark.parametrize(
    ("name", "dim", "hop"),
    [
        ("wav2vec2@1", 16, 320),
        ("whisper@0", 16, 320),
        ("ast@1", 16, 1600),
        ("ast@pooled", 16, 14_400),
        ("clap@0", 8, 375),
        ("clap-tower@2", 32, 1500),
        ("clap@pooled", 12, 48_000),
    ],
)
def test_layers(models, name, dim, hop):
    encoder = encoders.load(f"hf:{models / name}")
    assert check_encoder(encoder, tolerance=1e-5).dim == dim
    assert encoder.hop_seconds == hop / encoder.sample_rate
    assert encoder.spec == f"hf:{models / name}"


def parts(library, models, name, kind):
    """The model and the extractor as the library itself loads them."""
    model = kind.from_pretrained(models / name).eval()
    return model, library.AutoFeatureExtractor.from_pretrained(models / name)


@pytest.fixture
def quiet(library):
    library.utils.logging.disable_progress_bar()
    yield
    library.utils.logging.enable_progress_bar()


def test_wav2vec2_hears_what_the_library_hears(library, models, quiet):
    model, extractor = parts(library, models, "wav2vec2", library.Wav2Vec2Model)
    last, first = (encoders.load(f"hf:{models}/wav2vec2{layer}") for layer in ("", "@1"))
    for clip in NOISE:
        with torch.no_grad():
            given = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
            answer = model(**given, output_hidden_states=True)
        torch.testing.assert_close(last(clip[None]), answer.last_hidden_state)
        torch.testing.assert_close(first(clip[None]), answer.hidden_states[1])


def test_whisper_hears_windows_and_no_padding(library, models, quiet):
    model, extractor = parts(library, models, "whisper", library.WhisperModel)
    encoder = encoders.load(f"hf:{models}/whisper")
    clip = NOISE[0]
    answers = []
    for part in clip.split(16_000):
        given = extractor(part.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            answers.append(model.encoder(given.input_features).last_hidden_state)
    assert encoder(clip[None]).shape[1] == 125
    torch.testing.assert_close(encoder(clip[None]), torch.cat(answers, dim=1)[:, :125])


def test_ast_patches_become_moments(library, models, quiet):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.audio_utils.warnings, "warn", lambda *_: None)
        model, extractor = parts(library, models, "ast", library.ASTModel)
    last, pooled = (encoders.load(f"hf:{models}/ast{layer}") for layer in ("", "@pooled"))
    clip = NOISE[0, :16_000]
    with torch.no_grad():
        answer = model(**extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt"))
    assert answer.last_hidden_state.shape[1] == 2 + 12 * 9  # class tokens, then bands x moments
    moments = answer.last_hidden_state[:, 2:].reshape(1, 12, 9, 16).mean(1)
    torch.testing.assert_close(last(clip[None])[:, :9], moments)
    torch.testing.assert_close(pooled(clip[None])[:, 0], answer.pooler_output)
    # The second window begins where the first one's moments end, so the eleventh moment is its second.
    long = NOISE[:1, :30_000]
    torch.testing.assert_close(last(long)[:, 9:18], last(long[:, 14_400:])[:, :9])


def test_clap_moments_are_in_the_order_of_time(models):
    """A burst in one part of the clip moves the moments around it most."""
    for layer in ("@0", "@1", ""):
        encoder = encoders.load(f"hf:{models}/clap{layer}")
        quiet = 1e-3 * NOISE[:1, :1].expand(1, 48_000) + 1e-3 * torch.sin(torch.arange(48_000.0))[None]
        for second in (0.1, 0.45, 0.8):
            burst = quiet.clone()
            begin = round(second * 48_000)
            burst[:, begin : begin + 4800] += torch.sin(0.3 * torch.arange(4800.0))
            moved = (encoder(burst) - encoder(quiet)).norm(dim=2)[0]
            assert abs((int(moved.argmax()) + 0.5) / len(moved) - second - 0.05) < 0.15


def test_clap_vectors_are_those_it_compares_with_text(library, models, quiet):
    model, extractor = parts(library, models, "clap", library.ClapModel)
    encoder = encoders.load(f"hf:{models}/clap@pooled")
    clip = NOISE[0, :20_000]
    given = extractor(clip.numpy(), sampling_rate=48_000, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_audio_features(input_features=given["input_features"].float())
    torch.testing.assert_close(encoder(clip[None])[:, 0], expected.pooler_output)


def test_layers_of_one_model_are_heard_on_one_way(models):
    joined = encoders.load(f"hf:{models}/wav2vec2@1+hf:{models}/wav2vec2")
    alone = [part(NOISE) for part in joined.parts]
    calls = []
    joined.parts[0].trunk.listener.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(joined(NOISE), torch.cat(alone, dim=2))
    assert calls == [1]


def test_stages_of_unlike_hops_join(models):
    joined = encoders.load(f"hf:{models}/whisper+hf:{models}/ast")
    assert joined.dim == 32
    assert joined(NOISE).shape == (2, 25, 32)
    assert joined(NOISE[:, :12_345]).shape[1] == 8


def test_threads_do_not_mix_their_clips(models):
    encoder = encoders.load(f"hf:{models}/wav2vec2@1")
    clips = [0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(seed)) for seed in range(24)]
    alone = [encoder(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(encoder, clips), strict=True):
            assert torch.equal(expected, found)


def test_a_task_can_be_embedded(models, toy):
    found = embeddings.embed(toy, f"hf:{models}/whisper@1", "mean+scene", progress=False)
    assert found.vectors.shape == (len(toy.clips), 32)


def test_it_is_known_by_its_weights(library, models, tmp_path, quiet):
    here = encoders.load(f"hf:{models}/wav2vec2").trunk.key
    model, extractor = parts(library, models, "wav2vec2", library.Wav2Vec2Model)
    model.save_pretrained(tmp_path / "same")
    extractor.save_pretrained(tmp_path / "same")
    assert encoders.load(f"hf:{tmp_path}/same").trunk.key == here
    with torch.no_grad():
        model.encoder.layers[0].final_layer_norm.bias += 1
    model.save_pretrained(tmp_path / "same")
    assert encoders.load(f"hf:{tmp_path}/same").trunk.key != here
    settings = json.loads((models / "wav2vec2" / "preprocessor_config.json").read_text(encoding="utf-8"))
    copy = tmp_path / "other"
    copy.mkdir()
    for file in (models / "wav2vec2").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}), encoding="utf-8")
    assert encoders.load(f"hf:{copy}").trunk.key != here


def test_missing_weights_are_refused(library, models, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in (models / "wav2vec2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("masked_spec_embed")  # of training only
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert encoders.load(f"hf:{tmp_path}").trunk.key
    weights.pop("encoder.layers.1.final_layer_norm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match=r"lacks 1 weights of Wav2Vec2Model: encoder.layers.1.final_layer_norm.weight;"):
        encoders.load(f"hf:{tmp_path}")


def test_what_cannot_be_loaded_is_refused_in_plain_words(library, models, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DownloadError, match=r"nobody/nothing is no folder here, .* `hf download nobody/nothing`"):
        encoders.load("hf:nobody/nothing")
    with pytest.raises(SpecError, match="the name or the folder of a model"):
        encoders.load("hf")
    with pytest.raises(SpecError, match="no folder"):
        encoders.load("hf:./no/such/folder")
    with pytest.raises(SpecError, match="has no setting 'layer'"):
        encoders.load(f"hf:{models}/ast?layer=3")
    with pytest.raises(SpecError, match=r"'hf' has no layer '7'; its layers, .* are: 0, 1, 2, pooled, last"):
        encoders.load(f"hf:{models}/ast@7")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"must hold config.json, preprocessor_config.json and the weights"):
        encoders.load(f"hf:{tmp_path}/empty")


def test_models_that_hear_nothing_are_refused(library, tmp_path):
    library.utils.logging.disable_progress_bar()
    config = library.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    library.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(SpecError, match="cannot be loaded"):
        encoders.load(f"hf:{tmp_path}")
    library.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(SpecError, match="cannot listen"):
        encoders.load(f"hf:{tmp_path}")
    library.utils.logging.enable_progress_bar()


def test_code_of_a_models_repository_is_not_run(library, tmp_path):
    told = {"model_type": "of-their-own", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "code.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    with pytest.raises(SpecError, match="code from a model's repository is not run"):
        encoders.load(f"hf:{tmp_path}")


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'soundmark\[hf\]'"):
        encoders.load("hf:facebook/wav2vec2-base")
