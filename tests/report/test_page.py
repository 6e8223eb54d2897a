"""The page: whole, self-contained, true to the results, and safe with what strangers wrote."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundmark import report
from soundmark.cli import main
from soundmark.errors import ResultsError
from soundmark.report import words
from soundmark.results import Predictions
from soundmark.tasks.base import Clip, Task

EVIL = "<script>alert('x')</script>"
QUOTES = '" onload="alert(1)\'><img src=//evil.example/x>'


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(folder: Path, **options) -> Page:
    return Page(report.write(folder, **options).read_text(encoding="utf-8"))


def recordings(folder: Path, run: Path) -> Task:
    said = Predictions.read(run)
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for path in said.paths:
        soundfile.write(folder / path, 0.1 * rng.normal(size=8000), 16000)
    clips = tuple(Clip(path, ("dog",)) for path in said.paths)
    return Task("toy", folder, clips, said.classes, "3 folds", (), title="Toy sounds", licence="CC0")


def test_a_page_says_what_was_found(make_run):
    folder = make_run(
        notes=["These sounds are synthetic."],
        bad_clips=[{"clip": "audio/x.wav", "error": "it is empty"}],
        learner={"encoder": "logmel?bands=64", "pooling": "mean", "head": "svm"},
        command="soundmark train toy --head svm",
        seconds={"encode": 1.25, "fit_and_test": 0.5},
        model={"learner": "logmel mean svm", "fitted_on": 36},
    )
    found = json.loads((folder / "metrics.json").read_text())
    text = " ".join(page(folder).text.split())
    value, low, high = (f"{100 * found['headline'][name]:.1f}" for name in ("value", "low", "high"))
    assert f"{value} % Accuracy 95 % interval {low}–{high} %".replace(" ", "") in text.replace(" ", "")
    assert "36 clips from 18 sources were put to the test" in text
    assert "Always answering with the commonest class would give 33.3 %" in text
    for words_of in (
        "Toy sounds", "These sounds are synthetic.", "1 clip could not be read and was left out", "it is empty",
        "logmel?bands=64 → mean → svm", "soundmark train toy --head svm", 'task = "no such task"', '"packages"',
        "Time to fit and test", "fitted on all 36 clips", "Does its confidence mean anything?", "Every fold by itself",
        "Most confused", "The surest mistakes", "The recordings were not at hand", "Every class in numbers",
    ):  # fmt: skip
        assert words_of in text


def test_a_page_needs_nothing_else(make_run, tmp_path: Path):
    folder = make_run()
    made = report.write(folder, task=recordings(tmp_path / "data", folder))
    html, found = made.read_text(encoding="utf-8"), Page(made.read_text(encoding="utf-8"))
    links = [value for _, attributes in found.elements for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(str(link).startswith(("data:", "#")) for link in links)
    assert "url(http" not in html
    assert "@import" not in html
    assert len(found.all("audio")) == len(found.all("img")) > 0
    assert all(attributes["alt"] for attributes in found.all("img"))
    assert made.stat().st_size < 3_000_000
    assert "Recordings: Toy sounds, CC0." in found.text


def test_only_the_pages_own_script_may_run(make_run):
    html = report.write(make_run()).read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = next(m["content"] for m in Page(html).all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert "default-src 'none'" in str(policy)


def test_what_strangers_wrote_is_only_text(make_run, tmp_path: Path):
    classes = (EVIL, QUOTES, "{{ 7 * 7 }}", "$x$")
    learner = {"encoder": EVIL, QUOTES: QUOTES}
    selection = [{"fold": EVIL, "chosen": QUOTES, "candidates": [{"learner": QUOTES, "score": 0.5}]}]
    folder = make_run(
        classes, title=EVIL, task=QUOTES, protocol=EVIL, notes=[EVIL, QUOTES],
        bad_clips=[{"clip": EVIL, "error": QUOTES}], learner=learner, command=EVIL,
        selection=selection, seconds={EVIL: 1.0}, model={"learner": EVIL},
        recipe={"task": EVIL},
    )  # fmt: skip
    found = page(folder)
    assert len(found.all("script")) == 1
    assert found.all("img") == []
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert EVIL in found.text
    assert "{{ 7 * 7 }}" in found.text


def test_two_classes_show_curves_and_alarms(two_class_run):
    text = page(two_class_run).text
    for words_of in (
        "As an alarm for “danger”",
        "0.410–0.460",
        "60.0\u00a0%",
        "5.5\u00a0%",
        "ROC AUC",
        "Precision against recall",
    ):
        assert words_of in text


NETWORK = {"network": "cnn?width=24", "augment": "gain+mix", "training": "adamw?epochs=60"}


def test_a_network_says_how_it_was_trained(make_run, make_training):
    folder = make_run(training=make_training(3), learner=NETWORK, seconds={"prepare": 1.0})
    text = " ".join(page(folder).text.split())
    for words_of in (
        "cnn?width=24 · gain+mix · adamw?epochs=60", "Augmentationgain+mix", "Parameters664,570",
        "How it was trained", "The test clips were not looked at until it was done", "Loss by epoch",
        "Accuracy by epoch", "Learning rate by epoch", "of 606.1 s", "All on CPU; precision bf16.",
    ):  # fmt: skip
        assert words_of in text
    assert text.index("Does its confidence") < text.index("How it was trained") < text.index("The surest mistakes")
    assert {f"{name}.{kind}" for name in ("loss", "accuracy", "rate") for kind in ("png", "svg")} <= {
        path.name for path in (folder / "figures").iterdir()
    }


def test_a_probe_was_not_trained_in_epochs(make_run):
    text = page(make_run(learner={"encoder": "logmel", "pooling": "mean", "head": "svm"})).text
    assert "How it was trained" not in text
    assert "Parameters" not in text


def test_folds_on_different_machines_say_so_each(make_run, make_training):
    training = make_training(3, 5, hold_out=False)
    training[0]["device"] = "cpu, 2 threads"
    training[1] |= {"device": QUOTES, "precision": EVIL, "fold": EVIL}
    training[2] = {"fold": "3", "history": None, "of": 5, "epochs": None, "device": "cuda"}
    found = page(make_run(training=training, learner=NETWORK | {"augment": ""}))
    text = " ".join(found.text.split())
    assert "CPU, 2 threads" in text
    assert "a number of epochs that was set beforehand" in text
    assert "All on" not in text
    assert "3–––cuda–" in text
    assert "all61.0 s" in text
    assert len(found.all("script")) == 1
    assert EVIL in found.text


def test_times_are_in_units_that_people_use(make_run, make_training):
    training = make_training(1, 3) * 2
    training = [dict(training[0], seconds=0.04), dict(training[1], seconds=90000, seconds_per_epoch=200)]
    text = page(make_run(training=training, learner=NETWORK)).text
    for words_of in ("0.04\u00a0s", "3.3\u00a0min", "25.0\u00a0h"):
        assert words_of in text


def test_a_long_augmentation_is_counted_above_and_whole_below(make_run, make_training):
    long = "gain?db=6+mix?alpha=0.4+shift+noise?snr=10"
    found = page(make_run(training=make_training(1, 3), learner=NETWORK | {"augment": long}))
    assert "cnn?width=24 · 4 augmentations · adamw?epochs=60" in found.text
    assert long in found.text


def test_what_was_searched_is_shown_by_fold(make_run):
    found = [
        {"fold": "1", "trials": 12, "pruned": 4, "score": 0.71, "best": {"training.adamw.rate": "0.00312"}},
        {"fold": "2", "trials": 12, "pruned": 0, "score": None, "best": {"network.cnn.width": EVIL}},
    ]
    page = report.write(make_run(tuned=found)).read_text(encoding="utf-8")
    assert "What each fold found by searching" in page
    assert "12, 4 given up" in page
    assert "0.00312" in page
    assert "71.0" in page
    assert EVIL not in page
    assert "by searching" not in report.write(make_run()).read_text(encoding="utf-8")


def test_selection_is_shown_by_fold(make_run):
    candidates = [{"learner": "svm?C=1", "score": 0.701}, {"learner": "svm?C=10", "score": 0.722}]
    folder = make_run(selection=[{"fold": str(f), "chosen": "svm?C=10", "candidates": candidates} for f in (1, 2)])
    text = page(folder).text
    assert "chose among 2 candidates" in text
    assert text.count("72.2\u00a0%") == text.count("✓") == 2


def test_one_fold_one_class_right_and_no_mistakes(make_run):
    n = 6
    given = Predictions(
        clips=[f"{i}.wav" for i in range(n)], paths=[f"{i}.wav" for i in range(n)], starts=[0.0] * n, ends=[None] * n,
        groups=[""] * n, folds=["test"] * n, targets=np.array([0, 1] * 3), probabilities=np.eye(2)[[0, 1] * 3],
        classes=("a", "b"),
    )  # fmt: skip
    text = page(make_run(given=given)).text
    assert "6 clips were put to the test" in text
    assert "surest mistakes" not in text
    assert "Most confused" not in text
    assert "54.1–100.0" in text  # six of six do not prove certainty


def test_recordings_can_be_left_out(make_run, tmp_path: Path):
    folder = make_run()
    task = recordings(tmp_path / "data", folder)
    assert page(folder, task=task, sounds=False).all("audio") == []


def test_a_page_is_the_same_again(make_run):
    folder = make_run()
    assert report.write(folder).read_bytes() == report.write(folder).read_bytes()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda m: m.pop("per_class"),
        lambda m: m["headline"].pop("value"),
        lambda m: m.update(confusion=[[1]]),
        lambda m: m.update(confusion="x"),
        lambda m: m.update(clips=0),
        lambda m: m["calibration"].update(bins=3),
        lambda m: m.update(folds=None),
        lambda m: m.update(notes=7),
        lambda m: m.update(alarm=[{"recall": 1}]),
        lambda m: m.update(metrics=[]),
        lambda m: m.update(training=7),
        lambda m: m.update(training=[{"epochs": 3}]),
        lambda m: m.update(training=[{"fold": "1", "history": [{"stage": "fit", "epoch": "x", "train_loss": 1.0}]}]),
        lambda m: m.update(training=[{"fold": "1", "history": [{"stage": "fit", "epoch": 1, "train_loss": []}]}]),
    ],
)
def test_damaged_metrics_are_named_and_nothing_half_written(make_run, break_it):
    folder = make_run()
    found = json.loads((folder / "metrics.json").read_text())
    break_it(found)
    (folder / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(ResultsError, match=r"metrics\.json is damaged"):
        report.write(folder)
    assert not (folder / "report.html").exists()


def test_lone_surrogates_do_not_stop_the_page(make_run):
    folder = make_run()
    text = (folder / "metrics.json").read_text().replace("Toy sounds", "Toy \\ud800 sounds")
    (folder / "metrics.json").write_text(text)
    assert "Toy ? sounds" in page(folder).text


def test_the_verb(make_run, capsys, tmp_path: Path):
    folder = make_run()
    assert main(["report", str(folder), "--no-audio"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "there is no run at" in capsys.readouterr().err


@pytest.mark.data
def test_real_recordings_keep_the_page_small(make_run, esc50_files, esc50_root):
    rng = np.random.default_rng(0)
    chosen = [esc50_files[i] for i in rng.choice(len(esc50_files), 60, replace=False)]
    names = [path.relative_to(esc50_root).as_posix() for path in chosen]
    given = Predictions(
        clips=names, paths=names, starts=[0.0] * 60, ends=[None] * 60, groups=[""] * 60, folds=["1", "2"] * 30,
        targets=rng.integers(5, size=60), probabilities=rng.dirichlet(np.ones(5), size=60), classes=tuple("abcde"),
    )  # fmt: skip
    task = Task("esc50", esc50_root, (), tuple("abcde"), "x", ())
    folder = make_run(given=given)
    assert len(page(folder, task=task).all("audio")) == 12
    assert (folder / "report.html").stat().st_size < 3_000_000


def test_words_of_every_metric():
    base = {"clips": 10, "groups": 10, "per_class": [{"clips": 5}, {"clips": 5}], "intervals": {"level": 0.95}}
    for metric, part in (
        ("accuracy", "80.0\u00a0% were recognised rightly"),
        ("balanced_accuracy", "on average over the 2 classes"),
        ("macro_f1", "F1, which falls"),
        ("icbhi_score", "the mean of the shares of normal and of other clips"),
        ("macro_precision", "macro precision is 80.0\u00a0%"),
        ("log_loss", "log loss (nats) is 0.800"),
    ):
        head = words.headline(
            base | {"headline": {"metric": metric, "value": 0.8, "low": 0.7, "high": 0.9, "chance": 0.5}}
        )
        assert part in head["sentence"]
        assert (head["scale"] is None) == (metric == "log_loss")
    mean = {"metric": "accuracy", "value": 0.8, "low": 0.7, "high": 0.9, "over": "folds"}
    assert "averaged over the folds, 80.0" in words.headline(base | {"headline": mean})["sentence"]


def test_words_of_reliability():
    bins = [{"clips": 10, "confidence": 0.9, "accuracy": 0.6}, {"clips": 0}]
    assert "surer than it is right, by 30.0\u00a0%" in words.reliability({"clips": 10, "calibration": {"bins": bins}})
    bins[0]["confidence"] = 0.4
    assert "right more often than it is sure" in words.reliability({"clips": 10, "calibration": {"bins": bins}})
