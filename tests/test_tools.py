"""The tables and the generated reference: true to their sources, and the README is not stale."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soundmark
from soundmark import cli, encoders, heads, published, tasks
from soundmark.card import card
from soundmark.encoders.pooling import ALIASES, STATISTICS
from soundmark.encoders.weights import CHECKPOINTS

ROOT = Path(__file__).resolve().parents[1]


sys.path.insert(0, str(ROOT / "tools"))  # where they find each other when they run
tables, reference, shared_lines, keep, bundle, gallery = map(
    importlib.import_module, ("tables", "reference", "shared_lines", "keep", "bundle", "gallery")
)
UNTRAINED = [name for name in encoders.ENCODERS if name not in CHECKPOINTS]


def measured(value: float, **more: Any) -> dict[str, Any]:
    return {
        "command": "soundmark train esc50 --head knn --out somewhere/else",
        "task": "esc50",
        "protocol": "official 5 folds",
        "learner": {"encoder": "logmel", "pooling": "mean", "head": "knn"},
        "headline": {"metric": "accuracy", "value": value, "low": value - 0.02, "high": value + 0.02},
        "over_folds": {"accuracy": {"mean": value, "std": 0.01, "min": 0.1, "max": 0.9}},
        "notes": ["A caveat."],
        "environment": {"soundmark": "0.1.0", "commit": "0123456789abcdef", "python": "3.12.1", "cpus": 2},
        **more,
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A small `results/` of invented numbers."""

    def put(name: str, content: dict[str, Any]) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    for i, (encoder, head, value) in enumerate(
        [("logmel", "knn", 0.3), ("logmel", "svm", 0.5), ("mfcc", "knn", 0.4), ("logmel+mfcc", "svm", 0.6)]
    ):
        put(f"grid/{i}.json", measured(value, learner={"encoder": encoder, "pooling": "mean", "head": head}, seed=0))
    put("runs/a.json", measured(0.7))
    chosen = [{"fold": str(i), "chosen": "logmel / mean / svm?C=10"} for i in range(4)]
    put(
        "runs/b.json",
        measured(
            0.8,
            task="esc50:danger",
            learner={"candidates": "6", "chosen": "on the training side of every fold"},
            selection=[*chosen, {"fold": "5", "chosen": "logmel / mean / svm?C=1"}],
            notes=[],
            alarm=[
                {"max_false_alarm": 0.05, "recall": 0.9, "low": 0.8, "high": 0.95}
                | {"realised": 0.06, "realised_low": 0.05, "realised_high": None}
            ],
        ),
    )
    put(
        "benchmarks/cold_start.json",
        {"columns": ["what", "s"], "rows": [["a | b", 0.5], {"what": "c", "s": 1.25}], "command": "make bench"},
    )
    others = {"other_columns": ["input", "error"], "other_rows": [["a <table>", "no columns"]]}
    put("odd_inputs.json", {"rows": [{"input": "empty file", "reading": "an error", "safe": True}]} | others)
    return tmp_path


def test_the_readme_is_not_stale() -> None:
    assert tables.main(["--check"]) == 0


def test_stale_tables_are_found_and_filled(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "R.md"
    readme.write_text("Before.\n\n<!-- table: headlines -->\nold\n<!-- end -->\n\nAfter.\n", encoding="utf-8")
    words = ["--readme", str(readme), "--results", str(results)]
    assert tables.main(["--check", *words]) == 1
    assert "make tables" in capsys.readouterr().err
    assert tables.main(words) == 0
    assert tables.main(["--check", *words]) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("Before.\n\n<!-- table: headlines -->\n|")
    assert text.endswith("<!-- end -->\n\nAfter.\n")
    assert "\nold\n" not in text


def test_every_table_does_without_results(tmp_path: Path) -> None:
    for make in tables.TABLES.values():
        assert "Not" in make(tmp_path)


def test_headlines_give_score_interval_and_command(results: Path) -> None:
    text = tables.headlines(results)
    assert "| `esc50` | `logmel` · `mean` · `knn` | accuracy | 70.0 % | 68.0 to 72.0 | 70.0 % ± 1.0 |" in text
    assert "chosen in each fold among 6; 4 of 5 times `logmel` · `mean` · `svm?C=10`" in text
    assert "\nsoundmark train esc50 --head knn\n" in text
    assert "A caveat. (Not in every line.)" in text
    assert "Soundmark 0.1.0 (0123456), Python 3.12.1, 2 cores" in text
    assert "bootstrap over whole groups" in text


def test_runs_on_a_part_of_a_data_set_are_marked_and_stand_behind_the_others(results: Path) -> None:
    for name, protocol in (
        ("s", "sample: 5 group folds"),
        ("i", "official 5 folds, incomplete: 1500 of 2000 recordings"),
    ):
        (results / "runs" / f"{name}.json").write_text(json.dumps(measured(0.99, protocol=protocol)), encoding="utf-8")
    rows = [line.split(" | ")[0] for line in tables.headlines(results).splitlines() if line.startswith("| `")]
    assert rows == ["| `esc50`", "| `esc50`, incomplete", "| `esc50`, sample", "| `esc50:danger`"]


def test_a_mean_over_folds_is_called_so(results: Path) -> None:
    run = measured(0.9, headline={"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "over": "folds"})
    (results / "runs" / "a.json").write_text(json.dumps(run), encoding="utf-8")
    assert "| accuracy, mean over folds | 90.0 % |" in tables.headlines(results)


def test_probes_of_several_tasks_stand_side_by_side_whole_ones_first_and_the_best_in_bold(results: Path) -> None:
    folder = results / "leaderboard"
    folder.mkdir()
    for task, protocol, head, seed, value in (
        ("nsynth", "official", "linear", 0, 0.5), ("esc50", "official 5 folds", "linear", 0, 0.6),
        ("esc50", "official 5 folds", "linear", 1, 0.7), ("esc50", "official 5 folds", "three-layer", 0, 0.8),
        ("a", "sample: 5 group folds", "linear", 0, 0.9),
    ):  # fmt: skip
        learner = {"encoder": "mn04", "pooling": "mean", "head": head}
        cell = measured(value, task=task, protocol=protocol, learner=learner, clips=57, seed=seed)
        (folder / f"{task}{head}{seed}.json").write_text(json.dumps(cell), encoding="utf-8")
    text = tables.TABLES["leaderboard"](results)
    assert [line.replace("\u00a0", "_") for line in text.splitlines() if line.startswith("|")][2:] == [
        "| `esc50` | 57 | accuracy | 65.0_±_7.1<br>58.0_to_72.0 | **80.0**<br>78.0_to_82.0 |",
        "| `nsynth` | 57 | accuracy | **50.0**<br>48.0_to_52.0 |  |",
        "| `a`, sample | 57 | accuracy | **90.0**<br>88.0_to_92.0 |  |",
    ]
    assert (
        "soundmark benchmark --tasks a esc50 nsynth --encoders mn04 --poolings mean --heads linear three-layer "
        "--seeds 2 --allow-partial --out results/leaderboard\n"
    ) in text


def trained(fold: str, epochs: int, **more: Any) -> dict[str, Any]:
    rows = [
        {"stage": stage, "epoch": epoch, "rate": 1 / 3000, "train_loss": 2 / 3, "valid_loss": None, "seconds": 6.123456}
        for stage, last in (("choose", 60), ("fit", epochs))
        for epoch in range(1, last + 1)
    ]
    about = {"fold": fold, "parameters": 664570, "epochs": epochs, "of": 60, "device": "cpu, 2 threads"}
    return about | {"precision": "bf16", "seconds": 1800.0, "seconds_per_epoch": 6.1, "history": rows} | more


@pytest.fixture
def network(results: Path) -> Path:
    """A network among the results."""
    long = "gain?db=6+mix?alpha=0.4+shift+mask?bands=24+noise?snr=10"
    learner = {"network": "cnn?width=24", "augment": long, "training": "adamw?epochs=60"}
    content = measured(
        0.75,
        learner=learner,
        command=f"soundmark train esc50 --network 'cnn?width=24' --augment '{long}' --out x",
        training=[trained("1", 42), trained("2", 48, device="NVIDIA H100 80GB HBM3", torch="2.9.0")],
    )
    (results / "runs" / "network.json").write_text(json.dumps(content), encoding="utf-8")
    return results


def test_headlines_of_networks_count_augmentations_and_name_the_device(network: Path) -> None:
    row, *_ = [line for line in tables.headlines(network).splitlines() if "cnn" in line]
    assert row.startswith("| `esc50` | `cnn?width=24` · `adamw?epochs=60` · 5 augmentations | accuracy | 75.0 % |")
    assert row.endswith("| CPU, 2 threads, NVIDIA H100 80GB HBM3 |")
    assert "| over folds | trained on |" in tables.headlines(network)
    assert "--augment 'gain?db=6+mix?alpha=0.4+shift+mask?bands=24+noise?snr=10'" in tables.headlines(network)
    assert "no augmentations" not in tables.headlines(network)


def test_a_teacher_is_named(network: Path) -> None:
    run = json.loads((network / "runs" / "network.json").read_text(encoding="utf-8"))
    run["learner"]["teacher"] = "finetune-mn04"
    (network / "runs" / "network.json").write_text(json.dumps(run), encoding="utf-8")
    assert "· 5 augmentations · taught by `finetune-mn04` | accuracy |" in tables.headlines(network)


def test_tables_without_networks_have_no_column_for_them(results: Path) -> None:
    assert "trained on" not in tables.headlines(results)
    assert "trained on" not in tables.alarms(results)


def test_a_network_that_was_chosen_and_raises_alarms(results: Path) -> None:
    names = {"network / gain / adamw?rate=0.01": 2, "network / adamw?rate=0.001": 1}
    selection = [{"fold": "1", "chosen": name} for name, times in names.items() for _ in range(times)]
    alarm = [{"max_false_alarm": 0.05, "recall": 0.9, "low": 0.8, "high": 0.95, "realised": 0.06}]
    learner = {"candidates": "2", "chosen": "on the training side of every fold"}
    for count in (1, 3):
        content = measured(0.75, learner=learner, selection=selection[-count:], alarm=alarm, training=[trained("1", 9)])
        (results / "runs" / f"{count}.json").write_text(json.dumps(content), encoding="utf-8")
    text = tables.alarms(results)
    assert "among 2; 2 of 3 times `network` · `adamw?rate=0.01` · 1 augmentation | 5 % |" in text
    assert "among 2; always `network` · `adamw?rate=0.001` · no augmentations | 5 % |" in text
    assert text.count("| CPU, 2 threads |") == 2
    assert text.splitlines()[0].endswith("| trained on |")


def test_the_table_of_trainings_tells_size_time_and_device(network: Path) -> None:
    text = tables.training(network)
    assert (
        "| `esc50` | `cnn?width=24` · `adamw?epochs=60` · 5 augmentations | 664,570 | 42 to 48 of 60 | 6.1 | 1.00 "
        "| CPU, 2 threads, NVIDIA H100 80GB HBM3 | bf16 |"
    ) in text
    assert text.count("\n| `") == 1
    assert "Folds were trained with torch 2.9.0." in text
    assert "soundmark train esc50 --network 'cnn?width=24'" in text
    assert "--out" not in text


def test_a_training_that_says_little_is_a_row_all_the_same(network: Path) -> None:
    content = measured(0.5, learner={"network": "cnn", "augment": "", "training": "adamw"}, training=[{"fold": "1"}])
    (network / "runs" / "network.json").write_text(json.dumps(content), encoding="utf-8")
    assert "| `cnn` · `adamw` · no augmentations | – | – of – | – | 0.00 |  |  |" in tables.training(network)


def test_kept_histories_are_rounded_and_no_larger_than_there_is_room_for() -> None:
    run = {"clips": 2000, "score": 1 / 3, "training": [trained(str(fold), 7) for fold in range(2)]}
    small = keep.kept(run)
    assert {**small, "training": None} == {**run, "training": None}
    assert [len(each["history"]) for each in small["training"]] == [67, 67]
    assert small["training"][0]["history"][0] == {
        "stage": "choose", "epoch": 1, "rate": 0.0003333, "train_loss": 0.6667, "valid_loss": None, "seconds": 6.123,
    }  # fmt: skip
    assert run["training"][0]["history"][0]["seconds"] == 6.123456
    run["training"] = [trained(str(fold), 43) for fold in range(20)]
    thin = keep.kept(run)
    assert keep.size(thin) <= keep.MOST_BYTES < keep.size(run)
    rows = thin["training"][0]["history"]
    step = rows[0]["epoch"]
    wanted = sorted({*range(step, 61, step), 43, 60})
    assert [row["epoch"] for row in rows if row["stage"] == "choose"] == wanted
    assert [row["epoch"] for row in rows if row["stage"] == "fit"] == [epoch for epoch in wanted if epoch <= 43]


def test_runs_that_were_not_trained_are_kept_as_they_are() -> None:
    assert keep.kept({"score": 1 / 3}) == {"score": 1 / 3}


def test_alarms_give_what_was_allowed_and_what_came(results: Path) -> None:
    row = tables.alarms(results).splitlines()[-1]
    assert "| 5 % | 90.0 % | 80.0 to 95.0 | 6.0 % (–) |" in row


def test_the_short_grid_has_the_best_pooling_of_every_cell(results: Path) -> None:
    worse = measured(0.45, seed=0, learner={"encoder": "logmel", "pooling": "max", "head": "svm"})
    (results / "grid" / "worse.json").write_text(json.dumps(worse), encoding="utf-8")
    text = tables.grid_best(results)
    assert "| accuracy, % | `knn` | `svm` |" in text
    assert "| `mfcc` | 40.0 |  |" in text
    assert "| `logmel` | 30.0 | 50.0 |" in text
    assert "| `logmel+mfcc` |  | **60.0** |" in text
    assert "best of all 5 lines is `logmel+mfcc` with `mean` and `svm`: 60.0 % (58.0 to 62.0)" in text
    assert "up to 2.0 points to either side" in text


def test_the_full_grid_marks_the_best_and_says_what_is_missing(results: Path) -> None:
    text = tables.grid(results)
    assert "| `logmel+mfcc` |  | **60.0** |" in text
    assert "4 of its 6 cells are measured so far" in text
    command = next(line for line in text.splitlines() if line.startswith("soundmark "))
    args = cli.parser("benchmark").parse_args(shlex.split(command)[1:])
    assert args.encoders == ["mfcc", "logmel", "logmel+mfcc"]
    assert tables.grid_all(results).count("\n| `") == 4


def test_seeds_of_a_learner_become_one_line(results: Path) -> None:
    again = measured(0.6, seed=1, learner={"encoder": "logmel", "pooling": "mean", "head": "svm"})
    (results / "grid" / "again.json").write_text(json.dumps(again), encoding="utf-8")
    assert "| `logmel` | `mean` | `svm` | 55.0 % | 48.0 to 62.0 |" in tables.grid_all(results)
    assert "--seeds 2" in tables.grid(results)


def test_plain_tables_take_lists_and_objects(results: Path) -> None:
    text = tables.speed(results)
    assert "### Cold start" in text
    assert "| a \\| b | 0.5 |" in text
    assert "| c | 1.25 |" in text
    assert "Made by `make bench`." in text
    text = tables.odd_inputs(results)
    assert "| empty file | an error | yes |" in text
    assert "| a &lt;table> | no columns |" in text


def test_the_benchmark_of_features_is_a_table(results: Path) -> None:
    names = ("librosa", "soundmark", "decode_libsndfile", "decode_soundmark")
    kind = {
        "rate": 44100,
        "resampled": False,
        "clips": 2000,
        "median_seconds": dict(zip(names, (40.0, 8.0, 5.0, 4.0), strict=True)),
        "times_faster_than_librosa": 5.0,
        "max_difference_db": 0.00012,
    }
    content = {"command": "python benchmarks/features.py", "what": "log-mel", "native": kind}
    content["peak_memory_mib"] = {"250": 400.2, "2000": 401.9}
    (results / "benchmarks" / "features.json").write_text(json.dumps(content), encoding="utf-8")
    text = tables.speed(results)
    assert "| 44100 Hz | 40.0 s | 8.0 s | **5.0 times** | 5.0 s | 4.0 s | 1.2e-04 dB |" in text
    assert "250 clips: 400 MiB; 2000 clips: 402 MiB" in text


def test_the_benchmark_of_a_cold_start_is_a_table(results: Path) -> None:
    content = {
        "command": "python benchmarks/classify_cold.py MODEL RECORDING",
        "what": "whole processes",
        "learner": {"encoder": "logmel", "head": "svm"},
        "model_bytes": 2_500_000,
        "recording": {"seconds": 5.0, "sample_rate": 44100, "format": "WAV PCM_16"},
        "median_seconds": {"bare": 0.3, "soundmark": 0.45},
        "slowest_seconds": {"bare": 0.4, "soundmark": 0.5},
        "times_the_bare_script": 1.5,
    }
    (results / "benchmarks" / "classify_cold.json").write_text(json.dumps(content), encoding="utf-8")
    text = tables.speed(results)
    assert "### Classify cold" in text
    assert "| `soundmark classify` | 0.45 s | 0.50 s |" in text
    assert "That is 1.5 times the bare script" in text
    assert "(WAV PCM_16), a model of 2.5 MB (`logmel` · `svm`)." in text


def test_a_broken_result_is_named(results: Path) -> None:
    (results / "runs" / "c.json").write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"c\.json is not JSON"):
        tables.headlines(results)


def test_an_unknown_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no table 'nonesuch'"):
        tables.fill("<!-- table: nonesuch -->\n<!-- end -->", tmp_path)


def test_committed_results_name_no_folder_of_ours() -> None:
    for path in (ROOT / "results").rglob("*.json"):
        command = json.loads(path.read_text(encoding="utf-8")).get("command", "")
        assert not any(word.startswith("/") for word in shlex.split(command)), path


def test_every_encoder_and_head_is_in_its_table_with_its_settings() -> None:
    listed = reference.encoder_table() + reference.pretrained_table()
    assert all(f"| `{name}` |" in listed for name in encoders.ENCODERS)
    assert "`fmin=32.7`" in listed
    assert "`deltas=false`" in listed
    listed = reference.head_table()
    assert all(f"| `{name}` |" in listed for name in heads.HEADS)
    assert "`rate=0.001`" in listed


def test_every_setting_of_an_encoder_is_explained() -> None:
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    for name in UNTRAINED:
        for pair in reference.settings(encoders.load, name).replace("`", "").split(", "):
            assert f"`{pair.partition('=')[0]}`" in page, f"{name}: {pair}"


def test_every_statistic_is_in_the_list_of_poolings() -> None:
    listed = reference.pooling_list().split()
    assert {*STATISTICS, *ALIASES} <= set(listed)


def test_views_are_listed_with_their_classes() -> None:
    listed = reference.view_table("esc50")
    assert all(f"`esc50:{view.name}`" in listed for view in tasks.views("esc50"))
    assert "danger (9 classes)" in listed
    assert "10 of the 50 classes" in listed


def test_the_help_of_every_verb_and_action_is_there() -> None:
    text = reference.command_line()
    assert all(f"### soundmark {verb}\n" in text for verb in cli.VERBS)
    assert "### soundmark data export\n" in text
    assert "\x1b" not in text


def test_a_page_that_loads_from_a_network_is_refused() -> None:
    class Page:
        class file:  # noqa: N801
            src_uri = "x.md"

    ours = '<a href="https://example.org">a link</a><img src="mark.svg">'
    assert reference.on_post_page(ours, Page) == ours
    with pytest.raises(SystemExit, match=r"x\.md loads from the network: https://example\.org/f\.css"):
        reference.on_post_page('<link rel="stylesheet" href="https://example.org/f.css">', Page)


def test_an_unknown_insert_is_an_error() -> None:
    with pytest.raises(SystemExit, match="nonesuch"):
        reference.fill("<!-- insert: nonesuch -->")


def test_names_that_share_a_line_of_a_docstring_get_their_own() -> None:
    text = "Args:\n    a, b: what they are,\n        all of it.\n    c: another, with: a colon.\n\nA, b and c: prose."
    assert shared_lines.split(text) == (
        "Args:\n    a: what they are,\n        all of it.\n    b: what they are,\n        all of it.\n"
        "    c: another, with: a colon.\n\nA, b and c: prose."
    )


def test_costs_and_comparisons_of_networks_are_tables(tmp_path: Path) -> None:
    cost = {
        "recipe": "small-cnn", "seconds_per_epoch": {"as in the recipe": 8.0, "float32": 16.25},
        "hours_for_five_folds": 1.0, "command": "python benchmarks/training.py cnn",
        "environment": {"soundmark": "0.1.0", "commit": None, "python": "3.11", "cpus": 2},
    }  # fmt: skip
    pair = {
        "a": {"name": "frozen", "value": 0.942}, "b": {"name": "tuned", "value": 0.955}, "difference": 0.013,
        "low": 0.004, "high": 0.022, "mcnemar": {"p": 0.0123, "exact": True}, "permutation": {"p": 0.02},
    }  # fmt: skip
    for folder, content in (("training-cost", cost), ("comparisons", pair)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.json").write_text(json.dumps(content), encoding="utf-8")
    text = tables.TABLES["training-cost"](tmp_path)
    assert "| `small-cnn` | 8.0 | 16.2 | 1.0 |" in text
    assert "python benchmarks/training.py cnn" in text
    text = tables.TABLES["comparisons"](tmp_path)
    assert "+1.3 points (+0.4 to +2.2)" in text
    assert "0.012" in text
    assert "soundmark compare" in tables.TABLES["comparisons"](tmp_path / "nothing")


def test_events_in_streams_are_a_table_for_each_learner(tmp_path: Path) -> None:
    (tmp_path / "soundscapes").mkdir()
    learners = (
        {
            "task": "esc50",
            "encoder": "logmel",
            "network": "mark1",
            "teacher": "finetune-mn04",
        },  # a recipe's defaults too
        {"task": "esc50", "encoder": "mn04", "head": "svm"},
    )
    for number, learner in enumerate(learners):
        content = {
            "learner": learner, "threshold": {"danger": f"at 0.0{number}"}, "columns": ["F1"],
            "rows": [[f"{number}1.0 %"]], "notes": ["After sed_eval."],
        }  # fmt: skip
        (tmp_path / "soundscapes" / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    text = tables.TABLES["events"](tmp_path)
    assert text.index("Heard by `mark1` · `finetune-mn04`; alarm at 0.00.") < text.index("| 01.0 % |")
    assert text.index("| 01.0 % |") < text.index("Heard by `mn04` · `svm`; alarm at 0.01.") < text.index("| 11.0 % |")
    assert text.count("After sed_eval.") == 2
    assert "benchmarks/soundscapes.py" in tables.TABLES["events"](tmp_path / "nothing")


def test_a_bundled_model_says_what_concerns_those_who_are_given_it(
    tmp_path: Path, tiny_model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = {"learner": {"network": "mark1", "teacher": "finetune-mn04"}}
    (tmp_path / "model.onnx").write_bytes(
        tiny_model(unknown_below=0.3, licence="CC BY-NC 3.0", code_licence="MIT", **taught)
    )
    rate = {"value": 0.9, "low": 0.8, "high": 0.95}
    unknown = {
        "parts": [{}, {}],
        "scores": {"probability": {"auroc": rate, "realised": {"known": rate, "unknown": rate | {"value": 0.4}}}},
    }
    speed = {"median_ms": {"graph": 10.0, "file": 14.0}, "clip_seconds": 5.0, "clips": 7, "processor": "Some CPU"}
    made = soundmark.load(bundle.bundled(tmp_path / "model.onnx", unknown=unknown, speed=speed))
    text = card(made)
    assert text.startswith(f"# Model card: {published.BUNDLED}\n")
    for words in (
        "with an AUROC of 0.900 (0.800 to 0.950)",
        "90.0% of the known clips are accepted, and 40.0% of the unknown ones pass for known.",
        "10.0 ms for 5 s of waveform on one core, 500 times as quick as it sounds, and 14.0 ms from the file on",
        "weights, by what they were trained on: CC BY-NC 3.0",
        "code that trains and runs it: MIT",
        "from random weights, taught by a network that was fine-tuned on the same clips, and fitted on all clips",
        *bundle.LIMITS,
    ):
        assert words in text
    same = soundmark.load(tmp_path / "model.onnx").predict_proba(np.full((1, 8000), 0.3, np.float32))
    np.testing.assert_array_equal(made.predict_proba(np.full((1, 8000), 0.3, np.float32)), same)
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    with pytest.raises(SystemExit, match="100 at most"):
        bundle.bundled(tmp_path / "model.onnx")


def test_front_ends_stand_side_by_side_by_window_and_hop(tmp_path: Path) -> None:
    (tmp_path / "frontends").mkdir()
    for i, (encoder, value) in enumerate(
        [
            ("logmel?hop=512&window=1024", 0.42),
            ("linear?bands=0&hop=512&window=1024", 0.4),
            ("logmel?hop=128&window=512", 0.3),
        ]
    ):
        learner = {"encoder": encoder, "pooling": "mean+std", "head": "logreg?C=0.1"}
        content = json.dumps(measured(value, learner=learner))
        (tmp_path / "frontends" / f"{i}.json").write_text(content, encoding="utf-8")
    text = tables.TABLES["front-ends"](tmp_path)
    assert "| 512 / 128 | 12 ms, 2.9 ms | 86 Hz | – | – | 30.0 % (28.0 to 32.0) |" in text
    assert "| 1024 / 512 | 23 ms, 11.6 ms | 43 Hz | 40.0 % (38.0 to 42.0) | – | 42.0 % (40.0 to 44.0) |" in text
    assert text.index("| 512 / 128") < text.index("| 1024 / 512")
    (line,) = [line for line in text.splitlines() if line.startswith("soundmark benchmark")]
    words = vars(cli.parser().parse_args(shlex.split(line)[1:]))
    assert words["encoders"] == [
        "logmel?hop=512&window=1024", "linear?bands=0&hop=512&window=1024", "logmel?hop=128&window=512",
    ]  # fmt: skip
    assert words["out"] == "results/frontends"


def test_the_packages_scores_of_front_ends_are_the_committed_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--check"])
    assert gallery.main() == 0, "run tools/gallery.py"
    monkeypatch.setattr(gallery, "PACKAGED", tmp_path / "gallery.json")
    (tmp_path / "gallery.json").write_text('{"scores": []}', encoding="utf-8")
    assert gallery.main() == 1
