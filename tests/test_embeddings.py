from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from soundmark import audio, embeddings, encoders
from soundmark.encoders.pooling import Pooling
from soundmark.errors import AudioError, SoundmarkError
from soundmark.tasks.base import Clip, Task

ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.fixture(autouse=True)
def fresh_cache(toy: Task, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy clips are shared, but vectors are not: a test sees only its own."""
    monkeypatch.setenv("SOUNDMARK_CACHE", str(own_cache))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is decoded from now on."""
    read = []
    real = audio.read

    def spy(source: object, *args: object, **kwargs: object) -> object:
        read.append(Path(str(source)).name)
        return real(source, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "read", spy)
    return read


def test_a_vector_is_the_pooled_frames_of_its_clip(toy: Task) -> None:
    found = embeddings.embed(toy, ENCODER, "mean+max", progress=False)
    assert found.clips == toy.clips
    assert found.vectors.shape == (100, 32)
    assert found.vectors.dtype == np.float32
    assert found.bad == {}
    module = encoders.load(ENCODER)
    for i in (0, 57):
        samples = embeddings.waveform(toy, toy.clips[i], module)
        with torch.inference_mode():
            expected = Pooling("mean+max")(module.encode(torch.from_numpy(samples)[None]))[0].numpy()
        np.testing.assert_allclose(found.vectors[i], expected, rtol=1e-5, atol=1e-5)


def test_the_cache_is_used_by_content_and_by_statistic(toy: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    first = embeddings.embed(toy, ENCODER, "mean+std", progress=False)
    assert len(read) == 100
    read.clear()
    again = embeddings.embed(toy, ENCODER, "std", progress=False)
    assert read == []
    np.testing.assert_array_equal(again.vectors, first.vectors[:, 16:])
    embeddings.embed(toy, ENCODER.replace("bands=16", "bands=8"), "mean", progress=False)
    assert len(read) == 100


def test_a_changed_file_is_encoded_again(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(8000, np.float32), 16000)
    task = replace(toy, root=tmp_path, clips=(Clip("a.wav", ("siren",)),), rounds=())
    silent = embeddings.embed(task, ENCODER, "mean", progress=False).vectors
    audio.write(tmp_path / "a.wav", np.full(8000, 0.5, np.float32), 16000)
    assert not np.array_equal(embeddings.embed(task, ENCODER, "mean", progress=False).vectors, silent)


def test_without_the_cache_nothing_is_written(toy: Task, own_cache: Path) -> None:
    one = embeddings.embed(toy, ENCODER, "mean", cache=False, progress=False)
    assert not (own_cache / "embeddings").exists()
    np.testing.assert_array_equal(one.vectors, embeddings.embed(toy, ENCODER, "mean", progress=False).vectors)


def test_threads_do_not_change_the_vectors(toy: Task) -> None:
    one, many = (
        embeddings.embed(toy, ENCODER, "mean+p50", workers=n, cache=False, progress=False).vectors for n in (1, 4)
    )
    np.testing.assert_array_equal(one, many)


def test_clips_of_equal_length_are_put_together(
    toy: Task, broken: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    lengths = [8000, 8016, 8032] * 9
    for i, length in enumerate(lengths):
        audio.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1, length).astype(np.float32), 16000)
    clips = tuple(Clip(f"{i}.wav", ("rain",)) for i in range(len(lengths)))
    task = replace(toy, root=tmp_path, clips=(*clips[:5], Clip("gone.wav", ("rain",)), *clips[5:]), rounds=())
    apart = embeddings.embed(task, ENCODER, "mean", cache=False, progress=False)
    encoder, sizes = encoders.load(ENCODER), []
    encoder.batched = True
    features = encoder.features

    def heard(waveforms: torch.Tensor) -> torch.Tensor:
        sizes.append(len(waveforms))
        return features(waveforms)

    monkeypatch.setattr(encoder, "features", heard)
    for most in (100, 4):  # with room for all that wait, and without
        monkeypatch.setattr(embeddings, "MOST_WAITING", most)
        sizes.clear()
        together = embeddings.embed(task, encoder, "mean", cache=False, progress=False)
        assert together.clips == apart.clips
        assert list(together.bad) == [task.clips[5]]
        np.testing.assert_allclose(together.vectors, apart.vectors, rtol=1e-5)
        assert sum(sizes) == 27
        assert sorted(sizes) == [1, 1, 1, 8, 8, 8] if most == 100 else len(sizes) > 6


def test_bad_clips_are_listed(broken: Task) -> None:
    found = embeddings.embed(broken, ENCODER, "mean", progress=False)
    assert [broken.clips.index(clip) for clip in found.bad] == [27, 0, 15] or {
        broken.clips.index(clip) for clip in found.bad
    } == {0, 15, 27}
    assert len(found.clips) == len(found.vectors) == 97
    assert all(Path(clip.path).name in text for clip, text in found.bad.items())


def test_bad_clips_are_fatal_when_asked(broken: Task) -> None:
    with pytest.raises(AudioError, match=r"\.wav"):
        embeddings.embed(broken, ENCODER, "mean", strict=True, progress=False)


def test_a_clip_whose_features_are_no_numbers_is_bad(toy: Task, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    audio.write(tmp_path / "loud.wav", noise * np.float32(1e25), 16_000, subtype="FLOAT")
    audio.write(tmp_path / "fine.wav", noise / 10, 16_000)
    task = replace(toy, root=tmp_path, clips=(Clip("loud.wav", ("a",)), Clip("fine.wav", ("b",))), rounds=())
    found = embeddings.embed(task, ENCODER, "mean+std", progress=False)
    assert [clip.path for clip in found.clips] == ["fine.wav"]
    assert "loud.wav" in found.bad[task.clips[0]]


def test_there_is_a_worker_at_least(toy: Task) -> None:
    with pytest.raises(SoundmarkError, match="1 worker or more"):
        embeddings.embed(toy, ENCODER, "mean", workers=-1, progress=False)


def test_a_task_of_bad_clips_only_is_an_error(broken: Task) -> None:
    with pytest.raises(SoundmarkError, match="no clip of toy"):
        embeddings.embed(broken.subset([0, 15]), ENCODER, "mean", progress=False)


def test_parts_of_one_file_have_their_own_vectors(toy: Task, tmp_path: Path) -> None:
    loud = np.concatenate(
        [np.zeros(16000, np.float32), np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)]
    )
    audio.write(tmp_path / "a.wav", loud, 16000)
    parts = (Clip("a.wav", ("rain",), 0.0, 1.0), Clip("a.wav", ("rain",), 1.0, 2.0), Clip("a.wav", ("rain",)))
    task = replace(toy, root=tmp_path, clips=parts, rounds=())
    for _ in range(2):  # encoded, then from the cache
        silence, noise, both = embeddings.embed(task, ENCODER, "mean", progress=False).vectors
        assert silence.mean() < both.mean() < noise.mean()


def test_a_long_recording_is_encoded_in_pieces(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16000 * 5).astype(np.float32)
    audio.write(tmp_path / "a.wav", noise, 16000)
    task = replace(toy, root=tmp_path, clips=(Clip("a.wav", ("rain",)),), rounds=())
    whole = embeddings.embed(task, ENCODER, "mean+std", cache=False, progress=False).vectors
    encoder = encoders.load(ENCODER)
    encoder.piece_seconds = 2.0
    monkeypatch.setattr(embeddings, "SMALL_FILE_BYTES_A_SECOND", 100)
    read = counted(monkeypatch)
    pieces = embeddings.embed(task, encoder, "mean+std", cache=False, progress=False).vectors
    assert read == []  # never read whole
    np.testing.assert_allclose(pieces, whole, rtol=0.05, atol=0.2)
    moments = list(embeddings.frames(task, encoder, progress=False))
    assert [start for _, start, _ in moments] == [0.0, 2.0, 4.0]
    together = np.concatenate([heard for *_, heard in moments])  # type: ignore[arg-type]
    np.testing.assert_allclose(together.mean(0), pieces[0][: encoder.dim], rtol=1e-5)


@pytest.mark.parametrize(("piece", "batch", "sizes"), [(1.0, 0.0, {2}), (1.0, 2.0, {4}), (60.0, 0.0, {8})])
def test_a_batch_holds_no_more_than_the_encoder_says(
    toy: Task, monkeypatch: pytest.MonkeyPatch, piece: float, batch: float, sizes: set[int]
) -> None:
    encoder = encoders.load(ENCODER)
    encoder.piece_seconds, encoder.batch_seconds = piece, batch
    seen = []
    real = encoder.features
    monkeypatch.setattr(encoder, "features", lambda clips: seen.append(len(clips)) or real(clips))
    task = replace(toy, clips=toy.clips[:8], rounds=())  # half a second each
    embeddings.embed(task, encoder, "mean", cache=False, progress=False)
    assert set(seen) == sizes


def test_frames_come_in_order_with_errors_in_place(broken: Task) -> None:
    answers = list(embeddings.frames(broken, ENCODER, progress=False))
    assert [clip for clip, *_ in answers] == list(broken.clips)
    assert {i for i, (*_, heard) in enumerate(answers) if isinstance(heard, str)} == {0, 15, 27}
    assert answers[1][2].shape == (32, 16)  # type: ignore[union-attr]


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_kill_loses_at_most_the_batches_under_way(
    toy: Task, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from soundmark import audio, embeddings, tasks\n"
        "real = audio.read\n"
        "audio.read = lambda *a, **k: (time.sleep(0.02), real(*a, **k))[1]\n"
        f"clips = [p.name for p in sorted(Path({str(toy.root)!r}).iterdir())]\n"
        "from soundmark.tasks.base import Clip, Task\n"
        f"task = Task('toy', Path({str(toy.root)!r}), tuple(Clip(n, ('x',)) for n in clips), ('x',), '', ())\n"
        f"embeddings.embed(task, {ENCODER!r}, 'mean', workers=1, progress=False)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code])
    folder = own_cache / "embeddings"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _stored(folder):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=30)
    before = _stored(folder)
    assert before > 0
    read = counted(monkeypatch)
    found = embeddings.embed(toy, ENCODER, "mean", progress=False)
    assert len(read) == 100 - before
    expected = embeddings.embed(toy, ENCODER, "mean", cache=False, progress=False)
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def _stored(folder: Path) -> int:
    import sqlite3

    total = 0
    for path in folder.glob("*.sqlite"):
        connection = sqlite3.connect(path, timeout=10)
        try:
            total += connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
        except sqlite3.OperationalError:  # the table is being made
            pass
        finally:
            connection.close()
    return total
