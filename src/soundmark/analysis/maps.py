"""A task on a map: its clips' vectors laid out in a plane, to be looked at and listened to.

A map is made of all clips, the test sides too, and its scaler has seen them all. It shows what a collection is like; it
measures nothing, and nothing of it goes into a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soundmark import embeddings, files, results
from soundmark.analysis import interactive, projection, scatter
from soundmark.analysis.standard import scale_of
from soundmark.errors import ResultsError, SpecError
from soundmark.tables import write_rows
from soundmark.tasks.base import Clip, Task

TABLE, PICTURE, PAGE, RESULT = "map.csv", "map.png", "map.html", "map.json"
COLOURS = ("class", "fold", "error", "group")


@dataclass(frozen=True)
class Predicted:
    """What a run said of a map's clips.

    Attributes:
        name: of the run.
        labels: (n,) the label predicted, None where the run did not test the clip.
        right: (n,) whether that was true, None likewise.
    """

    name: str
    labels: tuple[str | None, ...]
    right: tuple[bool | None, ...]


def write(
    task: Task, folder: Path, *, encoder: str = "logmel", pooling: str = "mean+std", method: str = "tsne",
    run: results.Run | None = None, colour: str = "class", perplexity: float | None = None,
    neighbours: int | None = None, seed: int = 0, sounds: bool = True, sound_bytes: int = interactive.MOST_BYTES,
    command: str = "", progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Draw a task's map and write it as a table, a picture, a page and JSON.

    Args:
        task: the clips.
        folder: gets `map.csv` (clip, label, group, fold, x, y; with a run also predicted and right), `map.png`,
            `map.html`, which needs no other file and no network, and `map.json`.
        encoder, pooling: names in the grammar; the vectors are standardised over all clips.
        method: `tsne`, `umap` or `pca`, see `soundmark.analysis.projection.project`.
        run: a finished run on the same clips and labels, whose mistakes are marked.
        colour: what colours stand for at first: `class`, `fold`, `group`, or with a run `error`.
        perplexity, neighbours: of t-SNE and UMAP.
        seed: of the method.
        sounds: whether the page holds the clips' sound; mind their licence before you publish one.
        sound_bytes: how much of it, in bytes of the page; clips of every class come first, the rest stay silent.
        command: that made it, for the JSON and the page.
        progress: show a bar on a terminal.

    Returns:
        The content of `map.json`: `task`, `encoder`, `pooling`, `method`, `settings`, `seed`, `clips`, `left_out`,
        `trustworthiness` {value, neighbours, clips}, `run` {name, clips, right} or None, `sounds`, `environment`.

    Raises:
        SpecError: for a method, setting or colour that cannot be; nothing has been encoded then.
        ResultsError: if the run is of other clips or labels.
        MissingExtra: for `umap` without umap-learn.
        SoundmarkError: if no clip can be read, there are too few, or all are alike.
    """
    if colour not in COLOURS:
        raise SpecError(f"there is no colour by {colour!r}; there are {', '.join(COLOURS)}")
    if colour == "error" and run is None:
        raise SpecError("colours by error need a run whose errors they show: give one")
    projection.settings(method, len(task.clips), perplexity=perplexity, neighbours=neighbours)
    if run is not None:
        predicted_by(run, task.clips)
    known = embeddings.embed(task, encoder, pooling, progress=progress)
    vectors = scale_of(known.vectors).apply(known.vectors).astype(np.float32)
    layout = projection.project(vectors, method, seed=seed, perplexity=perplexity, neighbours=neighbours)
    predicted = None if run is None else predicted_by(run, known.clips)
    content: dict[str, Any] = {
        "command": command,
        "task": task.full_name,
        "encoder": encoder,
        "pooling": pooling,
        "method": method,
        "settings": layout.settings,
        "seed": seed,
        "clips": len(known.clips),
        "left_out": [{"clip": clip.key, "error": error} for clip, error in known.bad.items()],
        "trustworthiness": projection.trustworthiness(vectors, layout.positions, seed=seed),
        "run": None if predicted is None else {
            "name": predicted.name,
            "clips": sum(right is not None for right in predicted.right),
            "right": sum(right is True for right in predicted.right),
        },
    }  # fmt: skip
    colours = colourings(task, known.clips, predicted)
    _write_table(folder / TABLE, known.clips, layout.positions, predicted)
    right = None if predicted is None else predicted.right
    scatter.write(folder / PICTURE, heading(task, content), layout.positions, colours[colour], right)
    heard = interactive.sounds(task, known.clips, sound_bytes, progress=progress) if sounds else {}
    content["sounds"] = {"clips": len(heard), "bytes": sum(map(len, heard.values()))}
    rows = [
        {
            "clip": clip.key,
            "label": label_of(clip),
            "group": clip.group,
            "fold": clip.fold,
            "predicted": predicted and predicted.labels[i],
            "right": right and right[i],
            "sound": heard.get(i),
        }
        for i, clip in enumerate(known.clips)
    ]
    words = {"title": heading(task, content), "trust": trusted(content)}
    html = interactive.render(task, content, words, layout.positions, rows, colours, colour)
    files.write_bytes(folder / PAGE, html.encode("utf-8", "replace"))
    content["environment"] = results.environment()
    files.write_json(folder / RESULT, content)
    return content


def label_of(clip: Clip) -> str:
    """The clip's label; several are joined with a bar."""
    return "|".join(clip.labels)


def predicted_by(run: results.Run, clips: Sequence[Clip]) -> Predicted:
    """What a run said of these clips.

    Raises:
        ResultsError: if it tested none of them, or knows one by another label.
    """
    said = run.predictions
    place = {key: i for i, key in enumerate(said.clips)}
    guesses = said.predicted()
    labels: list[str | None] = []
    right: list[bool | None] = []
    for clip in clips:
        i = place.get(clip.key)
        if i is None:
            labels.append(None)
            right.append(None)
            continue
        truth = said.classes[said.targets[i]]
        if truth != label_of(clip):
            raise ResultsError(
                f"{run.folder} is a run on other labels: {clip.key} is {truth!r} there and {label_of(clip)!r} here; "
                f"map the run's own task ({run.recipe.get('task', 'see its recipe.toml')})"
            )
        labels.append(said.classes[guesses[i]])
        right.append(bool(guesses[i] == said.targets[i]))
    if not any(each is not None for each in right):
        raise ResultsError(
            f"{run.folder} tested none of these clips; map the run's own task "
            f"({run.recipe.get('task', 'see its recipe.toml')})"
        )
    return Predicted(run.name, tuple(labels), tuple(right))


def colourings(task: Task, clips: Sequence[Clip], predicted: Predicted | None) -> dict[str, scatter.Colouring]:
    """What the clips can be coloured by: class, fold and group, and with a run error."""
    first = {name: i for i, name in enumerate(task.classes)}

    def order(name: str) -> tuple[float, int, str]:
        return first.get(name, math.inf), len(name), name

    found = {
        "class": scatter.colouring([label_of(clip) for clip in clips], order),
        "fold": scatter.colouring([clip.fold for clip in clips], lambda name: (len(name), name)),
        "group": scatter.colouring([clip.group for clip in clips], lambda name: (len(name), name)),
    }
    if predicted is not None:
        found["error"] = scatter.of_errors(predicted.right)
    return found


def _write_table(path: Path, clips: Sequence[Clip], positions: np.ndarray, predicted: Predicted | None) -> None:
    """The map as CSV, one row per clip in the task's order."""
    rows: list[list[Any]] = [
        [clip.key, label_of(clip), clip.group, clip.fold, *map(float, place)]
        for clip, place in zip(clips, positions, strict=True)
    ]
    header = ["clip", "label", "group", "fold", "x", "y"]
    if predicted is not None:
        header += ["predicted", "right"]
        for row, label, right in zip(rows, predicted.labels, predicted.right, strict=True):
            row += [label, right]
    write_rows(path, header, rows)


def heading(task: Task, content: dict[str, Any]) -> str:
    """What is on the map, in a line: `toy: t-SNE of logmel, mean+std`."""
    name = task.full_name.rpartition("/")[2] or task.full_name
    return f"{name}: {projection.METHODS[content['method']]} of {content['encoder']}, {content['pooling']}"


def trusted(content: dict[str, Any]) -> str:
    """How far the map is to be trusted, in a sentence."""
    found = content["trustworthiness"]
    if found["value"] is None:
        return "too few clips to say how far this map is to be trusted"
    return (
        f"trustworthiness {found['value']:.3f} over {found['neighbours']} neighbours (1: every neighbour on the map is "
        "one in truth; 0.5: chance)"
    )
