"""A module that takes waveforms, written as one ONNX file."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from soundmark.errors import NotExportable
from soundmark.quiet import quiet

OPSET = 20
# The exporter's remarks about itself, and about lengths that it cannot solve for, do not help the user.
_TALK = ("torch.onnx", "torch.fx.experimental.symbolic_shapes")
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def export_graph(
    module: nn.Module,
    samples: int,
    path: str | os.PathLike[str],
    *,
    input_name: str = "audio",
    output_names: Sequence[str] = ("embedding",),
) -> None:
    """Write `module` as one ONNX file that takes any batch and any number of samples.

    Standard operators of the ai.onnx domain only, no control flow, no data beside the file.

    Args:
        module: takes float32 (batch, samples) and returns one tensor for each output name.
        samples: a length it is traced with, long enough for it.
        path: the file to write.
        input_name: what the graph calls the waveforms.
        output_names: what it calls what comes out.

    Raises:
        NotExportable: if the module cannot be traced, or comes out with operators that model files do not hold.
    """
    # Two clips, for a batch of one would be taken for a constant.
    example = torch.zeros(2, samples)
    example[:, ::7] = 0.5
    module = copy.deepcopy(module)  # with weights as PyTorch has them; another thread may be listening to the original
    with quiet(*_TALK), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},),
                verbose=False,
            )
        except Exception as error:
            raise NotExportable(f"{type(module).__name__} has no ONNX graph: {_first_line(error)}") from error
    if program is None:
        raise NotExportable(f"{type(module).__name__} has no ONNX graph")
    nodes = list(program.model.graph.all_nodes())
    foreign = sorted({f"{node.domain}:{node.op_type}" for node in nodes if node.domain not in ("", "ai.onnx")})
    branching = sorted({node.op_type for node in nodes} & CONTROL_FLOW)
    if foreign or branching or len(program.model.functions):
        raise NotExportable(
            f"{type(module).__name__} needs operators that model files do not hold: {', '.join(foreign + branching)}"
        )
    program.save(Path(path), external_data=False)


def _first_line(error: BaseException) -> str:
    """The exporter's own messages run over pages, and the cause is the last of them."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
