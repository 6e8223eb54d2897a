from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import pytest

from soundmark import trials
from soundmark.spec import settled
from soundmark.trials import Trial

pytest.importorskip("optuna", reason="SKIPPED FOR WANT OF OPTUNA: searches are not tested")

TEXT = "a?rate=0.001..1&width=8..32&kind=x,y"


def tried(count: int, seed: int = 0, text: str = TEXT, before: list[Trial] | None = None) -> list[Trial]:
    """A search for the greatest width and the least rate."""
    found = list(before or [])
    while len(found) < count:
        trial = Trial({}, {}, {}, "complete")
        trial.names = {"a": settled(text, "a", partial(trial.choose, trials.proposal(found, seed)))}
        trial.score = float(trial.settings["a.width"]) / 32 - float(trial.settings["a.rate"])
        trial.log_loss = 0.0
        found.append(trial)
    return found


def test_what_is_proposed_lies_in_the_ranges_and_comes_near_the_best() -> None:
    found = tried(30)
    for trial in found:
        assert 0.001 <= float(trial.settings["a.rate"]) <= 1
        assert 8 <= int(trial.settings["a.width"]) <= 32
        assert trial.settings["a.kind"] in ("x", "y")
        assert trial.names["a"] == f"a?kind={trial.settings['a.kind']}&rate={trial.settings['a.rate']}" + (
            f"&width={trial.settings['a.width']}"
        )
    first, last = ([trial.score or 0 for trial in part] for part in (found[:10], found[20:]))
    assert sum(last) > sum(first)
    assert max(found, key=lambda trial: trial.rank).score > 0.9


def test_it_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    whole = tried(15)
    assert [trial.settings for trial in tried(15)] == [trial.settings for trial in whole]
    assert [trial.settings for trial in tried(15, seed=1)] != [trial.settings for trial in whole]
    trials.write(tmp_path, "this", tried(12))
    again = tried(15, before=trials.read(tmp_path, "this"))
    assert [trial.settings for trial in again] == [trial.settings for trial in whole]


def test_what_is_kept_is_read_again_for_the_same_question_only(tmp_path: Path) -> None:
    (trial,) = tried(1)
    trial.reported = {1: -2.5, 2: -2.0}
    trial.rows, trial.rates = [{"epoch": 1, "valid_loss": 2.5}], [1.0]
    trials.write(tmp_path, "this", [trial])
    (read,) = trials.read(tmp_path, "this")
    assert read.reported == trial.reported
    assert read.rank == trial.rank
    assert trials.read(tmp_path, "that") == []
    assert trials.read(tmp_path / "nowhere", "this") == []
    assert trials.read(None, "this") == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"identity": "this"}', '{"identity": "this", "trials": [{"x": 1}]}']
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / trials.FILE).write_text(content, encoding="utf-8")
    assert trials.read(tmp_path, "this") == []


def test_equal_scores_are_told_apart_by_the_log_loss() -> None:
    better, worse = (Trial({}, {}, {}, "complete", 0.5, loss) for loss in (1.0, 2.0))
    assert max([worse, better], key=lambda trial: trial.rank) is better


def test_equal_names_and_alternatives_with_other_ranges_do_not_meet() -> None:
    text = "a?x=1..3&rate=0.1..0.2&width=8..9+a?x=1..3&rate=0.1..0.2&width=8..9|a?x=4,5&rate=0.3,0.4&width=8,10"
    found = tried(12, text=text)
    assert {len(trial.settings) for trial in found} == {4, 7}
    assert all("a.x 2" in trial.settings for trial in found if len(trial.settings) == 7)
    assert any(trial.settings["a.x"] != trial.settings["a.x 2"] for trial in found if len(trial.settings) == 7)


def test_it_is_quiet_and_leaves_no_level_behind(capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("optuna").level
    tried(3)
    assert capfd.readouterr().err == ""
    assert logging.getLogger("optuna").level == level
    assert json.dumps([trial.drawn for trial in tried(2)])  # plain data
