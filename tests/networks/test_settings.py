from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soundmark.errors import SpecError
from soundmark.networks.settings import Plateau, Training, factor, parse_training


def test_a_name_gives_every_setting_and_is_given_back() -> None:
    made = parse_training("sgd?rate=0.1&epochs=7&schedule=plateau&validate=true&ema=0.99&balance=true")
    assert (made.optimiser, made.rate, made.epochs, made.schedule, made.balance) == ("sgd", 0.1, 7, "plateau", True)
    assert parse_training(made.text) == made
    assert parse_training("adamw") == Training()
    assert Training().text == "adamw"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lion", "adam, adamw, sgd"),
        ("adamw?speed=3", "no setting 'speed'"),
        ("adamw?rate=0", "out of bounds"),
        ("adamw?rate=nan", "out of bounds"),
        ("adamw?epochs=0", "out of bounds"),
        ("adamw?batch=1", "out of bounds"),
        ("adamw?schedule=stairs", "one of onecycle"),
        ("adamw?precision=int8", "one of float32"),
        ("adamw?fill=noise", "one of zero"),
        ("adamw?validate=false&patience=3", "held out"),
        ("adamw?validate=false&schedule=plateau", "held out"),
        ("adamw:view", "cannot train by"),
    ],
)
def test_what_cannot_be_is_explained(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_training(text)


def test_one_cycle_goes_up_and_then_down_to_nothing() -> None:
    training = parse_training("adamw?warmup=0.25")
    path = [factor(training, 60 * step / 1000, 60) for step in range(1001)]
    top = path.index(max(path))
    assert top == 250
    assert path[top] == pytest.approx(1.0)
    assert path[0] == pytest.approx(0.04)
    assert path[-1] < 1e-5
    assert path[: top + 1] == sorted(path[: top + 1])
    assert path[top:] == sorted(path[top:], reverse=True)


@given(st.sampled_from(["onecycle", "cosine", "constant"]), st.floats(0, 1), st.floats(0, 12))
def test_no_schedule_leaves_its_bounds(schedule: str, warmup: float, done: float) -> None:
    found = factor(Training(schedule=schedule, warmup=warmup, frozen=2), done, epochs=10)
    assert 0 <= found <= 1 + 1e-12
    assert math.isfinite(found)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_the_schedule_begins_when_the_whole_network_learns(schedule: str) -> None:
    whole, late = (Training(schedule=schedule, epochs=10, frozen=frozen) for frozen in (0, 4))
    assert [factor(late, done, 10) for done in (0, 2.5, 3.9)] == [1.0, 1.0, 1.0]
    steps = [0.0, 1.0, 2.5, 6.0]
    assert [factor(late, 4 + done, 10) for done in steps] == [factor(whole, done, 6) for done in steps]
    assert factor(late, 3.0, 3) == 1.0  # nothing but the head has learnt by the end


def test_a_plateau_slows_down_after_waiting_and_waits_anew() -> None:
    plateau = Plateau(parse_training("adamw?schedule=plateau&factor=0.5&wait=2"))
    losses = [3.0, 2.0, 2.0, 2.1, 2.2, 2.0, 2.0, 2.0, 1.0, 1.5]
    assert [plateau.after(loss) for loss in losses] == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
