from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from soundmark import encoders
from soundmark.encoders import ENCODERS
from soundmark.encoders.graph import CONTROL_FLOW, export_graph
from soundmark.encoders.pooling import STATISTICS, Pooling
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.errors import NotExportable

PLAIN = [name for name in ENCODERS if name not in CHECKPOINTS]  # pretrained ones are tested where their weights are
EVERYTHING = "+".join([*(name for name in STATISTICS if name != "cov"), "p10", "p50", "p99.5"])


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check(module, path, clips, lengths):
    export_graph(module, lengths[0], path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    graph = session(path)
    for length in lengths:
        for batch in (1, len(clips)):
            waveforms = clips[:batch, :length]
            (got,) = graph.run(["embedding"], {"audio": waveforms.numpy()})
            expected = module(waveforms).numpy()
            assert got.shape == expected.shape
            distance = np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)
            assert distance.max() < 1e-4, (length, batch)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [*PLAIN, "mfcc?deltas=true+logmel?window=1024"])
def test_every_encoder_exports(spec, tmp_path, sounds):
    encoder = encoders.load(spec)
    clips = torch.stack([torch.from_numpy(clip[:44_000]) for clip in sounds.values()])
    clips = torch.cat([clips, torch.zeros(1, 44_000)])
    check(nn.Sequential(encoder, Pooling("mean+std+p90")), tmp_path / "m.onnx", clips, [44_000, encoder.min_samples])


class Framed(nn.Module):
    """Frames without an encoder, so that a pooling can be tested alone."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = Pooling(pooling)

    def forward(self, waveforms):
        return self.pooling(waveforms.unfold(-1, 8, 8))


@pytest.mark.parametrize("pooling", [EVERYTHING, "cov"])
def test_every_statistic_exports(pooling, tmp_path):
    clips = torch.randn(3, 800, generator=torch.Generator().manual_seed(0))
    check(Framed(pooling), tmp_path / "m.onnx", clips, [800, 48])


def test_the_graph_holds_standard_operators_only(tmp_path):
    import onnx

    export_graph(nn.Sequential(encoders.load("logmel"), Pooling("mean")), 8000, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {""}
    assert not {node.op_type for node in model.graph.node} & CONTROL_FLOW
    assert not model.functions
    assert [value.name for value in model.graph.input] == ["audio"]
    assert (tmp_path / "m.onnx").stat().st_size < 300_000


def test_names_and_several_outputs(tmp_path):
    class Two(nn.Module):
        def forward(self, waveforms):
            return waveforms.mean(1), waveforms.amax(1)

    export_graph(Two(), 50, tmp_path / "m.onnx", input_name="sound", output_names=("low", "high"))
    graph = session(tmp_path / "m.onnx")
    low, high = graph.run(["low", "high"], {"sound": np.array([[0.0, 1.0]], np.float32)})
    assert (low[0], high[0]) == (0.5, 1.0)


def test_what_cannot_be_traced_says_so(tmp_path):
    class Branching(nn.Module):
        def forward(self, waveforms):
            return waveforms if waveforms.sum() > 0 else -waveforms

    with pytest.raises(NotExportable, match="Branching has no ONNX graph"):
        export_graph(Branching(), 50, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_control_flow_is_refused(tmp_path):
    class Branching(nn.Module):
        def forward(self, waveforms):
            return torch.cond(waveforms.sum() > 0, lambda x: x + 1, lambda x: x - 1, (waveforms,))

    with pytest.raises(NotExportable, match=r"operators that model files do not hold.*If"):
        export_graph(Branching(), 50, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
