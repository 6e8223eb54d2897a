"""How trained networks are written in tables; for `tables.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markup import machine, paragraphs, percent, table

from soundmark.analysis import ablation

Json = Mapping[str, Any]

COLUMNS = (
    "task",
    "network and training",
    "parameters",
    "epochs",
    "s per epoch",
    "hours, all folds",
    "device",
    "precision",
)


def trainings(runs: Sequence[Json], names: Sequence[str]) -> str:
    """One row per run: how large the network is, and how long all its folds took, on what.

    Args:
        runs: each with `training`.
        names: each one's learner, in words.
    """
    rows = [
        [
            task(run),
            name,
            _range(run, "parameters"),
            f"{_range(run, 'epochs')} of {_range(run, 'of')}",
            _mean(run, "seconds_per_epoch"),
            f"{sum(_all(run, 'seconds')) / 3600:.2f}",
            device(run),
            ", ".join(dict.fromkeys(str(each) for each in _all(run, "precision"))),
        ]
        for run, name in zip(runs, names, strict=True)
    ]
    return table(COLUMNS, rows, numbers=(2, 3, 4, 5))


def task(run: Json) -> str:
    """A run's task, whether it was a part of the data set, and the folds where they are not all of the protocol's."""
    _, some, folds = str(run.get("protocol", "")).rpartition(", fold")
    return f"`{run['task']}`" + part(run) + (f", fold{folds}" if some and folds.endswith(" only") else "")


def part(run: Json) -> str:
    """What marks a run on a sample or an incomplete data set; "" for all others."""
    protocol = str(run.get("protocol", ""))
    return ", sample" if protocol.startswith("sample: ") else ", incomplete" if ", incomplete: " in protocol else ""


def device(run: Json) -> str:
    """What a run was trained on; several where folds were trained on different machines, none for a probe."""
    return ", ".join(dict.fromkeys(_cpu(str(each)) for each in _all(run, "device")))


def trained_on(run: Json | None, runs: Sequence[Json]) -> list[str]:
    """The cell, or for no run the title, of a column that is there only where some of the runs are of networks."""
    if not any(map(is_network, runs)):
        return []
    return ["trained on"] if run is None else [device(run)]


def trained_with(runs: Sequence[Json]) -> str:
    """The PyTorch that folds were trained with: it need not be that of the machine that put them together."""
    versions = dict.fromkeys(str(each) for run in runs for each in _all(run, "torch"))
    return f"Folds were trained with torch {' and '.join(versions)}." if versions else ""


def is_network(run: Json) -> bool:
    """Whether a run is of trained networks."""
    return bool(run.get("training"))


def parts(named: Mapping[str, str]) -> list[str]:
    """Network and training as code, augmentations counted: their text would take the table's width."""
    said = [f"`{named[key]}`" for key in ("network", "training") if named.get(key)]
    taught = [f"taught by `{named['teacher']}`"] if named.get("teacher") else []
    return [*said, counted(named.get("augment", "")), *taught]


def chosen(name: str) -> list[str]:
    """The same of a candidate's name, `network / augment / training`; the middle one is left out where it is empty."""
    network, *between, training = name.split(" / ")
    return parts({"network": network, "augment": "+".join(between), "training": training})


def counted(augment: str) -> str:
    """How many augmentations a name joins."""
    number = augment.count("+") + 1 if augment else 0
    return f"{number or 'no'} augmentation{'' if number == 1 else 's'}"


def _all(run: Json, key: str) -> list[Any]:
    return [each[key] for each in run.get("training") or () if each.get(key) is not None]


def _range(run: Json, key: str) -> str:
    found = _all(run, key)
    if not found:
        return "–"
    low, high = f"{min(found):,}", f"{max(found):,}"
    return low if low == high else f"{low} to {high}"


def _mean(run: Json, key: str) -> str:
    found = _all(run, key)
    return f"{fmean(found):.3g}" if found else "–"


def _cpu(name: str) -> str:
    return f"CPU{name[3:]}" if name.startswith("cpu") else name


def costs(found: Sequence[Json]) -> str:
    """Seconds of an epoch by network and by how it is computed, and the hours of five folds."""
    forms = list(dict.fromkeys(form for each in found for form in each["seconds_per_epoch"]))
    rows = [
        [
            f"`{each['recipe']}`",
            *(f"{each['seconds_per_epoch'][form]:.1f}" for form in forms),
            f"{each['hours_for_five_folds']:.1f}",
        ]
        for each in found
    ]
    said = (
        "Seconds of an epoch over 1600 clips of 5 s, in proportion to fewer that were timed, and hours of all that the "
        "recipe runs on five folds. Forms change what is named and leave the rest as in the recipe."
    )
    commands = "\n".join(str(each["command"]) for each in found)
    columns = ["recipe", *forms, "hours, five folds"]
    return paragraphs(
        table(columns, rows, numbers=range(1, len(columns))), said, f"```sh\n{commands}\n```", machine(*found)
    )


def comparisons(found: Sequence[Json]) -> str:
    """Two runs on the same clips, by paired tests; each file is what `soundmark compare --json` printed of one pair."""
    rows = [
        [
            f"`{each['a']['name']}`",
            percent(each["a"]["value"]),
            f"`{each['b']['name']}`",
            percent(each["b"]["value"]),
            f"{100 * each['difference']:+.1f} points ({100 * each['low']:+.1f} to {100 * each['high']:+.1f})",
            f"{each['mcnemar']['p']:.2g}",
            f"{each['permutation']['p']:.2g}",
        ]
        for each in found
    ]
    said = (
        "Differences with their 95 % interval, whole groups resampled; p by McNemar's test (mid-p) and by swapping "
        "whole groups."
    )
    columns = ["run", "score", "other run", "score", "difference", "p, McNemar", "p, groups"]
    return paragraphs(table(columns, rows, numbers=(1, 3, 4, 5, 6)), said)


def ablations(found: Sequence[Json]) -> str:
    """Learners measured again with one part changed at a time; each file is an `ablation.json`."""
    parts = [
        part
        for each in found
        for part in (f"### {task(each)}", ablation.table(dict(each)), f"```sh\n{each['command']}\n```")
    ]
    said = (
        "Every line changes one part of the learner in the first line and leaves the rest as it is. Differences with "
        "their 95 % interval, whole groups resampled; p by swapping whole groups."
    )
    return paragraphs(*parts, said, machine(*found))


FOLDERS = {
    "ablations": ("ablations", ablations, "soundmark study ablation"),
    "comparisons": ("comparisons", comparisons, "soundmark compare --json RUN OTHER"),
    "training-cost": ("training-cost", costs, "python benchmarks/training.py"),
}
"""By the table's name: its folder of results, what writes it, and the command that measures it."""
