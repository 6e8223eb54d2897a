"""Two studies of frozen encoders, each from recordings to tables and figures by one command.

`pooling` asks what is lost or won when a clip's moments are averaged before a classifier sees them. `heads` trains
probes on pooled vectors with several seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from soundmark import encoders, metrics, protocol, results, tables
from soundmark.encoders.base import Encoder
from soundmark.encoders.pooling import Pooling
from soundmark.errors import SpecError
from soundmark.files import atomic_path, write_json
from soundmark.learners import Heard, Probe
from soundmark.report.matrices import side_by_side
from soundmark.results import Predictions
from soundmark.spec import candidates
from soundmark.tasks.base import Clip, Round, Task

MOMENTS, MERGED = "audio_embeddings.csv", "merged_embeddings.csv"
KEPT = ("classes", "clips", "groups", "headline", "metrics", "folds", "over_folds", "per_class", "confusion")
_WORDS = ("clip", "label", "group", "fold")


class GivenVectors(Probe):
    """A probe whose vectors are handed to it, one for every clip of its task."""

    def give(self, clips: Sequence[Clip], vectors: np.ndarray) -> GivenVectors:
        """Take the vectors, (clips, dim) float32."""
        self.heard.vectors, self.heard.rows = vectors, {clip: row for row, clip in enumerate(clips)}
        return self

    def prepare(self, task: Task, *, strict: bool = False, progress: bool = True) -> dict[Clip, str]:
        """Nothing to do."""
        return {}


def pooling(
    task: Task, encoder: str, heads: Sequence[str], folder: Path, *, seed: int = 42, command: str = "",
    progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Moments as they are against their mean: each head trained and measured on both, in the same folds and groups.

    Unpooled, every moment is a training row with its clip's label; it is measured moment by moment, and clip by clip by
    the majority of its moments (the mean probability decides between equals). Pooled, a clip is one row.

    Args:
        task: clips and rounds.
        encoder: name in the grammar.
        heads: names in the grammar.
        folder: gets `audio_embeddings.csv` (a row per moment), `merged_embeddings.csv` (a row per clip, the mean of its
            moments), `pooling.csv` (the scores), `pooling.json` (all of it) and a figure per head.
        seed: of the heads.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.

    Returns:
        The content of `pooling.json`: `heads` {head: {moments, votes, pooled}}, each a part of a summary (see
        `soundmark.metrics.summary`).

    Raises:
        SoundmarkError: what `encoders.load`, `embeddings.frames` and `protocol.evaluate` raise.
    """
    names = _names(heads)
    module = encoders.load(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    _, bad = tables.write_frames(task, module, folder / MOMENTS)
    task = task.drop(bad)
    table = pa.csv.read_csv(folder / MOMENTS, convert_options=_types(module))
    kept = pa.array([clip.key for clip in task.clips])
    table = table.filter(pc.is_in(table["clip"], value_set=kept))  # of a file that broke off, the first moments stand
    owner, vectors = _rows_of(table, task)
    merged = np.stack([vectors[owner == i].mean(axis=0, dtype=np.float64) for i in range(len(task.clips))])
    merged = merged.astype(np.float32)
    _write_merged(folder / MERGED, task, merged, table.column_names[len(_WORDS) + 1 :])
    times = table["time"].to_numpy()
    moments = _task_of_moments(task, owner, times, module.hop_seconds)
    found: dict[str, Any] = {}

    def given(head: str) -> GivenVectors:
        return GivenVectors(encoder, "mean", head, Heard(module, Pooling("mean")))

    for head in names:
        single = _measured(moments, given(head).give(moments.clips, vectors), seed, progress)
        votes = _votes(task, owner, moments, single)
        whole = _measured(task, given(head).give(task.clips, merged), seed, progress)
        found[head] = {
            level: _brief(metrics.summary(said, metric=task.metric, positive=task.positive, over=task.over))
            for level, said in (("moments", single), ("votes", votes), ("pooled", whole))
        }
        panels = [(_LEVELS[level], summary) for level, summary in found[head].items()]
        side_by_side(panels, f"confusion-{_plain(head)}", f"{head} on {task.full_name}", folder)
    content = _about(task, encoder, seed, command, bad) | {
        "moments": len(owner),
        "heads": found,
        "environment": results.environment(),
    }
    rows = [
        [head, level, *_scores(summary, task)]
        for head, by_level in found.items()
        for level, summary in by_level.items()
    ]
    tables.write_rows(folder / "pooling.csv", ["head", "rows", *_score_names(task)], rows)
    write_json(folder / "pooling.json", content)
    return content


def heads(
    task: Task, encoder: str, names: Sequence[str], folder: Path, *, pooling: str = "mean", seeds: Iterable[int],
    command: str = "", progress: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Probes on pooled vectors behind a scaler, each trained with several seeds.

    Args:
        task: clips and rounds.
        encoder: name in the grammar.
        names: heads, in the grammar.
        folder: gets `heads.csv` (a row per head and seed, then mean and standard deviation), `heads.json`, a figure.
        pooling: statistics over time.
        seeds: of the heads' first weights and the order of the clips.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.

    Returns:
        The content of `heads.json`: `heads` {head: {mean, std, values [{seed, value, low, high}], summary}}, std being
        that of a sample (None for one seed), the summary that of the first seed.
    """
    wanted = list(seeds)
    if not wanted:
        raise SpecError("name at least one seed")
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    rows: list[list[Any]] = []
    bad: dict[Clip, str] = {}
    heard = Heard(encoders.load(encoder), Pooling(pooling))
    for head in _names(names):
        probe = Probe(encoder, pooling, head, heard)
        bad |= probe.prepare(task, progress=progress)
        task = task.drop(bad)
        given = GivenVectors(encoder, pooling, head, Heard(probe.encoder, probe.pooling))
        ready = given.give(task.clips, probe.vectors(task))
        summaries = [
            metrics.summary(
                _measured(task, ready, seed, progress), metric=task.metric, positive=task.positive, over=task.over
            )
            for seed in wanted
        ]
        values = [summary["headline"]["value"] for summary in summaries]
        mean, std = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
        found[head] = {
            "mean": mean,
            "std": std,
            "values": [
                {"seed": seed} | {key: summary["headline"][key] for key in ("value", "low", "high")}
                for seed, summary in zip(wanted, summaries, strict=True)
            ],
            "summary": _brief(summaries[0]),
        }
        rows += [[head, seed, *_scores(summary, task)] for seed, summary in zip(wanted, summaries, strict=True)]
        rows += [[head, "mean", mean], [head, "std", std]]
    panels = [(f"{head}, seed {wanted[0]}", each["summary"]) for head, each in found.items()]
    side_by_side(panels, "confusion-heads", f"{encoder} on {task.full_name}", folder)
    content = _about(task, encoder, wanted, command, bad) | {
        "pooling": pooling,
        "heads": found,
        "environment": results.environment(),
    }
    tables.write_rows(folder / "heads.csv", ["head", "seed", *_score_names(task)], rows)
    write_json(folder / "heads.json", content)
    return content


_LEVELS = {"moments": "unpooled, every moment", "votes": "unpooled, by vote", "pooled": "pooled"}


def _names(heads: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(heads))
    if not names or any(len(candidates(name)) > 1 for name in names):
        raise SpecError("name one head or more, each with one value per setting")
    return names


def _measured(task: Task, learner: Probe, seed: int, progress: bool) -> Predictions:
    """By the task's protocol, without thresholds for alarms, which would take four fits more."""
    return protocol.evaluate(replace(task, positive=""), [learner], seed=seed, progress=progress).predictions


def _types(encoder: Encoder) -> pa.csv.ConvertOptions:
    words = dict.fromkeys(_WORDS, pa.string())
    numbers = dict.fromkeys(encoder.feature_names or [f"{i:04d}" for i in range(encoder.dim)], pa.float32())
    return pa.csv.ConvertOptions(column_types=words | {"time": pa.float64()} | numbers, strings_can_be_null=False)


def _rows_of(table: pa.Table, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The position of each row's clip, and the rows' vectors (rows, dim) float32."""
    place = {clip.key: i for i, clip in enumerate(task.clips)}
    owner = np.array([place[key] for key in table["clip"].to_pylist()])
    columns = table.column_names[len(_WORDS) + 1 :]
    vectors = np.empty((len(owner), len(columns)), dtype=np.float32)
    for i, name in enumerate(columns):
        vectors[:, i] = table[name].to_numpy()
    return owner, vectors


def _write_merged(path: Path, task: Task, vectors: np.ndarray, names: Sequence[str]) -> None:
    columns: dict[str, Any] = {
        "clip": [clip.key for clip in task.clips],
        "label": [clip.label for clip in task.clips],
        "group": [clip.group for clip in task.clips],
        "fold": [clip.fold for clip in task.clips],
    }
    with atomic_path(path) as temporary:
        pa.csv.write_csv(pa.table(columns | dict(zip(names, vectors.T, strict=True))), str(temporary))


def _task_of_moments(task: Task, owner: np.ndarray, times: np.ndarray, hop: float) -> Task:
    """A clip per moment, of its clip's class, fold and group: one without a group is a group of its own."""
    clips = []
    for i, start in zip(owner, times.tolist(), strict=True):
        clip = task.clips[i]
        clips.append(replace(clip, start=start, end=start + hop, group=clip.group or clip.key))
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, i in enumerate(owner.tolist()):
        rows_of[i].append(row)

    def moved(positions: Iterable[int]) -> tuple[int, ...]:
        return tuple(row for i in positions for row in rows_of[i])

    rounds = tuple(Round(each.name, moved(each.train), moved(each.test)) for each in task.rounds)
    return replace(task, clips=tuple(clips), rounds=rounds)


def _votes(task: Task, owner: np.ndarray, moments: Task, said: Predictions) -> Predictions:
    """One prediction per clip: the shares of its moments' votes, and a little of their mean to part equals."""
    owner_of = {clip.key: int(i) for clip, i in zip(moments.clips, owner, strict=True)}
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, key in enumerate(said.clips):
        rows_of[owner_of[key]].append(row)
    order = sorted(rows_of)
    clips = [task.clips[i] for i in order]
    hard = np.eye(len(task.classes))[said.predicted()]
    votes = np.stack([(hard[rows_of[i]].mean(0) + 1e-6 * said.probabilities[rows_of[i]].mean(0)) for i in order])
    return Predictions(
        clips=[clip.key for clip in clips],
        paths=[clip.path for clip in clips],
        starts=[clip.start for clip in clips],
        ends=[clip.end for clip in clips],
        groups=[clip.group for clip in clips],
        folds=[said.folds[rows_of[i][0]] for i in order],
        targets=np.asarray(task.targets())[order],
        probabilities=votes / votes.sum(axis=1, keepdims=True),
        classes=task.classes,
    )


def _brief(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in KEPT}


def _about(task: Task, encoder: str, seed: Any, command: str, bad: Mapping[Clip, str]) -> dict[str, Any]:
    return {
        "command": command,
        "task": task.full_name,
        "protocol": task.protocol,
        "encoder": encoder,
        "seed": seed,
        "notes": list(task.notes),
        "bad_clips": [{"clip": clip.key, "error": text} for clip, text in bad.items()],
    }


def _score_names(task: Task) -> list[str]:
    recall = [f"recall {task.positive}"] if task.positive else []
    return [task.metric, "low", "high", "accuracy", "balanced_accuracy", "macro_f1", *recall]


def _scores(summary: Mapping[str, Any], task: Task) -> list[Any]:
    head, known = summary["headline"], summary["metrics"]
    recall = [row["recall"] for row in summary["per_class"] if task.positive and row["label"] == task.positive]
    named = [known[name]["value"] for name in ("accuracy", "balanced_accuracy", "macro_f1")]
    return [head["value"], head["low"], head["high"], *named, *recall]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)
