"""Options that several verbs share."""

from __future__ import annotations

import argparse


def add_engine(options: argparse.ArgumentParser) -> None:
    """Declare what computes an encoder."""
    options.add_argument(
        "--precision", choices=("float32", "bf16"), help="of a pretrained network: the setting precision= of its name"
    )
    options.add_argument(
        "--engine", choices=("torch", "onnx", "int8"), help="what runs the encoder: the setting engine= of its name"
    )


def with_engine(encoder: str, args: argparse.Namespace) -> str:
    """The encoder's name with what was asked for."""
    from soundmark.spec import with_settings

    return with_settings(encoder, precision=args.precision, engine=args.engine)
