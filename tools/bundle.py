"""Make a run's model file the one that lies in the package.

    tools/bundle.py runs/mark1-taught --unknown results/unknown/esc50-mark1.json --speed results/benchmarks/bundled.json

What the run measured is in the file already. Added is what concerns a model that is given away: its name, what its
licence means, how well it tells sounds of no class, how quick it is, and its limits. Run it again after the benchmark,
which needs the file.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

import soundmark
from soundmark.files import write_bytes
from soundmark.modelfile import METADATA_KEY
from soundmark.published import BUNDLED

FOLDER = Path(__file__).resolve().parents[1] / "src" / "soundmark" / "models"
MOST_BYTES = 2_500_000

ABOUT = "It comes with Soundmark: trained by this project from random weights{}, and fitted on all clips at the end."
TAUGHT = ", taught by a network that was fine-tuned on the same clips"
LICENCE = (
    "Soundmark's code is under the MIT licence. These weights are not: they were trained on ESC-50, whose recordings "
    "are under Creative Commons licences that, for the set as a whole, allow non-commercial use with attribution. "
    "Whether weights are a work derived from what they were trained on is not settled everywhere; we take the careful "
    "view and give them under the data's own terms. Use them for research, teaching, trials and your own ears, and "
    "name ESC-50 (K. J. Piczak, 2015). For a product, train a model on recordings whose licences allow it: the command "
    "is the same, and the code asks nothing of you."
)
LIMITS = (
    "It knows 50 kinds of sound, from 40 recordings each, mostly made close by and one sound at a time. Of a kitchen, "
    "a street or a ward it has heard nothing.",
    "It divides its certainty among the 50 even where it hears none of them; asked for `unknown`, it lets some of what "
    "it has never heard pass all the same.",
    "Two sounds at once get one answer. It tells what is heard in some seconds, not when it began.",
    "Its classes say `siren`, not from where, and `crying_baby`, not why. Do not let a life depend on it.",
    "Speech, music and most machines are none of its classes.",
)


def main() -> None:
    """Write the model file, or say why not."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, help="folder of a run with a model.onnx, trained with --compact")
    options.add_argument("--unknown", type=Path, help="what `soundmark unknown` wrote for the same recipe")
    options.add_argument("--speed", type=Path, help="what benchmarks/bundled.py wrote")
    options.add_argument("--to", type=Path, default=FOLDER / f"{BUNDLED}.onnx")
    args = options.parse_args()
    content = bundled(args.run / "model.onnx", **{name: read(getattr(args, name)) for name in ("unknown", "speed")})
    write_bytes(args.to, content)
    print(f"{args.to}: {len(content):,} bytes")


def read(path: Path | None) -> dict[str, Any] | None:
    """A JSON file, if there is one."""
    return json.loads(path.read_text("utf-8")) if path and path.exists() else None


def bundled(
    model: str | os.PathLike[str], *, unknown: dict[str, Any] | None = None, speed: dict[str, Any] | None = None
) -> bytes:
    """The model file with what is added; checked like any other."""
    proto = onnx.load(model)
    said = next(json.loads(each.value) for each in proto.metadata_props if each.key == METADATA_KEY)
    about = ABOUT.format(TAUGHT if said["learner"].get("teacher") else "")
    said |= {"name": BUNDLED, "about": about, "licence_note": LICENCE, "limits": list(LIMITS)}
    said |= {"rejection": rejection(unknown)} if unknown else {}
    said |= {"speed": quickness(speed)} if speed else {}
    proto.ClearField("metadata_props")
    helper.set_model_props(proto, {METADATA_KEY: json.dumps(said, ensure_ascii=False, allow_nan=False)})
    content: bytes = proto.SerializeToString(deterministic=True)
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{model} would have {len(content):,} bytes; the package takes {MOST_BYTES:,} at most")
    soundmark.load(content)
    return content


def rejection(unknown: dict[str, Any]) -> dict[str, Any]:
    """How well classes left out of the training are told from those in it."""
    found = unknown["scores"]["probability"]
    auroc, known, strange = (found["auroc"], found["realised"]["known"], found["realised"]["unknown"])
    says = (
        f"Measured on classes left out of the training ({len(unknown['parts'])} parts, each class once): the best "
        f"label's probability tells known from unknown with an AUROC of {auroc['value']:.3f} ({auroc['low']:.3f} to "
        f"{auroc['high']:.3f}). At the threshold, taken from the training side, {known['value']:.1%} of the known "
        f"clips are accepted, and {strange['value']:.1%} of the unknown ones pass for known."
    )
    return {"says": says, "auroc": auroc, "accepted": {"known": known, "unknown": strange}}


def quickness(speed: dict[str, Any]) -> dict[str, Any]:
    """What a clip costs."""
    median = speed["median_ms"]
    times = 1000 * speed["clip_seconds"] / median["graph"]
    says = (
        f"{median['graph']:.1f} ms for {speed['clip_seconds']:g} s of waveform on one core, {times:.0f} times as quick "
        f"as it sounds, and {median['file']:.1f} ms from the file on; medians over {speed['clips']} clips on "
        f"{speed['processor']}."
    )
    return {"says": says, "median_ms": median, "clip_seconds": speed["clip_seconds"]}


if __name__ == "__main__":
    main()
