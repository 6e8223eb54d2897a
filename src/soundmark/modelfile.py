"""What a model file may hold: it is read here, byte by byte, before any runtime sees it.

A model file may come from a stranger. It is an ONNX model, which is a Protocol Buffers message; this is a reader of
just that much of the format, so that recognition needs no ONNX package. It lets pass standard operators without
subgraphs (so no loops), all data inside the file, one input `audio` and the outputs `probabilities` and `embedding`,
and metadata that make sense. What the graph can allocate while it runs is bounded elsewhere, by the runtime's arena.

That keeps a file from running code, reading other files, looping or taking all memory. It does not mend the runtime: in
ONNX Runtime 1.31, for one, an STFT longer than its signal ends the process. A service that takes models from strangers
should load them in a process of its own.

Source: onnx.proto of https://github.com/onnx/onnx (field numbers), https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from soundmark.audio import WindowPolicy
from soundmark.errors import ModelError

FORMAT = 1
METADATA_KEY = "soundmark"
INPUT, OUTPUTS = "audio", ("probabilities", "embedding")

MAX_BYTES = 2_000_000_000  # Protocol Buffers themselves end at 2 GiB
MAX_METADATA_BYTES = 4_000_000
MAX_NODES = 50_000
MAX_FIELDS = 3_000_000  # fields read one by one; data stand in a single field, however large they are
MAX_LABELS = 100_000
MAX_LABEL_LENGTH = 500
MAX_ELEMENTS = 1 << 28  # of a tensor whose shape is a constant in the file
MIN_RATE, MAX_RATE = 1_000, 384_000
MAX_CLIP_SECONDS = 1e6

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_SHAPED_BY = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3}  # which input is the shape, or multiplies it
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _INT64 = 1, 7


@dataclass(frozen=True)
class Facts:
    """What a checked model file says of itself.

    Attributes:
        labels: class names, in the order of the probability columns.
        kind: `single` (one label per recording) or `multi` (several).
        sample_rate: Hz of the waveforms it takes.
        policy: how a recording becomes its input.
        clip_seconds: median and longest length of the clips it was trained on.
        thresholds: by label, for the labels that have one.
        metadata: everything it says, as plain data.
        unknown_below: the score of the best label below which a sound is unknown; None where it says nothing of that.
        view_thresholds: by name of a view, and in each by the view's label.
    """

    labels: tuple[str, ...]
    kind: str
    sample_rate: int
    policy: WindowPolicy
    clip_seconds: tuple[float, float]
    thresholds: dict[str, float]
    metadata: dict[str, Any]
    unknown_below: float | None = None
    view_thresholds: dict[str, dict[str, float]] = field(default_factory=dict)


def check(content: bytes, name: str) -> Facts:
    """Read a model file's content and refuse what is not safe or not ours.

    Args:
        content: the whole file.
        name: what to call it in messages.

    Raises:
        ModelError: if it is not a model file of ours, is damaged, or holds what a model file may not.
    """
    if len(content) > MAX_BYTES:
        raise ModelError(f"{name} has {len(content):,} bytes; a model file has at most {MAX_BYTES:,}")
    try:
        found = _Reader(memoryview(content)).model()
        facts = _facts(found.metadata)
        _check_shapes(found, len(facts.labels))
    except ModelError as error:
        raise ModelError(f"{name} cannot be used: {error}") from None
    return facts


@dataclass
class _Found:
    """What a walk through the model has come across."""

    domains: list[str] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    inputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    outputs: dict[str, list[int | None] | None] = field(default_factory=dict)
    shaped: list[tuple[str, str]] = field(default_factory=list)  # (operator, name of the tensor that says its shape)
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)  # whole numbers, few of them
    nodes: int = 0
    graphs: int = 0


class _Reader:
    """Walks every message of a model, and keeps count so that no file can keep it walking."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.found = _Found()
        self.left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[tuple[int, Any]]:
        """Number and value of a message's fields: whole numbers as int, strings and messages as bytes, floats as 0."""
        position, size = 0, len(message)
        while position < size:
            self.left -= 1
            if self.left < 0:
                raise ModelError("it holds more fields than any model of ours; it may be made to waste time")
            key, position = _varint(message, position)
            wire = key & 7
            if wire == _VARINT:
                value, position = _varint(message, position)
                yield key >> 3, value
            elif wire == _BYTES:
                length, position = _varint(message, position)
                if length > size - position:
                    raise ModelError("it is cut short or damaged")
                yield key >> 3, message[position : position + length]
                position += length
            elif wire in (_FIXED32, _FIXED64):
                position += 4 if wire == _FIXED32 else 8
                if position > size:
                    raise ModelError("it is cut short or damaged")
                yield key >> 3, 0
            else:
                raise ModelError("it is not an ONNX file, or damaged")

    def model(self) -> _Found:
        """ModelProto."""
        for number, value in self.fields(self.content):
            if number == 7:
                self.graph(_message(value))
            elif number == 8:
                fields = dict(self.fields(_message(value)))
                self.found.domains.append(_text(fields.get(1, b"")))
            elif number == 14:
                fields = dict(self.fields(_message(value)))
                key = _text(fields.get(1, b""))[:100]
                if key in self.found.metadata:
                    raise ModelError(f"its metadata say {key!r} twice")
                self.found.metadata[key] = bytes(_message(fields.get(2, b"")))
            elif number == 20:
                raise ModelError("it holds training information, which a model file does not")
            elif number == 25:
                raise ModelError("it defines functions of its own; only standard operators are taken")
        found = self.found
        if not found.graphs:
            raise ModelError("it holds no graph; it is not an ONNX file, or damaged")
        for domain in found.domains:
            if domain not in ("", "ai.onnx", "ai.onnx.ml"):
                raise ModelError(f"it asks for operators of {domain[:100]!r}; only standard operators are taken")
        for operator, constant in found.shaped:
            elements = math.prod(max(1, abs(size)) for size in found.constants.get(constant, ()))
            if elements > MAX_ELEMENTS:
                raise ModelError(f"a {operator} in it would make a tensor of {elements:,} elements")
        return found

    def graph(self, message: memoryview) -> None:
        """GraphProto."""
        self.found.graphs += 1
        for number, value in self.fields(message):
            if number == 1:
                self.node(_message(value))
            elif number == 5:
                self.tensor(_message(value))
            elif number in (11, 12):
                table = self.found.inputs if number == 11 else self.found.outputs
                name, shape = self.value_info(_message(value))
                if name in table:
                    raise ModelError(f"it names {name[:100]!r} twice")
                table[name] = shape
            elif number == 15:
                raise ModelError("it holds sparse tensors, which a model file does not")

    def node(self, message: memoryview) -> None:
        """NodeProto."""
        self.found.nodes += 1
        if self.found.nodes > MAX_NODES:
            raise ModelError(f"it has more than {MAX_NODES:,} operators")
        operator, domain = "", ""
        inputs: list[str] = []
        outputs: list[str] = []
        constant: tuple[int, ...] = ()
        for number, value in self.fields(message):
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 4:
                operator = _text(value)
            elif number == 7:
                domain = _text(value)
            elif number == 5:
                constant = self.attribute(_message(value)) or constant
        if domain not in ("", "ai.onnx"):
            raise ModelError(f"it uses {domain[:100]}.{operator[:100]}; only standard operators are taken")
        if operator in _CONTROL_FLOW:
            raise ModelError(f"it uses {operator}; loops and branches are not taken")
        place = _SHAPED_BY.get(operator)
        if place is not None and place < len(inputs):
            self.found.shaped.append((operator, inputs[place]))
        if operator == "Constant" and outputs:
            self.found.constants[outputs[0]] = constant

    def attribute(self, message: memoryview) -> tuple[int, ...]:
        """AttributeProto; the whole numbers it holds, if it holds any."""
        values: list[int] = []
        for number, value in self.fields(message):
            if number in (6, 11):
                raise ModelError("it holds graphs inside operators; loops and branches are not taken")
            if number in (22, 23):
                raise ModelError("it holds sparse tensors, which a model file does not")
            if number in (5, 10):
                values += self.tensor(_message(value))
            elif number in (3, 8) and isinstance(value, int) and len(values) < 16:
                values.append(_signed(value))
        return tuple(values)

    def tensor(self, message: memoryview) -> tuple[int, ...]:
        """TensorProto; its values where they are whole numbers and could be a shape."""
        dims: list[int] = []
        name, kind = "", 0
        raw: Any = b""
        packed: Any = None
        for number, value in self.fields(message):
            if number == 1:
                dims += _integers(value)
            elif number == 2:
                kind = value
            elif number == 7:
                packed = value
            elif number == 8:
                name = _text(value)
            elif number == 9:
                raw = value
            elif number == 13 or (number == 14 and value):
                raise ModelError("its data stand in another file; a model file is one file")
        elements = math.prod(dims)
        if any(size < 0 for size in dims) or elements > 2 * len(self.content):
            raise ModelError(f"a tensor in it claims the shape {dims[:8]}, which is more than the file holds")
        if kind != _INT64 or elements > 16:
            return ()
        whole = bytes(_message(raw))
        values = [int.from_bytes(whole[i : i + 8], "little", signed=True) for i in range(0, len(whole), 8)]
        values += [] if packed is None else _integers(packed)
        if name:
            self.found.constants[name] = tuple(values)
        return tuple(values)

    def value_info(self, message: memoryview) -> tuple[str, list[int | None] | None]:
        """ValueInfoProto: its name, and its shape if it is a tensor of float32 (None for sizes that are open)."""
        name, kind = "", 0
        shape: list[int | None] = []
        for number, value in self.fields(message):
            if number == 1:
                name = _text(value)
            elif number == 2:
                for which, inner in self.fields(_message(value)):
                    if which != 1:
                        continue
                    for part, content in self.fields(_message(inner)):
                        if part == 1:
                            kind = content
                        elif part == 2:
                            shape += [
                                dict(self.fields(_message(dim))).get(1)
                                for one, dim in self.fields(_message(content))
                                if one == 1
                            ]
        return name, shape if kind == _FLOAT else None


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    size = len(message)
    while position < size and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
    raise ModelError("it is cut short or damaged")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _integers(value: Any) -> list[int]:
    """A repeated int64: one value, or several packed."""
    if isinstance(value, int):
        return [_signed(value)]
    values: list[int] = []
    position = 0
    while position < len(value) and len(values) < 64:
        one, position = _varint(value, position)
        values.append(_signed(one))
    return values


def _message(value: Any) -> memoryview:
    if isinstance(value, int):
        raise ModelError("it is not an ONNX file, or damaged")
    return memoryview(value)


def _text(value: Any) -> str:
    try:
        return str(bytes(_message(value)), "utf-8")
    except UnicodeDecodeError:
        raise ModelError("a name in it is not text; it is damaged") from None


def _check_shapes(found: _Found, labels: int) -> None:
    """One input (batch, samples), and the two outputs with a column per label and a fixed vector."""
    if set(found.inputs) != {INPUT}:
        raise ModelError(f"its inputs are {_names(found.inputs)}; a model file takes {INPUT!r} alone")
    if set(found.outputs) != set(OUTPUTS):
        raise ModelError(f"its outputs are {_names(found.outputs)}; a model file gives {' and '.join(OUTPUTS)}")
    for name, shape in (found.inputs | found.outputs).items():
        if shape is None or len(shape) != 2:
            raise ModelError(f"{name!r} in it is not a matrix of float32 numbers")
    columns = (found.outputs["probabilities"] or [None])[-1]
    if columns != labels:
        raise ModelError(f"it has {labels} labels and {columns or 'an unknown number of'} probabilities")


def _names(table: dict[str, Any]) -> str:
    return ", ".join(name[:50] for name in list(table)[:5]) or "none"


def _facts(properties: dict[str, bytes]) -> Facts:
    raw = properties.get(METADATA_KEY)
    if raw is None:
        raise ModelError("it holds no Soundmark metadata; make it with `soundmark train`")
    if len(raw) > MAX_METADATA_BYTES:
        raise ModelError(f"its metadata have {len(raw):,} bytes; there are at most {MAX_METADATA_BYTES:,}")
    try:
        said = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ModelError("its metadata are not JSON; it is damaged") from None
    if not isinstance(said, dict):
        raise ModelError("its metadata are not a table; it is damaged")
    if said.get("format") != FORMAT:
        raise ModelError(
            f"it has format {str(said.get('format'))[:20]}, and this Soundmark reads {FORMAT}: update soundmark"
        )
    labels = said.get("labels")
    if (
        not isinstance(labels, list)
        or not 1 <= len(labels) <= MAX_LABELS
        or not all(isinstance(label, str) and 0 < len(label) <= MAX_LABEL_LENGTH for label in labels)
        or len(set(labels)) != len(labels)
    ):
        raise ModelError("its labels are not a list of different names")
    if said.get("kind") not in ("single", "multi"):
        raise ModelError("its kind is neither single nor multi")
    rate = said.get("sample_rate")
    if not isinstance(rate, int) or not MIN_RATE <= rate <= MAX_RATE:
        raise ModelError(f"its sample rate is {str(rate)[:20]}; it must be from {MIN_RATE} to {MAX_RATE} Hz")
    seconds = said.get("clip_seconds")
    lengths: list[Any] = [seconds.get(key) for key in ("median", "max")] if isinstance(seconds, dict) else [None]
    if not all(_is_number(value) and 0 < value <= MAX_CLIP_SECONDS for value in lengths):
        raise ModelError("its clip_seconds are not a median and a max above 0")
    if lengths[0] > lengths[1]:
        raise ModelError("its clip_seconds have a median above the max")
    thresholds = said.get("thresholds", {})
    if not _are_thresholds(thresholds) or set(thresholds) - set(labels):
        raise ModelError("its thresholds are not numbers from 0 to 1 for its labels")
    views = said.get("views", {})
    if not isinstance(views, dict) or not all(
        isinstance(view, dict) and _are_thresholds(view.get("thresholds", {})) for view in views.values()
    ):
        raise ModelError("its views are not tables with thresholds from 0 to 1")
    unknown = said.get("unknown_below")
    if unknown is not None and not (_is_number(unknown) and 0 <= unknown <= 1):
        raise ModelError("its unknown_below is not a number from 0 to 1")
    return Facts(
        labels=tuple(labels),
        kind=said["kind"],
        sample_rate=rate,
        policy=WindowPolicy.from_dict(said.get("policy")),
        clip_seconds=(float(lengths[0]), float(lengths[1])),
        thresholds={label: float(value) for label, value in thresholds.items()},
        metadata=said,
        unknown_below=None if unknown is None else float(unknown),
        view_thresholds={
            name: {label: float(value) for label, value in view.get("thresholds", {}).items()}
            for name, view in views.items()
        },
    )


def _are_thresholds(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_number(each) and 0 <= each <= 1 for each in value.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
