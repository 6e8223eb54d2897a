"""`soundmark.Embed`: recordings to vectors inside scikit-learn's pipelines."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import soundmark
from soundmark import audio, embeddings
from soundmark.errors import AudioError, SpecError
from soundmark.tasks.base import Task
from soundmark.transform import Embed

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture
def paths(toy: Task) -> list[Path]:
    return [toy.path(clip) for clip in toy.clips]


def test_it_gives_the_vectors_of_the_task(toy: Task, paths: list[Path]) -> None:
    vectors = soundmark.Embed(ENCODER, pooling="mean+std").fit_transform(paths)
    known = embeddings.embed(toy, ENCODER, "mean+std", progress=False)
    assert vectors.shape == (100, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, known.vectors, rtol=1e-5)


def test_samples_in_memory_are_heard_as_their_file_is(paths: list[Path]) -> None:
    embed = Embed(ENCODER, "mean+std+max")
    pairs = [audio.read(path) for path in paths[:3]]
    np.testing.assert_allclose(embed.transform(pairs), embed.transform(paths[:3]), rtol=1e-4, atol=1e-4)
    mixed = embed.transform([pairs[0], str(paths[1]), pairs[2]])
    np.testing.assert_allclose(mixed, embed.transform(paths[:3]), rtol=1e-4, atol=1e-4)


def test_long_samples_are_pooled_piece_by_piece() -> None:
    noise = np.random.default_rng(0).normal(size=16000 * 5).astype(np.float32) * 0.1
    embed = Embed(ENCODER)
    whole = embed.transform([(noise, 16000)])
    from soundmark import transform

    transform._loaded(ENCODER).piece_seconds = 2.0
    try:
        np.testing.assert_allclose(embed.transform([(noise, 16000)]), whole, rtol=1e-2)
    finally:
        transform._loaded.cache_clear()
    assert not torch.is_inference_mode_enabled()  # the caller may want gradients


def test_it_stands_in_pipelines_and_searches(toy: Task, paths: list[Path]) -> None:
    labels = [clip.label for clip in toy.clips]
    pipeline = make_pipeline(Embed(ENCODER, "mean+std"), StandardScaler(), LogisticRegression(max_iter=1000))
    assert cross_val_score(pipeline, paths, labels, cv=3).mean() > 0.6  # chance is 0.1
    search = GridSearchCV(pipeline, {"embed__pooling": ["mean", "mean+std"]}, cv=2).fit(np.array(paths, str), labels)
    assert search.best_params_["embed__pooling"] in ("mean", "mean+std")


def test_it_is_cloned_pickled_and_set(paths: list[Path]) -> None:
    embed = Embed(ENCODER, pooling="mean")
    vectors = embed.transform(paths[:2])
    assert clone(embed).get_params() == {"encoder": ENCODER, "pooling": "mean", "workers": None, "cache": True}
    again = pickle.loads(pickle.dumps(embed))
    np.testing.assert_array_equal(again.transform(paths[:2]), vectors)
    assert embed.set_params(pooling="max", cache=False).transform(paths[:2]).shape == (2, 16)


def test_columns_have_names() -> None:
    names = Embed(ENCODER, "mean+std").get_feature_names_out()
    assert names.shape == (32,)
    assert names[0].startswith("mean of ")
    assert len(set(names)) == 32


def test_a_column_of_a_table_and_nothing_at_all(paths: list[Path]) -> None:
    embed = Embed(ENCODER)
    column = np.array([[str(path)] for path in paths[:2]])
    np.testing.assert_array_equal(embed.transform(column), embed.transform(paths[:2]))
    assert embed.transform([]).shape == (0, 16)


def test_what_cannot_be_read_is_named(tmp_path: Path, paths: list[Path]) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("not a sound", encoding="utf-8")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        Embed(ENCODER).transform([paths[0], bad])
    with pytest.raises(AudioError, match=r"missing\.wav"):
        Embed(ENCODER, cache=False).transform([tmp_path / "missing.wav"])
    with pytest.raises(AudioError, match="recording 1: "):
        Embed(ENCODER).transform([paths[0], (np.empty(0, np.float32), 16000)])
    with pytest.raises(AudioError, match="recording 0 is int"):
        Embed(ENCODER).transform([3])
    with pytest.raises(AudioError, match="a list of recordings"):
        Embed(ENCODER).transform(str(paths[0]))


@pytest.mark.parametrize(("encoder", "pooling"), [("logmell", "mean"), (ENCODER, "meen")])
def test_a_misspelt_name_is_an_error_when_it_is_fitted(encoder: str, pooling: str) -> None:
    with pytest.raises(SpecError):
        Embed(encoder, pooling).fit([])


def test_naming_the_package_costs_nothing() -> None:
    code = "import sys, soundmark; assert not {'torch', 'sklearn'} & set(sys.modules); soundmark.Embed"
    subprocess.run([sys.executable, "-c", code], check=True)
