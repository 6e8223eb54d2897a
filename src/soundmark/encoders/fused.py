"""Convolutions made for listening: batch norms folded in, weights packed once, activations fused.

oneDNN keeps the weights of a convolution in blocks of its own. PyTorch hands it plain ones and lets it reorder them at
every call, which for the deep layers of PANNs takes longer than the arithmetic; here they are reordered once, and bias
and activation are applied while the numbers are still in registers. Where there is no oneDNN, when a graph is traced,
and when they are to learn, the same modules compute the same with plain PyTorch.

Maps are (batch, channels, time, frequency) throughout, with channels last in memory.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.encoders.convolution import convolved

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
"""What a network's inner arithmetic may be; front ends, features and all that follows are float32."""

Pair = tuple[int, int]

_LEARNT = ("weight", "bias", "scale", "shift")
_EPSILON = 1e-5  # of every batch norm in these networks, PyTorch's own default


def norm(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """A batch norm at rest as `x * scale + shift`: both (channels,), float64."""
    weight, bias, mean, variance = (
        state[f"{name}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / (variance + _EPSILON).sqrt()
    return scale, bias - mean * scale


def scaled(weight: Tensor, scale: Tensor) -> Tensor:
    """Weights (out, in, height, width) of a convolution whose output is multiplied by `scale`.

    In float32, for the deepest weights of Cnn14 would take 300 MB in double precision.
    """
    return weight.float() * scale.float().reshape(-1, 1, 1, 1)


def pooled(weight: Tensor, pool: Pair) -> Tensor:
    """Weights of one convolution with strides `pool` in place of a convolution and average pooling after it.

    Both are linear, so this is exact, and of 3 x 3 weights with 2 x 2 pooling it saves five operations of nine.
    """
    high, wide = pool
    grown = weight.new_zeros(*weight.shape[:2], weight.shape[2] + high - 1, weight.shape[3] + wide - 1)
    for row in range(high):
        for column in range(wide):
            grown[:, :, row : row + weight.shape[2], column : column + weight.shape[3]] += weight / (high * wide)
    return grown


class Packed(nn.Module):
    """A module whose weight can be handed over to oneDNN, and taken back.

    Attributes:
        weight: as PyTorch has it; empty while it is packed.
        bias: (out,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous(), persistent=False)
        # Copied, for a view would keep all of a mapped file in memory.
        self.register_buffer("bias", bias.to(dtype, copy=True).contiguous(), persistent=False)
        self._packed: Tensor | None = None

    def pack(self) -> None:
        """Hand the weight over, where oneDNN is at hand; it is not kept twice."""
        learns = isinstance(self.weight, nn.Parameter)
        if not learns and self._packed is None and self.weight.device.type == "cpu" and _packs(self.weight.dtype):
            arranged = self._arranged(self.weight)
            self.weight = self.weight.new_empty(0)  # let go before the next copy is made: they are large
            self._packed = self._reordered(arranged)

    def unpack(self) -> None:
        """Take it back."""
        if self._packed is not None:
            self.weight, self._packed = self._restored(self._packed), None

    def _arranged(self, weight: Tensor) -> Tensor:
        return weight

    def _reordered(self, arranged: Tensor) -> Tensor:
        raise NotImplementedError

    def _restored(self, packed: Tensor) -> Tensor:
        return packed.to_dense()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.unpack()  # another device or type knows nothing of oneDNN's blocks
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._packed is not None:
            state["_buffers"] = self._buffers | {"weight": self._restored(self._packed)}
            state["_packed"] = None
        return state


class Convolution(Packed):
    """Convolution, bias and a leaky ReLU in one.

    Args:
        weight: (out, in / groups, height, width).
        bias: (out,).
        size: (batch, channels, time, frequency) of a usual input, for which the weight is laid out.
        stride, padding, groups: as in `torch.nn.Conv2d`.
        slope: of the activation below zero: 0 is a ReLU, and None leaves it out.
        dtype: of inputs, weights and outputs.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        size: tuple[int, int, int, int],
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        slope: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(weight, bias, dtype)
        self.size, self.stride, self.padding, self.groups, self.slope = size, stride, padding, groups, slope

    def forward(self, maps: Tensor, added: Tensor | None = None, padding: Pair | None = None) -> Tensor:
        """Maps of maps; `added` is a map of the output's shape and goes without activation."""
        padding = padding or self.padding
        if self._packed is not None:
            return self._by_onednn(maps, added, padding)
        heard = convolved(maps, self.weight, self.bias, self.stride, padding, self.groups)
        return _activated(heard if added is None else heard + added, self.slope)

    def _by_onednn(self, maps: Tensor, added: Tensor | None, padding: Pair) -> Tensor:
        ones = (1, 1)
        if added is not None:
            return _operator("_convolution_pointwise", "binary")(
                maps, added, self._packed, self.bias, padding, self.stride, ones, self.groups, "add", 1.0, None, [], ""
            )
        return _operator("_convolution_pointwise")(
            maps, self._packed, self.bias, padding, self.stride, ones, self.groups, *_said(self.slope)
        )

    def _reordered(self, arranged: Tensor) -> Tensor:
        return _reorder_convolution(arranged, self.padding, self.stride, self.groups, self.size)


class Gathered(Convolution):
    """A 3 x 3 convolution of a map so narrow that oneDNN is slow at it: patches gathered, then one matrix product.

    Two thirds of what a patch on a map of two columns sees are padding on one side or the other; there, both columns
    are made together from all six places that they see.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, size: tuple[int, int, int, int], *, slope: float, dtype: torch.dtype
    ) -> None:
        super().__init__(weight, bias, size, padding=(1, 1), slope=slope, dtype=dtype)
        self._both = size[3] == 2
        self.register_buffer("bias_twice", self.bias.repeat(2) if self._both else self.bias, persistent=False)

    bias_twice: Tensor

    def _by_onednn(self, maps: Tensor, added: Tensor | None, padding: Pair) -> Tensor:
        batch, channels, high, wide = maps.shape
        rows = maps.permute(0, 2, 3, 1)
        if self._both:
            seen = functional.pad(rows.reshape(batch, high, wide * channels), (0, 0, 1, 1)).unfold(1, 3, 1)
            patches = seen.transpose(2, 3).reshape(batch * high, -1)
        else:
            seen = functional.pad(rows, (0, 0, 1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1)
            patches = seen.permute(0, 1, 2, 4, 5, 3).reshape(batch * high * wide, -1)
        product = _operator("_linear_pointwise")(patches, self._packed, self.bias_twice, *_said(self.slope))
        return product.reshape(batch, high, wide, -1).permute(0, 3, 1, 2)

    def _arranged(self, weight: Tensor) -> Tensor:
        if not self._both:
            return weight.permute(0, 2, 3, 1).flatten(1)
        matrix = weight.new_empty(2, len(weight), 3, 2, weight.shape[1])  # to, out, time, of, in
        for to, of in itertools.product((0, 1), (0, 1)):
            # Column `to` sees column `of` through the tap `of - to + 1` of three.
            matrix[to, :, :, of] = weight[:, :, :, of - to + 1].transpose(1, 2)
        return matrix.reshape(2 * len(weight), -1)

    def _reordered(self, arranged: Tensor) -> Tensor:
        return _reorder_linear(arranged, self.size[0] * self.size[2] * (1 if self._both else self.size[3]))

    def _restored(self, packed: Tensor) -> Tensor:
        matrix = packed.to_dense()
        if not self._both:
            return matrix.reshape(len(self.bias), 3, 3, -1).permute(0, 3, 1, 2).contiguous()
        blocks = matrix.reshape(2, len(self.bias), 3, 2, -1)  # to, out, time, of, in
        return torch.stack([blocks[1, :, :, 0], blocks[0, :, :, 0], blocks[0, :, :, 1]], dim=-1).transpose(1, 2)


class Linear(Packed):
    """Matrix product, bias and ReLU in one, float32.

    Args:
        weight: (out, in).
        bias: (out,).
        slope: 0 for a ReLU, None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, slope: float | None = None) -> None:
        super().__init__(weight, bias, torch.float32)
        self.slope = slope

    def forward(self, rows: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if self._packed is not None:
            product = _operator("_linear_pointwise")(rows.flatten(0, -2), self._packed, self.bias, *_said(self.slope))
            return product.reshape(*rows.shape[:-1], -1)
        return _activated(functional.linear(rows, self.weight, self.bias), self.slope)

    def _reordered(self, arranged: Tensor) -> Tensor:
        return _reorder_linear(arranged, 64)


def pack(module: nn.Module) -> None:
    """Hand over the weights of every module inside."""
    for part in _packable(module):
        part.pack()


def unfreeze(module: nn.Module) -> None:
    """Turn the weights of every module inside into parameters that learn, and so what is left of batch norms.

    A norm that was folded into a convolution is not taken out again: the two go on as one.
    """
    for part in module.modules():
        if isinstance(part, Packed):
            part.unpack()
        for name in _LEARNT:
            value = part._buffers.get(name)
            if value is not None:
                delattr(part, name)
                part.register_parameter(name, nn.Parameter(value.detach().clone()))


def learnt(module: nn.Module) -> int:
    """How many numbers of a network were learnt: its parameters, and the weights that a frozen one holds as buffers."""
    found = sum(each.numel() for each in module.parameters())
    for part in module.modules():
        weights = (part._buffers.get(name) for name in (*_LEARNT, "kernel"))
        found += sum(each.numel() for each in weights if each is not None)
        if isinstance(part, Packed) and part._packed is not None:
            found += part._restored(part._packed).numel()
    return found


@functools.cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has oneDNN's fused operators for a type, and they give what the ordinary ones give.

    They are not part of its public interface (`torch.compile` generates calls to them), so they are tried, not trusted.
    """
    weight = torch.linspace(-1, 1, 16 * 8 * 9).reshape(16, 8, 3, 3).to(dtype)
    bias = torch.linspace(-1, 1, 16)
    maps = torch.linspace(-1, 2, 2 * 8 * 5 * 4).reshape(2, 8, 5, 4).to(dtype).to(memory_format=torch.channels_last)
    tried: list[tuple[Packed, Tensor]] = [
        (Convolution(weight, bias, (2, 8, 5, 4), padding=(1, 1), slope=0.01, dtype=dtype), maps),
        (Linear(weight.flatten(1).float(), bias, slope=0.0), maps.float().reshape(-1, 8 * 5 * 4)[:, :72]),
    ]
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    with torch.no_grad():
        for module, given in tried:
            expected = module(given).float()
            try:
                module._packed = module._reordered(module.weight)
                found = module(given).float()
            except Exception:  # another processor, build or version: the ordinary way serves
                return False
            if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
                return False
    return True


def _packable(module: nn.Module) -> list[Packed]:
    return [part for part in module.modules() if isinstance(part, Packed)]


def _operator(name: str, overload: str = "default") -> Callable[..., Tensor]:
    found: Callable[..., Tensor] = getattr(getattr(torch.ops.mkldnn, name), overload)
    return found


def _said(slope: float | None) -> tuple[str, list[float], str]:
    """An activation in the words of PyTorch's oneDNN operators."""
    if slope is None:
        return "none", [], ""
    return ("leaky_relu", [slope], "") if slope else ("relu", [], "")


def _activated(heard: Tensor, slope: float | None) -> Tensor:
    if slope is None:
        return heard
    return functional.leaky_relu(heard, slope) if slope else heard.relu()


def _reorder_convolution(weight: Tensor, padding: Pair, stride: Pair, groups: int, size: tuple[int, ...]) -> Tensor:
    reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
    return reorder(weight.to_mkldnn(), list(padding), list(stride), [1, 1], groups, list(size))


def _reorder_linear(weight: Tensor, rows: int) -> Tensor:
    return _operator("_reorder_linear_weight")(weight.contiguous(), rows)
