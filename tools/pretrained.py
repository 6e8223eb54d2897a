"""Tables of what was measured beside the grid: few clips, unknown sounds, events, engines, memory, front ends."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markup import interval, machine, paragraphs, percent, plain, table

Json = Mapping[str, Any]


def few_shot(found: Sequence[Json]) -> str:
    """The score by the number of clips per class, one row per learner."""
    shots = [row["shots"] for row in found[0]["curve"]]
    rows = [
        [
            f"`{each['task']}`",
            _learner(each),
            *(f"{percent(row['mean'])} ({interval(row)})" for row in each["curve"] if row["shots"] in shots),
        ]
        for each in found
    ]
    columns = ["task", "learner", *(f"{k} clip{'s' if k > 1 else ''} per class" for k in shots)]
    said = f"{found[0]['metric'].capitalize()} on the whole test side of every fold, mean over all folds and "
    said += f"{found[0]['repeats']} draws in each; 95 % of the draws fell into the range behind it."
    return paragraphs(table(columns, rows, range(2, len(columns))), said, _commands(found), machine(*found))


def unknown(found: Sequence[Json]) -> str:
    """How well classes that were left out are told from known ones."""
    rows = [
        [
            f"`{each['task']}`",
            _learner(each),
            name,
            f"{score['auroc']['value']:.3f} ({score['auroc']['low']:.3f} to {score['auroc']['high']:.3f})",
            percent(score["realised"]["known"]["value"]),
            percent(score["realised"]["unknown"]["value"]),
        ]
        for each in found
        for name, score in each["scores"].items()
    ]
    columns = ["task", "learner", "told by", "AUROC", "known sounds accepted", "unknown sounds accepted"]
    said = f"{len(found[0]['parts'])} disjoint sets of classes were left out in turn; the threshold is taken on the "
    said += f"training side so that {percent(found[0]['accepted'], 0)} of known sounds are accepted."
    return paragraphs(table(columns, rows, range(3, len(columns))), said, _commands(found), machine(*found))


def engines(found: Sequence[Json]) -> str:
    """Precision and engine of an encoder beside its plain form."""
    rows = [
        [
            f"`{each['encoder']}`",
            row["form"],
            f"{row['ms_per_clip']:.1f} ms",
            f"{row['times_faster']:.2f}",
            f"{row['median_cosine']:.5f}",
            f"{row['lowest_cosine']:.5f}",
        ]
        for each in found
        for row in each["forms"]
    ]
    columns = ["encoder", "form", "per 5-s clip, one thread", "times as fast", "median cosine", "lowest cosine"]
    return paragraphs(table(columns, rows, range(2, len(columns))), _commands(found), machine(*found))


def long_recordings(found: Sequence[Json]) -> str:
    """Peak memory by encoder and hours."""
    encoders = {name: content for each in found for name, content in each["encoders"].items()}
    rows = [
        [f"`{name}`", f"{row['hours']:g} h", f"{row['peak_mib']:.0f} MiB", f"{row['seconds']:.0f} s"]
        for name, content in encoders.items()
        for row in content["rows"]
    ]
    columns = ["encoder", "recording", "peak memory of the process", "time"]
    said = f"One file, embedded and pooled ({next(iter(encoders.values()))['pooling']})."
    every = list(encoders.values())
    return paragraphs(said, table(columns, rows, range(1, 4)), _commands(every), machine(*every))


def front_ends(found: Sequence[Json]) -> str:
    """Spectrograms under one classifier: windows and hops down, front ends across; each file is a cell of a grid."""
    scores: dict[tuple[int, int], dict[str, Json]] = {}
    titles = {"linear": "linear, every bin", "logfreq": "log frequency", "logmel": "log-mel"}
    for each in found:
        name, _, settings = each["learner"]["encoder"].partition("?")
        given = dict(pair.split("=") for pair in settings.split("&"))
        scores.setdefault((int(given["window"]), int(given["hop"])), {})[name] = each["headline"]
    rows = [
        [
            f"{window} / {hop}",
            f"{1000 * window / _RATE:.0f} ms, {1000 * hop / _RATE:.1f} ms",
            f"{_RATE / window:.0f} Hz",
        ]
        + [f"{percent(row[name]['value'])} ({interval(row[name])})" if name in row else "–" for name in titles]
        for (window, hop), row in sorted(scores.items(), key=lambda each: (each[0][0], -each[0][1]))
    ]
    columns = ["window / hop", "which is", "bins apart", *titles.values()]
    one = found[0]
    said = f"{one['headline']['metric'].capitalize()} on `{one['task']}`, {one['protocol']}, with 95 % intervals: "
    said += f"`{one['learner']['pooling']}` over time under `{one['learner']['head']}`, at {_RATE} Hz."
    names = " ".join(shlex.quote(each["learner"]["encoder"]) for each in found)
    command = f"soundmark benchmark --tasks {one['task']} --encoders {names} --poolings {one['learner']['pooling']} "
    command += f"--heads {shlex.quote(one['learner']['head'])} --out results/frontends"
    return paragraphs(table(columns, rows, range(3, 6)), said, f"```sh\n{command}\n```", machine(*found))


def events(found: Sequence[Json]) -> str:
    """Sounds at known times in a stream: what is found of them, and how soon; one table per learner."""
    return paragraphs(*(part for each in found for part in (_heard_by(each), plain(each))))


def studies(found: Sequence[Json]) -> str:
    """Probes over several seeds, and moments against their mean."""
    seeds = [
        [f"`{each['task']}`", f"`{each['encoder']}`", f"`{head}`", str(len(said["values"])), percent(said["mean"]),
         "–" if said["std"] is None else f"{100 * said['std']:.2f}"]
        for each in found if "moments" not in each
        for head, said in each["heads"].items()
    ]  # fmt: skip
    moments = [
        [f"`{each['task']}`", f"`{each['encoder']}`", f"`{head}`"]
        + [f"{percent(said[level]['headline']['value'])} ({interval(said[level]['headline'])})" for level in _LEVELS]
        for each in found
        if "moments" in each
        for head, said in each["heads"].items()
    ]
    columns = ["task", "encoder", "head", "seeds", "mean", "standard deviation, points"]
    levels = ["task", "encoder", "head", "every moment by itself", "by vote of a clip's moments", "pooled: their mean"]
    return paragraphs(
        table(columns, seeds, range(3, 6)) if seeds else "",
        table(levels, moments, range(3, 6)) if moments else "",
        _commands(found),
        machine(*found),
    )


def _learner(each: Json) -> str:
    return " · ".join(f"`{part}`" for part in each["learner"].values())


def _heard_by(each: Json) -> str:
    """Who heard the sounds; a recipe holds an encoder's defaults beside a network too."""
    named = each["learner"]
    parts = ("network", "teacher") if "network" in named else ("encoder", "pooling", "head")
    learner = [f"`{named[part]}`" for part in parts if part in named]
    return f"Heard by {' · '.join(learner)}; alarm {each['threshold']['danger']}."


def _commands(found: Sequence[Json]) -> str:
    lines = list(dict.fromkeys(each["command"] for each in found if each.get("command")))
    return "```sh\n" + "\n".join(lines) + "\n```" if lines else ""


_RATE = 44100  # of the front ends, their default
_LEVELS = ("moments", "votes", "pooled")
FOLDERS: Mapping[str, tuple[str, Callable[[Sequence[Json]], str], str]] = {
    "few-shot": ("fewshot", few_shot, "soundmark fewshot esc50 --encoder mn04"),
    "unknown": ("unknown", unknown, "soundmark unknown esc50 --encoder mn04"),
    "studies": ("studies", studies, "soundmark study heads esc50 --encoder mn04"),
    "front-ends": ("frontends", front_ends, "soundmark benchmark --out results/frontends"),
    "engines": ("engines", engines, "python benchmarks/engines.py mn04"),
    "events": ("soundscapes", events, "python benchmarks/soundscapes.py"),
    "long-recordings": ("memory", long_recordings, "python benchmarks/long_recording.py mn04"),
}
"""By the table's name: its folder of results, what writes it, and the command that measures it."""
