"""Figures: what is drawn, safely, for any labels; as files and for the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from soundmark.report import drawing, plots

ODD = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{0}$ _ ^",
    "日本語 🐶",
    "שלום",
    "two\nlines\x00\x1b[31m\ufffe",
    "a very long name that goes on and on and on without an end",
    "&amp; {{ 7 * 7 }} {% raw %}",
)


def read(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_every_figure_of_many_classes_as_png_and_svg(make_run, tmp_path: Path):
    drawn = plots.draw(read(make_run()), tmp_path / "figures")
    names = ["folds", "confusion", "classes", "reliability"]
    assert [plot.name for plot in drawn] == names
    for name in names:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert image.width >= 100
        tree = ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
        text = " ".join(tree.getroot().itertext())
        assert next(plot.title for plot in drawn if plot.name == name) in text
    assert sorted(path.suffix for path in (tmp_path / "figures").iterdir()) == [".png"] * 4 + [".svg"] * 4


def test_two_classes_have_curves_with_operating_points(two_class_run):
    drawn = {plot.name: plot for plot in plots.draw(read(two_class_run))}
    assert {"roc", "pr"} <= set(drawn)
    assert drawn["roc"].svg.count("Threshold for at most") == 2
    assert "recall of danger" in drawn["pr"].svg


def test_one_fold_has_no_spread(make_run):
    assert "folds" not in [plot.name for plot in plots.draw(read(make_run(folds=1)))]


def test_axes_are_labelled_with_units(make_run):
    drawn = {plot.name: plot.svg for plot in plots.draw(read(make_run()))}
    assert "F1 and recall" in drawn["classes"]
    assert "true class" in drawn["confusion"]
    assert "confidence in the predicted class" in drawn["reliability"]
    assert all("\u00a0%" in svg for svg in drawn.values())


@pytest.mark.parametrize("classes", [ODD[:2], ODD])
def test_strange_labels_are_only_text(make_run, classes):
    metrics = read(make_run(classes, each=4))
    for plot in plots.draw(metrics):
        tree = ElementTree.fromstring(plot.svg.replace("xlink:href", "href"))
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert tags <= {"svg", "g", "path", "text", "tspan", "title", "defs", "clipPath", "rect", "use"}
        assert not [name for element in tree.iter() for name in element.attrib if name.startswith("on")]


def test_strange_labels_make_whole_svg_files(make_run, tmp_path: Path):
    plots.draw(read(make_run(ODD, each=3)), tmp_path)
    for path in tmp_path.glob("*.svg"):
        ElementTree.parse(path)


def test_inline_figures_take_the_pages_colours_and_font(make_run):
    for plot in plots.draw(read(make_run())):
        assert "var(--muted)" in plot.svg
        assert not re.search("|".join(drawing.ROLES), plot.svg)
        assert "DejaVu" not in plot.svg
        assert "<style" not in plot.svg
        assert plot.title not in plot.svg.replace(plot.caption, "")


def test_names_inside_figures_do_not_collide_and_repeat(make_run):
    metrics = read(make_run())
    drawn, again = plots.draw(metrics), plots.draw(metrics)
    assert [plot.svg for plot in drawn] == [plot.svg for plot in again]
    clips = [set(re.findall(r'<clipPath id="([^"]+)"', plot.svg)) for plot in drawn]
    assert sum(map(len, clips)) == len(set().union(*clips))


def test_drawing_leaves_the_users_settings_alone(make_run):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 33.0, "axes.grid": True}):
        plots.draw(read(make_run()))
        assert mpl.rcParams["font.size"] == 33.0


def test_very_many_classes_stay_readable(make_run):
    metrics = read(make_run(tuple(f"class {i}" for i in range(120)), each=2))
    drawn = {plot.name: plot for plot in plots.draw(metrics)}
    assert "20 classes in the middle" in drawn["classes"].caption
    assert drawn["confusion"].width < 900


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("sea_waves", "sea waves"),
        (" a\n\tb ", "a b"),
        ("", "(no name)"),
        ("x" * 30, "x" * 23 + "…"),
        ("\ud800", "(no name)"),
    ],
)
def test_shown_is_one_short_line(label, words):
    assert drawing.shown(label) == words


def test_shares_as_words():
    assert drawing.percent(0.7434) == "74.3\u00a0%"
    assert drawing.percent(None) == "–"
    assert drawing.spread(0.72, 0.765) == "72.0–76.5\u00a0%"
    assert drawing.spread(None, 0.5) == "–"
