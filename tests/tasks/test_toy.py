from collections import Counter

import numpy as np
import pytest

from soundmark import audio, tasks
from soundmark.errors import SpecError
from soundmark.tasks import toy


def test_ten_classes_in_five_folds_whose_recipes_stay_together():
    task = tasks.load("toy?clips=10&seconds=0.5")
    assert len(task.classes) == 10
    assert set(Counter(clip.label for clip in task.clips).values()) == {10}
    assert [part.name for part in task.rounds] == ["1", "2", "3", "4", "5"]
    for part in task.rounds:
        tasks.check_groups(task, part)
    assert set(Counter(clip.group for clip in task.clips).values()) == {2}
    assert "synthesised" in task.title
    assert "synthesised" in task.notes[0]


@pytest.mark.parametrize("label", list(toy.SOUNDS))
def test_every_sound_can_be_heard_and_is_made_again_the_same(label):
    for recipe in range(12):
        first = toy.synthesise(label, recipe, 0, seconds=0.7)
        assert first.shape == (11200,)
        assert first.dtype == np.float32
        assert 0.1 < np.abs(first).max() <= 1
        assert np.sqrt(np.mean(first**2)) > 0.005
    assert np.array_equal(first, toy.synthesise(label, recipe, 0, seconds=0.7))
    assert not np.array_equal(first, toy.synthesise(label, recipe, 1, seconds=0.7))
    assert not np.array_equal(first, toy.synthesise(label, recipe, 0, seconds=0.7, seed=1))


def test_the_clips_are_wav_files_in_the_cache_made_once(own_cache):
    task = tasks.load("toy?clips=4&seconds=0.5")
    assert own_cache in task.root.parents
    paths = [task.path(clip) for clip in task.clips]
    before = [path.stat().st_mtime_ns for path in paths]
    waveform, rate = audio.read(paths[0])
    assert (rate, waveform.shape) == (16000, (8000,))
    paths[0].unlink()
    tasks.load("toy?clips=4&seconds=0.5")
    assert [path.stat().st_mtime_ns for path in paths][1:] == before[1:]
    assert np.array_equal(audio.read(paths[0])[0], waveform)


def test_settings_beyond_reason_are_refused():
    for text in ("clips=1", "clips=1000", "seconds=0.01", "seconds=nan", "seed=-1"):
        with pytest.raises(SpecError, match="clips should be 4 to 200"):
            tasks.load(f"toy?{text}")
    with pytest.raises(SpecError, match="no setting 'size'"):
        tasks.load("toy?size=3")
