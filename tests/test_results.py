"""A run's folder, written and read; broken and foreign folders; two runs compared."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from soundmark import metrics, results
from soundmark.errors import ResultsError
from soundmark.results import Predictions, Run

CLASSES = ("dog", 'a "quoted", class', "p:odd ü")


def some(n: int = 12, seed: int = 0, skill: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    p = rng.random((n, 3))
    p[np.arange(n), targets] += skill
    return Predictions(
        clips=[f"ü {i}.wav" if i else "long.wav#1-2.5" for i in range(n)],
        paths=[f"ü {i}.wav" if i else "long.wav" for i in range(n)],
        starts=[0.0 if i else 1.0 for i in range(n)],
        ends=[None if i else 2.5 for i in range(n)],
        groups=[f"g{i // 2}" for i in range(n)],
        folds=[str(i % 2 + 1) for i in range(n)],
        targets=targets,
        probabilities=p / p.sum(1, keepdims=True),
        classes=CLASSES,
    )


def written(folder: Path, predictions: Predictions) -> Run:
    summary = metrics.summary(predictions, metric="accuracy", n=20)
    run = Run(folder, {"task": "toy", "seed": 0}, predictions, summary, results.environment())
    run.write()
    return run


def same(a: Predictions, b: Predictions) -> bool:
    lists = all(
        list(getattr(a, name)) == list(getattr(b, name)) for name in ("clips", "paths", "starts", "ends", "groups")
    )
    return (
        lists
        and a.classes == b.classes
        and bool((a.targets == b.targets).all() & (a.probabilities == b.probabilities).all())
    )


def test_predictions_come_back_bit_for_bit(tmp_path: Path):
    wanted = some()
    wanted.write(tmp_path)
    assert same(Predictions.read(tmp_path), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.csv", "predictions.parquet"]


def test_the_table_says_clips_labels_and_probabilities(tmp_path: Path):
    some().write(tmp_path)
    for table in (parquet.read_table(tmp_path / "predictions.parquet"), csv.read_csv(tmp_path / "predictions.csv")):
        first = table.slice(0, 1).to_pylist()[0]
        assert list(first)[:8] == ["clip", "path", "start", "end", "group", "fold", "label", "prediction"]
        assert list(first)[8:] == [f"p:{label}" for label in CLASSES]
        assert (first["clip"], first["start"], first["end"], first["label"]) == ("long.wav#1-2.5", 1.0, 2.5, "dog")
        assert first["prediction"] in CLASSES


def test_a_run_comes_back(tmp_path: Path):
    run = written(tmp_path / "run", some())
    again = Run.read(tmp_path / "run")
    assert again.name == "run"
    assert (again.recipe, again.metrics, again.environment) == (run.recipe, run.metrics, run.environment)
    assert same(again.predictions, run.predictions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": ["1"]}, "12 clips cannot have 1 folds"),
        ({"probabilities": np.zeros((12, 2))}, r"cannot be \(12, 2\)"),
        ({"probabilities": np.full((12, 3), np.nan)}, "not finite"),
        ({"clips": ["a.wav"] * 12}, "predicted twice"),
        ({"classes": ("a", "a", "b")}, "different classes"),
        ({"targets": np.full(12, 3)}, "class numbers from 0 to 2"),
    ],
)
def test_predictions_that_do_not_fit_together(change, message):
    with pytest.raises(ResultsError, match=message):
        replace(some(), **change)


def test_missing_folders_files_and_unfinished_runs(tmp_path: Path):
    with pytest.raises(ResultsError, match="there is no run at"):
        Run.read(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="it is not the folder of a run"):
        Run.read(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ResultsError, match="is a file"):
        Run.read(tmp_path / "a.txt")
    some().write(tmp_path)
    with pytest.raises(ResultsError, match="not finished; start it again"):
        Run.read(tmp_path)


@pytest.mark.parametrize("name", ["recipe.toml", "metrics.json", "environment.json", "predictions.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00nonsense", b"[1, 2", b"PAR1PAR1"])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes):
    written(tmp_path, some())
    (tmp_path / name).write_bytes(content)
    if name == "recipe.toml" and content == b"":
        assert Run.read(tmp_path).recipe == {}
        return
    with pytest.raises(ResultsError, match=name.replace(".", r"\.")):
        Run.read(tmp_path)


def test_metrics_of_something_else(tmp_path: Path):
    written(tmp_path, some())
    (tmp_path / "metrics.json").write_text("[1]")
    with pytest.raises(ResultsError, match="no JSON object"):
        Run.read(tmp_path)
    for content in ({"format": 2, "headline": {}}, {"format": 1, "headline": {"metric": "accuracy", "value": None}}):
        (tmp_path / "metrics.json").write_text(json.dumps(content))
        with pytest.raises(ResultsError, match="another version"):
            Run.read(tmp_path)


def test_foreign_and_damaged_tables(tmp_path: Path):
    def read(table: pa.Table) -> Predictions:
        parquet.write_table(table, tmp_path / "predictions.parquet")
        return Predictions.read(tmp_path)

    good = some().table()
    with pytest.raises(ResultsError, match="not written by Soundmark: it lacks the columns clip, path"):
        read(pa.table({"x": [1]}))
    with pytest.raises(ResultsError, match="lacks the columns p:CLASS"):
        read(good.select(range(8)))
    with pytest.raises(ResultsError, match=r"damaged: it has no column of probabilities for the label 'dog'"):
        read(good.drop_columns(["p:dog"]))
    for column, values in (("start", ["x"] * 12), ("fold", [1] * 12), ("label", [None] * 12), ("p:dog", ["x"] * 12)):
        place = good.column_names.index(column)
        with pytest.raises(ResultsError, match="damaged"):
            read(good.set_column(place, column, pa.array(values)))
    with pytest.raises(ResultsError, match="damaged"):
        read(good.set_column(8, "p:dog", pa.array([None] * 12, pa.float64())))


def test_environment_is_plain_and_names_no_folder():
    found = results.environment()
    text = json.dumps(found)
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpus"] >= 1
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert Path.cwd().as_posix() not in text


def test_the_history_has_a_row_for_every_epoch(tmp_path: Path):
    known = {"train_loss": 3.91, "train_accuracy": 0.05, "seconds": 6}
    choose = {"stage": "choose", "epoch": 1, "rate": 0.0004, **known, "valid_loss": 3.8, "valid_accuracy": 0.07}
    fit = {"stage": "fit", "epoch": 1, "rate": 1e-8, **known, "valid_loss": None}
    results.write_history(tmp_path, [{"fold": 'a "b", c', "history": [choose, fit]}, {"fold": "2", "history": []}])
    read = csv.read_csv(tmp_path / "history.csv", convert_options=csv.ConvertOptions(strings_can_be_null=False))
    assert read.column_names == [
        "fold", "stage", "epoch", "rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "seconds",
    ]  # fmt: skip
    assert read.to_pylist() == [
        {"fold": 'a "b", c'} | choose,
        {"fold": 'a "b", c'} | fit | {"valid_accuracy": None},
    ]
    assert (tmp_path / "history.csv").read_text().splitlines()[2].endswith(",3.91,0.05,,,6")
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_reading_results_does_not_import_torch():
    code = (
        "import sys, soundmark.results, soundmark.metrics; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Comparing ---------------------------------------------------------------------------------------------------


def test_compare_pairs_clips_whatever_their_order(tmp_path: Path):
    good, bad = some(60, skill=2.0), some(60, skill=0.1)
    order = np.random.default_rng(1).permutation(60)
    moved = Predictions(
        **{
            name: [getattr(good, name)[i] for i in order]
            for name in ("clips", "paths", "starts", "ends", "groups", "folds")
        },
        targets=good.targets[order],
        probabilities=good.probabilities[order],
        classes=CLASSES,
    )
    a, b = written(tmp_path / "bad", bad), written(tmp_path / "good", moved)
    found = results.compare(a, tmp_path / "good", n=200)
    json.dumps(found, allow_nan=False)
    assert found["difference"] == pytest.approx(b.metrics["headline"]["value"] - a.metrics["headline"]["value"])
    assert 0 < found["low"] <= found["difference"] <= found["high"]
    assert found["both_right"] + found["only_a"] + found["only_b"] + found["both_wrong"] == 60
    assert found["permutation"]["p"] < 0.01
    assert found["mcnemar"]["p"] <= found["mcnemar"]["exact"] < 0.01
    assert (found["clips"], found["groups"], found["notes"]) == (60, 30, [])
    back = results.compare(b, a, n=200)
    assert back["difference"] == pytest.approx(-found["difference"])


def test_a_run_does_not_differ_from_itself(tmp_path: Path):
    run = written(tmp_path / "run", some())
    found = results.compare(run, run, n=50)
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)
    assert found["mcnemar"]["p"] == found["permutation"]["p"] == 1


def test_compare_says_what_differs(tmp_path: Path):
    a = written(tmp_path / "a", some(12))
    with pytest.raises(ResultsError, match=r"different clips \(3 only in b: .* 12\.wav, .*\)"):
        results.compare(a, written(tmp_path / "b", some(15)))
    with pytest.raises(ResultsError, match=r"classes differ .only one of them has cat, dog"):
        results.compare(a, written(tmp_path / "c", replace(some(12), classes=("cat", *CLASSES[1:]))))
    with pytest.raises(ResultsError, match="another order"):
        results.compare(a, written(tmp_path / "d", replace(some(12), classes=CLASSES[::-1])))
    with pytest.raises(ResultsError, match=r"12 clips have other labels: .* and 9 more"):
        results.compare(a, written(tmp_path / "e", replace(some(12), targets=(some(12).targets + 1) % 3)))


def test_compare_notes_other_folds_groups_and_metrics(tmp_path: Path):
    a = written(tmp_path / "a", some())
    b = written(tmp_path / "b", replace(some(), folds=["1"] * 12, groups=["g"] * 12))
    b.metrics["headline"]["metric"] = "macro_f1"
    notes = results.compare(a, b, n=20)["notes"]
    assert [note.split()[1] for note in notes] == ["folds", "groups", "runs'"]
    assert "p-values" in results.compare(b, a, n=20)["notes"][-1]
