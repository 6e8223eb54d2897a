"""The gate before the runtime: what may pass, what may not, and that nothing can jam it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from soundmark import modelfile
from soundmark.errors import ModelError


def test_what_a_model_file_says(tiny_model: Callable[..., bytes]) -> None:
    facts = modelfile.check(tiny_model(), "tiny")
    assert facts.labels == ("quiet", "loud")
    assert (facts.kind, facts.sample_rate, facts.clip_seconds) == ("single", 8000, (1.0, 1.0))
    assert facts.policy.min_seconds == 0.1
    assert facts.thresholds == {"loud": 0.7}
    assert facts.metadata["task"] == "toy"


def node(domain: str = "", operator: str = "Abs", **attributes: Any) -> Callable[[Any], None]:
    return lambda model: model.graph.node.append(
        helper.make_node(operator, ["audio"], ["more"], domain=domain, **attributes)
    )


def subgraph() -> Any:
    return helper.make_graph([], "inner", [], [])


def constant_shape(operator: str, inputs: list[str], shape: list[int], packed: bool = False) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        value = numpy_helper.from_array(np.array(shape, np.int64), "shape")
        if packed:
            value = helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape)
        model.graph.initializer.append(value)
        model.graph.node.append(helper.make_node(operator, inputs, ["more"]))

    return mutate


def external(model: Any) -> None:
    tensor = model.graph.initializer[1]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.append(StringStringEntryProto(key="location", value="/etc/passwd"))


def external_in_an_attribute(model: Any) -> None:
    tensor = TensorProto(name="t", dims=[1], data_type=TensorProto.FLOAT)
    tensor.external_data.append(StringStringEntryProto(key="location", value="../secret"))
    model.graph.node.append(helper.make_node("Constant", [], ["more"], value=tensor))


def set_output(i: int, kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = ("b", 2)) -> Callable[[Any], None]:
    def mutate(model: Any) -> None:
        name = model.graph.output[i].name
        model.graph.output[i].CopyFrom(helper.make_tensor_value_info(name, kind, shape))

    return mutate


def rename(table: str, name: str) -> Callable[[Any], None]:
    return lambda model: setattr(getattr(model.graph, table)[0], "name", name)


def huge_dims(model: Any) -> None:
    model.graph.initializer[1].dims[0] = 1 << 40


def negative_dims(model: Any) -> None:
    model.graph.initializer[1].dims[0] = -1


def add_function(model: Any) -> None:
    model.functions.append(helper.make_function("mine", "f", ["x"], ["y"], [], [helper.make_opsetid("", 20)]))


def add_sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def add_training(model: Any) -> None:
    model.training_info.add()


def second_input(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["b", "s"]))


def twice(model: Any) -> None:
    model.metadata_props.append(model.metadata_props[0])


def no_graph(model: Any) -> None:
    model.ClearField("graph")


@pytest.mark.parametrize(
    ("mutate", "says"),
    [
        (node("com.microsoft", "Gelu"), "com.microsoft.Gelu; only standard operators"),
        (node("ai.onnx.ml", "Scaler"), "only standard operators"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.evil", 1)), "operators of 'com.evil'"),
        (node("", "Loop"), "it uses Loop"),
        (node("", "If", then_branch=subgraph(), else_branch=subgraph()), "graphs inside operators"),
        (node("", "Abs", hidden=subgraph()), "graphs inside operators"),
        (node("", "Abs", hidden=[subgraph()]), "graphs inside operators"),
        (external, "in another file"),
        (external_in_an_attribute, "in another file"),
        (add_function, "functions of its own"),
        (add_sparse, "sparse tensors"),
        (add_training, "training information"),
        (huge_dims, "more than the file holds"),
        (negative_dims, "more than the file holds"),
        (constant_shape("ConstantOfShape", ["shape"], [1 << 20, 1 << 20]), "ConstantOfShape in it would make"),
        (constant_shape("Expand", ["audio", "shape"], [1 << 40], packed=True), "Expand in it would make"),
        (constant_shape("Tile", ["audio", "shape"], [1, 1 << 30]), "Tile in it would make"),
        (second_input, "its inputs are"),
        (rename("input", "sound"), "its inputs are sound"),
        (rename("output", "answer"), "its outputs are answer"),
        (set_output(0, TensorProto.DOUBLE), "'probabilities' in it is not a matrix of float32"),
        (set_output(1, shape=("b", "t", 2)), "'embedding' in it is not a matrix of float32"),
        (set_output(0, shape=("b", 3)), "2 labels and 3 probabilities"),
        (set_output(0, shape=("b", "c")), "an unknown number of probabilities"),
        (twice, "'soundmark' twice"),
        (no_graph, "holds no graph"),
    ],
)  # fmt: skip
def test_what_may_not_pass(tiny_model: Callable[..., bytes], mutate: Callable[[Any], None], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        modelfile.check(tiny_model(mutate), "strange.onnx")
    assert str(caught.value).startswith("strange.onnx cannot be used: ")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"format": 2}, "has format 2.*update soundmark"),
        ({"labels": None}, "labels are not a list"),
        ({"labels": ["a", "a"]}, "labels are not a list"),
        ({"labels": ["a", ""]}, "labels are not a list"),
        ({"labels": [1, 2]}, "labels are not a list"),
        ({"labels": ["a", "b" * 501]}, "labels are not a list"),
        ({"labels": ["a", "b", "c"], "thresholds": {}}, "3 labels and 2 probabilities"),
        ({"kind": "some"}, "neither single nor multi"),
        ({"sample_rate": 0}, "sample rate is 0"),
        ({"sample_rate": "8000"}, "sample rate is 8000"),
        ({"sample_rate": 10**30}, "sample rate is 1000"),
        ({"policy": None}, "window policy must be a table"),
        ({"policy": {"min_seconds": -1}}, "min_seconds is -1"),
        ({"policy": {"window_seconds": 1e9}}, "window_seconds is 1000000000"),
        ({"policy": {"colour": "red"}}, "unknown settings"),
        ({"clip_seconds": None}, "clip_seconds"),
        ({"clip_seconds": {"median": 1.0}}, "clip_seconds"),
        ({"clip_seconds": {"median": 0, "max": 1}}, "clip_seconds"),
        ({"clip_seconds": {"median": 2, "max": 1}}, "clip_seconds"),
        ({"clip_seconds": {"median": True, "max": 1}}, "clip_seconds"),
        ({"clip_seconds": {"median": 1, "max": 1e300}}, "clip_seconds"),
        ({"thresholds": {"other": 0.5}}, "thresholds"),
        ({"thresholds": {"loud": 2}}, "thresholds"),
        ({"thresholds": [0.5]}, "thresholds"),
        ({"views": [0.5]}, "its views"),
        ({"views": {"danger": 0.5}}, "its views"),
        ({"views": {"danger": {"thresholds": {"danger": 2}}}}, "its views"),
        ({"views": {"danger": {"thresholds": [0.5]}}}, "its views"),
        ({"unknown_below": 1.5}, "unknown_below"),
        ({"unknown_below": "low"}, "unknown_below"),
    ],
)
def test_metadata_that_make_no_sense(tiny_model: Callable[..., bytes], said: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        modelfile.check(tiny_model(**said), "strange.onnx")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b"3", b'{"format": NaN}', b"\xff\xfe", b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}"],
)
def test_metadata_that_are_no_table(tiny_model: Callable[..., bytes], text: bytes) -> None:
    content = tiny_model()
    said = modelfile._Reader(memoryview(content)).model().metadata["soundmark"]

    def entry(value: bytes) -> bytes:
        inner = b"\x0a\x09soundmark\x12" + varint(len(value)) + value
        return b"\x72" + varint(len(inner)) + inner

    assert entry(said) in content
    with pytest.raises(ModelError, match=r"its metadata|it has format"):
        modelfile.check(content.replace(entry(said), entry(text)), "strange.onnx")


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_without_metadata_it_is_not_ours(tiny_model: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match="no Soundmark metadata"):
        modelfile.check(tiny_model(lambda model: model.ClearField("metadata_props")), "other.onnx")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_BYTES", 100, "has at most 100"),
        ("MAX_METADATA_BYTES", 10, "at most 10"),
        ("MAX_NODES", 3, "more than 3 operators"),
        ("MAX_FIELDS", 20, "more fields than any model"),
        ("MAX_LABELS", 1, "labels are not a list"),
    ],
)
def test_sizes_are_bounded(
    tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, name: str, value: int, says: str
) -> None:
    monkeypatch.setattr(modelfile, name, value)
    with pytest.raises(ModelError, match=says):
        modelfile.check(tiny_model(), "large.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"PK\x03\x04",
        b"RIFF\0\0\0\0WAVE",
        b"<html>",
        b"\x80\x02}q\x00.",
        b"\x0b\x0c",
        b"\x3a\xff",
        b"\x38\x01",
    ],
)
def test_other_files(content: bytes) -> None:
    with pytest.raises(ModelError):
        modelfile.check(content, "other")


def test_a_file_cut_anywhere_is_refused(tiny_model: Callable[..., bytes]) -> None:
    content = tiny_model()
    for end in range(len(content)):
        with pytest.raises(ModelError):
            modelfile.check(content[:end], "cut.onnx")


@given(st.data())
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_damage_is_refused_or_harmless(tiny_model: Callable[..., bytes], data: st.DataObject) -> None:
    content = bytearray(tiny_model())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        facts = modelfile.check(bytes(content), "damaged.onnx")
    except ModelError:
        return
    assert len(facts.labels) == 2
    json.dumps(facts.metadata)


DAMAGE = """
import random, sys
import numpy as np
import soundmark
from soundmark.errors import ModelError

content, noise = sys.stdin.buffer.read(), np.random.default_rng(0).normal(size=(2, 4000)).astype("float32")
outcomes = {"refused": 0, "works": 0}
for seed in range(400):
    draw, damaged = random.Random(seed), bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(len(damaged))
        damaged[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
    try:
        soundmark.load(bytes(damaged), threads=1).predict_proba(noise)
        outcomes["works"] += 1
    except ModelError:
        outcomes["refused"] += 1
print(sorted(outcomes.items()))
"""


def test_damaged_files_neither_crash_nor_hang_the_runtime(tiny_model: Callable[..., bytes]) -> None:
    """In a process of its own, which would be gone if the runtime crashed."""
    done = subprocess.run([sys.executable, "-c", DAMAGE], input=tiny_model(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert b"refused" in done.stdout
    assert done.stdout.count(b"\n") == 1, "nothing but our own line is printed"
