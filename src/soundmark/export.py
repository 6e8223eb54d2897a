"""From a learner to one portable file: the whole line from waveform to probabilities as one ONNX graph.

The encoder and its pooling are traced by PyTorch, the head is written by hand behind them, and the file is checked
against the learner on real clips before it is kept. Equal learners give equal bytes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from soundmark import heads, model
from soundmark.audio.waveforms import samples_of
from soundmark.encoders.graph import OPSET, export_graph
from soundmark.encoders.vectors import Vectors
from soundmark.errors import ModelError, NotExportable
from soundmark.files import write_bytes
from soundmark.head_graphs import has_graph, head_graph, is_smooth
from soundmark.learners import Learner, Probe
from soundmark.modelfile import FORMAT, INPUT, METADATA_KEY, OUTPUTS
from soundmark.trained import Trained
from soundmark.tuned import Tuned

VECTORS_WITHIN = 1e-4  # relative L2
PROBABILITIES_WITHIN = 1e-4  # absolute
COMPACT_WITHIN = 2e-2  # both of these, where weights are kept in fewer bits
COMPACT_FROM = 1024  # numbers in a constant that is worth half precision
EIGHT_BITS_FROM = 200_000  # numbers in a convolution's kernels that are worth eight bits, with a scale for each kernel
STEP_SHARE = 0.99  # of clips on which trees and k-NN, which are step functions, must agree so closely
HALF_MAX = 60_000.0  # about the largest number of half precision
IR_VERSION = 10  # the newest that ONNX Runtime 1.20 reads


def check_exportable(learner: Learner) -> None:
    """Refuse a learner that no model file can be written from, before anything is trained.

    Raises:
        NotExportable: if its encoder, its head or its network has no graph, or may have none once it is tuned.
    """
    if isinstance(learner, Tuned):
        for example in learner.examples():
            check_exportable(example)
        return
    if isinstance(learner, Trained):
        if not learner.exportable:
            raise NotExportable(
                f"the network {learner.network_name} has no ONNX graph, so no model file can be written: measure it "
                "without one (--no-model)"
            )
        return
    probe = _probe(learner)
    if not probe.encoder.exportable:
        raise NotExportable(
            f"the encoder {probe.encoder.spec} has no ONNX graph, so no model file can be written: "
            "measure it without one (--no-model), or choose another encoder (a pretrained one with "
            "precision=float32, and not with engine=int8)"
        )
    if not has_graph(heads.build(probe.head_name)):
        raise NotExportable(f"the head {probe.head_name} has no ONNX graph: choose another head")


def _probe(learner: Learner) -> Probe:
    if not hasattr(learner, "estimator"):
        raise NotExportable(f"{type(learner).__name__} has no ONNX graph: measure it without a model file (--no-model)")
    return cast(Probe, learner)


def export(
    learner: Learner,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any],
    waveforms: Sequence[np.ndarray],
    compact: bool = False,
) -> dict[str, Any]:
    """Write a fitted learner as a model file, if the file agrees with it.

    Args:
        learner: fitted.
        path: the `.onnx` file to write, whole or not at all.
        metadata: what the file says of itself: labels, kind, clip_seconds, task, metrics, licence and so on. Format,
            sample rate, window policy and version are added.
        waveforms: clips to check it on, each (samples,) float32 at the learner's sample rate.
        compact: keep large constants in half precision, and very large convolutions in eight bits, so that the file is
            half as large or less; it computes in float32 all the same. It may then differ from the learner by 2e-2 in
            place of 1e-4.

    Returns:
        How far file and learner agree: `clips`; `embedding` (largest relative L2) and `probabilities` (largest
        difference); `share_of_vectors_within` and `share_within` those bounds, and `same_label`, as shares of clips;
        `smooth`; and the file's `bytes`.

    Raises:
        NotExportable: if the learner has no graph.
        ModelError: if the file does not agree with the learner; then none is left.
    """
    if isinstance(learner, Tuned) and learner.winner is not None:
        learner = learner.winner
    check_exportable(learner)
    if not len(waveforms):
        raise ModelError("a model file is checked on real clips before it is kept: give at least one")
    graph = _traced(learner) if isinstance(learner, Trained) else _joined(_probe(learner))
    said = _metadata(learner, metadata)
    bounds = (COMPACT_WITHIN, COMPACT_WITHIN) if compact else (VECTORS_WITHIN, PROBABILITIES_WITHIN)
    if compact:
        _shrink(graph.graph)
    agreement = _agreement(learner, model.load(_content(graph, said)), waveforms, *bounds)
    said["check"] = {"clips": len(waveforms), "vectors_within": bounds[0], "probabilities_within": bounds[1]}
    content = _content(graph, said)
    model.load(content)
    write_bytes(path, content)
    return agreement | {"bytes": len(content)}


def _traced(learner: Trained) -> onnx.ModelProto:
    """A network as a graph."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        samples = samples_of(max(learner.policy.min_seconds, learner.policy.window_seconds), learner.sample_rate)
        export_graph(learner.graph(), samples, file, input_name=INPUT, output_names=OUTPUTS)
        traced = onnx.load(file).graph
    return _assembled(traced.node, traced.initializer, _widths(traced))


def _widths(traced: onnx.GraphProto) -> dict[str, int]:
    return {output.name: output.type.tensor_type.shape.dim[1].dim_value for output in traced.output}


def _joined(learner: Probe) -> onnx.ModelProto:
    """Encoder, pooling and head as one graph."""
    encoder, pooling = learner.encoder, learner.pooling
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "encoder.onnx"
        samples = max(encoder.min_samples, encoder.sample_rate)
        export_graph(Vectors(encoder.traceable, pooling), samples, file, input_name=INPUT, output_names=("embedding",))
        encoded = onnx.load(file).graph
    head = head_graph(learner.estimator, len(learner.classes), vector="embedding", output="probabilities")
    widths = {"probabilities": len(learner.classes), "embedding": pooling.output_dim(encoder.dim)}
    return _assembled([*encoded.node, *head.nodes], [*encoded.initializer, *head.constants], widths)


def _assembled(nodes: Sequence[Any], constants: Sequence[Any], widths: Mapping[str, int]) -> onnx.ModelProto:
    """A model of the line from waveform to probabilities, without what does not compute."""
    for node in nodes:  # the exporter also notes where in whose files each operator comes from
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph = helper.make_graph(
        nodes=nodes,
        name="soundmark",
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", "samples"])],
        outputs=[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", widths[name]]) for name in OUTPUTS],
        initializer=constants,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="soundmark"
    )


def _shrink(graph: onnx.GraphProto) -> None:
    """Keep large constants in fewer bits, each with operators that make it float32 again when the file is loaded."""
    added: list[Any] = []
    extra: list[Any] = []
    for constant in graph.initializer:
        numbers = numpy_helper.to_array(constant)
        if numbers.dtype != np.float32 or numbers.size < COMPACT_FROM:
            continue
        name = constant.name
        if numbers.ndim == 4 and numbers.size >= EIGHT_BITS_FROM:
            scale = np.abs(numbers).max(axis=(1, 2, 3), keepdims=True).clip(1e-30) / 127.0
            constant.CopyFrom(numpy_helper.from_array(np.rint(numbers / scale).astype(np.int8), f"{name}.eighth"))
            extra.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
            added.append(helper.make_node("Cast", [f"{name}.eighth"], [f"{name}.whole"], to=TensorProto.FLOAT))
            added.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
        elif np.abs(numbers).max() <= HALF_MAX:
            constant.CopyFrom(numpy_helper.from_array(numbers.astype(np.float16), f"{name}.half"))
            added.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    graph.initializer.extend(extra)
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def finished(graph: str | os.PathLike[str], metadata: Mapping[str, Any]) -> bytes:
    """The content of a model file from a traced network that gives probabilities and embedding itself.

    Args:
        graph: file written by `export_graph`, with the input and the outputs of a model file.
        metadata: what the file says of itself; format and version are added.

    Raises:
        ModelError: if the metadata cannot be written as JSON.
    """
    from soundmark import __version__

    traced = onnx.load(graph).graph
    return _content(
        _assembled(traced.node, traced.initializer, _widths(traced)),
        {"format": FORMAT, **metadata, "soundmark_version": __version__},
    )


def _metadata(learner: Learner, given: Mapping[str, Any]) -> dict[str, Any]:
    from soundmark import __version__

    if list(given.get("labels", learner.classes)) != list(learner.classes):
        raise ModelError("the metadata's labels are not the learner's classes")
    return {
        "format": FORMAT,
        "labels": list(learner.classes),
        "kind": "single",
        "sample_rate": learner.sample_rate,
        "policy": learner.policy.to_dict(),
        "thresholds": {},
        **given,
        "soundmark_version": __version__,
    }


def _content(proto: onnx.ModelProto, metadata: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the metadata cannot be written as JSON: {error}") from None
    proto.ClearField("metadata_props")
    helper.set_model_props(proto, {METADATA_KEY: text})
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _agreement(
    learner: Learner, classifier: model.Classifier, waveforms: Sequence[np.ndarray], vectors_within: float,
    probabilities_within: float,
) -> dict[str, Any]:  # fmt: skip
    """Compare file and learner clip by clip.

    Raises:
        ModelError: if they are too far apart.
    """
    if isinstance(learner, Trained):
        heard = [learner.hear(waveform) for waveform in waveforms]
        wanted_vectors, wanted = (np.stack(part) for part in zip(*heard, strict=True))
        smooth = True
    else:
        probe = _probe(learner)
        wanted_vectors = np.stack([_vector(probe, waveform) for waveform in waveforms])
        wanted = np.zeros((len(waveforms), len(probe.classes)))
        with heads.one_thread():
            wanted[:, np.asarray(probe.estimator.classes_)] = probe.estimator.predict_proba(wanted_vectors)
        smooth = is_smooth(probe.estimator)
    vectors = np.concatenate([classifier.embed(waveform) for waveform in waveforms])
    got = np.concatenate([classifier.predict_proba(waveform) for waveform in waveforms])
    lengths = np.maximum(np.linalg.norm(wanted_vectors, axis=1), 1e-12)
    apart = np.linalg.norm(vectors - wanted_vectors, axis=1) / lengths
    differences = np.abs(got - wanted).max(axis=1)
    within = differences <= probabilities_within
    # Of fewer than a hundred clips, one that falls on the edge of a step is still let pass. A vector is let off its
    # bound by as few clips, and by no more than tenfold: between pure tones lies nothing but rounding noise.
    few = max(1, int((1 - STEP_SHARE) * len(waveforms)))
    near = apart <= vectors_within
    if (~near).sum() > few or not apart.max() <= 10 * vectors_within or (~within).sum() > (0 if smooth else few):
        raise ModelError(
            f"the model file does not agree with the learner, so it was not written: on {len(waveforms)} clips vectors "
            f"differ by up to {apart.max():.1e} (relative) and probabilities by up to {differences.max():.1e}; "
            f"{(~(within & near)).sum()} clips are beyond {probabilities_within:g}. Synthetic sounds, with nothing but "
            "rounding noise beside pure tones, need an encoder in double precision, such as logmel?precise=true"
        )
    return {
        "clips": len(waveforms),
        "embedding": float(apart.max()),
        "share_of_vectors_within": float(near.mean()),
        "probabilities": float(differences.max()),
        "share_within": float(within.mean()),
        "same_label": float((got.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        "smooth": smooth,
    }


def _vector(learner: Probe, waveform: np.ndarray) -> np.ndarray:
    """(dim,) vector of a clip, as the learner itself hears it."""
    filled = learner.policy.prepare(np.asarray(waveform, dtype=np.float32), learner.encoder.sample_rate)
    with torch.inference_mode():
        vector = Vectors(learner.encoder, learner.pooling)(torch.from_numpy(np.ascontiguousarray(filled))[None])
    numbers: np.ndarray = vector[0].numpy()
    return numbers
