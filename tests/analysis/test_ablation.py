"""Ablations: what is changed, what is refused, and that each is held against the learner as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from soundmark import cli, results
from soundmark.analysis import ablation
from soundmark.analysis.ablation import variations
from soundmark.errors import SpecError
from soundmark.learners import Probe
from soundmark.networks.settings import parse_training
from soundmark.recipe import Recipe

NETWORK = Recipe(
    task="toy", network="mark1", augment="shift+timemask+freqmask+mix?p=0.5", training="adamw?ema=0.99&epochs=9",
    teacher="finetune-mn04",
)  # fmt: skip
PROBE = Recipe(task="toy", encoder="logmel+mfcc?bands=20", pooling="mean+std+max", head="logreg?C=0.5+knn")


def changed(recipe: Recipe, part: str) -> list[tuple[str, Recipe]]:
    first, *others = variations(recipe, [part])
    assert first == ablation.Variation("nothing", recipe)
    return [(each.name, each.recipe) for each in others]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("mix", "augment", "shift+timemask+freqmask"),
        ("timemask+freqmask", "augment", "shift+mix?p=0.5"),
        ("mix?p=1", "augment", "shift+timemask+freqmask+mix?p=1"),
        ("augment", "augment", ""),
        ("augment=gain", "augment", "gain"),
        ("ema", "training", "adamw?epochs=9"),
        ("ema=0.9", "training", "adamw?ema=0.9&epochs=9"),
        ("epochs=3", "training", "adamw?ema=0.99&epochs=3"),
        ("teacher", "teacher", ""),
        ("network=cnn", "network", "cnn"),
    ],
)
def test_one_part_of_a_network_is_changed(part: str, field: str, value: str) -> None:
    ((name, recipe),) = changed(NETWORK, part)
    assert name == part
    assert getattr(recipe, field) == (parse_training(value).text if field == "training" else value)
    assert {key: v for key, v in vars(recipe).items() if key != field} == {
        key: v for key, v in vars(NETWORK).items() if key != field
    }


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("scaler", [("scaler", "head", "logreg?C=0.5&scale=false+knn?scale=false")]),
        (
            "pooling",
            [
                ("pooling without mean", "pooling", "std+max"),
                ("pooling without std", "pooling", "mean+max"),
                ("pooling without max", "pooling", "mean+std"),
            ],
        ),
        (
            "encoder",
            [
                ("encoder without logmel", "encoder", "mfcc?bands=20"),
                ("encoder without mfcc?bands=20", "encoder", "logmel"),
            ],
        ),
        ("head=svm", [("head=svm", "head", "svm")]),
    ],
)
def test_one_part_of_a_probe_is_changed(part: str, found: list[tuple[str, str, str]]) -> None:
    assert [(name, getattr(recipe, found[0][1])) for name, recipe in changed(PROBE, part)] == [
        (name, value) for name, _, value in found
    ]


def test_a_lone_statistic_has_others_in_its_place() -> None:
    recipe = Recipe(task="toy", pooling="mean")
    assert [each.pooling for _, each in changed(recipe, "pooling")] == ["max", "std"]


def test_every_other_layer_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trunk:
        layers = dict.fromkeys(("block1", "block2", "block3"))

    class Stand(ablation.NetworkEncoder):
        def __init__(self) -> None:
            self.__dict__ |= {"trunk": Trunk(), "layer": "block3"}

    monkeypatch.setattr(ablation.encoders, "load", lambda name: Stand())
    found = changed(Recipe(task="toy", encoder="mn04?weights=x"), "layer")
    assert [recipe.encoder for _, recipe in found] == ["mn04@block1?weights=x", "mn04@block2?weights=x"]
    assert [name for name, _ in found] == ["layer=block1", "layer=block2"]


@pytest.mark.parametrize(
    ("recipe", "part", "words"),
    [
        (NETWORK, "gain", "no part 'gain'"),
        (NETWORK, "scaler", "no part 'scaler'"),
        (NETWORK, "gain?db=3", "no part 'gain"),
        (NETWORK, "clip", "'clip' changes nothing"),
        (NETWORK, "ema=much", "ema"),
        (PROBE, "mix", "no part 'mix'"),
        (PROBE, "layer", "no layers"),
        (PROBE, "head=logreg?C=0.5+knn", "changes nothing"),
        (Recipe(task="toy"), "encoder", "no part 'encoder'"),
    ],
)
def test_what_cannot_be_changed_is_refused_before_anything_is_measured(
    recipe: Recipe, part: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=words):
        ablation.run(recipe, [part], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_change_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="the same as another"):
        variations(NETWORK, ["ema", "ema=0"])


def test_each_is_held_against_the_learner_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "ablation", "toy?clips=10&seconds=0.5", "--encoder", "logmel?bands=16", "--head", "knn"]
    words += ["--pooling", "mean+std", "--ablate", "scaler,pooling", "-o", str(tmp_path / "out")]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "ablation.json").read_text("utf-8"))
    names = ["nothing", "scaler", "pooling without mean", "pooling without std"]
    assert [row["changed"] for row in found["rows"]] == names
    assert found["command"].startswith(
        "soundmark study ablation 'toy?clips=10&seconds=0.5' --encoder 'logmel?bands=16'"
    )
    assert found["command"].endswith(f"--ablate scaler,pooling -o {(tmp_path / 'out').as_posix()}")
    first = results.Run.read(tmp_path / "out" / "nothing")
    for row, folder in zip(found["rows"][1:], sorted(set(names[1:]), key=names.index), strict=True):
        run = results.Run.read(tmp_path / "out" / folder.replace(" ", "-"))
        assert row["score"]["value"] == run.metrics["headline"]["value"]
        apart = results.compare(first, run)
        assert row["difference"]["value"] == pytest.approx(apart["difference"])
        assert (row["difference"]["low"], row["difference"]["high"]) == (apart["low"], apart["high"])
        assert f"{row['changed']}: {row['score']['value']:.2%}" in said
    assert "difference" not in found["rows"][0]
    table = (tmp_path / "out" / "ablation.md").read_text("utf-8")
    assert table in said
    assert table.count("\n") == 2 + len(names)


def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(task="toy?clips=10&seconds=0.5", encoder="logmel?bands=16", head="knn")
    first = ablation.run(recipe, ["scaler"], tmp_path / "out", progress=False)
    fits, fit = [], Probe.fit

    def noted(self: Probe, *words: Any) -> None:
        fits.append(self.head_name)
        fit(self, *words)

    monkeypatch.setattr(Probe, "fit", noted)
    again = ablation.run(recipe, ["scaler", "head=logreg"], tmp_path / "out", progress=False)
    assert set(fits) == {"logreg"}
    assert [row["score"] for row in again["rows"][:2]] == [row["score"] for row in first["rows"]]


def test_intervals_that_are_not_known_are_left_open() -> None:
    score = {"value": 0.5, "low": None, "high": None}
    content = {"metric": "macro_f1", "rows": [{"changed": "nothing", "score": score}]}
    assert "| nothing | 50.0 % | – |  |  |  |" in ablation.table(content)
