from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from soundmark.errors import SoundmarkError, SpecError
from soundmark.learners import Probe, describe, probes
from soundmark.tasks.base import Task

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture
def probe(toy: Task) -> Probe:
    made = Probe(ENCODER, "mean+std", "svm")
    assert made.prepare(toy, progress=False) == {}
    return made


@pytest.mark.parametrize("head", ["svm", "logreg"])
def test_a_probe_learns_and_answers_in_the_order_of_classes(toy: Task, head: str) -> None:
    probe = Probe(ENCODER, "mean+std", head)
    probe.prepare(toy, progress=False)
    train, test = toy.subset(toy.rounds[0].train), toy.subset(toy.rounds[0].test)
    probe.fit(train, seed=0)
    said = probe.predict_proba(test)
    assert said.shape == (len(test.clips), 10)
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-6)
    assert (said.argmax(1) == test.targets()).mean() > 0.6  # chance is 0.1


def test_fitting_twice_gives_the_same(toy: Task, probe: Probe) -> None:
    train, test = toy.subset(toy.rounds[0].train), toy.subset(toy.rounds[0].test)
    probe.fit(train, seed=0)
    first = probe.predict_proba(test)
    probe.fit(train, seed=0)
    np.testing.assert_array_equal(probe.predict_proba(test), first)


def test_a_fresh_copy_is_unfitted_and_shares_the_vectors(toy: Task, probe: Probe) -> None:
    probe.fit(toy, seed=0)
    other = probe.fresh()
    assert other.estimator is None
    assert other.vectors(toy).shape == (100, 32)
    other.fit(toy.subset(toy.rounds[0].train), seed=0)
    assert probe.estimator is not other.estimator


def test_a_class_without_training_clips_gets_zero(toy: Task, probe: Probe) -> None:
    without = [i for i, clip in enumerate(toy.clips) if clip.label != toy.classes[4]]
    probe.fit(toy.subset(without), seed=0)
    said = probe.predict_proba(toy)
    assert said.shape == (100, 10)
    assert not said[:, 4].any()
    np.testing.assert_allclose(said.sum(1), 1, atol=1e-6)


def test_one_class_cannot_be_learnt(toy: Task, probe: Probe) -> None:
    with pytest.raises(SoundmarkError, match="at least two classes"):
        probe.fit(toy.subset(i for i, clip in enumerate(toy.clips) if clip.label == toy.classes[0]), seed=0)


def test_calibration_keeps_groups_whole(toy: Task, probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every out-of-fold score that a calibrator sees comes from a machine that never met that clip's group."""
    from soundmark import heads

    seen = []
    real = heads.calibrated
    monkeypatch.setattr(
        heads, "calibrated", lambda estimator, splits: (seen.extend(splits), real(estimator, splits))[1]
    )
    probe.fit(toy, seed=0)
    groups = np.array([clip.group for clip in toy.clips])
    assert len(seen) >= 2
    assert all(not set(groups[train]) & set(groups[test]) for train, test in seen)


@pytest.mark.filterwarnings("ignore")  # of overflow, on the way there
def test_a_head_that_runs_away_is_explained(toy: Task) -> None:
    probe = Probe(ENCODER, "mean", "mlp?rate=1e30")
    probe.prepare(toy, progress=False)
    with pytest.raises(SoundmarkError, match="cannot be fitted"):
        probe.fit(toy, 0)


def test_a_misspelt_name_is_an_error_before_anything_is_encoded() -> None:
    for names in (("logmell", "mean", "svm"), (ENCODER, "meen", "svm"), (ENCODER, "mean", "svn")):
        with pytest.raises(SpecError):
            Probe(*names)


def test_probes_are_every_candidate() -> None:
    made = probes(ENCODER, "mean|mean+std", "svm?C=1,10")
    assert [each.head_name for each in made] == ["svm?C=1", "svm?C=10"] * 2
    assert [each.pooling_name for each in made] == ["mean", "mean", "mean+std", "mean+std"]
    assert describe(made[0]).endswith(" / mean / svm?C=1")


def test_unreadable_clips_are_given_back(broken: Task) -> None:
    bad = Probe(ENCODER, "mean", "svm").prepare(broken, progress=False)
    assert len(bad) == 3
    assert replace(broken, clips=tuple(bad)).clips[0] in broken.clips
