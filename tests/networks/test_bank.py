from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from soundmark import audio
from soundmark.audio import WindowPolicy
from soundmark.errors import AudioError, SoundmarkError
from soundmark.networks import bank as room
from soundmark.networks.bank import Bank, bank
from soundmark.networks.front import LogMel
from soundmark.tasks.base import Clip, Task

RATE = 8000
CPU = torch.device("cpu")


def task_of(folder: Path, lengths: list[int]) -> Task:
    """Clips whose samples count on: 0.0001, 0.0002 ... so that a stretch tells where it comes from."""
    clips = []
    for i, samples in enumerate(lengths):
        wave = (np.arange(samples) + 1) / 10_000 * (-1 if i % 2 else 1)
        audio.write(folder / f"{i}.wav", wave, RATE, subtype="FLOAT")
        clips.append(Clip(f"{i}.wav", ("ab"[i % 2],), group=str(i)))
    return Task("counting", folder, tuple(clips), ("a", "b"), "none", ())


def held(task: Task, seconds: float, *, front: LogMel | None = None, **options: bool) -> Bank:
    given = {"keep": True, "strict": False, "progress": False} | options
    return bank(task, front, RATE, WindowPolicy(min_seconds=seconds), **given)


def test_crops_come_from_their_own_clip_and_from_everywhere_in_it(tmp_path: Path) -> None:
    task = task_of(tmp_path, [1000, 1600, 1200])
    found = held(task, 0.1)
    assert found.crop == 800
    rng = torch.Generator().manual_seed(0)
    firsts = []
    for _ in range(300):
        crops = found.crops(torch.tensor([0, 1, 2]), rng, CPU)
        assert crops.shape == (3, 800)
        steps = crops.diff(dim=1).abs()
        torch.testing.assert_close(steps, torch.full_like(steps, 1e-4), atol=1e-6, rtol=0)
        assert (crops[0] > 0).all()
        assert (crops[1] < 0).all()
        firsts.append((crops[:, 0].abs() * 10_000 - 1).round().int().tolist())
    lowest, highest = np.min(firsts, axis=0), np.max(firsts, axis=0)
    assert (lowest <= 10).all()
    assert (highest >= np.array([190, 790, 390])).all()
    assert (highest <= np.array([200, 800, 400])).all()


def test_short_clips_are_filled_up_and_long_ones_left(tmp_path: Path) -> None:
    found = held(task_of(tmp_path, [100, 1600]), 0.1)
    assert found.lengths.tolist() == [800, 1600]
    short = found.whole(torch.tensor([0]), CPU)[0]
    assert (short[100:] == 0).all()
    assert found.whole(torch.tensor([1]), CPU).shape == (1, 1600)


def test_levels_are_kept_or_not(tmp_path: Path) -> None:
    front = LogMel(RATE, 256, 128, 16)
    task = task_of(tmp_path, [1000, 1600])
    kept, plain = held(task, 0.1, front=front), held(task, 0.1, front=front, keep=False)
    assert kept.values.shape == (1 + 1000 // 128 + 1 + 1600 // 128, 16)
    assert plain.values.shape == (2600,)
    wave = plain.whole(torch.tensor([1]), CPU)
    torch.testing.assert_close(front(wave), kept.whole(torch.tensor([1]), CPU))


def test_batches_of_one_length_hold_every_clip_once(tmp_path: Path) -> None:
    found = held(task_of(tmp_path, [1000, 1600, 1000, 1200, 1000]), 0.1)
    batches = list(found.alike(torch.arange(5), most=2))
    assert sorted(i for batch in batches for i in batch.tolist()) == [0, 1, 2, 3, 4]
    assert all(len(set(found.lengths[batch].tolist())) == 1 for batch in batches)
    assert max(len(batch) for batch in batches) <= 2


def test_what_cannot_be_read_is_listed_or_raised(tmp_path: Path) -> None:
    task = task_of(tmp_path, [1000, 1000, 1000])
    (tmp_path / "1.wav").write_text("not a sound")
    found = held(task, 0.1)
    assert list(found.bad) == [task.clips[1]]
    assert "1.wav" in found.bad[task.clips[1]]
    assert found.positions([task.clips[2]]).tolist() == [1]
    with pytest.raises(AudioError, match=r"1\.wav"):
        held(task, 0.1, strict=True)
    with pytest.raises(SoundmarkError, match="no clip of counting"):
        held(task.subset([1]), 0.1)


def test_the_digest_tells_content_and_not_names(tmp_path: Path) -> None:
    task = task_of(tmp_path / "a", [1000, 1200])
    same = replace(task_of(tmp_path / "b", [1000, 1200]), name="other")
    assert held(task, 0.1).digest == held(same, 0.1).digest
    assert held(task, 0.1).digest != held(task_of(tmp_path / "c", [1000, 1201]), 0.1).digest


def test_more_than_fits_memory_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path, [1000, 1600, 1200])
    inside = held(task, 0.1)
    monkeypatch.setattr(room, "IN_MEMORY", 1000)
    outside = held(task, 0.1)
    torch.testing.assert_close(outside.values, inside.values)
    assert outside.digest == inside.digest
