from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from soundmark import embeddings, encoders
from soundmark.encoders import Encoder
from soundmark.encoders.check import check_encoder
from soundmark.errors import NotExportable, SpecError
from soundmark.learners import probes

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def write(path, nodes, given, outputs, constants=(), kind=FLOAT):
    """A graph from `given`, the shape of the input `audio` (or several by name), to outputs of any shape."""
    inputs = given if isinstance(given, dict) else {"audio": given}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, about[0], about[1]) for name, about in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


KERNEL = np.random.default_rng(0).standard_normal((3, 1, 400)).astype(np.float32)


def frames_file(path, shape=("batch", "samples"), kind=FLOAT):
    """Three components of every 160 samples, under windows of 400."""
    rank = len(shape)
    nodes = [
        helper.make_node("Cast", ["audio"], ["single"], to=FLOAT),
        helper.make_node("Reshape", ["single", "channels"], ["wide"]),
        helper.make_node("Conv", ["wide", "kernel"], ["bands"], strides=[160]),
        helper.make_node("Transpose", ["bands"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Squeeze", ["turned", "first"], ["frames"])
        if rank == 1
        else helper.make_node("Identity", ["turned"], ["frames"]),
    ]
    sizes = [1, 1, -1] if shape[0] in ("samples", 1) else [0, 1, -1]
    constants = {"kernel": KERNEL, "channels": np.array(sizes), "first": np.array([0])}
    used = {name for node in nodes for name in node.input}
    dims = ["frames", 3] if rank == 1 else ["batch", "frames", 3]
    constants = {name: value for name, value in constants.items() if name in used}
    return write(path, nodes, list(shape), {"frames": (FLOAT, dims)}, constants, kind)


def expected(waveforms):
    bands = torch.nn.functional.conv1d(waveforms[:, None], torch.from_numpy(KERNEL), stride=160)
    return bands.transpose(1, 2)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (("batch", "samples"), FLOAT),
        ((1, "samples"), FLOAT),
        (("samples",), FLOAT),
        (("batch", 1, "samples"), FLOAT),
        (("batch", "samples"), DOUBLE),
    ],
)
def test_frames_of_any_length(tmp_path, shape, kind):
    path = frames_file(tmp_path / "frames.onnx", shape, kind)
    encoder = encoders.load(f"onnx:{path}?rate=16000")
    assert (encoder.hop_seconds, encoder.min_seconds, encoder.dim) == (0.01, 0.05, 3)
    assert encoder.spec == f"onnx:{path}?rate=16000"
    assert check_encoder(encoder).checks
    waveforms = 0.1 * torch.randn(2, 9000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder(waveforms), expected(waveforms))


@pytest.mark.parametrize(("fixed", "setting"), [(True, ""), (False, "&window=0.5"), (True, "&window=0.5")])
def test_a_fixed_length_is_heard_in_windows(tmp_path, fixed, setting):
    path = frames_file(tmp_path / "frames.onnx", (1, 8000 if fixed else "samples"))
    with pytest.raises(SpecError, match="longer than the window"):
        encoders.load(f"onnx:{path}?rate=16000&hop=0.6{setting}")
    # 48 windows of 400 samples fit into 8000, and a fiftieth would begin the next 8000.
    encoder = encoders.load(f"onnx:{path}?rate=16000&hop=0.01{setting}")
    assert encoder.advance == 48 * 160
    assert check_encoder(encoder).dim == 3
    clip = 0.1 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    heard = encoder(clip)
    assert heard.shape[1] == 125
    whole = expected(torch.nn.functional.pad(clip, (0, 400)))
    torch.testing.assert_close(heard, whole[:, :125])


def vector_file(path, length="samples"):
    """Mean and maximum of a clip's size, beside another output."""
    nodes = [
        helper.make_node("Abs", ["audio"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axis"], ["mean"], keepdims=1),
        helper.make_node("ReduceMax", ["size", "axis"], ["max"], keepdims=1),
        helper.make_node("Concat", ["mean", "max"], ["embedding"], axis=1),
        helper.make_node("Shape", ["size"], ["counted"]),
    ]
    outputs = {"embedding": (FLOAT, ["batch", 2]), "mean": (FLOAT, ["batch", 1]), "counted": (TensorProto.INT64, [2])}
    return write(path, nodes, ["batch", length], outputs, {"axis": np.array([1], np.int64)})


def test_a_vector_stands_for_the_clip_or_for_a_window(tmp_path):
    path = vector_file(tmp_path / "vector.onnx")
    whole = encoders.load(f"onnx:{path}?rate=16000&output=embedding")
    clip = torch.linspace(-1, 1, 40_000)[None]
    assert torch.allclose(whole(clip), torch.tensor([[[0.5, 1.0]]]), atol=1e-4)
    assert whole.hop_seconds == whole.piece_seconds
    assert check_encoder(whole).dim == 2
    windows = encoders.load(f"onnx:{path}?rate=16000&output=embedding&window=1")
    assert windows.hop_seconds == 1
    assert check_encoder(windows).dim == 2
    heard = windows(clip)
    assert heard.shape == (1, 3, 2)
    assert torch.allclose(heard[0, :, 1], torch.tensor([1.0, 0.6, 1.0]), atol=1e-4)


def test_a_model_file_of_ours_can_be_heard(tmp_path, tiny_model):
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    encoder = encoders.load(f"onnx:{tmp_path}/model.onnx?rate=8000&output=embedding")
    clip = torch.linspace(-1, 1, 8001)[None]
    torch.testing.assert_close(encoder(clip), torch.tensor([[[0.5, 1.0]]]), rtol=1e-3, atol=1e-3)


def test_it_is_known_by_its_content(tmp_path, toy):
    one, two = frames_file(tmp_path / "one.onnx"), frames_file(tmp_path / "two.onnx")
    first, second = (encoders.load(f"onnx:{path}?rate=16000") for path in (one, two))
    assert first.identity == second.identity
    assert first.identity != encoders.load(f"onnx:{one}?rate=8000").identity
    vector_file(two)
    assert first.identity != encoders.load(f"onnx:{two}?rate=16000&output=mean").identity
    assert embeddings.embed(toy, first, "mean+std", progress=False).vectors.shape == (len(toy.clips), 6)


def test_it_is_no_part_of_a_model_file(tmp_path):
    from soundmark.export import check_exportable

    path = frames_file(tmp_path / "frames.onnx")
    assert not encoders.load(f"onnx:{path}?rate=16000").exportable
    (probe,) = probes(f"onnx:{path}?rate=16000", "mean", "logreg")
    with pytest.raises(NotExportable, match="no ONNX graph"):
        check_exportable(probe)


def test_the_rate_of_joined_parts_must_agree(tmp_path):
    path = frames_file(tmp_path / "frames.onnx")
    joined = encoders.load(f"onnx:{path}?rate=16000+mfcc?rate=16000&hop=160&window=400")
    assert isinstance(joined, Encoder)
    assert joined.dim == 23


def refused(path, settings="rate=16000", **_):
    with pytest.raises(SpecError) as error:
        encoders.load(f"onnx:{path}?{settings}")
    return str(error.value)


def test_what_cannot_be_heard_is_refused_in_plain_words(tmp_path):
    frames, vector = frames_file(tmp_path / "frames.onnx"), vector_file(tmp_path / "vector.onnx")
    fixed = frames_file(tmp_path / "fixed.onnx", (1, 8000))
    assert "a + in it is read as the joining" in refused(tmp_path / "no.onnx")
    assert "a + in it is read as the joining" in refused(f"{tmp_path}/a+b.onnx")
    assert "no layers; if the @ is part of its path" in refused(f"{tmp_path}/a@b.onnx")
    with pytest.raises(SpecError, match="path of a file and its rate"):
        encoders.load("onnx?rate=16000")
    with pytest.raises(SpecError, match=r"needs the sample rate .* onnx:.*frames.onnx\?rate=16000"):
        encoders.load(f"onnx:{frames}")
    assert "no setting 'layer'" in refused(frames, "rate=16000&layer=1")
    assert "window=900 in" in refused(frames, "rate=16000&window=900")
    assert "takes exactly 8000 (0.5 s)" in refused(fixed, "rate=16000&window=1")
    assert "has several outputs: choose one with output=NAME: embedding" in refused(vector)
    assert "has no output 'frames'; it has: embedding" in refused(vector, "rate=16000&output=frames")
    assert "is int64, not floating-point" in refused(vector, "rate=16000&output=counted")
    assert "hop=0.1" in refused(vector, "rate=16000&output=mean&hop=0.1")
    (tmp_path / "text.onnx").write_text("not a graph", encoding="utf-8")
    assert "cannot be used" in refused(tmp_path / "text.onnx")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"audio": ["batch", "samples"], "more": [1]}, "it takes: audio tensor.*, more tensor"),
        ({"audio": ["batch", 64, "samples"]}, "with a batch of any size or 1"),
        ({"audio": ["batch", 1, 64, "samples"]}, "must take one waveform"),
    ],
)
def test_other_inputs_than_a_waveform_are_refused(tmp_path, given, message):
    nodes = [helper.make_node("Abs", ["audio"], ["found"])]
    path = write(tmp_path / "x.onnx", nodes, given, {"found": (FLOAT, None)})
    with pytest.raises(SpecError, match=message):
        encoders.load(f"onnx:{path}?rate=16000")


def test_other_outputs_than_frames_are_refused(tmp_path):
    nodes = [helper.make_node("Unsqueeze", ["audio", "axes"], ["found"])]
    path = write(
        tmp_path / "x.onnx",
        nodes,
        ["batch", "samples"],
        {"found": (FLOAT, None)},
        {"axes": np.array([1, 2], np.int64)},
    )
    with pytest.raises(SpecError, match=r"has the shape \(1, 1, 1, \d+\) for one clip"):
        encoders.load(f"onnx:{path}?rate=16000")
