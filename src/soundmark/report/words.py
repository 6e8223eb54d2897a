"""The words of the page: what the numbers of metrics.json say, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soundmark.report.drawing import percent, shown, spread

_HEARD = "{clips} {sources}were put to the test, none of them heard in training; "
_SENTENCES = {
    "accuracy": "{value} were recognised rightly.",
    "balanced_accuracy": "of a class's clips, {value} were recognised rightly, on average over the {classes} classes.",
    "macro_f1": (
        "F1, which falls with what is missed and what is mistaken, is {value} on average over the {classes} classes."
    ),
    "icbhi_score": "the mean of the shares of normal and of other clips that were recognised rightly is {value}.",
}
_SENTENCE = "{name} is {value}."
_NOT_SHARES = {"log_loss", "roc_auc", "average_precision"}
_WATCHED = (
    "In every fold a part of the training side was held out, and watched while the network trained on the rest; these "
    "are the curves. The training side is measured while it is learnt from and as augmentation alters it, the held-out "
    "part after each epoch and as it is. The dots are where the held-out loss was least: for so many epochs a fresh "
    "network was then trained on the whole training side. The test clips were not looked at until it was done."
)
_UNWATCHED = (
    "In every fold the network trained on the whole training side, for a number of epochs that was set beforehand. The "
    "curves are measured on that side while it is learnt from and as augmentation alters it. Nothing was held out to "
    "watch it by, and the test clips were not looked at until it was done."
)
_PARTS = {"augment": "Augmentation"}
_LONG = 30  # letters of an augmentation from which its parts are counted instead
_NAMES = {"roc_auc": "ROC AUC", "macro_f1": "macro F1", "icbhi_score": "ICBHI score", "log_loss": "log loss (nats)"}


def label(text: str) -> str:
    """A label on one line, cut where it is very long."""
    return shown(text, 60)


def count(number: int, thing: str) -> str:
    """How many of a thing: `1 clip`, `2,000 clips`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def title(metrics: Mapping[str, Any]) -> str:
    """What the page is called."""
    return str(metrics.get("title") or metrics.get("task") or "Results")


def eyebrow(metrics: Mapping[str, Any]) -> str:
    """Task and protocol, above the title."""
    return " · ".join(str(metrics[key]) for key in ("task", "protocol") if metrics.get(key))


def learner(metrics: Mapping[str, Any]) -> str:
    """What was measured: `logmel → mean+std → svm`; empty where every fold chose for itself.

    Of a network, `cnn · gain+mix · adamw`: an arrow is the way of a sound, and these are not stations on it.
    """
    parts = metrics.get("learner") or {}
    if metrics.get("selection"):
        return ""
    if "network" in parts:
        parts = parts | {"augment": _augmentation(str(parts.get("augment") or ""))}
    return (" · " if "network" in parts else " → ").join(str(part) for part in parts.values() if part)


def _augmentation(text: str) -> str:
    return text if len(text) <= _LONG else f"{text.count('+') + 1} augmentations"


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The score in words and as places on a scale from 0 to 100."""
    head = metrics["headline"]
    metric, chance, words = head["metric"], head.get("chance"), _value(head["metric"], head["value"])
    mean = "averaged over the folds, " if head.get("over") == "folds" else ""
    sentence = (_HEARD + mean + _SENTENCES.get(metric, _SENTENCE)).format(
        clips=count(metrics["clips"], "clip"),
        sources=f"from {count(metrics['groups'], 'source')} " if metrics["groups"] != metrics["clips"] else "",
        value=words,
        classes=sum(row["clips"] > 0 for row in metrics["per_class"]),
        name=_name(metric),
    )
    if chance is not None:
        sentence += f" Always answering with the commonest class would give {_value(metric, chance)}."
    return {
        "name": _capital(_name(metric)),
        "words": f"{words} {_name(metric)}",
        "number": words.removesuffix("\u00a0%"),
        "unit": "" if metric in _NOT_SHARES else "%",
        "level": percent(metrics["intervals"]["level"], 0),
        "interval": _interval(metric, head["low"], head["high"]),
        "sentence": sentence,
        "scale": None if metric in _NOT_SHARES else _scale(head),
    }


def _scale(head: Mapping[str, Any]) -> dict[str, float | None] | None:
    if None in (head["value"], head["low"], head["high"]):
        return None
    low, high, value = (round(100 * head[name], 2) for name in ("low", "high", "value"))
    chance = None if head.get("chance") is None else round(100 * head["chance"], 2)
    return {"low": low, "width": round(high - low, 2), "value": value, "chance": chance}


def facts(metrics: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """What was measured: name, value, and whether the value is code."""
    names = [label(name) for name in metrics["classes"]]
    parts = {str(name): value for name, value in (metrics.get("learner") or {}).items()}
    found: list[tuple[str, Any, bool]] = [
        ("Task", metrics.get("task"), True),
        ("Protocol", metrics.get("protocol"), False),
        *((_PARTS.get(name, _capital(name)), value, name != "chosen") for name, value in parts.items()),
        ("Parameters", _parameters(metrics), False),
        ("Clips", f"{metrics['clips']:,} from {count(metrics['groups'], 'source')}", False),
        ("Classes", ", ".join(names) if len(names) < 8 else len(names), False),
        ("Folds", len(metrics["folds"]), False),
        ("Seed", metrics.get("seed"), False),
    ]
    for name, seconds in (metrics.get("seconds") or {}).items():
        found.append((f"Time to {label(str(name))}", f"{seconds:,.1f} s", False))
    if model := metrics.get("model"):
        words = f"model.onnx: {model.get('learner', 'the learner')}"
        if "fitted_on" in model:
            words += f", fitted on all {count(model['fitted_on'], 'clip')} after this measurement"
        found.append(("Model file", words, False))
    return [(name, str(value), code) for name, value, code in found if value not in (None, "")]


def selection(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What every fold chose among: the folds, and for each candidate its score in each."""
    rounds = metrics.get("selection")
    if not rounds:
        return None
    learners = dict.fromkeys(each["learner"] for one in rounds for each in one["candidates"])
    scores = [{each["learner"]: each["score"] for each in one["candidates"]} for one in rounds]
    rows = [
        {
            "learner": name,
            "cells": [
                {"score": percent(score.get(name)), "chosen": one["chosen"] == name}
                for one, score in zip(rounds, scores, strict=True)
            ],
        }
        for name in learners
    ]
    return {"folds": [one["fold"] for one in rounds], "rows": rows}


def tuned(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What every fold found by searching ranges: the settings by name, and each fold's, with their score."""
    rounds = metrics.get("tuned")
    if not rounds:
        return None
    names = list(dict.fromkeys(name for one in rounds for name in one["best"]))
    rows = [
        {
            "fold": one["fold"],
            "score": percent(one["score"]),
            "settings": [str(one["best"].get(name, "–")) for name in names],
            "trials": f"{one['trials']}, {one['pruned']} given up" if one["pruned"] else str(one["trials"]),
        }
        for one in rounds
    ]
    return {"names": names, "rows": rows}


def training(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a network was trained: what its curves are, and each fold's epochs and time; None where none was."""
    rounds = metrics.get("training")
    if not rounds:
        return None
    watched = any(row["stage"] == "choose" for one in rounds for row in one.get("history") or ())
    return {
        "words": _WATCHED if watched else _UNWATCHED,
        "rows": [
            {
                "fold": label(str(one["fold"])),
                "epochs": _of(one.get("epochs"), one.get("of")),
                "each": _duration(one.get("seconds_per_epoch")),
                "seconds": _duration(one.get("seconds")),
                "device": _device(str(one.get("device") or "–")),
                "precision": label(str(one.get("precision") or "–")),
            }
            for one in rounds
        ],
        "seconds": _duration(sum(one.get("seconds") or 0 for one in rounds)) if len(rounds) > 1 else "",
        "where": _where(rounds),
    }


def _where(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Device and precision where all folds have the same; empty where a table must tell them."""
    found = {(str(one.get("device") or ""), str(one.get("precision") or "")) for one in rounds}
    device, precision = next(iter(found))
    if len(found) > 1 or not device:
        return ""
    of = "All on" if len(rounds) > 1 else "On"
    return f"{of} {_device(device)}{f'; precision {label(precision)}' if precision else ''}."


def _device(name: str) -> str:
    return label("CPU" + name[3:] if name.startswith("cpu") else name)


def _parameters(metrics: Mapping[str, Any]) -> str:
    """How many numbers were learnt; from least to most where folds chose different networks."""
    found = {one["parameters"] for one in metrics.get("training") or () if one.get("parameters") is not None}
    return "–".join(f"{number:,}" for number in sorted({min(found), max(found)})) if found else ""


def _of(epochs: int | None, most: int | None) -> str:
    if epochs is None:
        return "–"
    return f"{epochs:,}" if most is None else f"{epochs:,} of {most:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f}\u00a0s" if seconds >= 1 else f"{seconds:.2f}\u00a0s"
    return f"{seconds / 60:.1f}\u00a0min" if seconds < 6000 else f"{seconds / 3600:,.1f}\u00a0h"


def alarm(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Recall at each stated rate of false alarms, with the rate that came about."""
    return [
        {
            "allowed": percent(row["max_false_alarm"]),
            "threshold": _thresholds(row),
            "recall": percent(row["recall"]),
            "interval": spread(row.get("low"), row.get("high")),
            "realised": percent(row["realised"]),
            "realised_interval": spread(row.get("realised_low"), row.get("realised_high")),
        }
        for row in metrics.get("alarm") or []
    ]


def _thresholds(row: Mapping[str, Any]) -> str:
    values = list((row.get("thresholds") or {}).values())
    if not values:
        return "–"
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low}–{high}"


def folds(metrics: Mapping[str, Any]) -> str:
    """How far the folds lie apart."""
    name = metrics["headline"]["metric"]
    over = metrics["over_folds"][name]
    if over["std"] is None:
        return ""
    return f"Mean of the folds {_value(name, over['mean'])}, standard deviation {_value(name, over['std'])}."


def reliability(metrics: Mapping[str, Any]) -> str:
    """Whether it is surer than it is right, on the whole."""
    bins = [row for row in metrics["calibration"]["bins"] if row["clips"]]
    gap = sum(row["clips"] * (row["confidence"] - row["accuracy"]) for row in bins) / metrics["clips"]
    if abs(gap) < 0.02:
        return "On the whole it is right about as often as it is sure."
    how = "surer than it is right" if gap > 0 else "right more often than it is sure"
    return f"On the whole it is {how}, by {percent(abs(gap))}."


def scores(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every score, with its interval and its mean and deviation over the folds."""
    rows = []
    for name, score in metrics["metrics"].items():
        if name == "macro_recall":  # the same as balanced accuracy
            continue
        over = metrics["over_folds"].get(name) or {}
        mean, std = (_value(name, over.get(key)) for key in ("mean", "std"))
        rows.append(
            {
                "name": _name(name),
                "value": _value(name, score["value"]),
                "interval": _interval(name, score["low"], score["high"]),
                "folds": mean if std == "–" else f"{mean.removesuffix(chr(0xA0) + '%')} ± {std}",
            }
        )
    return rows


def _name(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def _value(metric: str, value: float | None) -> str:
    if value is None or metric not in _NOT_SHARES:
        return percent(value)
    return f"{value:.3f}"


def _interval(metric: str, low: float | None, high: float | None) -> str:
    if low is None or high is None or metric not in _NOT_SHARES:
        return spread(low, high)
    return f"{low:.3f}–{high:.3f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
