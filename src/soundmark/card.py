"""The model card: what a model file says of itself, as a page for people.

The sections follow Mitchell et al.: "Model cards for model reporting", FAccT 2019. What a file does not say is left
out; nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from soundmark.model import Classifier

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss (nats)",
    "calibration_error": "calibration error",
}
SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")


def card(classifier: Classifier) -> str:
    """The card of a loaded model file, in Markdown."""
    said = classifier.metadata
    sections = (
        _title(classifier), _use(classifier), _data(said), _licence(said), _measured(said), _speed(said), _alarms(said),
        _unknown(classifier), _classes(classifier), _limits(said),
    )  # fmt: skip
    return "\n".join(line for section in sections for line in section).strip() + "\n"


def _title(classifier: Classifier) -> Iterator[str]:
    said, labels = classifier.metadata, classifier.labels
    yield f"# Model card: {_text(said.get('name')) or classifier.name}"
    yield ""
    several = "any of" if classifier.facts.kind == "multi" else "one of"
    yield (
        f"Hears mono recordings at {classifier.sample_rate:,} Hz and tells {several} {len(labels)} labels. "
        f"Written by Soundmark {_text(said.get('soundmark_version'))}."
    )
    if about := _text(said.get("about")):
        yield ""
        yield about
    yield ""


def _use(classifier: Classifier) -> Iterator[str]:
    median, longest = classifier.facts.clip_seconds
    learner = _table(classifier.metadata.get("learner"))
    yield "## What it is"
    yield ""
    yield from (f"* {name}: `{_text(value)}`" for name, value in learner.items())
    yield f"* clips it learnt from: {median:.3g} s (median), {longest:.3g} s (longest)"
    policy = classifier.policy
    if policy.window_seconds:
        yield f"* hears windows of {policy.window_seconds:g} s"
    else:
        yield f"* hears any length; shorter than {policy.min_seconds:g} s is filled up ({policy.fill})"
    yield ""


def _data(said: Mapping[str, Any]) -> Iterator[str]:
    data = _table(said.get("training_data"))
    if not data:
        return
    yield "## Training data"
    yield ""
    facts = ("title", "clips", "source", "licence")
    yield from (f"* {name}: {_text(data[name])}" for name in facts if data.get(name))
    yield from (f"* {_text(note)}" for note in _list(data.get("notes")))
    began = "it or its teacher begins" if _table(said.get("learner")).get("teacher") else "begins"
    for each in map(_table, _list(said.get("pretrained"))):
        told = [text for name in ("name", "trained_on", "licence") if (text := _text(each.get(name)))]
        yield f"* {began} with published weights: {', '.join(told)}"
    yield ""


def _licence(said: Mapping[str, Any]) -> Iterator[str]:
    weights, code = _text(said.get("licence")), _text(said.get("code_licence"))
    if not (weights or code):
        return
    yield "## Licence"
    yield ""
    if code:
        yield f"* code that trains and runs it: {code}"
    if weights:
        yield f"* weights, by what they were trained on: {weights}"
    if note := _text(said.get("licence_note")):
        yield ""
        yield note
    yield ""


def _measured(said: Mapping[str, Any]) -> Iterator[str]:
    measured = _table(said.get("metrics"))
    scores = {name: _table(row) for name, row in _table(measured.get("scores")).items() if name in NAMES}
    if not scores and (head := _table(measured.get("headline"))):
        scores = {_text(head.get("metric")): head}
    if not scores:
        return
    yield "## Measured"
    yield ""
    yield (
        f"By the protocol ({_text(measured.get('protocol'))}), on clips that the learners had not heard. The model "
        "itself was fitted on all clips afterwards."
    )
    yield ""
    yield "| | value | 95 % interval |"
    yield "|---|---|---|"
    for name, row in scores.items():
        share = name in SHARES or name not in NAMES
        value, low, high = (_number(row.get(key), share) for key in ("value", "low", "high"))
        yield f"| {NAMES.get(name, name.replace('_', ' '))} | {value} | {low} to {high} |"
    yield ""


def _speed(said: Mapping[str, Any]) -> Iterator[str]:
    if says := _text(_table(said.get("speed")).get("says")):
        yield "## Speed"
        yield ""
        yield says
        yield ""


def _alarms(said: Mapping[str, Any]) -> Iterator[str]:
    """Of the class looked for, in the task itself or in its views."""
    found = {"": {"alarm": _table(said.get("metrics")).get("alarm")}} | _table(said.get("views"))
    tables = {name: [_table(row) for row in _list(_table(view).get("alarm"))] for name, view in found.items()}
    if not any(tables.values()):
        return
    yield "## Alarms"
    yield ""
    yield "| | at most | recall | 95 % interval | false alarms that came about |"
    yield "|---|---|---|---|---|"
    for name, rows in tables.items():
        title = f"view `{name}`" if name else "the class looked for"
        for row in rows:
            most, recall, low, high, real = (
                _number(row.get(key), True) for key in ("max_false_alarm", "recall", "low", "high", "realised")
            )
            yield f"| {title} | {most} | {recall} | {low} to {high} | {real} |"
    yield ""


def _unknown(classifier: Classifier) -> Iterator[str]:
    below, measured = classifier.facts.unknown_below, _table(classifier.metadata.get("rejection"))
    if below is None:
        return
    yield "## Sounds of no class"
    yield ""
    yield (
        f"A best score below {below:.3f} means `unknown`: 95 % of the protocol's clips scored higher. The threshold of "
        "a label, in the table below, is that of its best F1 score."
    )
    if says := _text(measured.get("says")):
        yield ""
        yield says
    yield ""


def _classes(classifier: Classifier) -> Iterator[str]:
    measured = _table(classifier.metadata.get("metrics"))
    rows = [_table(row) for row in _list(measured.get("per_class"))]
    if not rows:
        return
    yield "## Class by class"
    yield ""
    yield "| class | clips | recall | precision | F1 | threshold |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        label = _text(row.get("label"))
        threshold = classifier.thresholds.get(label)
        cells = [_number(row.get(key), True) for key in ("recall", "precision", "f1")]
        limit = "–" if threshold is None else f"{threshold:.3f}"
        yield f"| {label} | {_text(row.get('clips'))} | {' | '.join(cells)} | {limit} |"
    yield ""
    pairs = [_table(pair) for pair in _list(measured.get("confused"))]
    if pairs:
        yield "Most often taken for another:"
        yield ""
        yield from (
            f"* {_text(pair.get('truth'))} for {_text(pair.get('predicted'))}: {_text(pair.get('clips'))} clips"
            for pair in pairs
        )
        yield ""


def _limits(said: Mapping[str, Any]) -> Iterator[str]:
    limits = _list(said.get("limits"))
    if limits:
        yield "## Limits"
        yield ""
        yield from (f"* {_text(limit)}" for limit in limits)
        yield ""


# A model file may come from a stranger: nothing in its metadata is taken to be of the right type.
def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """On one line, without what a terminal or a page would obey."""
    text = "" if value is None else str(value)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _number(value: Any, share: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    return f"{100 * value:.1f} %" if share else f"{value:.3f}"
