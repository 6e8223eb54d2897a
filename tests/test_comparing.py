"""Two runs compared: means over folds, and class by class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soundmark import comparing, metrics, results
from soundmark.errors import ResultsError
from soundmark.results import Predictions, Run

CLASSES = ("dog", "rain", "siren")


def run(
    name: str, right: Sequence[bool], targets: Sequence[int], *, groups: Sequence[str] = (), folds: Sequence[str] = (),
    over: str = "clips", classes: tuple[str, ...] = CLASSES,
) -> Run:  # fmt: skip
    """A run that is right about these clips, and names the next class where it is wrong."""
    said = (np.asarray(targets) + ~np.asarray(right, dtype=bool)) % len(classes)
    n = len(said)
    predictions = Predictions(
        clips=[f"{i}.wav" for i in range(n)],
        paths=[f"{i}.wav" for i in range(n)],
        starts=[0.0] * n,
        ends=[None] * n,
        groups=groups or [f"g{i}" for i in range(n)],
        folds=folds or ["1"] * n,
        targets=np.asarray(targets),
        probabilities=np.eye(len(classes))[said] * 0.7 + 0.1,
        classes=classes,
    )
    summary = metrics.summary(predictions, metric="accuracy", over=over, n=50)  # type: ignore[arg-type]
    return Run(Path(name), {"task": "made"}, predictions, summary)


def test_a_mean_over_folds_is_compared_as_such():
    """Four clips in one fold, sixteen in the other: over all clips the second run would win."""
    targets, folds = [0, 1, 2, 0] + [0, 1] * 8, ["1"] * 4 + ["2"] * 16
    a = run("a", [True] * 4 + [False] * 16, targets, folds=folds, over="folds")
    b = run("b", [False] * 4 + [True] * 12 + [False] * 4, targets, folds=folds, over="folds")
    found = results.compare(a, b, n=100)
    assert (found["a"]["value"], found["b"]["value"]) == (0.5, 0.375)
    assert [found[side]["value"] for side in "ab"] == [run.metrics["headline"]["value"] for run in (a, b)]
    assert found["difference"] == pytest.approx(-0.125)
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["over"] == "folds"
    assert found["notes"] == []


def test_the_folds_of_a_mean_are_each_runs_own():
    targets = [0, 1, 2, 0]
    a = run("a", [True, True, True, False], targets, folds=["1", "2", "2", "2"], over="folds")
    b = run("b", [True, True, True, False], targets, folds=["2", "2", "2", "1"], over="folds")
    moved = replace(b, predictions=reordered(b.predictions, [3, 1, 0, 2]))
    found = results.compare(a, moved, n=20)
    assert found["a"]["value"] == a.metrics["headline"]["value"] == pytest.approx(5 / 6)
    assert found["b"]["value"] == b.metrics["headline"]["value"] == pytest.approx(1 / 2)
    assert "folds differ" in found["notes"][0]


def test_one_mean_over_folds_and_one_over_clips_are_noted():
    targets, folds = [0, 1, 2, 0], ["1", "2", "2", "2"]
    a = run("a", [True, True, True, False], targets, folds=folds)
    b = run("b", [True, True, True, False], targets, folds=folds, over="folds")
    found = results.compare(a, b, n=20)
    assert "over" not in found
    assert found["b"]["value"] == 0.75
    assert "over all clips" in found["notes"][0]
    assert "mean over folds" in results.compare(b, a, n=20)["notes"][0]


def reordered(predictions: Predictions, order: Sequence[int]) -> Predictions:
    lists = ("clips", "paths", "starts", "ends", "groups", "folds")
    return replace(
        predictions,
        **{name: [getattr(predictions, name)[i] for i in order] for name in lists},
        targets=predictions.targets[list(order)],
        probabilities=predictions.probabilities[list(order)],
    )


def test_every_class_is_compared_on_its_own_clips():
    targets = [0] * 12 + [1] * 12 + [2] * 12
    a = run("a", [True] * 12 + [False] * 12 + [True, False] * 6, targets)
    b = run("b", [True] * 3 + [False] * 9 + [True] * 12 + [True, False] * 6, targets)
    order = np.random.default_rng(0).permutation(36).tolist()
    rows = comparing.by_class(a, replace(b, predictions=reordered(b.predictions, order)), n=400)
    json.dumps(rows, allow_nan=False)
    dog, rain, siren = rows
    assert [row["label"] for row in rows] == list(CLASSES)
    assert (dog["a"], dog["b"], dog["difference"]) == (1, 0.25, -0.75)
    assert (dog["only_a"], dog["only_b"], dog["lost"], dog["won"]) == (9, 0, [f"{i}.wav" for i in range(3, 12)], [])
    assert dog["low"] < -0.75 < dog["high"] < 0
    assert dog["p"] == pytest.approx(2 / 2**9)
    assert (rain["difference"], rain["only_b"], rain["high"]) == (1, 12, 1)
    assert rain["low"] == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 12)))
    assert rain["p"] == pytest.approx(2 / 2**12)
    assert (siren["difference"], siren["p"], siren["lost"], siren["won"]) == (0, 1, [], [])
    assert siren["low"] == -siren["high"] == pytest.approx(0.025 ** (1 / 12) - 1)
    assert [row["p_holm"] for row in rows] == pytest.approx([2 * dog["p"], 3 * rain["p"], 1])
    whole = results.compare(a, b, n=20)
    assert sum(row["only_a"] for row in rows) == whole["only_a"]
    assert "per_class" not in whole
    assert results.compare(a, b, n=400, per_class=True)["per_class"] == comparing.by_class(a, b, n=400)


def test_clips_of_one_group_are_one_piece_of_evidence():
    targets, right = [0] * 12 + [1] * 4, [True] * 16
    apart = comparing.by_class(run("a", [False] * 6 + right[6:], targets), run("b", right, targets), n=200)[0]
    groups = ["x"] * 6 + ["y"] * 6 + ["z"] * 4
    a, b = (run("r", each, targets, groups=groups) for each in ([False] * 6 + right[6:], right))
    together = comparing.by_class(a, b, n=200)[0]
    assert (apart["groups"], together["groups"]) == (12, 2)
    assert apart["p"] == pytest.approx(2 / 2**6)
    assert together["p"] == 1
    assert (together["low"], together["high"]) == (0, 1)
    assert apart["high"] - apart["low"] < 1


def test_a_class_without_clips_has_no_numbers_and_does_not_count():
    a, b = (run("r", right, [0] * 6 + [2] * 6) for right in ([True] * 6 + [False] * 6, [True] * 12))
    dog, rain, siren = comparing.by_class(a, b, n=50)
    assert (rain["clips"], rain["groups"], rain["only_a"], rain["lost"]) == (0, 0, 0, [])
    assert {rain[key] for key in ("a", "b", "difference", "low", "high", "p", "p_holm")} == {None}
    assert siren["p_holm"] == pytest.approx(2 * siren["p"])
    assert dog["p_holm"] == 1


def test_classes_of_other_runs_are_refused():
    a, b = run("a", [True] * 3, [0, 1, 2]), run("b", [True] * 3, [0, 1, 2], classes=("cat", "rain", "siren"))
    with pytest.raises(ResultsError, match="only one of them has cat, dog"):
        comparing.by_class(a, b)
