"""Curves of a training: what is drawn and said, for one fold and many, few epochs and many, and absurd numbers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from soundmark.report import curves, drawing, plots

NAMES = ("loss", "accuracy", "rate")


def drawn(training: list | None, folder: Path | None = None) -> dict[str, drawing.Plot]:
    """The figures of a training alone."""
    metrics = {"training": training}
    with drawing.styled():
        made = [drawing.saved(figure, folder) for make in curves.FIGURES if (figure := make(metrics)) is not None]
    return {plot.name: plot for plot in made}


def tips(plot: drawing.Plot) -> list[str]:
    return re.findall(r"<title>(.*?)</title>", plot.svg)


def row(epoch: int, stage: str = "choose", **values: float | None) -> dict:
    nothing = dict.fromkeys(("rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy"))
    return {"stage": stage, "epoch": epoch, "seconds": 1.0} | nothing | values


def lines(plot: drawing.Plot, words: str) -> list[str]:
    return [tip for tip in tips(plot) if words in tip]


def test_they_are_among_the_figures_of_a_report(make_run, make_training, tmp_path: Path):
    folder = make_run(training=make_training(2, 4))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    found = plots.draw(metrics, tmp_path / "figures")
    assert [plot.name for plot in found][-3:] == list(NAMES)
    for name in NAMES:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert image.width >= 100
        ElementTree.parse(tmp_path / "figures" / f"{name}.svg")


@pytest.mark.parametrize("training", [None, [], [{"fold": "1"}], [{"fold": "1", "history": []}]])
def test_without_a_training_there_are_none(training):
    assert drawn(training) == {}


@pytest.mark.parametrize("folds", [1, 2, 10])
@pytest.mark.parametrize("epochs", [1, 2, 3, 500])
def test_any_number_of_folds_and_epochs(make_training, folds, epochs):
    found = drawn(make_training(folds, epochs, stop=10))
    assert list(found) == list(NAMES)
    for plot in found.values():
        ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
        assert len(plot.svg) < 150_000
        assert "epoch" in plot.svg
    for name in ("loss", "accuracy"):
        assert len(lines(found[name], "chose epoch")) == folds
        assert len(lines(found[name], f"mean of {folds} folds")) == (2 if folds > 1 else 0)
        assert len(lines(found[name], ", held out:")) == (folds if folds > 1 else 0)
        assert all(f">{word}</text>" in found[name].svg for word in ("training", "held out"))


def test_sides_differ_by_more_than_colour(make_training):
    svg = drawn(make_training(1))["loss"].svg
    bold = re.findall(r'style="fill: none;[^"]*?(stroke-dasharray: [^;"]+)?[^"]*stroke: var\(--(\w+)\)', svg)
    assert {(bool(dash), colour) for dash, colour in bold} >= {(False, "right")}
    dashed = [style for style in re.findall(r'style="([^"]+)"', svg) if "stroke-dasharray" in style]
    assert dashed
    assert all("var(--muted)" in style for style in dashed)
    assert all("dasharray" not in style for style in re.findall(r'style="([^"]+)"', svg) if "var(--right)" in style)


def test_words_and_dots_tell_the_numbers():
    history = [
        row(1, rate=0.1, train_loss=2.0, train_accuracy=0.25, valid_loss=2.2, valid_accuracy=0.2),
        row(2, rate=0.1, train_loss=1.0, train_accuracy=0.75, valid_loss=1.4, valid_accuracy=0.5),
        row(3, rate=0.1, train_loss=0.5, train_accuracy=0.95, valid_loss=1.6, valid_accuracy=0.55),
        row(1, "fit", rate=0.1, train_loss=9.0, train_accuracy=0.1),
    ]
    found = drawn([{"fold": "1", "epochs": 2, "of": 3, "history": history}])
    assert found["loss"].caption == (
        "Loss over the epochs of training: on the training side 2 in the first epoch and 0.5 in the last; "
        "on the part of it held out 2.2 in the first epoch and 1.6 in the last."
    )
    assert "Fold 1 chose epoch 2: loss 1.4 on the clips held out" in tips(found["loss"])
    assert "Fold 1 chose epoch 2: accuracy 50.0 % on the clips held out" in tips(found["accuracy"])
    assert "from 0.1 to 0.1" in found["rate"].caption


def test_the_mean_goes_as_far_as_every_fold(make_training):
    short = [row(epoch, train_loss=1.0 / epoch, valid_loss=1.0) for epoch in (1, 2, 3)]
    long = [row(epoch, train_loss=3.0 / epoch, valid_loss=3.0) for epoch in (1, 2, 3, 4, 5)]
    found = drawn([{"fold": "1", "epochs": 3, "history": short}, {"fold": "2", "epochs": 5, "history": long}])
    assert "Held out, mean of 2 folds: 2 in epoch 3" in tips(found["loss"])
    assert "Fold 2, held out: 3 in epoch 1, 3 in epoch 5" in tips(found["loss"])
    assert list(found) == ["loss"]  # there are no accuracies and no rates


def test_without_clips_held_out_there_is_the_training_side_alone(make_training):
    found = drawn(make_training(3, 20, hold_out=False))
    assert "held out" not in found["loss"].svg
    assert "chose" not in found["loss"].svg
    assert "stroke-dasharray" in found["loss"].svg
    assert "refit" not in found["rate"].svg


def test_numbers_that_are_missing_absurd_or_none_at_all():
    history = [row(epoch, train_loss=4.0 / epoch, valid_loss=4.0 / epoch, valid_accuracy=7.5) for epoch in range(1, 41)]
    history[5]["valid_loss"] = None
    history[6]["valid_loss"] = math.inf
    history[7]["valid_loss"] = 1e300
    history[8]["train_loss"] = math.nan
    history[9] = {"stage": "choose", "epoch": 10}
    broken = [row(1, train_loss=3.0, valid_loss=None), row(2, train_loss=None, valid_loss=None)]
    found = drawn(
        [
            {"fold": "1", "epochs": 6, "history": history},
            {"fold": "2", "epochs": 1, "history": broken},
            {"fold": "<b>", "epochs": None, "history": [row(1, train_loss=-1e300, valid_loss=0.0)]},
        ]
    )
    assert set(found) == {"loss", "accuracy"}
    assert "chose" not in found["loss"].svg  # fold 1 has no number there, fold 2 none at all
    for plot in found.values():
        assert "nan" not in plot.svg
        ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))


def test_a_loss_that_leaps_is_drawn_by_its_logarithm(make_training):
    training = make_training(2, 30)
    assert "1e+" not in drawn(training)["loss"].svg
    training[0]["history"][3]["valid_loss"] = 8.5e12
    assert ">1e+12</text>" in drawn(training)["loss"].svg


def test_rates_over_decades_are_drawn_by_their_logarithm(make_training):
    svg = drawn(make_training(2, 60))["rate"].svg
    assert all(f">{tick}</text>" in svg for tick in ("0.001", "0.0001", "1e-05", "1e-06"))
    assert "1e-08" not in svg  # where the schedule ends is too little to matter
    flat = [row(epoch, rate=0.01 * epoch, train_loss=1.0) for epoch in range(1, 6)]
    assert ">0.02</text>" in drawn([{"fold": "1", "history": flat}])["rate"].svg
    assert "rate" in drawn([{"fold": "1", "history": [row(1, rate=0.0), row(2, rate=0.0)]}])


def test_a_refit_of_another_course_is_drawn_beside(make_training):
    training = make_training(2, 20)
    same = drawn(training)["rate"]
    assert len(tips(same)) == 1
    for each in training:
        for epoch in each["history"]:
            epoch["rate"] *= 0.5 if epoch["stage"] == "fit" else 1.0
    other = drawn(training)["rate"]
    assert "dashed: the refit" in other.svg
    assert len(tips(other)) == 2


def test_names_of_sides_never_lie_on_each_other():
    history = [row(epoch, train_loss=1.0, valid_loss=1.0) for epoch in (1, 2)]
    svg = drawn([{"fold": "1", "epochs": 1, "history": history}])["loss"].svg
    heights = [
        float(height)
        for word in ("training", "held out")
        for height in re.findall(rf'(?:y="|translate\([\d.]+ )([\d.]+)[^>]*>{word}</text>', svg)
    ]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) >= 12


def test_they_are_the_same_again(make_training):
    training = make_training(3, 40)
    assert [plot.svg for plot in drawn(training).values()] == [plot.svg for plot in drawn(training).values()]
