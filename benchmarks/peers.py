"""Pretrained networks the way others use them: one clip at a time, `librosa.load`, their own front end.

Each is a function from a checkpoint to something that turns a path into one vector. Cnn14 is `panns-inference` itself,
with `torchlibrosa` as its front end. Of the others there is no package to install, so the loop is written here as their
publications have it: plain PyTorch, nothing folded or fused, spectrograms by convolution (`torchlibrosa` again).
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.encoders import audiosep, weights

RATE = 32000
Peer = Callable[[Path], np.ndarray]


def loaded(path: Path) -> Tensor:
    """A recording as (1, samples)."""
    return torch.from_numpy(librosa.load(path, sr=RATE, mono=True)[0])[None]


@contextlib.contextmanager
def _quiet_home() -> Iterator[None]:
    """`panns-inference` fetches a list of labels into the home folder when imported; here it finds one of numbers."""
    before = os.environ.get("HOME")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        (Path(folder) / "panns_data").mkdir()
        lines = ["index,mid,display_name", *(f"{i},/m/{i},{i}" for i in range(527))]
        (Path(folder) / "panns_data" / "class_labels_indices.csv").write_text("\n".join(lines))
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("HOME") if before is None else os.environ.update(HOME=before)


def cnn14_network() -> nn.Module:
    """panns-inference's own Cnn14."""
    with _quiet_home():
        from panns_inference.models import Cnn14

    return Cnn14(RATE, 1024, 320, 64, 50, 14000, 527)


def cnn14(checkpoint: Path) -> tuple[Peer, nn.Module]:
    """`AudioTagging.inference`, as its README shows."""
    with _quiet_home():
        from panns_inference import AudioTagging

        tagger = AudioTagging(checkpoint_path=str(checkpoint), device="cpu")

    def embedding(path: Path) -> np.ndarray:
        return tagger.inference(loaded(path).numpy())[1][0]

    return embedding, tagger.model


def audiosep_encoder(checkpoint: Path) -> tuple[Peer, nn.Module]:
    """AudioSep's encoder at the zero condition, no further down than its last block."""
    network = AudioSepEncoder(audiosep.separator(weights.load(checkpoint))).eval()

    def embedding(path: Path) -> np.ndarray:
        with torch.no_grad():
            return network(loaded(path))[0].numpy()

    return embedding, network


def mn04(checkpoint: Path) -> tuple[Peer, nn.Module]:
    """EfficientAT's mn04: its published modules, computed one after the other."""
    network = MobileNet(checkpoint).eval()

    def embedding(path: Path) -> np.ndarray:
        with torch.no_grad():
            return network(loaded(path))[0].numpy()

    return embedding, network


class AudioSepEncoder(nn.Module):
    """ResUNet30 from the spectrogram down to `encoder_block6`."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        from torchlibrosa.stft import STFT

        self.stft = STFT(n_fft=2048, hop_length=320, win_length=2048, freeze_parameters=True)
        self.bn0 = nn.BatchNorm2d(1025)
        self.pre_conv = nn.Conv2d(1, 32, 1)
        self.blocks = nn.ModuleList()
        for place in range(1, 7):
            inner, outer = audiosep.CHANNELS[place - 1], audiosep.CHANNELS[place]
            self.blocks.append(ResidualBlock(inner, outer, (1, 2) if place == 6 else (2, 2)))
        own: dict[str, Tensor] = {}
        for name in self.state_dict():
            kind, _, rest = name.partition(".")
            if kind == "stft":
                continue
            if kind == "blocks":
                place, _, part = rest.partition(".")
                block = f"encoder_block{int(place) + 1}"
                own[name] = (
                    state[f"film.{block}->conv_block1->{part}.bias"]
                    if part.startswith("beta")
                    else state[f"base.{block}.conv_block1.{part}"]
                )
            else:
                own[name] = state[f"base.{name}"]
        missing, unexpected = self.load_state_dict(own, strict=False)
        assert all(name.startswith("stft.") for name in missing)
        assert not unexpected

    def forward(self, waveforms: Tensor) -> Tensor:
        real, imaginary = self.stft(waveforms)
        maps = torch.clamp(real**2 + imaginary**2, 1e-10) ** 0.5
        maps = self.bn0(maps.transpose(1, 3)).transpose(1, 3)
        maps = self.pre_conv(maps)
        for block in self.blocks:
            maps = block(maps)
        return maps.mean((2, 3))


class ResidualBlock(nn.Module):
    """Norm, bias of the condition, activation, convolution; twice; a shortcut; pooling."""

    def __init__(self, inner: int, outer: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(outer)
        self.beta1, self.beta2 = nn.Parameter(torch.empty(inner)), nn.Parameter(torch.empty(outer))
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        if inner != outer:
            self.shortcut = nn.Conv2d(inner, outer, 1)
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        between = self.conv1(functional.leaky_relu_(self.bn1(maps) + self.beta1[:, None, None], 0.01))
        between = self.conv2(functional.leaky_relu_(self.bn2(between) + self.beta2[:, None, None], 0.01))
        passed = self.shortcut(maps) if hasattr(self, "shortcut") else maps
        return functional.avg_pool2d(passed + between, self.pool)


class MobileNet(nn.Module):
    """The published modules in evaluation mode, each operation on its own."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        from torchlibrosa.stft import STFT

        from soundmark.encoders import mobilenet

        self.network = mobilenet.read("mn04", checkpoint)
        self.steps = mobilenet._BLOCKS
        self.stft = STFT(
            n_fft=1024, hop_length=320, win_length=800, window=np.hanning(800), freeze_parameters=True
        )  # fmt: skip
        self.register_buffer("bands", mobilenet.kaldi_mel_weights(RATE, 1024, 128, 0.0, 15000.0))

    def forward(self, waveforms: Tensor) -> Tensor:
        emphasised = functional.conv1d(waveforms[:, None], torch.tensor([[[-0.97, 1.0]]]))[:, 0]
        real, imaginary = self.stft(emphasised)
        power = (real**2 + imaginary**2).transpose(2, 3)
        maps = (torch.log(self.bands @ power + 1e-5) + 4.5) / 5  # (batch, 1, bands, frames)
        stem, *inverted, last = self.network.features
        maps = functional.hardswish(_normed(stem, maps, 2))
        for published, (*_, activation, stride) in zip(inverted, self.steps, strict=True):
            active = functional.hardswish if activation == "hardswish" else functional.relu
            maps = _inverted(published.block, maps, stride, active)
        return functional.hardswish(_normed(last, maps)).mean((2, 3))


def _normed(part: nn.Module, maps: Tensor, stride: int = 1) -> Tensor:
    convolution, norm = part
    edge = convolution.kernel_size[0] // 2
    return norm(functional.conv2d(maps, convolution.weight, None, stride, edge, 1, convolution.groups))


def _inverted(block: nn.Sequential, maps: Tensor, stride: int, active: Callable[[Tensor], Tensor]) -> Tensor:
    between, parts = maps, list(block)
    for part in parts[:-1]:
        if isinstance(part, nn.Sequential):
            depthwise = part[0].groups > 1
            between = active(_normed(part, between, stride if depthwise else 1))
        else:
            gates = part.conc_se_layers[0]
            gate = torch.sigmoid(gates.fc2(functional.relu(gates.fc1(between.mean((2, 3))))))
            between = between * gate[:, :, None, None]
    found = _normed(parts[-1], between)
    return found + maps if stride == 1 and found.shape == maps.shape else found
