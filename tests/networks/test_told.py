"""What is told of a training while it goes on, and what is kept of the clips watched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from soundmark import networks
from soundmark.audio import WindowPolicy
from soundmark.errors import SoundmarkError
from soundmark.networks import augment, training
from soundmark.networks.bank import Bank
from soundmark.networks.lesson import Course, Lesson
from soundmark.networks.listening import probabilities
from soundmark.networks.machine import Machine
from soundmark.networks.settings import parse_training
from soundmark.networks.training import train

CPU = Machine("cpu")
NETWORK = "cnn?rate=8000&window=256&hop=128&bands=16&width=2"


def lesson_of(how: str) -> Lesson:
    rng = torch.Generator().manual_seed(0)
    lengths = torch.full((12,), 20)
    levels = torch.randn(12 * 20, 16, generator=rng) - 30
    bank = Bank(levels, lengths.cumsum(0) - lengths, lengths, {}, {}, 20, WindowPolicy(), "digest")
    targets = torch.arange(12) % 2
    some, rest = torch.arange(8), torch.arange(8, 12)
    return Lesson(
        bank, some, targets[some], 2, parse_training(how), augment.parse(""), seed=0, watch=(rest, targets[rest]),
        identity="this",
    )  # fmt: skip


def run(lesson: Lesson, **options: Any) -> tuple[networks.Network, Course]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build(NETWORK, 2)
    return train(network, lesson, **({"machine": CPU, "progress": False} | options))


def test_every_epoch_is_told_and_may_be_the_last() -> None:
    told: list[int] = []
    _, course = run(lesson_of("adamw?epochs=5"), told=lambda row: (told.append(row["epoch"]), len(told) < 3)[1])
    assert told == [1, 2, 3]
    assert len(course.rows) == 3


def test_the_epochs_of_a_checkpoint_are_told_again(tmp_path: Path) -> None:
    lesson, place = lesson_of("adamw?epochs=4"), tmp_path / "last.ckpt"
    _, first = run(replace(lesson, epochs=2), place=place)
    told: list[dict[str, Any]] = []
    _, course = run(lesson, place=place, told=lambda row: (told.append(row), True)[1])
    assert told == course.rows
    assert course.rows[:2] == first.rows
    told.clear()
    _, again = run(lesson, place=place, told=lambda row: (told.append(row), False)[1])
    assert (told, again.rows) == (course.rows[:1], course.rows)  # it was over: nothing is trained


def test_what_is_said_of_the_clips_watched_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    lesson = lesson_of("adamw?epochs=6&rate=0.05&schedule=constant")
    assert lesson.watch is not None
    _, course = run(lesson, place=tmp_path / "whole.ckpt")
    assert 1 < course.best < 6, "the test needs a training that becomes worse again"
    network, short = run(replace(lesson, epochs=course.best))
    assert short.watched is not None
    assert course.watched is not None
    torch.testing.assert_close(course.watched, short.watched, rtol=0, atol=0)
    said = torch.from_numpy(probabilities(network, lesson.bank, lesson.watch[0], machine=CPU))
    torch.testing.assert_close(course.watched.double().softmax(1), said)
    _, known = run(lesson, place=tmp_path / "whole.ckpt")
    assert known.watched is not None
    torch.testing.assert_close(known.watched, course.watched, rtol=0, atol=0)


def test_without_a_best_epoch_it_is_that_of_the_last() -> None:
    lesson = lesson_of("adamw?epochs=6&rate=0.05&schedule=constant&validate=false")
    assert lesson.watch is not None
    network, course = run(lesson)
    assert course.watched is not None
    assert course.best < 6
    said = torch.from_numpy(probabilities(network, lesson.bank, lesson.watch[0], machine=CPU))
    torch.testing.assert_close(course.watched.double().softmax(1), said)


def test_more_devices_than_clips_in_a_step_are_an_error() -> None:
    with pytest.raises(SoundmarkError, match="choose a larger batch"):
        run(lesson_of("adamw?batch=2"), machine=Machine("cpu", 4))


@pytest.mark.parametrize("bug", [False, True])
def test_an_error_in_one_of_several_processes_is_the_error(bug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "IndexError: 3" if bug else "soundmark.errors.SoundmarkError: the loss grew beyond all bounds"
    text = f"\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  ...\n{said}\n"

    def fit(*args: Any, **options: Any) -> None:
        raise ProcessRaisedException(text, 1, 4711)

    monkeypatch.setattr(training.pl.Trainer, "fit", fit)
    with pytest.raises(ProcessRaisedException if bug else SoundmarkError) as raised:
        run(lesson_of("adamw?epochs=2"))
    assert bug or str(raised.value) == "the loss grew beyond all bounds"
