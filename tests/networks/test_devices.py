"""Several devices that train together; here they are processes on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from soundmark import networks
from soundmark.audio import WindowPolicy
from soundmark.networks import augment, training
from soundmark.networks.bank import Bank
from soundmark.networks.lesson import Course, Lesson
from soundmark.networks.listening import probabilities
from soundmark.networks.machine import Machine
from soundmark.networks.settings import parse_training
from soundmark.networks.training import train

NETWORK = "cnn?rate=8000&window=256&hop=128&bands=16&width=4&dropout=0"
CLASSES = 3


def lesson() -> Lesson:
    """Clips of three classes; for two epochs only the head learns, and the norms stand still."""
    rng = torch.Generator().manual_seed(5)
    targets, lengths = torch.arange(24) % CLASSES, torch.full((24,), 32)
    levels = -30 + 3 * torch.randn(24, 32, 16, generator=rng)
    for levels_of, target in zip(levels, targets.tolist(), strict=True):
        levels_of[:, 5 * target : 5 * target + 5] += 25
    bank = Bank(levels.reshape(-1, 16), lengths.cumsum(0) - lengths, lengths, {}, {}, 32, WindowPolicy(), "digest")
    how = parse_training("adamw?rate=0.03&epochs=24&batch=8&frozen=2&ema=0.5")
    some, rest = torch.arange(16), torch.arange(16, 24)
    return Lesson(
        bank, some, targets[some], CLASSES, how, augment.parse(""), 0, watch=(rest, targets[rest]), identity="this"
    )


def run(lesson: Lesson, place: Path, devices: int) -> tuple[networks.Network, Course]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = networks.build(NETWORK, CLASSES)
    return train(network, lesson, machine=Machine("cpu", devices), place=place, progress=False)


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_of_one_and_train_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, place = lesson(), tmp_path / "last.ckpt"
    _, alone = run(replace(asked, epochs=2), tmp_path / "alone.ckpt", devices=1)
    run(replace(asked, epochs=1), place, devices=1)
    capfd.readouterr()
    together, course = run(replace(asked, epochs=23), place, devices=2)
    assert capfd.readouterr().err == ""  # the processes are quiet
    assert [row["epoch"] for row in course.rows] == list(range(1, 24))
    for one, two in zip(alone.rows, course.rows, strict=False):
        for name in ("train_loss", "valid_loss", "train_accuracy", "valid_accuracy", "rate"):
            assert two[name] == pytest.approx(one[name], rel=1e-4), name
    assert course.watched is not None
    assert course.rows[-1]["train_loss"] < 0.7 * course.rows[0]["train_loss"]
    said = probabilities(together, asked.bank, torch.arange(24), machine=Machine("cpu"))
    assert (said.argmax(1) == np.arange(24) % CLASSES).mean() > 0.8

    _, longer = run(asked, place, devices=1)  # and one goes on from theirs
    assert longer.rows[:23] == course.rows
    assert len(longer.rows) == 24
    monkeypatch.setattr(training.pl.Trainer, "fit", lambda *_: pytest.fail("nothing was left to do"))
    again, known = run(asked, place, devices=2)
    assert known.rows == longer.rows
    assert torch.isfinite(torch.cat([value.float().flatten() for value in again.state_dict().values()])).all()
