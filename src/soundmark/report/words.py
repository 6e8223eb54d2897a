"""The words of the page: what the numbers of metrics.json say, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from soundmark.report.drawing import percent, shown, spread

_HEARD = "{clips} {sources}were put to the test, none of them heard in training; "
_SENTENCES = {
    "accuracy": "{value} were recognised rightly.",
    "balanced_accuracy": "of a class's clips, {value} were recognised rightly, on average over the {classes} classes.",
    "macro_f1": (
        "F1, which falls with what is missed and what is mistaken, is {value} on average over the {classes} classes."
    ),
}
_SENTENCE = "{name} is {value}."
_NOT_SHARES = {"log_loss", "roc_auc", "average_precision"}
_NAMES = {"roc_auc": "ROC AUC", "macro_f1": "macro F1", "log_loss": "log loss (nats)"}


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
    """What was measured: `logmel → mean+std → svm`; empty where every fold chose for itself."""
    parts = metrics.get("learner") or {}
    return "" if metrics.get("selection") else " → ".join(str(part) for part in parts.values())


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The score in words and as places on a scale from 0 to 100."""
    head = metrics["headline"]
    metric, chance, words = head["metric"], head.get("chance"), _value(head["metric"], head["value"])
    sentence = (_HEARD + _SENTENCES.get(metric, _SENTENCE)).format(
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
    found: list[tuple[str, Any, bool]] = [
        ("Task", metrics.get("task"), True),
        ("Protocol", metrics.get("protocol"), False),
        *((_capital(str(name)), value, name != "chosen") for name, value in (metrics.get("learner") or {}).items()),
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
