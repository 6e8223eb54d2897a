"""How alike tasks, encoders and classes are, as embeddings hear them. Nothing is trained.

Three questions, each answered by a table, a JSON file and a figure: how far tasks lie from each other
(`between_tasks`), which encoders tell clips apart in the same way (`between_encoders`), and which classes of one task
sound like which of another (`between_classes`). What a number may be owed to the clips that happened to be there is
said beside it, by doing the same on random halves of the clips, whole groups on one side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundmark import embeddings, encoders, results
from soundmark.analysis import measures
from soundmark.analysis.standard import scale_of
from soundmark.encoders.base import Encoder
from soundmark.errors import SpecError, TaskError
from soundmark.files import write_json
from soundmark.intervals import Floats, group_index, number
from soundmark.report.heatmaps import Panel, heatmaps
from soundmark.tables import write_rows
from soundmark.tasks.base import Clip, Task

DRAWS = 20


@dataclass(frozen=True)
class _Part:
    """A task as an encoder hears it: what could be read of it."""

    task: Task
    clips: tuple[Clip, ...]
    vectors: NDArray[Any]
    bad: dict[Clip, str]

    @property
    def groups(self) -> list[str]:
        return [clip.group for clip in self.clips]

    def about(self) -> dict[str, Any]:
        return {
            "task": self.task.full_name,
            "clips": len(self.clips),
            "groups": group_index(self.groups)[1],
            "classes": len(self.task.classes),
        }


def between_tasks(
    tasks: Sequence[Task], encoder: str, pooling: str, folder: Path, *, standardise: bool = False, draws: int = DRAWS,
    seed: int = 0, command: str = "", progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Fréchet distances between the Gaussians of the tasks' vectors (see `soundmark.analysis.measures.frechet`).

    A distance between few clips is too large. How much so is seen on the diagonal, where each task is held against
    itself: the mean distance between two random halves of its clips, which would be 0 for endless ones. Halves have
    half the clips, so this is more than the whole task's own share.

    Args:
        tasks: two or more.
        encoder: name in the grammar.
        pooling: statistics over time.
        folder: gets `tasks.csv` (the distances), `tasks.json` (all of it), `tasks.png` and `tasks.svg`.
        standardise: bring every component to mean 0 and variance 1 over all tasks first, each counting the same.
            Distances of raw vectors depend on their units; only those of one encoder and pooling compare.
        draws: divisions into halves.
        seed: of the divisions.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.

    Returns:
        The content of `tasks.json`: `tasks` [{task, clips, groups, classes}]; `distances`, a row for each task;
        `halves` [{task, mean, std}], std being that over draws, None where a task has one group or too few clips;
        `bad_clips`, `notes`, `environment`, and what was asked for.

    Raises:
        SpecError: for fewer than two tasks, one named twice, an unknown encoder or pooling, or no draws.
        TaskError: for a task with fewer than two clips that can be read.
        SoundmarkError: what `soundmark.embeddings.embed` raises.
    """
    _check_draws(draws, seed)
    module, parts = _parts(tasks, encoder, pooling, progress)
    for part in parts:
        if len(part.clips) < 2:
            raise TaskError(f"{part.task.full_name} has one clip that can be read, and no spread; add clips to it")
    vectors: list[NDArray[Any]] = [part.vectors for part in parts]
    if standardise:
        scale = scale_of(*vectors)
        vectors = [scale.apply(part) for part in vectors]
    known = [measures.gaussian(rows) for rows in vectors]
    distances = np.zeros((len(known), len(known)))
    for i, j in itertools.combinations(range(len(known)), 2):
        distances[i, j] = distances[j, i] = measures.frechet(known[i], known[j])
    halves, notes = [], _notes(parts)
    dim = vectors[0].shape[1]
    for i, (part, rows) in enumerate(zip(parts, vectors, strict=True)):
        mean, std = measures.between_halves(rows, part.groups, draws, seed)
        distances[i, i] = mean
        halves.append({"task": part.task.full_name, "mean": number(mean), "std": number(std)})
        if len(part.clips) <= dim:
            notes.append(
                f"{part.task.full_name}: {len(part.clips)} clips for {dim} components do not fill a covariance; its "
                "distances are too large, and to be read against those of its halves."
            )
        if np.isnan(mean):
            notes.append(f"{part.task.full_name} cannot be divided into halves of two clips or more, groups whole.")
    names = [part.task.full_name for part in parts]
    content = _about(command, module, pooling, draws, seed) | {
        "standardised": standardise,
        "dim": dim,
        "tasks": [part.about() for part in parts],
        "distances": _plain(distances),
        "halves": halves,
        "notes": notes,
        "bad_clips": _bad(parts),
        "environment": results.environment(),
    }
    write_rows(folder / "tasks.csv", ["task", *names], [[a, *row] for a, row in zip(names, distances, strict=True)])
    write_json(folder / "tasks.json", content)
    heatmaps(
        [Panel("", distances, names, names)], "tasks", "Fréchet distance between tasks",
        f"squared; {encoder}, {pooling}; on the diagonal between random halves of a task", folder, form=".3g",
    )  # fmt: skip
    return content


def between_encoders(
    task: Task, names: Sequence[str], pooling: str, folder: Path, *, standardise: bool = False, draws: int = DRAWS,
    seed: int = 0, command: str = "", progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Linear centred kernel alignment between encoders on the same clips (see `soundmark.analysis.measures.cka`).

    Args:
        task: the clips; those that every encoder can read are compared.
        names: two encoders or more, in the grammar.
        pooling: statistics over time.
        folder: gets `encoders.csv` (a row per pair), `encoders.json` (all of it), `encoders.png` and `encoders.svg`.
        standardise: bring every component of every encoder to mean 0 and variance 1 first, so that those in large units
            do not outweigh the others.
        draws: halves of the clips on which the debiased alignment is measured again.
        seed: of the halves.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.

    Returns:
        The content of `encoders.json`: `encoders` [{encoder, spec, dim}]; `cka` and `debiased`, a row for each encoder,
        None for one that says the same of every clip; `std`, the standard error of the debiased one by random halves
        (whole groups; the deviation of a half from the whole is on average that of the whole from endless clips), None
        where the groups allow no halves; `bad_clips`, `notes`, `environment`, and what was asked for.

    Raises:
        SpecError: for fewer than two encoders, one named twice, an unknown encoder or pooling, or no draws.
        TaskError: for fewer than four clips that every encoder can read.
        SoundmarkError: what `soundmark.embeddings.embed` raises.
    """
    _check_draws(draws, seed)
    modules = [encoders.load(name) for name in names]
    _check_names("encoder", [module.spec for module in modules])
    heard = [embeddings.embed(task, module, pooling, progress=progress) for module in modules]
    everyone = set(task.clips).intersection(*(each.clips for each in heard))
    clips = tuple(clip for clip in task.clips if clip in everyone)
    if len(clips) < measures.LEAST_FOR_DEBIASED:
        raise TaskError(
            f"{task.full_name} has {len(clips)} clips that every encoder can read; an alignment needs "
            f"{measures.LEAST_FOR_DEBIASED} or more"
        )
    parts: list[NDArray[Any]] = [
        each.vectors[[i for i, clip in enumerate(each.clips) if clip in everyone]] for each in heard
    ]
    if standardise:
        parts = [scale_of(part).apply(part) for part in parts]
    plain, debiased = measures.cka(parts)
    groups = [clip.group for clip in clips]
    std = measures.alignment_error(parts, debiased, groups, draws, seed)
    notes = list(task.notes)
    if np.isnan(std).all():
        notes.append("The groups do not allow halves of four clips or more, so no standard error can be given.")
    for name, own, left in zip(names, np.diagonal(plain), np.diagonal(debiased), strict=True):
        if np.isnan(own):
            notes.append(f"{name} says the same of every clip, so nothing is aligned with it.")
        elif np.isnan(left):
            notes.append(f"{name} sets all clips equally far apart, so nothing is left of it once debiased.")
    bad = [(name, each.bad) for name, each in zip(names, heard, strict=True)]
    content = _about(command, None, pooling, draws, seed) | {
        "standardised": standardise,
        "task": task.full_name,
        "clips": len(clips),
        "groups": group_index(groups)[1],
        "encoders": [
            {"encoder": name, "spec": module.spec, "dim": part.shape[1]}
            for name, module, part in zip(names, modules, parts, strict=True)
        ],
        "cka": _plain(plain),
        "debiased": _plain(debiased),
        "std": _plain(std),
        "notes": notes,
        "bad_clips": [
            {"encoder": name, "clip": clip.key, "error": text} for name, of in bad for clip, text in of.items()
        ],
        "environment": results.environment(),
    }
    pairs = itertools.combinations(range(len(names)), 2)
    rows = [[names[i], names[j], plain[i, j], debiased[i, j], std[i, j]] for i, j in pairs]
    write_rows(folder / "encoders.csv", ["encoder", "other", "cka", "debiased", "std"], rows)
    write_json(folder / "encoders.json", content)
    titles = (("plain", plain), ("debiased", debiased))
    heatmaps(
        [Panel(title, values, names, names) for title, values in titles], "encoders", "Alignment of encoders",
        f"linear CKA; {pooling}; {len(clips)} clips of {task.full_name}", folder, full=1.0,
    )  # fmt: skip
    return content


def between_classes(
    tasks: Sequence[Task], encoder: str, pooling: str, folder: Path, *, top: int = 3, draws: int = DRAWS,
    seed: int = 0, command: str = "", progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Which classes of a task sound like which of another: cosines of the classes' mean vectors.

    Components are first brought to mean 0 and variance 1 over all tasks, each counting the same, so that 0 stands
    between all sounds and no component outweighs the others by its unit.

    Args:
        tasks: two or more.
        encoder: name in the grammar.
        pooling: statistics over time.
        folder: gets `classes.csv` (the cosines of all classes), `nearest.csv` (of every class the nearest in every
            other task), `classes.json` (the same, and all around it), `classes.png` and `classes.svg`.
        top: how many nearest classes.
        draws: halves of the clips on which it is looked up again.
        seed: of the halves.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.

    Returns:
        The content of `classes.json`: `tasks`; `classes` [{task, label, clips, groups}]; `nearest` [{task, label, rank,
        other_task, other_label, cosine, kept}], kept being the share of random halves (whole groups) in which the other
        class is again among the `top` nearest of its task, None where the groups allow no halves; `bad_clips`, `notes`,
        `environment`, and what was asked for.

    Raises:
        SpecError: for fewer than two tasks, one named twice, an unknown encoder or pooling, no draws or no `top`.
        SoundmarkError: what `soundmark.embeddings.embed` raises.
    """
    _check_draws(draws, seed)
    if top < 1:
        raise SpecError(f"there must be 1 nearest class or more, not {top}")
    module, parts = _parts(tasks, encoder, pooling, progress)
    scale = scale_of(*(part.vectors for part in parts))
    vectors = [scale.apply(part.vectors) for part in parts]
    members = [np.array([[c in clip.labels for c in part.task.classes] for clip in part.clips]) for part in parts]
    names = [(part.task.full_name, label) for part in parts for label in part.task.classes]
    owner = np.array([i for i, part in enumerate(parts) for _ in part.task.classes])
    wholes = [np.arange(len(part.clips)) for part in parts]

    def alike(chosen: Sequence[NDArray[np.intp]]) -> Floats:
        each = zip(vectors, members, chosen, strict=True)
        return measures.cosines(np.concatenate([measures.class_means(v[rows], m[rows]) for v, m, rows in each]))

    cosines = alike(wholes)
    nearest = measures.nearest(cosines, owner, top)
    divided = [list(measures.halves(part.groups, draws, seed)) for part in parts]
    again = [
        alike([first for first, _ in each]) for each in (zip(*divided, strict=True) if all(divided) else ())
    ]  # with one group a task has no halves
    kept = measures.kept(again, nearest, owner, top)
    classes = [
        {
            "task": part.task.full_name,
            "label": label,
            "clips": int(member[:, c].sum()),
            "groups": group_index([g for g, inside in zip(part.groups, member[:, c], strict=True) if inside])[1],
        }
        for part, member in zip(parts, members, strict=True)
        for c, label in enumerate(part.task.classes)
    ]
    rows = [
        {
            "task": names[i][0],
            "label": names[i][1],
            "rank": rank,
            "other_task": names[j][0],
            "other_label": names[j][1],
            "cosine": float(cosines[i, j]),
            "kept": share,
        }
        for (i, j, rank), share in zip(nearest, kept, strict=True)
    ]
    notes = _notes(parts)
    notes += [f"{row['task']}: {row['label']} has no clips that can be read." for row in classes if not row["clips"]]
    if not again:
        notes.append("A task has one group only, so there are no halves in which to look again.")
    content = _about(command, module, pooling, draws, seed) | {
        "top": top,
        "tasks": [part.about() for part in parts],
        "classes": classes,
        "nearest": rows,
        "notes": notes,
        "bad_clips": _bad(parts),
        "environment": results.environment(),
    }
    header = ["task", "label", *(f"{task} {label}" for task, label in names)]
    write_rows(folder / "classes.csv", header, [[*name, *row] for name, row in zip(names, cosines, strict=True)])
    columns = ["task", "label", "rank", "other_task", "other_label", "cosine", "kept"]
    write_rows(folder / "nearest.csv", columns, [[row[key] for key in columns] for row in rows])
    write_json(folder / "classes.json", content)
    _draw_classes(parts, cosines, owner, f"cosine of the classes' means; {encoder}, {pooling}", folder)
    return content


# --- What the questions share ------------------------------------------------------------------------------------


def _parts(tasks: Sequence[Task], encoder: str, pooling: str, progress: bool) -> tuple[Encoder, list[_Part]]:
    _check_names("task", [task.full_name for task in tasks])
    module = encoders.load(encoder)
    parts = []
    for task in tasks:
        heard = embeddings.embed(task, module, pooling, progress=progress)
        parts.append(_Part(task, heard.clips, heard.vectors, heard.bad))
    return module, parts


def _check_names(noun: str, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise SpecError(f"name two {noun}s or more, not {len(names)}")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise SpecError(f"name each {noun} once: {', '.join(twice)} came several times")


def _check_draws(draws: int, seed: int) -> None:
    if draws < 1 or seed < 0:
        raise SpecError(f"draws should be 1 or more and the seed 0 or more, not {draws} and {seed}")


def _about(command: str, encoder: Encoder | None, pooling: str, draws: int, seed: int) -> dict[str, Any]:
    heard = {} if encoder is None else {"encoder": encoder.spec}
    return {"command": command} | heard | {"pooling": pooling, "draws": draws, "seed": seed}


def _notes(parts: Sequence[_Part]) -> list[str]:
    return [f"{part.task.full_name}: {note}" for part in parts for note in part.task.notes]


def _bad(parts: Sequence[_Part]) -> list[dict[str, str]]:
    return [
        {"task": part.task.full_name, "clip": clip.key, "error": text}
        for part in parts
        for clip, text in part.bad.items()
    ]


def _plain(table: Floats) -> list[list[float | None]]:
    return [[number(value) for value in row] for row in table]


def _draw_classes(parts: Sequence[_Part], cosines: Floats, owner: NDArray[np.intp], key: str, folder: Path) -> None:
    """Of two tasks one against the other; of more, everything against everything."""
    labels = [label for part in parts for label in part.task.classes]
    breaks = np.flatnonzero(np.diff(owner)) + 1
    if len(parts) == 2:
        first = int(breaks[0])
        names = parts[0].task.full_name, parts[1].task.full_name
        panel = Panel(f"{names[0]} down, {names[1]} across", cosines[:first, first:], labels[:first], labels[first:])
    else:
        title = ", ".join(part.task.full_name for part in parts)
        panel = Panel(title, cosines, labels, labels, breaks.tolist(), breaks.tolist())
    heatmaps([panel], "classes", "Classes of one task and another", key, folder, full=1.0)
