from dataclasses import replace

import numpy as np
import pytest

from soundmark import audio, tasks
from soundmark.tasks import show


@pytest.fixture
def toy():
    return tasks.load("toy?clips=4&seconds=0.5")


def test_the_table_counts_clips_groups_and_seconds(toy):
    lines = show.table(toy, show.durations(toy))
    assert lines[0].split() == ["class", "clips", "groups", "minutes", "shortest", "longest"]
    assert lines[1].split() == ["siren", "4", "2", "0.0", "0.50", "s", "0.50", "s"]
    assert lines[-1].split() == ["all", "40", "20", "0.3", "0.50", "s", "0.50", "s"]


def test_figures_as_png_and_svg(toy, tmp_path):
    small = replace(toy, classes=toy.classes[:2], clips=toy.clips[:8])
    written = show.draw(small, tmp_path / "new", show.durations(small), clips=2, progress=False)
    assert [path.name for path in written] == [
        f"{name}.{suffix}" for name in ("counts", "durations", "clips-1") for suffix in ("png", "svg")
    ]
    for path in written:
        head = path.read_bytes()[:300]
        assert head.startswith(b"\x89PNG") if path.suffix == ".png" else b"<svg" in path.read_bytes()[:2000]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in written)


def test_odd_names_odd_lengths_and_clips_that_cannot_be_read(tmp_path):
    rng = np.random.default_rng(0)
    clips = []
    for i, seconds in enumerate((0.01, 0.3, 12.0)):
        audio.write(tmp_path / f"{i}.wav", rng.uniform(-1, 1, round(8000 * seconds)).astype(np.float32), 8000)
        clips.append(tasks.Clip(f"{i}.wav", ("$_^{<b>犬" if i else "a" * 80,), group=str(i)))
    audio.write(tmp_path / "silent.wav", np.zeros(800, np.float32), 8000)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    clips += [tasks.Clip("silent.wav", ("b",)), tasks.Clip("bad.wav", ("b",)), tasks.Clip("0.wav", ("b",), start=5.0)]
    task = tasks.Task("own", tmp_path, tuple(clips), ("a" * 80, "$_^{<b>犬", "b"), "none", ())
    seconds = show.durations(task)
    assert {clip.key for clip in task.clips} - {clip.key for clip in seconds} == {"bad.wav", "0.wav#5-"}
    assert len(show.draw(task, tmp_path / "figures", seconds, progress=False)) == 6
    assert show.draw(task, tmp_path / "none", {}, clips=1, progress=False)


def test_a_page_holds_ten_classes(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(show, "CLASSES_PER_PAGE", 1)
    pages = []
    monkeypatch.setattr(show, "_gallery", lambda task, classes, clips: pages.append(classes) or show._figure(1, 1))
    show.draw(replace(toy, classes=toy.classes[:3]), tmp_path, {}, progress=False)
    assert pages == [("siren",), ("beeps",), ("knocks",)]


def test_the_spectrogram_shows_a_tone_where_it_is():
    rate = 16000
    time = np.arange(rate) / rate
    image = show.log_mel(np.sin(2 * np.pi * 1000 * time), rate)
    assert image.shape[0] == 96
    assert image.max() == 0
    assert image.min() >= -80
    span = show._mel(rate / 2) - show._mel(30)
    expected = (show._mel(1000) - show._mel(30)) / span * 97 - 1
    assert abs(image[:, 30].argmax() - expected) <= 1


@pytest.mark.parametrize("samples", [1, 10, 500, 100_000])
def test_waveforms_of_any_length_have_an_envelope_and_a_spectrogram(samples):
    waveform = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
    low, high = show._envelope(waveform)
    assert len(low) == len(high) == min(samples, 500)
    assert np.all(low <= high)
    assert np.isclose(high.max(), waveform.max())
    assert np.isfinite(show.log_mel(waveform, 8000)).all()
