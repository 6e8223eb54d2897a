"""Maps: layouts that repeat, a page that needs nothing else, and errors before anything is encoded."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from soundmark import cli, embeddings, metrics, results
from soundmark.analysis import interactive, maps, projection, scatter
from soundmark.analysis.palette import palette
from soundmark.errors import MissingExtra, ResultsError, SoundmarkError, SpecError
from soundmark.files import write_json
from soundmark.report import drawing
from soundmark.results import Predictions, Run
from soundmark.tasks.base import Clip, Task

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16&precise=true"
COARSE: dict[str, Any] = {"encoder": ENCODER, "pooling": "mean+std", "progress": False}
EVIL = "</script><script>alert('x')</script>"
QUOTES = '" onload="alert(1)\'><img src=//evil.example/x> & \\ \u2028 {{ 7 * 7 }}'


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of a drawing goes into its pixels."""
    monkeypatch.setattr(drawing, "DPI", 60)


@pytest.fixture
def two_classes(toy: Task) -> Task:
    """Twenty clips of the toy."""
    return replace(toy, clips=toy.clips[:20], classes=toy.classes[:2])


def run_of(task: Task, folder: Path, *, wrong: int, missing: int = 0) -> Run:
    """A finished run that took the first clips for the next class, and never tested the last ones."""
    clips = task.clips[: len(task.clips) - missing]
    targets = np.array(replace(task, clips=clips).targets())
    said = targets.copy()
    said[:wrong] = (said[:wrong] + 1) % len(task.classes)
    p = np.full((len(clips), len(task.classes)), 0.1 / (len(task.classes) - 1))
    p[np.arange(len(clips)), said] = 0.9
    found = Predictions(
        [clip.key for clip in clips], [clip.path for clip in clips], [0.0] * len(clips), [None] * len(clips),
        [clip.group for clip in clips], [clip.fold for clip in clips], targets, p, task.classes,
    )  # fmt: skip
    found.write(folder)
    write_json(folder / "metrics.json", metrics.summary(found, metric="accuracy", n=20))
    write_json(folder / "environment.json", {})
    results.write_recipe(folder, {"task": task.name})
    return Run.read(folder)


class Page(HTMLParser):
    """Elements, attributes and the data of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.data = json.loads(
            re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[0]
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(folder: Path) -> Page:
    return Page((folder / maps.PAGE).read_text("utf-8"))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / maps.TABLE).read_text("utf-8"))))


# --- Layouts -------------------------------------------------------------------------------------------------------


def blobs(count: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    """Three clouds far from each other, in turn."""
    rng = np.random.default_rng(seed)
    places = 20 * rng.normal(size=(3, dim))
    return (places[np.arange(count) % 3] + rng.normal(size=(count, dim))).astype(np.float32)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_seed_gives_one_map_in_which_clouds_stay_together(method: str) -> None:
    vectors = blobs(60)
    first = projection.project(vectors, method, seed=3)
    again = projection.project(vectors, method, seed=3)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert first.settings == again.settings
    assert first.positions.shape == (60, 2)
    inside = max(np.linalg.norm(np.ptp(first.positions[i::3], axis=0)) for i in range(3))
    middles = np.stack([first.positions[i::3].mean(axis=0) for i in range(3)])
    assert min(np.linalg.norm(middles[i] - middles[i - 1]) for i in range(3)) > inside / 2
    if method == "tsne":
        other = projection.project(vectors, method, seed=3, perplexity=5)
        assert np.abs(other.positions - first.positions).max() > 1


@pytest.mark.parametrize(("count", "dim"), [(4, 1), (5, 2), (12, 1), (13, 80)])
@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_few_clips_and_few_dimensions_have_a_map(count: int, dim: int, method: str) -> None:
    found = projection.project(blobs(count, dim), method)
    assert found.positions.shape == (count, 2)
    assert np.isfinite(found.positions).all()


@given(st.integers(4, 400))
def test_perplexity_is_bounded_by_the_clips(count: int) -> None:
    default = projection.settings("tsne", count)["perplexity"]
    most = (count - 1) / 3
    assert 1 <= default <= min(30, most)
    assert projection.settings("tsne", count, perplexity=most) == {"perplexity": most}
    for wrong in (most + 0.01, 0.99, float("nan"), float("inf"), -5):
        with pytest.raises(SpecError, match=f"a perplexity for {count} clips should be from 1 to"):
            projection.settings("tsne", count, perplexity=wrong)


@pytest.mark.parametrize(
    ("vectors", "method", "given_to", "said"),
    [
        (blobs(9), "som", {}, "no method 'som'; there are tsne, umap, pca"),
        (blobs(9), "pca", {"perplexity": 2.0}, "perplexity is a setting of tsne"),
        (blobs(9), "tsne", {"neighbours": 2}, "neighbours is a setting of umap"),
        (blobs(9), "umap", {"neighbours": 9}, "from 2 to 8, not 9"),
        (blobs(9), "umap", {"neighbours": 1}, "from 2 to 8, not 1"),
        (blobs(3), "tsne", {}, "t-SNE needs 4 clips or more, and there are 3"),
        (blobs(1), "pca", {}, "PCA needs 2 clips or more, and there are 1"),
        (np.ones((9, 3)), "tsne", {}, "all 9 clips have the same vector"),
        (np.full((9, 3), np.nan), "pca", {}, "not finite"),
        (blobs(9), "pca", {"seed": -1}, "from 0 to 4294967295, not -1"),
        (blobs(9), "pca", {"seed": 2**32}, "from 0 to 4294967295"),
    ],
)
def test_what_cannot_be_laid_out_is_explained(
    vectors: np.ndarray, method: str, given_to: dict[str, Any], said: str
) -> None:
    with pytest.raises(SoundmarkError, match=re.escape(said)):
        projection.project(vectors, method, **given_to)


@settings(max_examples=25)
@given(st.integers(3, 60), st.integers(0, 2**31))
def test_trustworthiness_is_scikit_learns(count: int, seed: int) -> None:
    from sklearn.manifold import trustworthiness

    rng = np.random.default_rng(seed)
    vectors, positions = rng.normal(size=(count, 5)), rng.normal(size=(count, 2))
    k = min(10, (count - 1) // 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_HELD", 300)
        found = projection.trustworthiness(vectors, positions)
    assert found == {"value": pytest.approx(trustworthiness(vectors, positions, n_neighbors=k)), "neighbours": k,
                     "clips": count}  # fmt: skip
    assert projection.trustworthiness(positions, positions)["value"] == 1


def test_trustworthiness_of_many_clips_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = blobs(300)
    positions = vectors[:, :2]
    whole = projection.trustworthiness(vectors, positions)
    monkeypatch.setattr(projection, "SAMPLED", 150)
    some = projection.trustworthiness(vectors, positions)
    assert (whole["clips"], some["clips"]) == (300, 150)
    assert some["value"] == pytest.approx(whole["value"], abs=0.02)
    assert some["value"] != whole["value"]
    assert projection.trustworthiness(vectors[:2], positions[:2])["value"] is None


def test_umap_is_given_neighbours_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Umap:
        def __init__(self, **words: Any) -> None:
            asked.append(words)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2] + 1

    stand_in = ModuleType("umap")
    stand_in.UMAP = Umap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", stand_in)
    vectors = blobs(40)
    found = projection.project(vectors, "umap", seed=5, neighbours=7)
    np.testing.assert_allclose(found.positions, vectors[:, :2] + 1)
    assert asked == [{"n_components": 2, "n_neighbors": 7, "random_state": 5, "n_jobs": 1}]
    assert found.settings == {"neighbours": 7}
    assert projection.project(blobs(9), "umap").settings == {"neighbours": 8}


def test_without_umap_the_extra_is_named(
    toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'soundmark\[analysis\]'"):
        projection.project(blobs(9), "umap")
    words = ["map", toy.name, "--encoder", ENCODER, "--method", "umap", "-o", str(tmp_path / "map")]
    assert cli.main(words) == 1
    assert "pip install 'soundmark[analysis]'" in capsys.readouterr().err
    assert not (tmp_path / "map").exists()


@pytest.fixture
def umap_itself() -> None:
    pytest.importorskip("umap", reason="SKIPPED FOR WANT OF UMAP: only its stand-in is tested", exc_type=ImportError)


@pytest.mark.usefixtures("umap_itself")
def test_umap_itself() -> None:
    first, again = (projection.project(blobs(60), "umap", seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert projection.trustworthiness(blobs(60), first.positions)["value"] > 0.8


@pytest.mark.usefixtures("umap_itself")
def test_a_map_by_umap_itself(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "map"
    words = ["map", toy.name, "--encoder", ENCODER, "--method", "umap", "--neighbours", "8", "--no-audio"]
    assert cli.main([*words, "-o", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "UMAP of logmel" in out
    made = json.loads((folder / maps.RESULT).read_text("utf-8"))
    assert (made["method"], made["settings"], made["clips"]) == ("umap", {"neighbours": 8}, 100)
    assert made["trustworthiness"]["value"] > 0.75
    positions = np.array([(row["x"], row["y"]) for row in rows(folder)], dtype=float)
    assert np.isfinite(positions).all()
    assert np.ptp(positions, axis=0).min() > 1
    assert page(folder).data["x"]


@pytest.mark.usefixtures("umap_itself")
@pytest.mark.parametrize("vectors", [blobs(8), np.repeat(blobs(6), 5, axis=0), np.vstack([blobs(20), 1e6 + blobs(3)])])
def test_umap_itself_stands_few_equal_and_far_clips(vectors: np.ndarray) -> None:
    assert np.isfinite(projection.project(vectors, "umap", neighbours=3).positions).all()


# --- Colours -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60))
def test_more_colours_begin_with_the_same(few: int, many: int) -> None:
    colours = palette(max(few, many))
    assert palette(min(few, many)) == colours[: min(few, many)]
    assert len(set(colours)) == len(colours)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_beyond_what_can_be_told_apart_colours_repeat() -> None:
    colours = palette(1000)
    assert len(colours) == 1000
    assert 300 < len(set(colours)) < 500
    assert colours[-1] in colours[:500]


def test_classes_come_in_the_tasks_order_and_folds_by_number(toy: Task) -> None:
    clips = [replace(clip, fold=str(11 - i)) for i, clip in enumerate(toy.clips[::-10])]
    found = maps.colourings(toy, clips, None)
    assert found["class"].names == toy.classes
    assert found["fold"].names == tuple(str(i) for i in range(2, 12))
    assert [found["class"].names[i] for i in found["class"].of] == [clip.label for clip in clips]
    assert set(found) == {"class", "fold", "group"}


@pytest.mark.parametrize("right", [[False] * 3, [True] * 3, [None, True, False]])
def test_errors_have_the_same_colours_whatever_there_is(right: list[bool | None]) -> None:
    found = scatter.of_errors(right)
    assert found.names[:2] == ("right", "wrong")
    assert found.colours[:2] == (drawing.RIGHT, drawing.WRONG)
    words = {True: "right", False: "wrong", None: "not predicted"}
    assert [found.names[i] for i in found.of] == [words[each] for each in right]


# --- What is written -----------------------------------------------------------------------------------------------


def test_a_map_is_a_table_a_picture_a_page_and_json(two_classes: Task, tmp_path: Path) -> None:
    found = maps.write(two_classes, tmp_path, command="soundmark map toy", **COARSE)
    assert json.loads((tmp_path / maps.RESULT).read_text("utf-8")) == found
    assert found["settings"] == {"perplexity": pytest.approx(19 / 3)}
    assert found["run"] is None
    assert 0.5 < found["trustworthiness"]["value"] <= 1
    table = rows(tmp_path)
    assert list(table[0]) == ["clip", "label", "group", "fold", "x", "y"]
    assert [(row["clip"], row["label"], row["group"], row["fold"]) for row in table] == [
        (clip.key, clip.label, clip.group, clip.fold) for clip in two_classes.clips
    ]
    places = np.array([[float(row["x"]), float(row["y"])] for row in table])
    known = embeddings.embed(two_classes, ENCODER, "mean+std", progress=False)
    scaled = (known.vectors - known.vectors.mean(axis=0)) / known.vectors.std(axis=0)
    # The table's places are the layout's: they keep what the JSON says they keep.
    assert projection.trustworthiness(scaled, places)["value"] == pytest.approx(
        found["trustworthiness"]["value"], abs=0.01
    )
    drawn = page(tmp_path).data
    shape = np.array([drawn["x"], drawn["y"]]).T
    assert shape.min() >= 0
    assert shape.max() <= 1
    scale = np.ptp(places, axis=0).max()
    np.testing.assert_allclose(shape[:, 0] - shape[0, 0], (places[:, 0] - places[0, 0]) / scale, atol=1e-4)
    np.testing.assert_allclose(shape[0, 1] - shape[:, 1], (places[:, 1] - places[0, 1]) / scale, atol=1e-4)
    with Image.open(tmp_path / maps.PICTURE) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int).reshape(-1, 3)
    for colour in palette(2):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=1) < 40).sum() > 20, "clips, and not the legend's dot alone"
    again = tmp_path / "again"
    maps.write(two_classes, again, command="soundmark map toy", **COARSE)
    for name in (maps.TABLE, maps.PICTURE, maps.PAGE):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_run_marks_its_mistakes(two_classes: Task, tmp_path: Path) -> None:
    run = run_of(two_classes, tmp_path / "run", wrong=3, missing=2)
    found = maps.write(two_classes, tmp_path, run=run, colour="error", method="pca", **COARSE)
    assert found["run"] == {"name": "run", "clips": 18, "right": 15}
    one, other = two_classes.classes
    table = rows(tmp_path)
    assert [row["right"] for row in table] == ["false"] * 3 + ["true"] * 15 + [""] * 2
    assert [row["predicted"] for row in table] == [other] * 3 + [one] * 7 + [other] * 8 + [""] * 2
    made = page(tmp_path)
    assert made.data["right"] == [False] * 3 + [True] * 15 + [None] * 2
    assert made.data["predicted"][::19] == [other, None]
    assert made.data["colours"]["error"]["of"] == [1] * 3 + [0] * 15 + [2] * 2
    assert "run: 15 of 18 right" in made.text
    (shown,) = (option["value"] for option in made.all("option") if "selected" in option)
    assert shown == "error"
    assert [option["value"] for option in made.all("option")] == ["class", "fold", "error", "group"]


def test_a_run_of_other_clips_or_labels_is_refused(toy: Task, two_classes: Task, tmp_path: Path) -> None:
    run = run_of(two_classes, tmp_path / "run", wrong=1)
    others = replace(toy, clips=toy.clips[40:60])
    with pytest.raises(ResultsError, match=r"tested none of these clips; map the run's own task \(toy"):
        maps.write(others, tmp_path / "map", run=run, **COARSE)
    renamed = replace(two_classes, clips=tuple(replace(clip, labels=("x",)) for clip in two_classes.clips))
    with pytest.raises(ResultsError, match="is 'siren' there and 'x' here"):
        maps.write(renamed, tmp_path / "map", run=run, **COARSE)
    assert not (tmp_path / "map").exists()


def test_clips_that_cannot_be_read_are_left_out_and_named(broken: Task, tmp_path: Path) -> None:
    some = replace(broken, clips=broken.clips[:30])
    found = maps.write(some, tmp_path, method="pca", **COARSE)
    assert found["clips"] == len(rows(tmp_path)) == len(page(tmp_path).data["x"]) == 27
    assert {bad["clip"] for bad in found["left_out"]} == {broken.clips[i].key for i in (0, 15, 27)}
    assert "3 clips could not be read" in page(tmp_path).text


# --- The page ------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_else(two_classes: Task, tmp_path: Path) -> None:
    found = maps.write(two_classes, tmp_path, method="pca", **COARSE)
    html, made = (tmp_path / maps.PAGE).read_text("utf-8"), page(tmp_path)
    links = [value for _, attributes in made.elements for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(str(link).startswith(("data:", "#")) for link in links)
    assert not re.search(r"(?:https?:)?//[\w.]+\.\w+/|@import|url\(", html.replace("data:audio/mpeg;base64,", ""))
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    (policy,) = (m["content"] for m in made.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in str(policy)
    assert f"trustworthiness {found['trustworthiness']['value']:.3f}" in made.text
    (canvas,) = made.all("canvas")
    assert canvas["tabindex"] == "0"
    assert canvas["aria-label"]


def test_every_clip_can_be_heard(two_classes: Task, tmp_path: Path) -> None:
    found = maps.write(two_classes, tmp_path, method="pca", **COARSE)
    sounds = page(tmp_path).data["sound"]
    assert found["sounds"] == {"clips": 20, "bytes": sum(map(len, sounds))}
    assert len(set(sounds)) == 20
    kind, content = sounds[0].split(";base64,")
    assert kind in ("data:audio/mpeg", "data:audio/ogg")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert rate == interactive.RATE
    assert len(samples) / rate == pytest.approx(0.5, abs=0.15)  # an MP3 has whole frames
    assert np.abs(samples).max() > 0.05


def test_beyond_the_limit_clips_of_every_class_are_heard_first(two_classes: Task, tmp_path: Path) -> None:
    whole = maps.write(two_classes, tmp_path / "whole", method="pca", **COARSE)
    limit = whole["sounds"]["bytes"] // 3
    found = maps.write(two_classes, tmp_path, method="pca", sound_bytes=limit, **COARSE)
    assert 0 < found["sounds"]["bytes"] <= limit
    data = page(tmp_path).data
    heard = [label for label, sound in zip(data["label"], data["sound"], strict=True) if sound]
    assert 3 <= len(heard) == found["sounds"]["clips"] <= 10
    assert abs(heard.count(heard[0]) - heard.count(heard[-1])) <= 1
    assert len(data["clip"]) == 20, "the silent ones are still named"
    assert f"3 seconds of {len(heard)} clips are in this file" in page(tmp_path).text


def test_names_of_strangers_are_only_text(two_classes: Task, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(two_classes.root, root)
    names = (EVIL, QUOTES)
    clips = tuple(
        replace(clip, labels=(names[i // 10],), group=f"{EVIL}{i // 2}", fold=QUOTES)
        for i, clip in enumerate(two_classes.clips)
    )
    task = replace(two_classes, root=root, clips=clips, classes=names, title=EVIL, licence=QUOTES, name=EVIL)
    run = run_of(task, tmp_path / "run", wrong=5)
    maps.write(task, tmp_path, run=run, method="pca", command=f"soundmark map {EVIL}", **COARSE)
    made = page(tmp_path)
    assert len(made.all("script")) == 2
    assert made.all("img") == []
    assert not [name for _, attributes in made.elements for name in attributes if name.startswith("on")]
    assert made.data["label"] == [EVIL] * 10 + [QUOTES] * 10
    assert made.data["predicted"][:6] == [QUOTES] * 5 + [EVIL]
    assert made.data["colours"]["class"]["names"] == list(names)
    assert made.data["fold"] == [QUOTES] * 20
    assert [row["label"] for row in rows(tmp_path)] == [EVIL] * 10 + [QUOTES] * 10


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=5))
def test_any_text_comes_back_from_the_page(texts: list[str]) -> None:
    text = interactive._json({"label": texts})
    assert json.loads(text) == {"label": texts}
    assert not set(text) & set("<>&")


def test_a_name_that_is_no_unicode_is_still_written(two_classes: Task, tmp_path: Path) -> None:
    clips = tuple(replace(clip, group="caf\udce9") for clip in two_classes.clips)
    maps.write(replace(two_classes, clips=clips), tmp_path, method="pca", colour="group", sounds=False, **COARSE)
    assert set(page(tmp_path).data["group"]) == {row["group"] for row in rows(tmp_path)} == {"caf?"}


@pytest.mark.parametrize("count", [1, 9, 130])
def test_pictures_of_any_number_of_classes_have_a_legend(count: int, tmp_path: Path) -> None:
    positions = np.random.default_rng(0).normal(size=(260, 2))
    labels = [f"a class with a rather long name, {i % count}" for i in range(260)]
    right = [None if i % 7 == 0 else i % 3 > 0 for i in range(260)]
    scatter.write(tmp_path / "map.png", "$x$ " + "long " * 60, positions, scatter.colouring(labels, str), right)
    with Image.open(tmp_path / "map.png") as picture:
        shares = np.asarray(picture.convert("L"), dtype=float)
    assert picture.width > picture.height
    assert (shares[:, -picture.width // 5 :] < 128).any(), "the legend stands on the right"
    assert (shares[:, : picture.width // 2] < 250).any()


# --- The verb ------------------------------------------------------------------------------------------------------


def test_the_verb_says_how_far_to_trust_the_map(toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(toy, tmp_path / "run", wrong=10)
    out = tmp_path / "map"
    words = [
        "map",
        toy.name,
        "--encoder",
        ENCODER,
        "--run",
        str(tmp_path / "run"),
        "--perplexity",
        "12.5",
        "--no-audio",
    ]
    assert cli.main([*words, "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((out / maps.RESULT).read_text("utf-8"))
    assert lines[0] == f"{toy.name}: t-SNE of {ENCODER}, mean+std: 100 clips"
    assert lines[1].startswith(f"trustworthiness {found['trustworthiness']['value']:.3f} over 10 neighbours")
    assert lines[2:] == [str(out / name) for name in ("map.csv", "map.png", "map.html", "map.json")]
    assert found["settings"] == {"perplexity": 12.5}
    assert found["sounds"] == {"clips": 0, "bytes": 0}
    assert page(out).all("audio") == []
    assert "This file holds no recordings." in page(out).text
    assert found["command"].startswith("soundmark map 'toy?clips=10&seconds=0.5' --encoder")
    assert "--perplexity 12.5 --seed 0 --no-audio" in found["command"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--colour", "error"], "need a run"),
        (["--perplexity", "40"], "should be from 1 to 33, a third of the others, not 40"),
        (["--perplexity", "nan"], "not nan"),
        (["--method", "pca", "--neighbours", "3"], "neighbours is a setting of umap"),
        (["--seed", "-1"], "a seed should be from 0"),
        (["--audio-mb", "0"], "--audio-mb should be above 0"),
        (["--audio-mb", "nan"], "--audio-mb should be above 0"),
        (["--run", "no-such-run"], "there is no run at no-such-run"),
        (["--encoder", "no-such"], "no-such"),
    ],
)
def test_bad_words_are_explained(
    toy: Task, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["map", toy.name, "--encoder", ENCODER, *words, "-o", str(tmp_path / "map")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("soundmark: error: ")
    assert said in error
    assert not (tmp_path / "map").exists()


def test_a_task_of_equal_clips_has_no_map(toy: Task, tmp_path: Path) -> None:
    for i in range(5):
        shutil.copyfile(toy.path(toy.clips[0]), tmp_path / f"{i}.wav")
    clips = tuple(Clip(f"{i}.wav", ("a",)) for i in range(5))
    task = Task("same", tmp_path, clips, ("a",), "", ())
    with pytest.raises(SoundmarkError, match="all 5 clips have the same vector"):
        maps.write(task, tmp_path / "map", **COARSE)
