"""Scores against hand-worked values, scikit-learn, and what must hold for any predictions."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from soundmark import metrics
from soundmark.detection import accepting_threshold, balancing_threshold
from soundmark.errors import ResultsError, SpecError
from soundmark.results import Predictions

SCORES = [metrics.accuracy, metrics.balanced_accuracy, metrics.macro_precision, metrics.macro_f1]


def predictions(targets, probabilities, *, groups=None, folds=None, classes=None) -> Predictions:
    n = len(targets)
    names = [f"{i}.wav" for i in range(n)]
    return Predictions(
        clips=names,
        paths=names,
        starts=[0.0] * n,
        ends=[None] * n,
        groups=groups or names,
        folds=folds or [str(i % 2 + 1) for i in range(n)],
        targets=np.asarray(targets),
        probabilities=np.asarray(probabilities, dtype=float),
        classes=classes or tuple("abcdefgh"[: np.shape(probabilities)[1]]),
    )


def sure(predicted: list[int], classes: int) -> np.ndarray:
    return np.eye(classes)[predicted]


@st.composite
def guesses(draw, classes: int = 3):
    """Targets, probabilities and groups of a few clips; coarse numbers, so that ties happen."""
    n = draw(st.integers(1, 25))
    whole = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    rows = st.lists(st.lists(st.integers(0, 4), min_size=classes, max_size=classes), min_size=n, max_size=n)
    groups = [f"g{g}" for g in draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))]
    return np.array(draw(whole)), np.array(draw(rows), dtype=float) / 4, groups


# --- By hand -----------------------------------------------------------------------------------------------------


def test_scores_of_a_worked_example():
    # a: 3 clips, 2 right, 1 called b; b: 2 clips, 1 right, 1 called c; c: 1 clip, called a
    targets = np.array([0, 0, 0, 1, 1, 2])
    p = sure([0, 0, 1, 1, 2, 0], 3)
    assert metrics.confusion(targets, metrics.predicted(p), 3).tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert metrics.accuracy(targets, p) == pytest.approx(3 / 6)
    assert metrics.balanced_accuracy(targets, p) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.macro_recall(targets, p) == metrics.balanced_accuracy(targets, p)
    assert metrics.macro_precision(targets, p) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.macro_f1(targets, p) == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)
    rows = metrics.per_class(targets, p, ("a", "b", "c"))
    assert rows[1] == {"label": "b", "clips": 2, "predicted": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_the_icbhi_score_pools_all_abnormal_classes():
    # normal: 4 clips, 3 called so; crackle 3, 2 right; wheeze 1, called crackle; both 1, right
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 2, 3])
    p = sure([0, 0, 0, 1, 1, 1, 0, 1, 3], 4)
    assert metrics.icbhi_score(targets, p) == pytest.approx((3 / 4 + 3 / 5) / 2)
    assert metrics.balanced_accuracy(targets, p) != pytest.approx((3 / 4 + 3 / 5) / 2)
    weights = np.array([[1.0] * 9, [0, 2, 1, 1, 1, 1, 1, 0, 0]])
    assert metrics.icbhi_score(targets, p, weights) == pytest.approx([(3 / 4 + 3 / 5) / 2, (3 / 4 + 2 / 3) / 2])
    assert np.isnan(metrics.icbhi_score(targets[:4], p[:4]))  # of a fold without any abnormal clip


def test_a_score_of_one_field_is_measured_where_it_is_the_headline_and_nowhere_else():
    targets = [0, 0, 1, 1, 2, 2]
    given = predictions(targets, sure([0, 1, 1, 1, 2, 0], 3))
    found = metrics.summary(given, metric="icbhi_score", n=50)
    assert found["headline"]["value"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert found["headline"]["low"] <= found["headline"]["value"] <= found["headline"]["high"]
    assert found["headline"]["chance"] == 0.5
    assert [fold["metrics"]["icbhi_score"] for fold in found["folds"]] == pytest.approx([1.0, 0.25])
    assert found["over_folds"]["icbhi_score"]["mean"] == pytest.approx(0.625)
    assert "icbhi_score" not in metrics.summary(given, metric="accuracy", n=50)["metrics"]


def test_a_headline_may_be_the_mean_over_folds_of_unequal_size():
    targets = [0, 0, 1, 1, 0, 1]
    given = predictions(targets, sure([0, 0, 1, 1, 0, 0], 2), folds=["1", "1", "1", "1", "2", "2"])
    found = metrics.summary(given, metric="accuracy", over="folds", n=200)
    assert found["headline"]["value"] == pytest.approx((1 + 1 / 2) / 2) == found["over_folds"]["accuracy"]["mean"]
    assert found["headline"]["over"] == "folds"
    assert found["headline"]["low"] < found["headline"]["value"] < found["headline"]["high"]
    assert found["headline"]["chance"] == pytest.approx(1 / 2)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(5 / 6)
    plain = metrics.summary(given, metric="accuracy", n=200)
    assert "over" not in plain["headline"]
    assert {key: found[key] for key in found if key != "headline"} == {
        key: plain[key] for key in plain if key != "headline"
    }
    json.dumps(found, allow_nan=False)


def test_the_mean_over_folds_leaves_out_folds_without_a_score():
    given = predictions([0, 1, 1, 1], sure([0, 1, 1, 1], 2), folds=["1", "1", "2", "2"])
    found = metrics.summary(given, metric="icbhi_score", over="folds", n=50)
    assert found["headline"]["value"] == 1.0
    assert found["folds"][1]["metrics"]["icbhi_score"] is None


def test_equal_folds_give_the_same_headline_either_way():
    given = predictions([0, 1, 0, 1], sure([0, 1, 1, 1], 2), folds=["1", "1", "2", "2"])
    values = [metrics.summary(given, metric="accuracy", over=over, n=50)["headline"] for over in ("clips", "folds")]
    assert values[0]["value"] == values[1]["value"] == 0.75


def test_a_class_without_clips_is_left_out_of_the_mean_and_undefined_in_the_table():
    targets, p = np.array([0, 0, 1]), sure([0, 2, 1], 4)
    assert metrics.balanced_accuracy(targets, p) == pytest.approx(0.75)
    assert metrics.macro_f1(targets, p) == pytest.approx((2 / 3 + 1) / 2)
    empty = metrics.per_class(targets, p, tuple("abcd"))[2]
    assert (empty["clips"], empty["predicted"], empty["recall"], empty["f1"]) == (0, 1, None, None)


def test_log_loss_takes_probabilities_that_do_not_sum_to_one():
    targets = np.array([0, 1])
    assert metrics.log_loss(targets, np.array([[0.2, 0.2], [0.3, 0.9]])) == pytest.approx(
        -(np.log(0.5) + np.log(0.75)) / 2
    )
    assert metrics.log_loss(targets, np.zeros((2, 2))) == pytest.approx(np.log(2))
    assert metrics.log_loss(np.array([1]), sure([0], 2)) == pytest.approx(-np.log(np.finfo(float).eps))


def test_calibration_error_and_reliability_by_hand():
    # four clips at 0.9, three of them right (|0.9 - 0.75|), one at 0.6, wrong (0.6)
    p = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    targets = np.array([0, 0, 0, 1, 1])
    assert metrics.calibration_error(targets, p, bins=10) == pytest.approx((4 * 0.15 + 0.6) / 5)
    bins = metrics.reliability(targets, p, bins=10)
    assert bins[8] == {"low": 0.8, "high": 0.9, "clips": 4, "confidence": pytest.approx(0.9), "accuracy": 0.75}
    assert bins[0]["accuracy"] is None
    assert sum(row["clips"] for row in bins) == 5


def test_bins_hold_their_upper_edge():
    assert [row["clips"] for row in metrics.reliability(np.array([0, 0]), np.array([[0.5, 0.5], [1, 0]]), bins=2)] == [
        1,
        1,
    ]


def test_roc_and_average_precision_by_hand():
    positive, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    assert metrics.roc_auc(positive, scores) == pytest.approx(0.75)
    assert metrics.average_precision(positive, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.roc_auc(positive, np.full(4, 0.3)) == pytest.approx(0.5)
    assert np.isnan(metrics.roc_auc(np.array([True, True]), np.array([0.1, 0.2])))
    assert metrics.curves(positive, scores) == {
        "threshold": [0.9, 0.8, 0.7, 0.1],
        "recall": [0.5, 0.5, 1.0, 1.0],
        "false_alarm": [0.0, 0.5, 0.5, 1.0],
        "precision": [1.0, 0.5, pytest.approx(2 / 3), 0.5],
    }


# --- Against scikit-learn ----------------------------------------------------------------------------------------


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    targets = np.concatenate([np.arange(5), rng.integers(5, size=300)])
    logits = rng.normal(size=(305, 5))
    logits[np.arange(305), targets] += 1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    said = p.argmax(1)
    assert metrics.accuracy(targets, p) == pytest.approx(reference.accuracy_score(targets, said))
    assert metrics.balanced_accuracy(targets, p) == pytest.approx(reference.balanced_accuracy_score(targets, said))
    assert metrics.macro_precision(targets, p) == pytest.approx(
        reference.precision_score(targets, said, average="macro")
    )
    assert metrics.macro_f1(targets, p) == pytest.approx(reference.f1_score(targets, said, average="macro"))
    assert metrics.log_loss(targets, p) == pytest.approx(reference.log_loss(targets, p))
    positive, scores = targets == 2, np.round(p[:, 2], 1)
    assert metrics.roc_auc(positive, scores) == pytest.approx(reference.roc_auc_score(positive, scores))
    assert metrics.average_precision(positive, scores) == pytest.approx(
        reference.average_precision_score(positive, scores)
    )


# --- What holds for any predictions ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(guesses(), st.randoms(use_true_random=False))
def test_the_order_of_clips_does_not_matter(guess, random):
    targets, p, groups = guess
    order = random.sample(range(len(targets)), len(targets))
    moved = targets[order], p[order]
    for measure in metrics.METRICS.values():
        assert measure(*moved) == pytest.approx(measure(targets, p), nan_ok=True)
    both = [
        metrics.interval(metrics.accuracy, *clips, n=50)
        for clips in ((targets, p, groups), (*moved, [groups[i] for i in order]))
    ]
    assert both[0] == pytest.approx(both[1])


@settings(max_examples=40, deadline=None)
@given(guesses())
def test_scores_are_shares_and_lie_inside_their_intervals(guess):
    targets, p, groups = guess
    for measure in [*SCORES, metrics.calibration_error]:
        value = measure(targets, p)
        assert 0 <= value <= 1
        low, high = metrics.interval(measure, targets, p, groups, n=50)
        assert 0 <= low <= value <= high <= 1 + 1e-12
    assert metrics.log_loss(targets, p) >= 0


@settings(max_examples=20, deadline=None)
@given(guesses())
def test_perfect_predictions_score_one(guess):
    targets, _, _ = guess
    p = sure(targets, 3)
    for measure in SCORES:
        assert measure(targets, p) == 1
    assert metrics.log_loss(targets, p) == 0
    assert metrics.calibration_error(targets, p) == 0


@settings(max_examples=20, deadline=None)
@given(guesses(), st.integers(0, 10))
def test_weights_are_repetitions(guess, seed):
    targets, p, _ = guess
    times = np.random.default_rng(seed).integers(0, 3, size=len(targets))
    times[0] += 1
    again = np.repeat(np.arange(len(targets)), times)
    for measure in metrics.METRICS.values():
        weighted = measure(targets, p, times[None].astype(float))
        assert weighted[0] == pytest.approx(measure(targets[again], p[again]), nan_ok=True)
    for measure in (metrics.roc_auc, metrics.average_precision):
        weighted = measure(targets == 0, p[:, 0], times[None].astype(float))
        assert weighted[0] == pytest.approx(measure(targets[again] == 0, p[again, 0]), nan_ok=True)


# --- Thresholds --------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30).filter(
        lambda clips: not all(p for _, p in clips)
    ),
    st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.5, 1.0]),
)
def test_the_threshold_keeps_the_rate_and_none_that_decides_otherwise_is_lower(clips, rate):
    scores = np.array([score / 6 for score, _ in clips])
    positive = np.array([p for _, p in clips])
    threshold = metrics.choose_threshold(scores, positive, rate)
    alarms = scores >= threshold
    assert alarms[~positive].mean() <= rate + 1e-9
    lower = scores[~alarms]
    if len(lower):
        assert (scores[~positive] >= lower.max()).mean() > rate


def test_a_threshold_lies_half_way_to_the_next_score():
    scores, positive = np.array([0.2, 0.4, 0.8, 0.9]), np.array([False, False, True, True])
    assert metrics.choose_threshold(scores, positive, 0.0) == pytest.approx(0.6)
    assert metrics.choose_threshold(scores, positive, 0.5) == pytest.approx(0.3)
    assert metrics.choose_threshold(scores, positive, 1.0) == pytest.approx(0.2)


@pytest.mark.parametrize(("scores", "positive"), [([0.1], [True]), ([np.nan, 0.5], [False, True])])
def test_a_threshold_needs_negatives_and_numbers(scores, positive):
    with pytest.raises(ResultsError, match="threshold needs"):
        metrics.choose_threshold(np.array(scores), np.array(positive), 0.05)


def test_recall_at_thresholds_of_each_fold():
    scores = np.array([0.5, 0.5, 0.5, 0.5])
    positive = np.array([True, True, False, False])
    found = metrics.recall_at(np.array([0.4, 0.6, 0.4, 0.6]), scores, positive, list("wxyz"), n=200)
    assert (found["recall"], found["realised"]) == (0.5, 0.5)
    assert found["low"] <= 0.5 <= found["high"]
    assert metrics.alarm(scores > 0.4, positive, list("wxyz"), n=200)["low"] == pytest.approx(0.025**0.5)
    assert metrics.recall_at(0.1, scores, np.ones(4, bool), list("wxyz"), n=10)["realised"] is None


# --- Summary -----------------------------------------------------------------------------------------------------


def test_summary_says_everything_and_is_json():
    targets = [0, 0, 1, 1, 2, 2]
    p = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.5, 0.1, 0.4]]
    found = metrics.summary(predictions(targets, p, groups=list("uuvwxx")), metric="macro_f1", n=100)
    json.dumps(found, allow_nan=False)
    assert (found["clips"], found["groups"], found["format"]) == (6, 4, 1)
    assert found["headline"]["metric"] == "macro_f1"
    assert found["headline"]["low"] <= found["headline"]["value"] <= found["headline"]["high"]
    assert found["headline"]["chance"] == pytest.approx(0.5 / 3)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert [fold["metrics"]["accuracy"] for fold in found["folds"]] == pytest.approx([1.0, 1 / 3])
    assert found["over_folds"]["accuracy"] == pytest.approx(
        {"mean": 2 / 3, "std": np.std([1, 1 / 3], ddof=1), "min": 1 / 3, "max": 1.0}
    )
    assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert found["confused_pairs"][0] == {"truth": "a", "predicted": "b", "clips": 1, "share": 0.5}
    assert found["per_class"][0]["groups"] == 1
    assert "two_class" not in found


def test_summary_of_two_classes():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], 500)
    danger = np.clip(rng.normal(0.3 + 0.4 * targets, 0.2), 0, 1)
    given = predictions(targets, np.column_stack([1 - danger, danger]), classes=("safe", "danger"))
    found = metrics.summary(given, metric="balanced_accuracy", positive="danger", n=50)
    two = found["two_class"]
    assert two["positive"] == "danger"
    assert two["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(targets, danger))
    assert all(len(points) == metrics.CURVE_POINTS for points in two["curves"].values())
    assert two["curves"]["recall"][-1] == two["curves"]["false_alarm"][-1] == 1
    turned = metrics.summary(given, metric="accuracy", positive="safe", n=50)["two_class"]
    assert turned["roc_auc"]["value"] == pytest.approx(two["roc_auc"]["value"])


def test_a_perfect_score_is_not_called_certain():
    found = metrics.summary(predictions([0, 1, 0, 1], sure([0, 1, 0, 1], 2)), metric="accuracy", n=50)
    assert found["headline"]["value"] == found["headline"]["high"] == 1
    assert found["headline"]["low"] == pytest.approx(0.025**0.25)
    assert found["two_class"]["roc_auc"]["low"] == pytest.approx(0.025**0.5)
    assert found["metrics"]["log_loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_summary_of_one_fold_and_one_clip():
    found = metrics.summary(predictions([1], [[0.2, 0.8]], folds=["test"]), metric="accuracy", n=20)
    assert found["over_folds"]["accuracy"]["std"] is None
    assert found["two_class"]["roc_auc"] == {"value": None, "low": None, "high": None}
    json.dumps(found, allow_nan=False)


def test_folds_stand_in_the_order_of_their_numbers():
    found = metrics.summary(
        predictions([0, 1] * 6, sure([0] * 12, 2), folds=[str(i) for i in range(12)]), metric="accuracy", n=5
    )
    assert [fold["fold"] for fold in found["folds"]] == [str(i) for i in range(12)]


def test_summary_refuses_what_it_cannot_measure():
    with pytest.raises(SpecError, match="no metric called 'f2'"):
        metrics.summary(predictions([0], [[1, 0]]), metric="f2")
    with pytest.raises(ResultsError, match="'z' is not among the classes: a, b"):
        metrics.summary(predictions([0], [[1, 0]]), metric="accuracy", positive="z")
    with pytest.raises(ResultsError, match="no predictions"):
        metrics.summary(predictions([], np.zeros((0, 2))), metric="accuracy")


def test_a_thousand_resamples_of_two_thousand_clips_are_quick():
    rng = np.random.default_rng(0)
    targets, p = rng.integers(50, size=2000), rng.random((2000, 50))
    groups = [str(g) for g in rng.integers(1500, size=2000)]
    started = time.process_time()
    metrics.interval(metrics.accuracy, targets, p, groups)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("accepted", [0.5, 0.95, 0.99])
def test_an_accepting_threshold_lets_as_many_through_as_it_says(accepted: float) -> None:
    scores = np.random.default_rng(0).random(137)
    threshold = accepting_threshold(scores, accepted)
    assert accepted <= (scores >= threshold).mean() < accepted + 0.01
    assert not np.isin(threshold, scores), "there is room for rounding"
    assert accepting_threshold(scores[:3], accepted=0.95) < scores[:3].min(), "of a few, all"
    assert accepting_threshold(np.ones(5)) < 1
    with pytest.raises(ResultsError, match="at least one"):
        accepting_threshold(np.empty(0))


def f1_at(threshold: float, scores: np.ndarray, is_positive: np.ndarray) -> float:
    said = scores >= threshold
    return 2 * (said & is_positive).sum() / (said.sum() + is_positive.sum())


@given(st.integers(0, 10_000), st.integers(2, 30), st.booleans())
def test_a_balancing_threshold_has_the_best_f1(seed: int, clips: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    scores, is_positive = rng.random(clips), rng.random(clips) < 0.4
    is_positive[0] = True
    if tied:
        scores = np.round(scores, 1)
    threshold = balancing_threshold(scores, is_positive)
    assert 0 <= threshold <= 1
    best = max(f1_at(each, scores, is_positive) for each in scores)
    assert f1_at(threshold, scores, is_positive) == pytest.approx(best)


def test_a_balancing_threshold_needs_clips_of_the_class() -> None:
    with pytest.raises(ResultsError, match="at least one clip of the class"):
        balancing_threshold(np.array([0.2, 0.4]), np.array([False, False]))
    assert balancing_threshold(np.array([0.9, 0.5, 0.1]), np.array([True, False, False])) == pytest.approx(0.7)
