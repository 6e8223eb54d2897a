"""Convolutions of frozen networks: batch normalisation folded in, the activation fused, the kernel laid out once.

On a processor, PyTorch lays a convolution's kernel out anew on every call, and passes over memory again for the
activation. Both are saved by oneDNN's fused convolution, the one that `torch.compile` generates calls to, where
PyTorch offers it; everywhere else, and in an exported graph, the same arithmetic runs as ordinary operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.frontends import plain


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution followed by batch normalisation, as of one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias.double() * scale
    kernel = convolution.weight.double() * scale.reshape(-1, 1, 1, 1)
    return kernel.float().detach(), bias.float().detach()


class Convolution(nn.Module):
    """A frozen convolution over two dimensions, padded to keep the size at a stride of 1, and what follows it.

    Args:
        kernel: (outputs, inputs / groups, height, width), height and width odd.
        bias: (outputs,).
        stride: in both directions.
        groups: of channels that do not mix.
        activation: `none`, `relu` or `hardswish`.
        typical: height and width of the maps that the kernel is laid out for. Fixed beforehand, so that what is
            computed does not depend on what came first; other sizes are right too, and hardly slower.
    """

    kernel: Tensor
    bias: Tensor

    def __init__(
        self,
        kernel: Tensor,
        bias: Tensor,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
        typical: tuple[int, int] = (64, 64),
    ) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.inputs, self.outputs = kernel.shape[1] * groups, kernel.shape[0]
        self.stride, self.groups, self.activation = stride, groups, activation
        self.padding = [kernel.shape[2] // 2, kernel.shape[3] // 2]
        self.typical = [1, self.inputs, *typical]
        self._packed: Tensor | None = None  # no buffer, for its layout is opaque: it cannot be copied or compared

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up."""
        if plain(maps) and _fused is not None:
            stride = [self.stride, self.stride]
            if self._packed is None:
                self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                    self.kernel, self.padding, stride, [1, 1], self.groups, self.typical
                )
            fused: Tensor = _fused(
                maps, self._packed, self.bias, self.padding, stride, [1, 1], self.groups, self.activation, [], ""
            )
            return fused
        found = functional.conv2d(maps, self.kernel, self.bias, self.stride, self.padding, 1, self.groups)
        if self.activation == "relu":
            return found.relu()
        return functional.hardswish(found) if self.activation == "hardswish" else found

    def __getstate__(self) -> dict[str, Any]:
        """Without the opaque layout, so that a network can be copied and sent to other processes."""
        return self.__dict__ | {"_packed": None}


def _find_fused() -> Any:
    """oneDNN's fused convolution, if this PyTorch has it and it gives what an ordinary one gives."""
    try:
        with torch.no_grad():
            maps = (
                torch.linspace(-1, 1, 2 * 8 * 5 * 5).reshape(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
            )
            kernel, bias = torch.linspace(-0.5, 1, 8 * 8).reshape(8, 8, 1, 1), torch.linspace(-1, 1, 8)
            packed = torch.ops.mkldnn._reorder_convolution_weight(kernel, [0, 0], [1, 1], [1, 1], 1, [2, 8, 5, 5])
            fused = torch.ops.mkldnn._convolution_pointwise
            found = fused(maps, packed, bias, [0, 0], [1, 1], [1, 1], 1, "relu", [], "")
            same = torch.allclose(found, functional.conv2d(maps, kernel, bias).relu(), rtol=1e-4, atol=1e-5)
    except Exception:  # another processor, another build, another version: the ordinary way serves
        return None
    return fused if same else None


_fused = _find_fused()
