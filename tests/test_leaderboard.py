from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handmade import N, put, said, targets
from soundmark import cells, leaderboard
from soundmark.cells import Answers
from soundmark.errors import ResultsError
from soundmark.metrics import score


def board(*folders: Path) -> dict:
    return leaderboard.board(cells.load(folders))


def names(rows: list[dict]) -> list[str]:
    return [row["head"] for row in rows]


# --- Ranks -----------------------------------------------------------------------------------------------------------


def test_equals_share_the_mean_of_their_places() -> None:
    assert leaderboard.ranks([0.9, 0.5, 0.9, 0.7]) == [1.5, 4, 1.5, 3]
    assert leaderboard.ranks([0.3, 0.1 + 0.2, 0.3]) == [2, 2, 2]  # equal but for rounding
    assert leaderboard.ranks([]) == []


def test_one_alone_has_no_rank() -> None:
    learner = ("logmel", "mean", "svm")
    assert leaderboard.mean_ranks({learner: {"esc50": 0.9}}) == {}
    assert leaderboard.mean_ranks({}) == {}


def test_mean_ranks_are_among_those_who_have_every_task(tmp_path: Path) -> None:
    for task, wrong in (("esc50", {"a": 0, "b": 4, "c": 2}), ("icbhi", {"a": 6, "b": 4, "only": 0})):
        for head, count in wrong.items():
            put(tmp_path, task, head=head, wrong=range(count))
    put(tmp_path, "icbhi", head="c", wrong=range(4))
    found = board(tmp_path)
    rank = {row["head"]: row["rank"] for row in found["rows"]}
    # On icbhi "only" is the best, and nobody's rank falls for it: it lacks the other task.
    assert rank == {"a": (1 + 3) / 2, "b": (3 + 1.5) / 2, "c": (2 + 1.5) / 2, "only": None}
    assert found["ranked"] == 3
    assert names(found["rows"]) == ["c", "a", "b", "only"]
    assert {row["head"]: row["tasks"] for row in found["rows"]} == {"a": 2, "b": 2, "c": 2, "only": 1}
    within = {row["head"]: row["scores"]["icbhi"]["rank"] for row in found["rows"]}
    assert within == {"only": 1, "b": 2.5, "c": 2.5, "a": 4}


def test_seeds_become_their_mean_deviation_and_widest_interval(tmp_path: Path) -> None:
    for seed, count in enumerate((0, 3, 6)):
        put(tmp_path, wrong=range(count), seed=seed)
    (row,) = board(tmp_path)["rows"]
    entry = row["scores"]["esc50"]
    values = [1.0, 1 - 3 / N, 1 - 6 / N]
    assert entry["seeds"] == 3
    assert entry["score"] == pytest.approx(np.mean(values))
    assert entry["std"] == pytest.approx(np.std(values, ddof=1))
    assert (entry["low"], entry["high"]) == (pytest.approx(values[2] - 0.05), pytest.approx(1.04))
    put(tmp_path, head="other")
    assert {row["scores"]["esc50"]["std"] for row in board(tmp_path)["rows"] if row["head"] == "other"} == {None}


# --- What may be ranked together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "why"),
    [
        ("sample: 5 group folds", "sample"),
        ("official 3 folds, incomplete: 50 of 60 clips", "incomplete"),
        ("official 3 folds, fold 1 only", "some folds"),
        ("3 folds of my own", "another protocol"),
    ],
)
def test_other_protocols_stand_apart(protocol: str, why: str, tmp_path: Path) -> None:
    put(tmp_path, head="official", wrong=range(9))
    put(tmp_path, head="flattered", protocol=protocol)
    found = board(tmp_path)
    assert names(found["rows"]) == ["official"]
    assert found["rows"][0]["scores"]["esc50"]["rank"] == 1
    assert [column["protocol"] for column in found["columns"]] == ["official 3 folds"]
    (apart,) = found["apart"]
    assert (apart["head"], apart["why"], apart["protocol"], apart["rank"]) == ("flattered", why, protocol, None)
    assert not apart["best"]  # of one


def test_a_sample_stands_apart_even_where_nothing_else_was_measured(tmp_path: Path) -> None:
    put(tmp_path, protocol="sample: 5 group folds")
    found = board(tmp_path)
    assert (found["columns"], found["rows"], found["ranked"]) == ([], [], 0)
    assert len(found["apart"]) == 1


def test_another_number_of_clips_is_another_question(tmp_path: Path) -> None:
    for head in ("a", "b"):
        put(tmp_path, head=head)
    put(tmp_path, head="fewer", n=57)
    found = board(tmp_path)
    assert sorted(names(found["rows"])) == ["a", "b"]
    assert [(each["head"], each["clips"]) for each in found["apart"]] == [("fewer", 57)]


# --- Paired comparisons ----------------------------------------------------------------------------------------------


def test_holm_steps_down() -> None:
    assert leaderboard.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert leaderboard.holm([0.6, 0.9]) == [1.0, 1.0]
    assert leaderboard.holm([]) == []


def test_who_cannot_be_told_from_the_best_is_marked(tmp_path: Path) -> None:
    put(tmp_path, head="best", wrong=[0, 1])
    put(tmp_path, head="near", wrong=[0, 1, 4])
    put(tmp_path, head="far", wrong=range(40))
    put(tmp_path, head="unknown", wrong=range(3), answers=False)
    found = board(tmp_path)
    entries = {row["head"]: row["scores"]["esc50"] for row in found["rows"]}
    assert {head: (each["best"], each["close"]) for head, each in entries.items()} == {
        "best": (True, False),
        "near": (False, True),
        "far": (False, False),
        "unknown": (False, False),
    }
    assert entries["best"]["p"] is entries["unknown"]["p"] is None
    assert entries["near"]["p"] == 1.0
    assert entries["far"]["p"] < 0.01
    assert found["columns"][0]["tested"] == 2
    assert found["columns"][0]["best"]["head"] == "best"


def test_tests_count_for_how_many_there_were(tmp_path: Path) -> None:
    """Six groups more are wrong: p = 2 / 2**6 alone, and no longer under 0.05 when two are held against the best."""
    put(tmp_path, head="best")
    put(tmp_path, head="worse", wrong=range(0, 12, 2))
    entry = {row["head"]: row["scores"]["esc50"] for row in board(tmp_path)["rows"]}["worse"]
    assert (entry["p"], entry["close"]) == (pytest.approx(2 / 64), False)
    put(tmp_path, head="alike", wrong=range(12, 24, 2))
    entry = {row["head"]: row["scores"]["esc50"] for row in board(tmp_path)["rows"]}["worse"]
    assert (entry["p"], entry["close"]) == (pytest.approx(4 / 64), True)


def test_seeds_are_compared_by_the_share_that_is_right(tmp_path: Path) -> None:
    """One seed of two is wrong on eight groups; the other is as good as the best."""
    put(tmp_path, head="best")
    put(tmp_path, head="best", seed=1)
    put(tmp_path, head="other", wrong=range(0, 16, 2))
    put(tmp_path, head="other", seed=1)
    entry = {row["head"]: row["scores"]["esc50"] for row in board(tmp_path)["rows"]}["other"]
    assert entry["p"] == pytest.approx(2 / 2**8)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_recall", "icbhi_score"])
def test_what_clips_count_adds_up_to_the_score(metric: str) -> None:
    predictions = said(range(0, N, 7))
    answers = Answers((), (), tuple(predictions.folds), targets(), predictions.predicted(), predictions.classes)
    answers = Answers(tuple(predictions.clips), *(getattr(answers, name) for name in vars(answers) if name != "clips"))
    right = answers.targets == answers.predicted
    worth = leaderboard.worths(metric, answers)
    assert worth is not None
    assert worth.sum() == pytest.approx(1)
    assert worth[right].sum() == pytest.approx(score(metric, predictions.targets, predictions.probabilities))
    by_fold = leaderboard.worths(metric, answers, "folds")
    assert by_fold is not None
    inside = [np.asarray(answers.folds) == fold for fold in sorted(set(answers.folds))]
    expected = [score(metric, predictions.targets[here], predictions.probabilities[here]) for here in inside]
    assert by_fold[right].sum() == pytest.approx(np.mean(expected))


def test_the_score_that_is_compared_is_the_tasks_own(tmp_path: Path) -> None:
    """All mistakes are among the few abnormal clips: more clips are right than elsewhere, and the score is worse."""
    put(tmp_path, head="cautious", wrong=range(36, 52), metric="icbhi_score")
    put(tmp_path, head="balanced", wrong=range(18), metric="icbhi_score")
    entries = {row["head"]: row["scores"]["esc50"] for row in board(tmp_path)["rows"]}
    assert entries["balanced"]["best"]
    assert entries["cautious"]["score"] == pytest.approx((1 + 8 / 24) / 2)
    assert entries["cautious"]["p"] is not None


def test_a_metric_that_is_no_sum_over_clips_is_held_against_accuracy(tmp_path: Path) -> None:
    put(tmp_path, head="a", metric="macro_f1")
    put(tmp_path, head="b", metric="macro_f1", wrong=range(3))
    entries = {row["head"]: row["scores"]["esc50"] for row in board(tmp_path)["rows"]}
    assert entries["b"]["p"] is not None


def test_answers_that_do_not_fit_the_score_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, head="best")
    path = put(tmp_path, head="mixed up", value=0.9)
    with pytest.raises(ResultsError, match="does not belong") as caught:
        board(tmp_path)
    assert str(cells.answers_path(path)) in str(caught.value)


# --- Costs, notes, files ---------------------------------------------------------------------------------------------


def test_costs_are_means_and_parameters_the_most(tmp_path: Path) -> None:
    costs = {"encode_ms": 10.0, "head_ms": 1.0, "encode_mb": 4.0, "encoder_parameters": 1000, "head_parameters": 50}
    put(tmp_path, "esc50", costs=costs)
    put(tmp_path, "nsynth", costs=costs | {"encode_ms": 20.0, "head_parameters": 11, "encode_mb": None})
    (row,) = board(tmp_path)["rows"]
    assert row["costs"] == costs | {"encode_ms": 15.0}


def test_notes_are_given_once_for_every_task(tmp_path: Path) -> None:
    put(tmp_path, notes=["The split leaks."])
    put(tmp_path, head="b", notes=["The split leaks."], n=57, bad_clips=[{"clip": "x", "error": "empty"}] * 3)
    assert board(tmp_path)["notes"] == {
        "esc50": ["The split leaks.", "3 of its clips could not be read and were left out."]
    }


def test_files_are_written_for_some_tasks_only(tmp_path: Path) -> None:
    put(tmp_path / "in", "esc50")
    put(tmp_path / "in", "nsynth")
    leaderboard.write([tmp_path / "in"], tmp_path / "out", tasks=["nsynth"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"leaderboard.{kind}" for kind in ("csv", "html", "md")
    ]
    assert "esc50" not in (tmp_path / "out" / "leaderboard.md").read_text(encoding="utf-8")
    with pytest.raises(ResultsError, match="measured are: esc50, nsynth"):
        leaderboard.write([tmp_path / "in"], tmp_path / "out", tasks=["icbhi"])
