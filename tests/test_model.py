from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from soundmark.audio import WindowPolicy
from soundmark.model import Classifier
from soundmark.modelfile import Facts

RATE = 8000


class Ends:
    """Stands in for a session: says the first and the last sample of every waveform."""

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        (batch,) = inputs.values()
        return [batch[:, [0, -1]]]


def listener(longest: float, **policy: Any) -> Classifier:
    facts = Facts(("first", "last"), "single", RATE, WindowPolicy(**policy), (longest, longest), {}, {})
    return Classifier("stand-in", facts, Ends())


@pytest.mark.parametrize("longest", [1.0, 8001 / RATE, 0.77777])
@pytest.mark.parametrize("hop", [None, 0.3, 2.5])
def test_windows_are_where_they_say_they_are(longest: float, hop: float | None) -> None:
    ramp = np.arange(20 * RATE, dtype=np.float32) / (20 * RATE)
    windows = list(listener(longest).windows((ramp, RATE), hop_seconds=hop))
    assert windows[0][0] == 0.0
    assert windows[-1][1] == 20.0
    for start, end, (first, last) in windows:
        assert first == ramp[round(start * RATE)]
        assert last == ramp[round(end * RATE) - 1]
        assert end - start == pytest.approx(longest, abs=1 / RATE)


def test_a_recording_little_longer_than_the_training_clips_is_heard_whole() -> None:
    ((start, end, _),) = listener(1.0).windows((np.zeros(12_000, dtype=np.float32), RATE))
    assert (start, end) == (0.0, 1.5)
