"""Encoders by name: `logmel?hop=256&bands=128`, joined with `+`.

A new encoder is a function from a parsed name to an `Encoder`, and one line in `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from soundmark.encoders import audiosep, handcrafted, hear, huggingface, mobilenet, onnxfile, panns, spectral
from soundmark.encoders.base import Encoder
from soundmark.encoders.engine import Engine, split_engine
from soundmark.encoders.joined import Joined
from soundmark.encoders.network import sharing
from soundmark.frontends import keep_freed_memory
from soundmark.spec import Spec, lookup, parse_joined

ENCODERS: dict[str, Callable[[Spec], Encoder]] = {
    "audiosep": audiosep.load,
    "cnn10": panns.load,
    "cnn14": panns.load,
    "cnn6": panns.load,
    "handcrafted": handcrafted.handcrafted,
    "linear": spectral.linear,
    "logfreq": spectral.logfreq,
    "logmel": spectral.logmel,
    "mfcc": spectral.mfcc,
    "mobilenetv1": panns.load,
    **dict.fromkeys(mobilenet.WIDTHS, mobilenet.mobilenet),
}
"""Every encoder by name."""

ADAPTERS: dict[str, Callable[[Spec], Encoder]] = {
    "hear": hear.hear,
    "hf": huggingface.hf,
    "onnx": onnxfile.onnx,
}
"""Ways to other people's encoders: each takes what it adapts after a colon, as in `onnx:PATH?rate=16000`."""


def load(text: str) -> Encoder:
    """The encoder that `text` names, ready to listen.

    Args:
        text: a name with settings, such as `logmel?window=1024&hop=320`, an adapter with what it adapts, such as
            `hf:facebook/wav2vec2-base@9`, or several joined with `+`, whose frames are
            then put side by side; they must agree on rate and hop.

    Raises:
        SpecError: for an unknown name or setting, a value out of bounds, or parts that do not fit together.
    """
    keep_freed_memory()
    with sharing():
        parts = [_one(spec) for spec in parse_joined(text)]
    encoder = parts[0] if len(parts) == 1 else Joined(parts)
    return encoder.eval().requires_grad_(False)


def _one(spec: Spec) -> Encoder:
    plain, engine = split_engine(spec)
    encoder = lookup("encoder", spec.name, ENCODERS | ADAPTERS)(plain).eval().requires_grad_(False)
    return encoder if engine == "torch" else Engine(encoder, engine)


__all__ = ["ADAPTERS", "ENCODERS", "Encoder", "load"]
