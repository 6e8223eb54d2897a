"""Settings of events that suit a classifier: its own thresholds, those of its views, and what is said otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import soundmark
from soundmark import model, tasks
from soundmark.errors import EventError
from soundmark.eventrules import settings_for


@pytest.fixture
def tiny(tiny_model: Callable[..., bytes]) -> Callable[..., model.Classifier]:
    return lambda **said: model.load(tiny_model(**said))


def test_windows_are_those_of_the_policy(tiny: Callable[..., model.Classifier]) -> None:
    own = settings_for(tiny(policy={"window_seconds": 2.0, "hop_seconds": 0.5}))
    assert (own.window_seconds, own.hop_seconds, own.merge_seconds) == (2.0, 0.5, 0.5)
    free = settings_for(tiny(clip_seconds={"median": 3.0, "max": 8.0}))
    assert (free.window_seconds, free.hop_seconds) == (3.0, 0.6)
    asked = settings_for(tiny(), window_seconds=2.0, hop_seconds=1.0, merge_seconds=0.0, min_seconds=3.0)
    assert (asked.window_seconds, asked.hop_seconds, asked.merge_seconds, asked.min_seconds) == (2, 1, 0, 3)


def test_labels_with_a_threshold_are_looked_for(tiny: Callable[..., model.Classifier]) -> None:
    assert settings_for(tiny()).thresholds == {"loud": 0.7}
    assert settings_for(tiny(thresholds={})).thresholds == {"quiet": 0.5, "loud": 0.5}
    assert settings_for(tiny(thresholds={"loud": 0})).thresholds == {"loud": 0.01}


def test_thresholds_and_labels_can_be_said(tiny: Callable[..., model.Classifier]) -> None:
    assert settings_for(tiny(), threshold=0.4).thresholds == {"loud": 0.4}
    assert settings_for(tiny(), threshold={"quiet": 0.4}).thresholds == {"loud": 0.7, "quiet": 0.4}
    assert settings_for(tiny(), labels=["quiet"]).thresholds == {"quiet": 0.5}
    assert settings_for(tiny(), labels=["loud"]).thresholds == {"loud": 0.7}
    assert settings_for(tiny(), labels=["quiet", "loud"], threshold=0.3).thresholds == {"quiet": 0.3, "loud": 0.3}


def test_a_view_brings_its_threshold_and_its_alarms() -> None:
    viewed = soundmark.load().with_view(tasks.load_view("danger", "esc50"))
    table = viewed.metadata["views"]["danger"]["alarm_thresholds"]
    assert settings_for(viewed).thresholds == {"danger": pytest.approx(table["0.05"])}
    assert settings_for(viewed, false_alarms=0.01).thresholds == {"danger": pytest.approx(table["0.01"])}
    with pytest.raises(EventError, match=r"0\.2: it has them at 0\.05, 0\.01"):
        settings_for(viewed, false_alarms=0.2)


def test_a_model_that_looks_for_a_class_has_alarms_of_its_own(tiny: Callable[..., model.Classifier]) -> None:
    own = tiny(alarm_thresholds={"0.05": 0.7, "0.01": 0.9})
    assert settings_for(own, false_alarms=0.01).thresholds == {"loud": 0.9}


@pytest.mark.parametrize("table", [None, "none", [], {"0.05": "high"}, {"0.05": 7}])
def test_alarms_that_make_no_sense_are_none(tiny: Callable[..., model.Classifier], table: Any) -> None:
    with pytest.raises(EventError, match="it has none, so give a threshold"):
        settings_for(tiny(alarm_thresholds=table), false_alarms=0.05)


def test_labels_that_are_not_there_are_named(tiny: Callable[..., model.Classifier]) -> None:
    for said in ({"labels": ["lowd"]}, {"threshold": {"lowd": 0.5}}):
        with pytest.raises(EventError, match="does not know 'lowd'; its labels are: quiet, loud"):
            settings_for(tiny(), **said)
