"""The command line: thin. Each verb is one module that parses, calls and prints."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from soundmark.errors import SoundmarkError

# In the order a user meets them. Only the verb that is asked for is imported, so that `classify` starts at once.
VERBS = {
    "data": "fetch, check, look at and export data sets",
    "weights": "list, fetch and verify the weights of pretrained encoders",
    "embed": "encode a task into a table of vectors",
    "map": "lay a task's clips out in a plane, to look at and listen to",
    "similar": "find the clips of a task nearest to a recording, or too near each other",
    "train": "measure a learner by a task's protocol, then write its model file",
    "tune": "find settings inside every training side, and measure what was found",
    "compare": "compare runs on the same clips",
    "report": "draw a run's page again",
    "benchmark": "measure a grid of learners, only what is missing",
    "leaderboard": "put measured cells side by side, with paired tests",
    "fewshot": "measure how far a few clips per class carry",
    "study": "moments against their mean; probes over several seeds; ablations",
    "similarity": "measure how alike tasks, encoders and classes are",
    "unknown": "measure how well unknown sounds are told from known ones",
    "classify": "recognise sounds with a model file",
    "events": "find the sounds in long recordings: start, end, label, score",
    "listen": "hear a microphone, a pipe or a network stream, and tell of sounds",
    "serve": "serve models over HTTP and WebSocket, with a page",
    "card": "print what a model file says of itself",
}
INTERRUPTED = 130
_TRAIN = [
    "torch",
    "sklearn",
    "pyarrow",
    "matplotlib",
    "jinja2",
    "onnx",
    "onnxscript",
    "scipy",
    "threadpoolctl",
    "tomli_w",
    "lightning",
    "filelock",
]
_EXTRAS = dict.fromkeys(_TRAIN, "train") | {
    "audiomentations": "augment",
    "librosa": "augment",
    "optuna": "tune",
    "umap": "analysis",
    "ray": "ray",
    "fsspec": "remote",
    "sounddevice": "listen",
    "paho": "mqtt",
    "fastapi": "serve",
    "uvicorn": "serve",
    "httptools": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
}


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The argument parser: complete, or with only one verb's options when `verb` is given."""
    top = argparse.ArgumentParser(
        prog="soundmark",
        description="Train, measure and serve sound classifiers: an honest score and one portable file.",
    )
    top.add_argument("--version", action="store_true", help="print the version and leave")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, text in VERBS.items():
        if verb in (None, name):
            importlib.import_module(f"soundmark.cli.{name}").add(verbs)
        else:
            verbs.add_parser(name, help=text)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 1 for an error that was explained, 2 for wrong usage, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    asked = next((word for word in words if not word.startswith("-")), "")
    top = parser(asked if asked in VERBS else "")
    try:
        args = top.parse_args(words)
        if args.version:
            from soundmark import __version__

            print(f"soundmark {__version__}")
            return 0
        if not args.verb:
            top.print_help()
            return 2
        return int(importlib.import_module(f"soundmark.cli.{args.verb}").run(args))
    except SystemExit as leave:  # argparse has printed what is wrong
        return leave.code if isinstance(leave.code, int) else 2
    except SoundmarkError as error:
        print(f"soundmark: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print(
            f"soundmark: error: this needs {error.name}, which is not installed: pip install 'soundmark[{extra}]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("\nsoundmark: interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has left (`| head`); keep the interpreter's exit from complaining
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"soundmark: error: {error}", file=sys.stderr)
        return 1


def entry() -> NoReturn:
    """The console script. An interrupt ends the process at once, without waiting for the threads under way."""
    code = main()
    sys.stdout.flush()
    if code == INTERRUPTED:
        os._exit(code)
    sys.exit(code)
