"""The model card: what a file says is on it, what it does not say is not, and a stranger's file cannot upset it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import soundmark
from soundmark import cli
from soundmark.card import card

SAID: dict[str, Any] = {
    "name": "loudness",
    "about": "Tells quiet from loud.",
    "learner": {"network": "cnn", "training": "adamw"},
    "training_data": {"title": "My sounds", "clips": 60, "source": "here", "licence": "CC0", "notes": ["Short ones."]},
    "pretrained": [{"name": "mn04", "trained_on": "AudioSet", "licence": "MIT"}],
    "licence": "CC0 1.0",
    "licence_note": "Do as you like.",
    "code_licence": "MIT",
    "unknown_below": 0.25,
    "rejection": {"says": "AUROC 0.9 on classes left out."},
    "metrics": {
        "protocol": "5 group folds",
        "headline": {"metric": "accuracy", "value": 0.9},
        "scores": {
            "accuracy": {"value": 0.9, "low": 0.85, "high": 0.95},
            "log_loss": {"value": 0.3, "low": 0.2, "high": 0.4},
        },
        "alarm": [],
        "per_class": [
            {"label": "quiet", "clips": 30, "precision": 0.8, "recall": 1.0, "f1": 0.889},
            {"label": "loud", "clips": 30, "precision": None, "recall": 0.75, "f1": 0.857},
        ],
        "confused": [{"truth": "loud", "predicted": "quiet", "clips": 3, "share": 0.1}],
    },
    "views": {
        "danger": {
            "positive": "danger",
            "thresholds": {"danger": 0.4},
            "alarm": [{"max_false_alarm": 0.05, "recall": 0.953, "low": 0.9, "high": 0.98, "realised": 0.047}],
        }
    },
    "limits": ["Knows two labels."],
}


@pytest.fixture
def said(tiny_model: Callable[..., bytes]) -> Callable[..., str]:
    """The card of the tiny model that says so much of itself."""

    def call(**changed: Any) -> str:
        return card(soundmark.load(tiny_model(**changed)))

    return call


def test_everything_it_says_is_on_the_card(said: Callable[..., str]) -> None:
    text = said(**SAID)
    for line in (
        "# Model card: loudness",
        "Tells quiet from loud.",
        "* network: `cnn`",
        "* title: My sounds",
        "* Short ones.",
        "* begins with published weights: mn04, AudioSet, MIT",
        "* code that trains and runs it: MIT",
        "* weights, by what they were trained on: CC0 1.0",
        "Do as you like.",
        "| accuracy | 90.0 % | 85.0 % to 95.0 % |",
        "| log loss (nats) | 0.300 | 0.200 to 0.400 |",
        "| view `danger` | 5.0 % | 95.3 % | 90.0 % to 98.0 % | 4.7 % |",
        "AUROC 0.9 on classes left out.",
        "| quiet | 30 | 100.0 % | 80.0 % | 88.9 % | – |",
        "| loud | 30 | 75.0 % | – | 85.7 % | 0.700 |",
        "* loud for quiet: 3 clips",
        "* Knows two labels.",
    ):
        assert line in text.splitlines(), line
    assert "A best score below 0.250 means `unknown`" in text


def test_a_teachers_published_weights_are_not_called_the_models_own(said: Callable[..., str]) -> None:
    learner = {"network": "mark1", "teacher": "finetune-mn04"}
    assert "* it or its teacher begins with published weights: mn04" in said(**SAID | {"learner": learner})


def test_nothing_is_made_up_for_what_it_does_not_say(said: Callable[..., str]) -> None:
    text = said()
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == ["# Model card: the model given", "## What it is"]
    assert "hears any length; shorter than 0.1 s is filled up (zero)" in text


def test_a_class_looked_for_has_its_alarms(said: Callable[..., str]) -> None:
    rows = [{"max_false_alarm": 0.01, "recall": 0.5, "low": 0.4, "high": 0.6, "realised": 0.02}]
    assert "| the class looked for | 1.0 % | 50.0 % | 40.0 % to 60.0 % | 2.0 % |" in said(metrics={"alarm": rows})


def test_a_strangers_metadata_cannot_upset_it(said: Callable[..., str]) -> None:
    odd: list[Any] = [3, "text", [1, {"label": {}}], {"a": {"b": [None]}}, None, True]
    for value in odd:
        for name in set(SAID) - {"views", "unknown_below"}:
            assert said(**SAID | {name: value}).startswith("# Model card")
    for name in SAID["metrics"]:
        for value in odd:
            assert said(**SAID | {"metrics": SAID["metrics"] | {name: value}}).startswith("# Model card")


def test_what_a_terminal_would_obey_is_left_out(said: Callable[..., str]) -> None:
    assert "[31m" in said(about="red \x1b[31m\nand\ta break")
    assert "\x1b" not in said(about="red \x1b[31m\nand\ta break")
    assert "red [31m and a break" in said(about="red \x1b[31m\nand\ta break")


def test_the_command_prints_it(
    tmp_path: Path, tiny_model: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_model(**SAID))
    assert cli.main(["card", str(tmp_path / "model.onnx")]) == 0
    assert capsys.readouterr().out.startswith("# Model card: loudness\n")
    assert cli.main(["card", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unknown_below"] == 0.25
    assert cli.main(["card", str(tmp_path / "none.onnx")]) == 1
    assert "there is no model file" in capsys.readouterr().err


def test_without_a_model_it_is_the_one_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SOUNDMARK_MODEL", raising=False)
    assert cli.main(["card"]) == 0
    assert capsys.readouterr().out.startswith("# Model card: mark1\n")
