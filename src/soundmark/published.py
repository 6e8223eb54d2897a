"""Classifiers by name: `mark1`, which comes with the package, and `mn04` and its like, from published weights.

`soundmark.load()` recognises the 50 classes of ESC-50 at once. `soundmark.load("mn04")` recognises AudioSet's 527 tags:
its model file is written once, from the published weights, into the user's cache, under a name that holds the weights'
digest; from then on it is loaded like any other, without PyTorch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundmark import model
from soundmark.errors import ModelError
from soundmark.files import atomic_path, cache_dir, weights_folders, write_json

if TYPE_CHECKING:
    import numpy as np

    from soundmark.encoders.mobilenet import Tagger

BUNDLED = "mark1"
"""The classifier that lies in the package."""

TAGGERS = ("mn01", "mn02", "mn04", "mn05", "mn10", "mn20", "mn30", "mn40")
"""Every published classifier by name."""

# Of the files below: a new number leaves those of earlier versions unread.
BUILD = 1
WITHIN = 1e-4  # probabilities (absolute) and embeddings (relative L2), of the file against the network


def load(source: str | os.PathLike[str] | bytes | None = None, *, threads: int | None = None) -> model.Classifier:
    """Load a model file, or a classifier by its name.

    Args:
        source: None takes `BUNDLED`. Otherwise as for `soundmark.model.load`, or a name, where no file is called so:
            `BUNDLED`, or one of `TAGGERS`. The first time one of these is asked for, its weights are fetched unless
            they are here, and its model file is written.
        threads: cores that one run may use; None leaves it to ONNX Runtime (all of them).

    Returns:
        A classifier. It can be called from several threads at once.

    Raises:
        ModelError: if there is no such file, or it is not a model file that can be used.
        DownloadError: if weights are not here and cannot be fetched.
        WeightsError: if the weights are not the published ones.
    """
    named = isinstance(source, str) and not Path(source).exists()
    if source is None or (named and source == BUNDLED):
        content = resources.files("soundmark").joinpath("models", f"{BUNDLED}.onnx").read_bytes()
        return replace(model.load(content, threads=threads), name=BUNDLED)
    if named and source in TAGGERS:
        source = model_file(str(source))
    return model.load(source, threads=threads)


def labels() -> tuple[str, ...]:
    """The display names of AudioSet's 527 tags, in the order of its class indices.

    Source: https://research.google.com/audioset (CC BY 4.0).
    """
    text = resources.files("soundmark").joinpath("audioset_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())


def model_file(name: str) -> Path:
    """The model file of a published classifier, in the user's cache; written the first time. Needs PyTorch for that.

    Raises:
        ModelError: if there is no such classifier, or the file would not agree with the network.
        DownloadError: if its weights are not here and cannot be fetched.
        WeightsError: if they are not the published ones.
    """
    if name not in TAGGERS:
        raise ModelError(f"there is no published classifier {name!r}; there are: {', '.join(TAGGERS)}")
    known = _known(name)
    if known is not None:
        return known
    from soundmark.encoders import mobilenet, weights

    path = weights.find(name)
    digest = weights.digest(path)
    file = cache_dir() / "models" / f"{name}-{digest[:16]}-{BUILD}.onnx"
    if not file.is_file():
        _write(file, mobilenet.Tagger(mobilenet.read(name, path)), _metadata(name, digest))
    write_json(_note(name), {"model": file.name, "weights": path.name, "seen": _seen(path)})
    return file


def _note(name: str) -> Path:
    return cache_dir() / "models" / f"{name}.json"


def _known(name: str) -> Path | None:
    """The file written earlier, if the weights it was made of are still those that would be found, or are gone."""
    try:
        note = json.loads(_note(name).read_text("utf-8"))
        file = cache_dir() / "models" / Path(note["model"]).name
        found = next(
            (folder / note["weights"] for folder in weights_folders() if (folder / note["weights"]).is_file()), None
        )
        same = found is None or _seen(found) == note["seen"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return file if same and file.stem.endswith(f"-{BUILD}") and file.is_file() else None


def _seen(path: Path) -> list[Any]:
    """What tells a file from another at a glance, so that its digest need not be computed at every start."""
    about = path.stat()
    return [str(path.absolute()), about.st_size, about.st_mtime_ns]


def _metadata(name: str, digest: str) -> dict[str, Any]:
    from soundmark.encoders import mobilenet, weights

    about = weights.CHECKPOINTS[name]
    return {
        "labels": list(labels()),
        "kind": "multi",
        "sample_rate": mobilenet.RATE,
        # Heard as it has learnt to hear: whole up to a clip and a half of AudioSet's, else in windows of a clip's
        # length. Short ones are not filled up: silence would thin out their mean. A recording has a tag as surely as
        # the window that shows it best.
        "policy": {"min_seconds": mobilenet.MobileNet.min_seconds, "combine": "max"},
        "clip_seconds": {"median": mobilenet.PIECE_SECONDS, "max": mobilenet.PIECE_SECONDS},
        "thresholds": {},
        "task": "audioset",
        "view": "",
        "training_data": {"title": about.trained_on, "source": about.source},
        "licence": about.licence,
        "learner": {"encoder": name, "weights": about.url, "sha256": digest},
    }


def _write(file: Path, tagger: Tagger, metadata: dict[str, Any]) -> None:
    """Write the model file if it says what the network says."""
    from soundmark import export
    from soundmark.encoders.graph import export_graph

    with atomic_path(file) as temporary:
        export_graph(tagger, metadata["sample_rate"], temporary, output_names=("probabilities", "embedding"))
        content = export.finished(temporary, metadata)
        classifier = model.load(content)
        for samples in (metadata["sample_rate"] // 20, 5 * metadata["sample_rate"]):
            _compare(tagger, classifier, _sounds(samples))
        temporary.write_bytes(content)


def _sounds(samples: int) -> Sequence[np.ndarray]:
    """Noise, a rising tone and silence: what a file is checked on where there are no recordings."""
    import numpy as np

    time = np.arange(samples) / 32_000
    noise = np.random.default_rng(0).standard_normal(samples)
    rows = (0.1 * noise, 0.5 * np.sin(2 * np.pi * (200 + 900 * time) * time) + 0.001 * noise, 0 * noise)
    return [row.astype(np.float32) for row in rows]


def _compare(tagger: Tagger, classifier: model.Classifier, sounds: Sequence[np.ndarray]) -> None:
    import numpy as np
    import torch

    batch = np.stack(sounds)
    with torch.inference_mode():
        wanted, vectors = (output.numpy() for output in tagger(torch.from_numpy(batch)))
    apart = float(np.abs(classifier.predict_proba(batch) - wanted).max())
    far = float((np.linalg.norm(classifier.embed(batch) - vectors, axis=1) / np.linalg.norm(vectors, axis=1)).max())
    if not (apart <= WITHIN and far <= WITHIN):
        raise ModelError(
            f"the model file does not agree with the network, so it was not written: probabilities differ by up to "
            f"{apart:.1e}, embeddings by up to {far:.1e} (relative)"
        )
