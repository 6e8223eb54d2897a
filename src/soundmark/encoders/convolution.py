"""Convolutions with what follows them, to listen and to train.

To listen: batch normalisation folded in, the activation fused, the kernel laid out once.

On a processor, a pointwise convolution over large maps spends more time on laying out its kernel anew and on the pass
of its activation than on multiplying. Both are saved by oneDNN's fused convolution, the one that `torch.compile`
generates calls to, where PyTorch offers it; everywhere else, and in an exported graph, ordinary operators do the same
arithmetic. To train: the same with a batch norm of its own and ordinary operators throughout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.frontends import plain

# Multiplications of a pointwise convolution above which one pass is worth its longer preparation; measured on AVX-512.
_WORTH_FUSING = 1_000_000
_SIZES = 2  # of maps for which kernels are kept: most collections have one, and a wide network's kernels are large

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda maps: maps,
    "relu": functional.relu,
    "hardswish": functional.hardswish,
}
_INPLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda maps: maps,
    "relu": functional.relu_,
    "hardswish": functools.partial(functional.hardswish, inplace=True),
}


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
    ) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.inputs, self.outputs = kernel.shape[1] * groups, kernel.shape[0]
        self.stride, self.groups, self.activation = stride, groups, activation
        self.padding = [kernel.shape[2] // 2, kernel.shape[3] // 2]
        # Kernels laid out for maps of some size. No buffers: their layout is opaque, and cannot be copied or compared.
        self._packed: dict[tuple[int, int], Tensor] = {}

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up."""
        if plain(maps):
            # By the size of one clip, so that which way is taken does not depend on the batch.
            work = maps.shape[2] * maps.shape[3] * self.kernel.numel()
            if _fused is not None and self.kernel.shape[2:] == (1, 1) and work >= _WORTH_FUSING:
                return self._in_one_pass(maps)
            return _INPLACE[self.activation](self._convolved(maps))
        return _ACTIVATIONS[self.activation](self._convolved(maps))

    def _convolved(self, maps: Tensor) -> Tensor:
        return functional.conv2d(maps, self.kernel, self.bias, self.stride, self.padding, 1, self.groups)

    def _in_one_pass(self, maps: Tensor) -> Tensor:
        stride = [self.stride, self.stride]
        size = (maps.shape[2], maps.shape[3])
        packed = self._packed.get(size)  # by the size and nothing else: what is computed must not depend on what was
        if packed is None:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.kernel, self.padding, stride, [1, 1], self.groups, [1, self.inputs, *size]
            )
            if len(self._packed) >= _SIZES:
                self._packed.clear()
            self._packed[size] = packed
        found: Tensor = _fused(
            maps, packed, self.bias, self.padding, stride, [1, 1], self.groups, self.activation, [], ""
        )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the opaque layout, so that a network can be copied and sent to other processes."""
        return self.__dict__ | {"_packed": {}}


class NormedConvolution(nn.Module):
    """The same to be trained: a convolution, its batch norm with running statistics, and the activation.

    Args:
        kernel: (outputs, inputs / groups, height, width), height and width odd.
        norm: of its outputs.
        stride: in both directions.
        groups: of channels that do not mix.
        activation: `none`, `relu` or `hardswish`.
    """

    def __init__(
        self, kernel: Tensor, norm: nn.BatchNorm2d, *, stride: int = 1, groups: int = 1, activation: str = "none"
    ) -> None:
        super().__init__()
        self.kernel = nn.Parameter(kernel.detach().clone(memory_format=torch.channels_last))
        self.norm = norm
        self.inputs, self.outputs = kernel.shape[1] * groups, kernel.shape[0]
        self.stride, self.groups, self.activation = stride, groups, activation
        self.padding = [kernel.shape[2] // 2, kernel.shape[3] // 2]

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up."""
        found = convolved(maps, self.kernel, None, self.stride, self.padding, self.groups)
        return _ACTIVATIONS[self.activation](self.norm(found))


def convolved(
    maps: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, int],
    padding: Sequence[int],
    groups: int,
) -> Tensor:
    """`conv2d`, but for convolutions in groups in float32 where a processor learns in mixed precision.

    There, the gradient of a depthwise convolution takes oneDNN up to thirty times as long in bf16 as in float32.
    """
    if groups == 1 or maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return functional.conv2d(maps, kernel, bias, stride, padding, 1, groups)
    with torch.autocast("cpu", enabled=False):
        found = functional.conv2d(maps.float(), kernel, bias, stride, padding, 1, groups)
    return found.to(torch.get_autocast_dtype("cpu"))


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
