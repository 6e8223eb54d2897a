from __future__ import annotations

import pytest

from soundmark.pace import Pace, Work, words


def test_the_rest_takes_as_long_as_its_like_did() -> None:
    pace = Pace()
    assert pace.left([Work("esc50", "cnn14", "mean", "svm")]) is None
    pace.saw(Work("esc50", "cnn14", "mean", "svm"), clips=100, seconds=60, encoding=50)
    pace.saw(Work("esc50", "cnn14", "mean", "knn"), clips=100, seconds=2, encoding=0)
    pace.saw(Work("icbhi", "logmel", "mean", "svm"), clips=300, seconds=6, encoding=3)
    known = [Work("esc50", "cnn14", "mean", "svm")]
    # Vectors that are there are not counted again, whatever the head; others once.
    assert pace.left([Work("esc50", "cnn14", "mean", "svm")] * 2, known) == pytest.approx(2 * 10)
    on_another = [Work("icbhi", "cnn14", "mean", "knn")] * 2
    assert pace.left(on_another, known) == pytest.approx(300 * (0.5 + 2 * 0.02))
    # Of a head nobody has seen on this encoder, its mean elsewhere; of a new task, the usual size.
    assert pace.left([Work("nsynth", "mfcc", "mean", "svm")]) == pytest.approx(200 * (0.5 + (0.1 + 0.01) / 2))
    assert pace.left([]) == 0


def test_clips_that_were_never_counted_tell_nothing() -> None:
    pace = Pace()
    pace.saw(Work("esc50", "cnn14", "mean", "svm"), clips=0, seconds=60, encoding=50)
    assert pace.left([Work("esc50", "cnn14", "mean", "svm")]) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "unknown"),
        (20, "less than a minute"),
        (100, "about 2 min"),
        (3600, "about 1 h"),
        (9100, "about 2 h 30 min"),
        (3600 * 20, "about 20 h"),
        (3600 * 70, "about 3 days"),
    ],
)
def test_times_are_told_as_people_do(seconds: float | None, said: str) -> None:
    assert words(seconds) == said
