"""AudioSep's encoder: the way down of the ResUNet30 that separates any sound from a mixture, on its own.

Source: Liu, Kong, Zhao, Liu, Yuan, Liu, Xia, Wang, "Separate anything you describe" (2023); the network after Kong,
Cao, Liu, Choi, Wang, "Decoupling magnitude and phase estimation with deep ResUNet for music source separation" (2021).
A text's embedding enters it as biases (FiLM); at the zero condition these are constants, which are baked in here, so no
text encoder is needed. Frames are the time steps of the last map averaged over frequency, and their mean is the
published feature. Clips are neither padded to a multiple of 32 frames nor robbed of their last bin, as a separator
must, for that would move the feature.

How it is made fast, exactly: batch norms after a convolution are folded into it; pooling and the convolution before it
are one with strides; shortcuts are taken after pooling; the last convolution, of which only the mean over frequency is
asked, is taken of means; and the wide maps are made a few rows at a time, so that they never leave the processor's
cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark import frontends
from soundmark.encoders import fused, weights
from soundmark.encoders.network import Layer, NetworkEncoder, Trunk, shared
from soundmark.spec import Spec

RATE, WINDOW, HOP = 32000, 2048, 320
BINS = WINDOW // 2 + 1
CHANNELS = (32, 32, 64, 128, 256, 384, 384)
"""Before the first block, and after each."""

PREFIX = "ss_model."
CLAP_PREFIX = "query_encoder."

_SLOPE = 0.01
_CONDITION = 512
_MAP_BYTES = 8 << 20  # of a map in work: what is larger is unmapped when freed, and every page of it mapped in anew
_USUAL_FRAMES = 501
_FLOOR = 1e-10


class Block(nn.Module):
    """A residual block, `pool(shortcut(x) + conv2(leaky(norm(conv1(leaky(norm(x)))))))`, but for its first step.

    Args:
        state: the checkpoint's tensors.
        place: 1 to 5.
        frames, bins: of a usual input.
    """

    def __init__(self, state: Mapping[str, Tensor], place: int, frames: int, bins: int, dtype: torch.dtype) -> None:
        super().__init__()
        name = f"base.encoder_block{place}.conv_block1"
        inner, outer = CHANNELS[place - 1], CHANNELS[place]
        self.row_bytes = outer * bins * dtype.itemsize
        scale, shift = _normed(state, place, 2)
        self.conv1 = fused.Convolution(
            fused.scaled(state[f"{name}.conv1.weight"], scale), shift, (1, inner, frames, bins),
            padding=(1, 1), slope=_SLOPE, dtype=dtype,
        )  # fmt: skip
        if place == 1:  # the shortcut passes through, and what passes is `pre_conv` of one channel
            passed, bias = state["base.pre_conv.weight"], state["base.pre_conv.bias"]
        elif inner == outer:
            passed, bias = torch.eye(inner).reshape(inner, inner, 1, 1), torch.zeros(inner)
        else:
            passed, bias = state[f"{name}.shortcut.weight"], state[f"{name}.shortcut.bias"]
        self.shortcut = fused.Convolution(passed, bias, (1, passed.shape[1], frames // 2, bins // 2), dtype=dtype)
        self.conv2 = fused.Convolution(
            fused.pooled(state[f"{name}.conv2.weight"].float(), (2, 2)), torch.zeros(outer), (1, outer, frames, bins),
            stride=(2, 2), padding=(1, 1), dtype=dtype,
        )  # fmt: skip

    def forward(self, activated: Tensor, passed: Tensor) -> Tensor:
        """Pooled output from the activated input and the pooled one, whole."""
        maps: Tensor = self.conv2(self.conv1(activated), self.shortcut(passed))
        return maps

    def part(self, rows: Callable[[int, int], Tensor], passed: Tensor, frames: int, first: int, last: int) -> Tensor:
        """Rows `first` to `last` of the output; `rows` gives rows of the activated input, of which there are `frames`.

        They see `2 * first - 1` to `2 * last + 1` of the map between the convolutions, and that sees one row more.
        """
        low, high = 2 * first - 1, 2 * last + 1
        inner_low, inner_high = max(low, 0), min(high, frames)
        from_row, to_row = max(inner_low - 1, 0), min(inner_high + 1, frames)
        seen = _edged(rows(from_row, to_row), from_row - inner_low + 1, inner_high + 1 - to_row)
        between = _edged(self.conv1(seen, padding=(0, 1)), inner_low - low, high - inner_high)
        maps: Tensor = self.conv2(between, self.shortcut(passed[:, :, first:last]), padding=(0, 1))
        return maps


class Entry(nn.Module):
    """The first step of a block from the second on: norm and activation; and pooling of what passes it by."""

    def __init__(self, state: Mapping[str, Tensor], place: int, dtype: torch.dtype) -> None:
        super().__init__()
        scale, shift = _normed(state, place, 1)
        self.register_buffer("scale", scale.to(dtype), persistent=False)
        self.register_buffer("shift", shift.to(dtype), persistent=False)

    scale: Tensor
    shift: Tensor

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The activated map and the pooled one."""
        return self.activate(maps), functional.avg_pool2d(maps, 2)

    def activate(self, maps: Tensor) -> Tensor:
        """Norm and activation alone."""
        heard = torch.addcmul(self.shift[:, None, None], maps, self.scale[:, None, None])
        if torch.compiler.is_exporting():
            return functional.leaky_relu(heard, _SLOPE)
        return functional.leaky_relu_(heard, _SLOPE)


class Last(nn.Module):
    """The sixth block averaged over frequency, as frames.

    The mean of a convolution over its output's columns is a product with the mean over its input's: over all of them
    for the middle taps, and over all but the last or the first for the taps to either side. Float32 throughout.
    """

    def __init__(self, state: Mapping[str, Tensor], frames: int, bins: int, dtype: torch.dtype) -> None:
        super().__init__()
        name = "base.encoder_block6.conv_block1"
        self.entry = Entry(state, 6, dtype)
        scale, shift = _normed(state, 6, 2)
        self.conv1 = fused.Convolution(
            fused.scaled(state[f"{name}.conv1.weight"], scale), shift, (1, CHANNELS[5], frames, bins),
            padding=(1, 1), slope=_SLOPE, dtype=dtype,
        )  # fmt: skip
        weight = state[f"{name}.conv2.weight"].permute(0, 2, 3, 1).flatten(1)  # out, (time, frequency, in)
        self.conv2 = fused.Linear(weight, torch.zeros(CHANNELS[6]))

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channels, time, frequency) to (batch, frames, 384)."""
        between = self.conv1(self.entry.activate(maps)).float()
        columns = between.shape[3]
        whole = between.sum(3)
        sums = torch.cat([whole - between[..., -1], whole, whole - between[..., 0]], dim=1).transpose(1, 2) / columns
        seen = functional.pad(sums, (0, 0, 1, 1))
        taps = torch.cat([seen[:, :-2], seen[:, 1:-1], seen[:, 2:]], dim=2)
        passed = maps.float().mean(3).transpose(1, 2)
        frames: Tensor = passed + self.conv2(taps)
        return frames


class AudioSep(Trunk):
    """The encoder with its front end.

    Args:
        state: the tensors of the separator's checkpoint, without prefix.
        source: the file they come from, for messages.
        precision: of the convolutions, `float32` or `bf16`.

    Raises:
        WeightsError: if tensors are missing, unknown or of the wrong shape.
    """

    sample_rate = RATE
    piece_seconds = 20.0
    min_seconds = 31 * HOP / RATE  # 32 frames, which five poolings leave one of
    scale: Tensor
    shift: Tensor

    def __init__(self, state: Mapping[str, Tensor], source: str, precision: str = "float32") -> None:
        super().__init__()
        weights.fill(blank(), state, source)
        self.dtype = fused.DTYPES[precision]
        self.exportable = precision == "float32"
        self.layers = {f"block{i}": Layer(CHANNELS[i], HOP * 2 ** min(i, 5)) for i in range(1, 7)}
        self.spectrogram = frontends.PowerSpectrogram(WINDOW, HOP, pad_mode="reflect")
        scale, shift = fused.norm(state, "base.bn0")
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("shift", shift.float(), persistent=False)
        scale, shift = _normed(state, 1, 1)
        spread, bias = (state[f"base.pre_conv.{part}"].double() for part in ("weight", "bias"))
        self.pre_conv = fused.Convolution(
            fused.scaled(spread, scale), bias * scale + shift, (1, 1, _USUAL_FRAMES, BINS),
            slope=_SLOPE, dtype=self.dtype,
        )  # fmt: skip
        sizes = [(_USUAL_FRAMES >> i, BINS >> i) for i in range(6)]
        self.blocks = nn.ModuleList(Block(state, i, *sizes[i - 1], self.dtype) for i in range(1, 6))
        self.entries = nn.ModuleList(Entry(state, i, self.dtype) for i in range(2, 6))
        self.last = Last(state, *sizes[5], self.dtype)
        fused.pack(self)

    def hear(self, waveforms: Tensor) -> Tensor:
        """See `Trunk.hear`: `magnitude`."""
        return self.magnitude(waveforms)

    def magnitude(self, waveforms: Tensor) -> Tensor:
        """The linear spectrogram: (batch, frames, 1025)."""
        return self.spectrogram.map(waveforms, _magnitude)

    def maps(self, waveforms: Tensor, names: Sequence[str]) -> list[Tensor]:
        """See `Trunk.maps`."""
        if torch.compiler.is_exporting():
            heard = self._whole(self._levels(waveforms), names)
            return [heard[name] for name in names]
        # One clip after the other: the maps of one are as much as the processor's cache can hold.
        clips = [self._in_parts(self._levels(clip), names) for clip in torch.split(waveforms, 1)]
        return [torch.cat([clip[name] for clip in clips]) for name in names]

    def described(self, heard: Tensor, names: Sequence[str]) -> list[Tensor]:
        """See `Trunk.described`; whole, to learn from. To listen, `maps` takes less memory."""
        levels = torch.addcmul(self.shift, heard, self.scale).unsqueeze(3).permute(0, 3, 1, 2)
        found = self._whole(levels, names)
        return [found[name] for name in names]

    def unfreeze(self, deepest: str) -> None:
        """See `Trunk.unfreeze`. Batch norms after a convolution stay folded; pooling stays part of convolutions."""
        last = list(self.layers).index(deepest) + 1
        self.blocks, self.entries = self.blocks[:last], self.entries[: last - 1]
        if last < len(self.layers):
            del self.last
        fused.unfreeze(self)

    def depths(self) -> list[list[nn.Parameter]]:
        """See `Trunk.depths`: by block."""
        found = [list(part.parameters()) for part in (*self.blocks, *([self.last] if hasattr(self, "last") else []))]
        for entry, group in zip(self.entries, found[1:], strict=False):
            group += entry.parameters()
        found[0] += [*self.parameters(recurse=False), *self.pre_conv.parameters()]
        return found

    def _levels(self, waveforms: Tensor) -> Tensor:
        def normed(power: Tensor) -> Tensor:
            return torch.addcmul(self.shift, _magnitude(power), self.scale)

        return self.spectrogram.map(waveforms, normed).to(self.dtype).unsqueeze(3).permute(0, 3, 1, 2)

    def _whole(self, levels: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Features of the layers named: the network as it reads."""
        heard: dict[str, Tensor] = {}
        activated, passed = self.pre_conv(levels), _halved(levels)
        for place, block in enumerate(self.blocks, 1):
            maps = block(activated, passed)
            heard[f"block{place}"] = _over_frequency(maps)
            if place <= len(self.entries):
                activated, passed = self.entries[place - 1](maps)
        return heard | ({"block6": self.last(maps)} if "block6" in names else {})

    def _expanded(self, levels: Tensor, low: int, high: int) -> Tensor:
        """Rows of what the first block begins with: as large as nothing after it, so it is never made whole."""
        maps: Tensor = self.pre_conv(levels[:, :, low:high])
        return maps

    def _in_parts(self, levels: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The same of a single clip, every block some rows at a time, and no deeper than need be."""
        heard: dict[str, list[Tensor]] = {name: [] for name in names}
        deepest, frames = max(names), levels.shape[2]
        rows = partial(self._expanded, levels)
        passed = _halved(levels)
        for place, block in enumerate(self.blocks, 1):
            assert isinstance(block, Block)
            name, entered = f"block{place}", []
            for first, last in _cuts(frames // 2, _MAP_BYTES // (2 * block.row_bytes)):
                part = block.part(rows, passed, frames, first, last)
                if name in heard:
                    heard[name].append(_over_frequency(part))
                if name < deepest:
                    # What the next block takes is made at once, while this part of the map is at hand.
                    entered.append(self.entries[place - 1](part) if place < len(self.blocks) else (part,))
            if name == deepest:
                break
            activated, *others = (torch.cat(column, dim=2) for column in zip(*entered, strict=True))
            if others:
                rows, passed, frames = partial(_rows, activated), others[0], frames // 2
            else:
                heard["block6"] = [self.last(activated)]
        return {name: torch.cat(parts, dim=1) for name, parts in heard.items()}


def load(spec: Spec) -> NetworkEncoder:
    """`audiosep`, with the published weights or those of `weights=PATH`.

    A Lightning checkpoint is understood, and a bare state dict with or without the prefix `ss_model.`; the tensors of
    CLAP, which may be beside the separator's, are passed over.

    Raises:
        SpecError: for an unknown setting or layer.
        WeightsError: if the weights are not what they should be.
        DownloadError: if they are not here and cannot be fetched.
    """
    said, path, precision = weights.chosen(spec)
    key = f"{spec.name}:{weights.digest(path)}:{precision}"
    trunk = shared(key, lambda: AudioSep(separator(weights.load(path)), str(path), precision))
    return NetworkEncoder(said, trunk)


def separator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The separator's own tensors of a checkpoint, their names without prefix."""
    return {name.removeprefix(PREFIX): value for name, value in state.items() if not name.startswith(CLAP_PREFIX)}


def blank() -> nn.Module:
    """A module with the names and shapes of the separator's checkpoint, and no memory behind them."""
    parts = ("conv_real", "conv_imag")
    with torch.device("meta"):
        base: dict[str, nn.Module] = {
            "stft": nn.ModuleDict({part: nn.Conv1d(1, BINS, WINDOW, bias=False) for part in parts}),
            "istft": nn.ModuleDict({part: nn.Conv1d(WINDOW, WINDOW, 1, bias=False) for part in parts}),
            "bn0": nn.BatchNorm2d(BINS),
            "pre_conv": nn.Conv2d(1, CHANNELS[0], 1),
            "conv_block7a": nn.ModuleDict({"conv_block1": _blank_block(CHANNELS[6], CHANNELS[6])}),
            "after_conv": nn.Conv2d(CHANNELS[0], 3, 1),
        }
        base["istft"].register_buffer("ola_window", torch.empty(WINDOW))
        film = dict(_biases("conv_block7a->conv_block1", CHANNELS[6], CHANNELS[6]))
        for place, (inner, outer) in enumerate(pairwise(CHANNELS), 1):
            base[f"encoder_block{place}"] = nn.ModuleDict({"conv_block1": _blank_block(inner, outer)})
            film |= _biases(f"encoder_block{place}->conv_block1", inner, outer)
            # The decoder climbs the same way up, from as deep as the next block to as flat as this; it is not used.
            up, deep, flat = 7 - place, CHANNELS[min(place + 1, 6)], outer
            base[f"decoder_block{up}"] = _blank_decoder(deep, flat, (1, 2) if up == 1 else (2, 2))
            film |= _biases(f"decoder_block{up}", deep, deep)
            film |= _biases(f"decoder_block{up}->conv_block2", 2 * flat, flat)
        return nn.ModuleDict({"base": nn.ModuleDict(base), "film": nn.ModuleDict(film)})


def _blank_block(inner: int, outer: int) -> nn.ModuleDict:
    block = {
        "bn1": nn.BatchNorm2d(inner),
        "bn2": nn.BatchNorm2d(outer),
        "conv1": nn.Conv2d(inner, outer, 3, bias=False),
        "conv2": nn.Conv2d(outer, outer, 3, bias=False),
    }
    return nn.ModuleDict(block | ({"shortcut": nn.Conv2d(inner, outer, 1)} if inner != outer else {}))


def _blank_decoder(deep: int, flat: int, stride: tuple[int, int]) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "conv1": nn.ConvTranspose2d(deep, flat, stride, bias=False),
            "bn1": nn.BatchNorm2d(deep),
            "conv_block2": _blank_block(2 * flat, flat),
            "bn2": nn.BatchNorm2d(deep),
        }
    )


def _biases(name: str, first: int, second: int) -> dict[str, nn.Module]:
    return {f"{name}->beta{place}": nn.Linear(_CONDITION, size) for place, size in ((1, first), (2, second))}


def _normed(state: Mapping[str, Tensor], place: int, part: int) -> tuple[Tensor, Tensor]:
    """A batch norm of a block's, with the bias of its FiLM layer, as scale and shift."""
    scale, shift = fused.norm(state, f"base.encoder_block{place}.conv_block1.bn{part}")
    return scale, shift + state[f"film.encoder_block{place}->conv_block1->beta{part}.bias"].double()


def _magnitude(power: Tensor) -> Tensor:
    return power.clamp_min(_FLOOR).sqrt()


def _over_frequency(maps: Tensor) -> Tensor:
    return maps.float().mean(3).transpose(1, 2)


def _halved(levels: Tensor) -> Tensor:
    """A map of one channel pooled. Seen as channels first, which it also is, the pooling is several times quicker."""
    batch, _, frames, bins = levels.shape
    made = functional.avg_pool2d(levels.reshape(batch, frames, bins).unsqueeze(1), 2)
    return made.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)


def _rows(maps: Tensor, low: int, high: int) -> Tensor:
    return maps[:, :, low:high]


def _edged(maps: Tensor, low: int, high: int) -> Tensor:
    """Maps with rows of zeros before and after."""
    return functional.pad(maps, (0, 0, low, high)) if low or high else maps


def _cuts(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Where to cut: an even number of rows each, so that pooling finds its pairs, and never a single one at the end."""
    step = max(2, most // 2 * 2)
    for first in range(0, max(rows - 1, 1), step):
        yield first, rows if first + step >= rows - 1 else first + step
