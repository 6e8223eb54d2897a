from __future__ import annotations

import numpy as np
import pytest
import torch

from soundmark import encoders
from soundmark.encoders.check import check_encoder
from soundmark.encoders.engine import Engine
from soundmark.errors import NotExportable, SpecError

SPEC = "logmel?rate=16000&window=512&hop=256&bands=16"
NOISE = 0.1 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(0))


def test_onnx_runtime_hears_the_same():
    plain, engine = encoders.load(SPEC), encoders.load(SPEC + "&engine=onnx")
    assert isinstance(engine, Engine)
    assert engine.spec == plain.spec + "&engine=onnx"
    assert engine.identity != plain.identity
    torch.testing.assert_close(engine(NOISE), plain(NOISE), rtol=1e-4, atol=1e-3)
    assert engine.traceable.spec == plain.spec


def test_an_engine_keeps_the_contract():
    check_encoder(encoders.load(SPEC + "&engine=onnx"))


def test_the_graph_is_written_once(monkeypatch):
    encoders.load(SPEC + "&engine=onnx")
    monkeypatch.setattr("soundmark.encoders.engine.export_graph", None)
    encoders.load(SPEC + "&engine=onnx")


def test_joined_encoders_are_traced_without_their_engines():
    joined = encoders.load(SPEC + "&engine=onnx+" + SPEC + "&fmin=100")
    assert "engine" not in joined.traceable.spec
    np.testing.assert_allclose(joined.traceable(NOISE), joined(NOISE), rtol=1e-4, atol=1e-3)


def test_what_cannot_run_is_refused(monkeypatch):
    with pytest.raises(SpecError, match="no engine 'tpu' for 'logmel'; there are: torch, onnx, int8"):
        encoders.load("logmel?engine=tpu")
    plain = encoders.load(SPEC)
    plain.exportable = False
    with pytest.raises(NotExportable, match="cannot run with engine=onnx"):
        Engine(plain, "onnx")
