"""The loop: that it learns, that it can be killed, and that nothing it says depends on being killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from soundmark import networks
from soundmark.audio import WindowPolicy
from soundmark.errors import SoundmarkError
from soundmark.networks import augment
from soundmark.networks.bank import Bank
from soundmark.networks.hints import Hints
from soundmark.networks.lesson import Lesson, Teacher
from soundmark.networks.listening import probabilities
from soundmark.networks.machine import Machine
from soundmark.networks.settings import parse_training
from soundmark.networks.training import train

NETWORK = "cnn?rate=8000&window=256&hop=128&bands=16&width=4&dropout=0.1"
CLASSES, FRAMES, BANDS = 3, 32, 16
CPU = Machine("cpu")


def bank_of(clips: int = 24, extra: int = 0) -> tuple[Bank, Tensor]:
    """Levels of three classes, each loud in bands of its own."""
    rng = torch.Generator().manual_seed(5)
    targets = torch.arange(clips) % CLASSES
    lengths = torch.full((clips,), FRAMES) + extra * (torch.arange(clips) % 2)
    rows = []
    for target, length in zip(targets.tolist(), lengths.tolist(), strict=True):
        levels = -30 + 3 * torch.randn(length, BANDS, generator=rng)
        levels[:, 5 * target : 5 * target + 5] += 25
        rows.append(levels)
    made = Bank(torch.cat(rows), lengths.cumsum(0) - lengths, lengths, {}, {}, FRAMES, WindowPolicy(), "digest")
    return made, targets


def lesson_of(training: str, *, augmented: str = "", watch: bool = True, extra: int = 0, **more: Any) -> Lesson:
    bank, targets = bank_of(extra=extra)
    some = torch.arange(18)
    rest = torch.arange(18, 24)
    return Lesson(
        bank, some, targets[some], CLASSES, parse_training(training), augment.parse(augmented), seed=3,
        watch=(rest, targets[rest]) if watch else None, identity="this", **more,
    )  # fmt: skip


def fresh(name: str = NETWORK) -> networks.Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return networks.build(name, CLASSES)


def weights(network: networks.Network) -> Tensor:
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def run(lesson: Lesson, place: Path | None = None, **options: Any) -> tuple[networks.Network, Any]:
    return train(fresh(), lesson, **({"machine": CPU, "place": place, "progress": False} | options))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_it_learns_what_there_is_to_learn(optimiser: str) -> None:
    rate = 0.1 if optimiser == "sgd" else 0.02
    lesson = lesson_of(f"{optimiser}?rate={rate}&epochs=12&batch=6&clip=5")
    network, course = run(lesson)
    assert len(course.rows) == 12
    assert [row["epoch"] for row in course.rows] == list(range(1, 13))
    assert course.rows[-1]["train_loss"] < 0.5 * course.rows[0]["train_loss"]
    assert course.rows[-1]["valid_accuracy"] == 1.0
    said = probabilities(network, lesson.bank, torch.arange(24), machine=CPU)
    assert (said.argmax(1) == np.arange(24) % CLASSES).mean() > 0.9
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-9)
    assert not network.training


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    lesson = lesson_of("adamw?epochs=2&batch=6", augmented="gain+shift+mix")
    first, again = (run(lesson)[0] for _ in range(2))
    assert torch.equal(weights(first), weights(again))
    other, _ = run(replace(lesson, seed=4))
    assert not torch.equal(weights(first), weights(other))


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(lesson_of("adamw?epochs=1&batch=6"))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "how",
    [
        "adamw?epochs=6&batch=6&ema=0.8",
        "sgd?epochs=6&batch=6&schedule=plateau&wait=1&rate=20&momentum=0&clip=1&factor=0.5",
    ],
)
def test_a_training_that_goes_on_ends_as_one_that_was_never_stopped(how: str, tmp_path: Path) -> None:
    lesson = lesson_of(how, augmented="gain+shift+mix")
    whole, course = run(lesson, tmp_path / "whole.ckpt")
    file = tmp_path / "halves.ckpt"
    run(replace(lesson, epochs=3), file)
    halves, resumed = run(lesson, file)
    assert torch.equal(weights(whole), weights(halves))
    assert [row["train_loss"] for row in resumed.rows] == [row["train_loss"] for row in course.rows]
    assert [row["rate"] for row in resumed.rows] == [row["rate"] for row in course.rows]


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    lesson, file = lesson_of("adamw?epochs=3&batch=6"), tmp_path / "a.ckpt"
    first, _ = run(lesson, file)
    before = file.stat().st_mtime_ns
    again, course = run(lesson, file)
    assert file.stat().st_mtime_ns == before
    assert len(course.rows) == 3
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", None])
def test_a_checkpoint_that_is_damaged_or_anothers_is_not_taken_up(content: bytes | None, tmp_path: Path) -> None:
    lesson, file = lesson_of("adamw?epochs=2&batch=6"), tmp_path / "a.ckpt"
    clean, _ = run(lesson)
    if content is None:
        run(replace(lesson, seed=9, identity="another"), file)
    else:
        file.write_bytes(content)
    found, _ = run(lesson, file)
    assert torch.equal(weights(found), weights(clean))


def test_it_stops_early_and_names_the_best_epoch() -> None:
    lesson = lesson_of("sgd?rate=50&momentum=0&epochs=60&batch=6&schedule=constant&patience=3&clip=1")
    _, course = run(lesson)
    losses = [row["valid_loss"] for row in course.rows]
    assert len(losses) < 60
    assert course.least == int(np.argmin(losses)) + 1
    assert len(losses) == course.least + 3
    alike = [row["epoch"] for row in course.rows if row["valid_loss"] - row["valid_error"] <= min(losses)]
    assert course.best == max(alike)


def test_the_refit_runs_the_whole_schedule_in_the_epochs_found() -> None:
    lesson = lesson_of("adamw?epochs=12&batch=6", watch=False)
    _, short = run(replace(lesson, epochs=4, span=4))
    assert [row["epoch"] for row in short.rows] == [1, 2, 3, 4]
    assert short.rows[-1]["rate"] < 0.1 * max(row["rate"] for row in short.rows)


def test_a_plateaus_path_can_be_followed_without_clips_to_watch() -> None:
    watched = lesson_of("sgd?epochs=8&batch=6&schedule=plateau&wait=1&rate=20&momentum=0&clip=1&factor=0.5")
    _, course = run(watched)
    assert course.rates[0] == 1.0
    assert course.rates[-1] < 1.0
    alone = replace(watched, watch=None, rates=course.rates, epochs=8)
    _, followed = run(alone)
    assert [row["rate"] for row in followed.rows] == [row["rate"] for row in course.rows]
    assert all(row["valid_loss"] is None for row in followed.rows)
    assert followed.best == 8


def test_only_the_head_learns_while_the_rest_is_frozen() -> None:
    start = fresh()
    network, _ = run(lesson_of("adamw?epochs=1&batch=6&frozen=1&rate=0.1"))
    for (name, before), (_, after) in zip(start.state_dict().items(), network.state_dict().items(), strict=True):
        assert torch.equal(before, after) == (not name.startswith("head")), name


def test_the_head_begins_at_its_full_rate_and_the_schedule_after_it() -> None:
    _, course = run(lesson_of("adamw?epochs=6&batch=6&frozen=2&rate=0.01&head_rate=0.1"))
    rates = [row["rate"] for row in course.rows]
    assert rates[:2] == [0.1, 0.1]
    assert rates[2] > rates[-1]
    assert rates[-1] < 0.05


def teacher_like(lesson: Lesson, network: networks.Network) -> Teacher:
    return Teacher(network.eval(), lesson.bank, lesson.train)


def test_a_teacher_hears_what_the_pupil_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Tensor] = []
    real = networks.cnn.Cnn.vectors
    monkeypatch.setattr(networks.cnn.Cnn, "vectors", lambda self, maps: (heard.append(maps), real(self, maps))[1])
    lesson = lesson_of("adamw?epochs=1&batch=6&taught=0.5", augmented="gain+shift+stretch+mix", watch=False)
    run(replace(lesson, bank=replace(lesson.bank, crop=20), teacher=None))
    alone = list(heard)
    heard.clear()
    cut = replace(lesson, bank=replace(lesson.bank, crop=20))
    run(replace(cut, teacher=teacher_like(cut, fresh())))
    assert len(heard) == 2 * len(alone)
    for theirs, ours, before in zip(heard[::2], heard[1::2], alone, strict=True):
        assert torch.equal(theirs, ours)  # the teacher is asked first
        assert torch.equal(ours, before)  # and changes nothing of what is drawn


def test_the_teachers_word_counts_as_much_as_asked() -> None:
    lesson = lesson_of("sgd?epochs=3&batch=6&rate=0.5&taught=0", watch=False)
    plain, _ = run(lesson)
    ignored, _ = run(replace(lesson, teacher=teacher_like(lesson, fresh())))
    assert torch.equal(weights(plain), weights(ignored))
    wrong = fresh()
    with torch.no_grad():  # one that takes every clip for the last class
        wrong.head.weight.zero_()
        wrong.head.bias.copy_(torch.tensor([-50.0, -50.0, 50.0]))
    all_of_it = replace(lesson, training=parse_training("adamw?epochs=8&batch=6&rate=0.05&taught=1"))
    misled, _ = run(replace(all_of_it, teacher=teacher_like(lesson, wrong)))
    said = probabilities(misled, lesson.bank, lesson.train, machine=CPU)
    assert (said.argmax(1) == 2).all()


def test_a_pupil_learns_to_guess_its_teachers_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[float] = []
    real = Hints.forward
    monkeypatch.setattr(
        Hints, "forward", lambda self, *both: [found := real(self, *both), errors.append(float(found.detach()))][0]
    )
    lesson = lesson_of("adamw?epochs=25&batch=18&rate=0.01&taught=0", watch=False)
    taught = replace(lesson, teacher=teacher_like(lesson, fresh("cnn?rate=8000&window=256&hop=128&bands=16&width=6")))
    plain, _ = run(taught)
    assert not errors
    led, _ = run(replace(taught, training=replace(taught.training, hints=1.0)))
    assert 0.7 < errors[0] <= 1.001  # a component of the teacher that never varies is nothing to err in
    assert errors[-1] < 0.5
    assert not torch.equal(weights(plain), weights(led))
    assert set(led.state_dict()) == set(plain.state_dict())  # the map is left behind


def test_a_hinted_training_that_goes_on_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    lesson = lesson_of("adamw?epochs=4&batch=6&hints=1", augmented="gain+shift+mix", watch=False)
    lesson = replace(lesson, teacher=teacher_like(lesson, fresh()))
    whole, _ = run(lesson)
    run(replace(lesson, epochs=2), tmp_path / "a.ckpt")
    halves, _ = run(lesson, tmp_path / "a.ckpt")
    assert torch.equal(weights(whole), weights(halves))


def test_hints_without_a_teacher_change_nothing() -> None:
    plain, hinted = (run(lesson_of(f"adamw?epochs=2&batch=6{more}"))[0] for more in ("", "&hints=1"))
    assert torch.equal(weights(plain), weights(hinted))


def test_a_teacher_of_other_ears_hears_the_same_moments() -> None:
    """Twice the frames: the pupil's frame f is the teacher's 2f, whatever was cut out."""
    bank, targets = bank_of(clips=6)
    ticks = torch.arange(FRAMES).float().repeat(6)[:, None]
    pupil = replace(bank, values=ticks, crop=10)
    double = replace(
        pupil, values=torch.arange(2 * FRAMES).float().repeat(6)[:, None], starts=2 * bank.starts,
        lengths=2 * bank.lengths, crop=19,
    )  # fmt: skip
    positions = torch.arange(len(targets))
    for seed in range(20):
        ours, theirs = (
            each.crops(positions, torch.Generator().manual_seed(seed), torch.device("cpu")) for each in (pupil, double)
        )
        assert (2 * ours[:, 0] - theirs[:, 0]).abs().max() <= 2


def test_rates_fall_with_depth_and_the_head_has_its_own() -> None:
    from soundmark.networks.optimisers import optimiser

    network = fresh()
    groups = optimiser(network, parse_training("adamw?rate=0.1&head_rate=0.5&layer_decay=0.5&decay=0.2")).param_groups
    assert {group["peak"] for group in groups if group["head"]} == {0.5}
    depths = len(network.depths())
    expected = [0.1 * 0.5 ** (depths - place) for place in range(depths)]
    assert sorted({group["peak"] for group in groups if not group["head"]}) == pytest.approx(expected)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert all(each.dim() <= 1 for group in groups if not group["weight_decay"] for each in group["params"])


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    plain, _ = run(lesson_of("adamw?epochs=3&batch=6&rate=0.05"))
    averaged, _ = run(lesson_of("adamw?epochs=3&batch=6&rate=0.05&ema=0.999"))
    start = weights(fresh())
    assert not torch.equal(weights(plain), weights(averaged))
    assert (weights(averaged) - start).norm() < (weights(plain) - start).norm()


def test_mixed_precision_learns_too() -> None:
    _, course = run(lesson_of("adamw?epochs=8&batch=6&rate=0.02&precision=bf16"))
    assert course.rows[-1]["train_loss"] < course.rows[0]["train_loss"]


def test_rare_classes_weigh_more_where_classes_are_balanced() -> None:
    from soundmark.networks.optimisers import class_weights

    lesson = lesson_of("adamw?balance=true")
    lesson = replace(lesson, targets=torch.tensor([0] * 12 + [1] * 6))
    found = class_weights(lesson)
    assert found is not None
    assert found.tolist() == [0.75, 1.5, 0.0]


def test_a_loss_beyond_all_bounds_is_explained() -> None:
    with pytest.raises(SoundmarkError, match="choose a lower rate"):
        run(lesson_of("sgd?rate=100&epochs=30&batch=6&schedule=constant&momentum=0.9"))


def test_clips_of_other_lengths_are_heard_whole() -> None:
    lesson = lesson_of("adamw?epochs=1&batch=6", extra=17)
    network, _ = run(lesson)
    said = probabilities(network, lesson.bank, torch.arange(24), machine=CPU)
    with torch.inference_mode():
        for i in (0, 1):
            alone = network.head(network.vectors(lesson.bank.whole(torch.tensor([i]), torch.device("cpu"))))
            np.testing.assert_allclose(said[i], alone.softmax(1)[0].numpy(), atol=1e-6)


def test_an_unknown_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SoundmarkError, match="no device 'cuda' here"):
        Machine("cuda").first()
    assert Machine("cpu").name().startswith("cpu, ")


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import torch
from test_training import lesson_of, run
torch.set_num_threads({threads})  # sums of other shares round otherwise
run(lesson_of("adamw?epochs=400&batch=6", augmented="gain+mix"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_kill_9_in_mid_epoch_costs_one_epoch_at_most(tmp_path: Path) -> None:
    """A process is killed without warning once its checkpoint is there; what it left is read, and is taken up."""
    file = tmp_path / "killed.ckpt"
    script = SCRIPT.format(folder=str(Path(__file__).parent), threads=torch.get_num_threads())
    process = subprocess.Popen([sys.executable, "-c", script, str(file)], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 300  # a busy machine takes its time
        while not file.exists():
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.communicate()
    done = len(torch.load(file, weights_only=True)["soundmark"]["rows"])
    assert 1 <= done < 400
    lesson = lesson_of("adamw?epochs=400&batch=6", augmented="gain+mix")
    resumed, course = run(replace(lesson, epochs=done + 2), file)
    whole, _ = run(replace(lesson, epochs=done + 2))
    assert len(course.rows) == done + 2
    assert torch.equal(weights(resumed), weights(whole))
