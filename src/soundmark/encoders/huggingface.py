"""Any Hugging Face audio model as an encoder: `hf:facebook/wav2vec2-base@9`, or `hf:a/folder`.

Frames are hidden states over time. Layers are what the library calls them: `0` is what enters the first layer of the
transformer (or stage of the Swin), `1` what leaves it, and so on; without a layer it is `last_hidden_state`. Models
that take spectrograms of one length (AST, CLAP, Whisper) hear windows of that length, and their tokens of one moment
are averaged over frequency. Where such a model has a vector of its own for a window, that is the layer `pooled`: of AST
its two class tokens, of CLAP the projection into the space that sound shares with text.

The model's own feature extractor prepares each clip by itself, padding included, so that what it does to a batch cannot
make a clip depend on its neighbours. Frames over padding are left out.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from soundmark.encoders import probing
from soundmark.encoders.network import Layer, NetworkEncoder, Trunk
from soundmark.errors import DownloadError, MissingExtra, SpecError
from soundmark.spec import Spec, take

LAST, POOLED = "last", "pooled"

_PIECE_SECONDS = 30.0  # attention over a whole recording would grow with the square of its length
_AST, _CLAP = "audio-spectrogram-transformer", "clap_audio_model"
_CLASS_TOKENS = 2  # of AST, before those of patches
_AST_STEP, _AST_WINDOW = 160, 400  # samples at its 16 kHz, as Kaldi's 10 and 25 ms
_NEVER_HEARD = ("masked_spec_embed",)  # parameters of training, which checkpoints may lack


class HuggingFaceTrunk(Trunk):
    """A model of `transformers` with its feature extractor.

    Args:
        name: what it was loaded by.
        listener: the part that listens, on the CPU.
        extractor: its feature extractor.
        projection: for CLAP, from its own vector to the space shared with text.

    Raises:
        SpecError: if it does not make hidden states over time from waveforms.
    """

    exportable = False

    def __init__(self, name: str, listener: Any, extractor: Any, projection: Any = None) -> None:
        super().__init__()
        self.name, self.extractor = name, extractor
        self.listener = listener.eval().requires_grad_(False)
        self.projection = projection.eval().requires_grad_(False) if projection is not None else None
        self.config = listener.config
        self.kind = str(self.config.model_type)
        self.sample_rate = _rate(name, extractor)
        self.window = _window(extractor)
        self.rounds_up = bool(self.window)
        self._taken = set(inspect.signature(listener.forward).parameters)
        self._measure()
        parts: dict[str, object] = {"extractor": _settings(extractor), "config": _settings(self.config)}
        parts |= {f"listener {key}": value for key, value in listener.state_dict().items()}
        parts |= {f"projection {key}": value for key, value in projection.state_dict().items()} if projection else {}
        self.key = f"hf#{probing.digest(parts)}"

    def described(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """See `Trunk.described`; of waveforms. The network is run to its end whichever layers are asked for."""
        if not self.window:
            return self._states(heard, names)
        shortest = round(self.min_seconds * self.sample_rate)
        parts = [self._states(part, names) for part in probing.windows(heard, self.window, self.advance, shortest)]
        return [
            probing.end_to_end(of_layer, self.advance, self.layers[name].hop, heard.shape[1])
            for name, of_layer in zip(names, zip(*parts, strict=True), strict=True)
        ]

    def unfreeze(self, deepest: str) -> None:
        """See `Trunk.unfreeze`: whatever a gradient from that layer reaches learns."""
        self.requires_grad_(True)
        with torch.enable_grad():
            samples = self.window or max(self.sample_rate, round(self.min_seconds * self.sample_rate))
            self.described(probing.noise(samples), [deepest])[0].sum().backward()  # type: ignore[no-untyped-call]
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None

    def depths(self) -> list[list[nn.Parameter]]:
        """See `Trunk.depths`: by layer of the transformer, or stage; what comes before it; and what comes after."""
        lists = [part for part in self.listener.modules() if isinstance(part, nn.ModuleList)]
        if not lists:
            return super().depths()
        layers = max(lists, key=lambda part: sum(each.numel() for each in part.parameters()))
        groups = [list[nn.Parameter]() for _ in range(len(layers) + 2)]
        places = {id(each): place for place, layer in enumerate(layers, 1) for each in layer.parameters()}
        place = 0
        for each in self.parameters():
            place = places.get(id(each), place if place == 0 else len(layers) + 1)
            if each.requires_grad:
                groups[place].append(each)
        return [group for group in groups if group]

    def train(self, mode: bool = True) -> Self:
        """Always in evaluation mode: nothing is dropped or masked at random, whatever the model's config says."""
        return super().train(False)

    def _states(self, waveforms: Tensor, names: Sequence[str]) -> list[Tensor]:
        """(batch, frames, inner) of each layer, for waveforms that the model takes at once."""
        deep = any(name not in (LAST, POOLED) for name in names)
        answer = self.listener(**self._prepared(waveforms), output_hidden_states=deep, return_dict=True)
        return [self._state(answer, name) for name in names]

    def _prepared(self, waveforms: Tensor) -> dict[str, Tensor]:
        """What the model takes, prepared clip by clip by its own extractor."""
        with torch.autocast("cpu", enabled=False):  # some make their spectrograms with PyTorch
            clips = [
                self.extractor(clip, sampling_rate=self.sample_rate, return_tensors="pt")
                for clip in waveforms.detach().cpu().numpy()
            ]
        together = {name: torch.cat([clip[name] for clip in clips]) for name in clips[0] if name in self._taken}
        if "attention_mask" in together and bool(together["attention_mask"].all()):
            del together["attention_mask"]  # nothing is padded; without it models are faster
        return {
            name: (value.float() if value.is_floating_point() else value).to(waveforms.device)
            for name, value in together.items()
        }

    def _state(self, answer: Any, name: str) -> Tensor:
        if name == POOLED:
            own: Tensor = answer.pooler_output
            if self.projection is not None:
                own = nn.functional.normalize(self.projection(own), dim=-1)
            return own[:, None]
        state: Tensor = answer.last_hidden_state if name == LAST else answer.hidden_states[int(name)]
        if self.kind == _AST:
            bands = (self.config.num_mel_bins - self.config.patch_size) // self.config.frequency_stride + 1
            patches = state[:, _CLASS_TOKENS:]
            return patches.reshape(len(patches), bands, -1, patches.shape[2]).mean(1)
        if self.kind == _CLAP:
            # The Swin hears a square that is made of stretches of time, one on top of the other.
            stretches = 1 if name == LAST else self.config.spec_size // self.config.num_mel_bins
            clips, dim, height, width = state.shape
            square = state.reshape(clips, dim, stretches, height // stretches, width)
            return square.mean(3).flatten(2).transpose(1, 2)
        return state

    def _measure(self) -> None:
        """Find the shortest clip, the layers, and the hop of each."""
        name, rate, most = f"hf:{self.name}", self.sample_rate, self.window or None
        with torch.no_grad():
            self.min_seconds = probing.shortest(lambda clip: self._states(clip[:, :most], [LAST])[0], rate, name)
            try:
                samples = self.window or max(rate, round(self.min_seconds * rate))
                answer = self.listener(
                    **self._prepared(probing.noise(samples)), output_hidden_states=True, return_dict=True
                )
                names = [str(index) for index in range(len(answer.hidden_states or ()))]
                if self.window and getattr(answer, "pooler_output", None) is not None:
                    names.append(POOLED)
                found = {layer: self._state(answer, layer) for layer in (*names, LAST)}
                frames = found[LAST].shape[1]
                hop = self._hop(frames, samples)
            except Exception as error:  # models differ in more ways than can be foreseen
                raise SpecError(
                    f"{name} ({self.kind}) gives no hidden states over time: {probing.first_line(error)}"
                ) from error
        self.advance = frames * hop
        self.piece_seconds = _PIECE_SECONDS
        if self.window:
            self.piece_seconds = max(1, int(_PIECE_SECONDS * rate / self.advance)) * self.advance / rate
        hops = {
            layer: self.advance / state.shape[1] if self.window else hop * round(frames / state.shape[1])
            for layer, state in found.items()
        }
        # Without a whole hop a layer's frames would not stay in step over windows; of published models none lacks one.
        self.layers = {
            layer: Layer(state.shape[2], round(hops[layer])) for layer, state in found.items() if hops[layer] % 1 == 0
        }

    def _hop(self, frames: int, samples: int) -> int:
        """Samples between frames of the last layer, where so many samples give so many frames."""
        if self.kind == _AST:
            return _AST_STEP * int(self.config.time_stride)
        if self.window:
            return samples // frames

        def count(length: int) -> int:
            return self._states(probing.noise(length), [LAST])[0].shape[1]

        said = int(getattr(self.config, "inputs_to_logits_ratio", 0) or 0)
        if said and abs(count(2 * samples) - frames - samples / said) <= 1:
            return said
        measured = round(probing.hop_samples(count, self.sample_rate, samples))
        if not measured:
            raise ValueError("longer clips have no more frames")
        return measured


class HuggingFaceEncoder(NetworkEncoder):
    """One layer of a Hugging Face model; no part of a model file, for feature extractors are no graphs."""


def hf(spec: Spec) -> HuggingFaceEncoder:
    """`hf:MODEL`: any Hugging Face audio model, by name or folder; `hf:MODEL@3` hears its third layer.

    Raises:
        MissingExtra: without `transformers`.
        DownloadError: if the model is neither in the cache nor to be had.
        SpecError: if it is no model that Soundmark can hear, or has no such layer.
    """
    if not spec.view:
        raise SpecError("hf takes the name or the folder of a model: hf:facebook/wav2vec2-base or hf:a/folder")
    settings = take(spec, {"revision": ""})
    return HuggingFaceEncoder(spec, _trunk(spec.view, settings["revision"]))


def _trunk(name: str, revision: str) -> HuggingFaceTrunk:
    try:
        import transformers
    except ImportError:
        raise MissingExtra(f"hf:{name} needs transformers: pip install 'soundmark[hf]'") from None
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if not local and name.startswith((".", "/", "~")):
        raise SpecError(f"there is no folder {folder}: give one with config.json, as save_pretrained writes it")
    source = str(folder) if local else name
    # No code of the repository's own is run: a model must be one that the library itself knows.
    how: dict[str, Any] = {"trust_remote_code": False} | ({"revision": revision} if revision else {})
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(source, **how)
            extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **how)
            maker = transformers.AutoModel
            if config.model_type == _CLAP:  # the tower alone, which AutoModel does not know
                maker = getattr(transformers, (config.architectures or ["ClapAudioModel"])[0])
                how.pop("trust_remote_code")
            model, said = maker.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **how)
        except Exception as error:  # OSError, ValueError and those of half a dozen libraries
            raise _unloaded(name, local, error) from None
    listener = model.get_encoder() if getattr(config, "is_encoder_decoder", False) else model
    listener = getattr(model, "audio_model", listener)
    projection = getattr(model, "audio_projection", None)
    _require_weights(name, model, said["missing_keys"], [part for part in (listener, projection) if part is not None])
    return HuggingFaceTrunk(name, listener, extractor, projection)


def _unloaded(name: str, local: bool, error: Exception) -> SpecError | DownloadError:
    reason = probing.first_line(error)
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return SpecError(
            f"hf:{name} is no model of the transformers library itself, and code from a model's repository is not run: "
            "wrap it in a module with the HEAR API and use hear:package.module"
        )
    if local or not isinstance(error, OSError):
        where = "the folder must hold config.json, preprocessor_config.json and the weights, as save_pretrained writes"
        return SpecError(f"hf:{name} cannot be loaded ({where} them): {reason}")
    return DownloadError(
        f"hf:{name} is no folder here, is not in the Hugging Face cache and could not be fetched: check the name, "
        f"fetch it where there is a network with `hf download {name}`, or give its folder. ({reason})"
    )


def _require_weights(name: str, model: nn.Module, missing: Iterable[str], heard: Sequence[nn.Module]) -> None:
    """Refuse what would be heard through random numbers, which transformers puts in place of missing weights."""
    ours = {id(value) for part in heard for value in part.state_dict(keep_vars=True).values()}
    values = model.state_dict(keep_vars=True)
    lacking = sorted(
        key for key in missing if not key.endswith(_NEVER_HEARD) and (key not in values or id(values[key]) in ours)
    )
    if lacking:
        raise SpecError(
            f"the checkpoint of hf:{name} lacks {len(lacking)} weights of {type(model).__name__}: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}; it is damaged or holds another model"
        )


def _rate(name: str, extractor: Any) -> int:
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or rate < 1000:
        raise SpecError(f"hf:{name} does not hear sound: its feature extractor has no sampling rate")
    return rate


def _window(extractor: Any) -> int:
    """Samples that an extractor of one length fills, or 0 where it takes any."""
    for attribute in ("nb_max_samples", "n_samples"):  # CLAP; Whisper
        if getattr(extractor, attribute, 0):
            return int(getattr(extractor, attribute))
    if type(extractor).__name__ == "ASTFeatureExtractor":
        return (int(extractor.max_length) - 1) * _AST_STEP + _AST_WINDOW
    return 0


def _settings(thing: Any) -> str:
    """Settings of a config or an extractor as text, without where and by which version they were saved."""
    kept = {
        key: value
        for key, value in thing.to_dict().items()
        if key not in ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
    }
    return json.dumps(kept, sort_keys=True, default=str)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's bars, remarks and side effects: what matters is raised."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Layers are initialised before their weights are read, which draws random numbers.
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of AST's filterbank, which is as published
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
