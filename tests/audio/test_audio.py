"""Reading, describing, cutting and writing recordings."""

from __future__ import annotations

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from soundmark import audio
from soundmark.errors import AudioError

RATE = 8000
quick = settings(max_examples=40, deadline=None, derandomize=True)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Soft noise: float32 (samples,) or (samples, channels)."""
    shape = samples if channels == 1 else (samples, channels)
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two seconds of noise, exact in 32-bit floats."""
    path = tmp_path / "noise.wav"
    audio.write(path, noise(2 * RATE), RATE, subtype="FLOAT")
    return path


def test_public_names_are_complete() -> None:
    assert set(audio.__all__) <= set(dir(audio))


# --- reading


def test_read_gives_mono_float32_at_the_files_rate(recording: Path) -> None:
    waveform, rate = audio.read(recording)
    assert (waveform.dtype, waveform.shape, rate) == (np.float32, (2 * RATE,), RATE)
    np.testing.assert_array_equal(waveform, noise(2 * RATE))


def test_every_kind_of_source_gives_the_same(recording: Path) -> None:
    expected, _ = audio.read(recording)
    content = recording.read_bytes()
    for source in (str(recording), content, io.BytesIO(content), bytearray(content), (noise(2 * RATE), RATE)):
        waveform, rate = audio.read(source)
        np.testing.assert_array_equal(waveform, expected)
        assert rate == RATE
    with recording.open("rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(audio.read(file)[0], expected)
        assert not file.closed


def test_channels_are_averaged() -> None:
    for channels in (2, 3, 8):
        stereo = noise(1000, channels)
        waveform, _ = audio.read((stereo, RATE))
        np.testing.assert_allclose(waveform, stereo.mean(axis=1), atol=1e-7)


def test_read_does_not_hand_out_the_callers_array() -> None:
    mine = noise(100)
    waveform, _ = audio.read((mine, RATE))
    waveform[:] = 0
    np.testing.assert_array_equal(mine, noise(100))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-128, 0, 64], np.int8), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float16), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], ">f4"), [-1, 0, 0.5]),
        (np.array([-3, 0, 2.5], np.float32), [-3, 0, 2.5]),
        ([-1.0, 0.0, 0.5], [-1, 0, 0.5]),
        (np.array([[-1.0, 0.0], [0.5, 0.5]]), [-0.5, 0.5]),
    ],
)
def test_arrays_are_scaled_by_their_type(array: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_array_equal(audio.read((array, RATE))[0], np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ((np.zeros(0), RATE), "no samples"),
        ((np.zeros((0, 2)), RATE), "no samples"),
        ((np.zeros((3, 0)), RATE), "no samples"),
        ((np.zeros((2, 3, 4)), RATE), "shape"),
        ((np.float32(1), RATE), "shape"),
        ((np.zeros((2, 500)), RATE), "more channels than samples"),
        ((np.zeros(9, np.int64), RATE), "full scale"),
        ((np.zeros(9, np.uint16), RATE), "full scale"),
        ((np.zeros(9, bool), RATE), "full scale"),
        ((np.zeros(9, complex), RATE), "full scale"),
        ((np.array(["a", "b"]), RATE), "full scale"),
        (([[1.0], [1.0, 2.0]], RATE), "not an array"),
        ((np.zeros(9), 0), "sample rate of 0"),
        ((np.zeros(9), -8000), "sample rate of -8000"),
        ((np.zeros(9), 10**9), "sample rate"),
        ((np.zeros(9), 8000.5), "sample rate"),
        ((np.zeros(9), math.nan), "sample rate"),
        ((np.zeros(9), "8000"), "sample rate"),
        ((np.zeros(9), None), "sample rate"),
        ((np.zeros(9), RATE, 3), "tuple of 3"),
        ((np.array([0, np.nan, np.inf]), RATE), "2 NaN or infinite"),
        ((np.array([0, 1e300]), RATE), "1 NaN or infinite"),
        (None, "NoneType"),
        (7, "int"),
        (np.zeros(9), "pair"),
    ],
)
def test_impossible_arrays_are_refused(source: object, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        audio.read(source)  # type: ignore[arg-type]


def test_a_whole_number_of_hz_may_be_a_float() -> None:
    assert audio.read((noise(10), 8000.0))[1] == 8000  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0, -1, 99, 1_000_000, 44100.5, math.nan, math.inf, "x"])
def test_impossible_target_rates_are_refused(recording: Path, rate: float) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        audio.read(recording, rate)  # type: ignore[arg-type]


def test_read_resamples(recording: Path) -> None:
    waveform, rate = audio.read(recording, 11_025)
    assert rate == 11_025
    np.testing.assert_array_equal(waveform, audio.resample(noise(2 * RATE), RATE, 11_025))


# --- parts


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_part_is_the_whole_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part.{suffix}"
    soundfile.write(path, noise(3 * RATE), RATE)
    whole, _ = audio.read(path)
    for start, end in ((0.5, 1.25), (0.0, 0.1), (2.0, None), (1 / 3, 2 / 3), (0.0, 3.0), (2.9999, 3.05)):
        part, _ = audio.read(path, start=start, end=end)
        stop = None if end is None else round(end * RATE)
        np.testing.assert_allclose(part, whole[round(start * RATE) : stop], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (-0.1, None, "from 0 up"),
        (math.nan, None, "from 0 up"),
        (math.inf, None, "from 0 up"),
        (0.0, math.nan, "after the start"),
        (0.0, math.inf, "after the start"),
        (1.0, 1.0, "after the start"),
        (1.0, 0.5, "after the start"),
        (2.0, None, "earlier start"),
        (5.0, 6.0, "earlier start"),
        (1.0, 2.2, "earlier end"),
        (1.0, 1.00001, "longer part"),
        (None, None, "numbers of seconds"),
        ("1", None, "numbers of seconds"),
        (0.0, "1", "numbers of seconds"),
    ],
)
def test_impossible_parts_are_refused(recording: Path, start: float, end: float | None, words: str) -> None:
    for source in (recording, (noise(2 * RATE), RATE)):
        with pytest.raises(AudioError, match=words):
            audio.read(source, start=start, end=end)
        with pytest.raises(AudioError, match=words):
            list(audio.windows(source, None, 1.0, start=start, end=end))


def test_an_end_a_little_late_is_the_end(recording: Path) -> None:
    np.testing.assert_array_equal(audio.read(recording, start=1.5, end=2.09)[0], noise(2 * RATE)[12_000:])


def test_a_part_is_sought_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(60 * RATE), RATE)
    frames: list[int] = []
    whole_read = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, count: int = -1, **options: object) -> np.ndarray:
        frames.append(count)
        return whole_read(self, count, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    audio.read(path, start=50, end=51)
    assert frames == [RATE]


# --- info


def test_info(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(1200, 3), 48_000, subtype="PCM_24")
    assert audio.info(path) == audio.AudioInfo(48_000, 3, 1200, 0.025, "FLAC PCM_24")
    assert audio.info(path.read_bytes()) == audio.info(path)
    assert audio.info((noise(50, 2), RATE)) == audio.AudioInfo(RATE, 2, 50, 50 / RATE, "array float32")


# --- windows


def check_windows(parts: list[audio.Window], whole: np.ndarray, rate: int, seconds: float, hop: float) -> None:
    """The parts are `whole` cut as promised, and leave nothing of it out."""
    length = math.ceil(round(seconds * rate, 6))
    ends = []
    for place, part in enumerate(parts):
        begin = round(place * (hop * rate))
        assert part.start == pytest.approx(begin / rate)
        assert part.end == pytest.approx((begin + len(part.waveform)) / rate)
        assert len(part.waveform) == min(length, len(whole) - begin) > 0
        np.testing.assert_allclose(part.waveform, whole[begin : begin + length], atol=1e-6)
        ends.append(begin + len(part.waveform))
    assert all(end < len(whole) for end in ends[:-1])
    assert ends[-1] == len(whole) or round(len(parts) * (hop * rate)) >= len(whole)


@quick
@given(
    samples=st.integers(1, 3000),
    to_rate=st.sampled_from([RATE, 4000, 11_025, 16_000, 7999]),
    seconds=st.floats(0.001, 0.6),
    hop=st.floats(0.001, 0.6),
    channels=st.integers(1, 3),
)
def test_windows_are_the_whole_cut(samples: int, to_rate: int, seconds: float, hop: float, channels: int) -> None:
    source = (noise(samples, channels if samples >= channels else 1), RATE)
    whole, _ = audio.read(source, to_rate)
    check_windows(list(audio.windows(source, to_rate, seconds, hop)), whole, to_rate, seconds, hop)


@pytest.mark.parametrize("to_rate", [None, 11_025, 44_100])
def test_windows_of_many_blocks_are_the_whole_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_rate: int | None
) -> None:
    monkeypatch.setattr("soundmark.audio.decoders._BLOCK_VALUES", 5000)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, noise(30_000, 2), RATE, subtype="FLOAT")
    whole, rate = audio.read(path, to_rate)
    for seconds, hop in ((1.0, 0.25), (0.1, 0.1), (0.05, 1.3), (9.0, 1.0), (3.75, 3.75)):
        check_windows(list(audio.windows(path, to_rate, seconds, hop)), whole, rate, seconds, hop)
    assert [len(part.waveform) for part in audio.windows(path, to_rate, 3.75)] == [len(whole)]


def test_windows_of_a_part_keep_the_recordings_time(recording: Path) -> None:
    parts = list(audio.windows(recording, None, 0.5, start=0.75, end=2.0))
    assert [(part.start, part.end) for part in parts] == [(0.75, 1.25), (1.25, 1.75), (1.75, 2.0)]
    np.testing.assert_array_equal(parts[2].waveform, noise(2 * RATE)[14_000:])


@pytest.mark.parametrize(
    ("seconds", "hop"), [(0, 1), (-1, 1), (math.nan, 1), (math.inf, 1), (1, -1), (1, math.nan), (None, 1), ("1", 1)]
)
def test_impossible_windows_are_refused_at_once(recording: Path, seconds: float, hop: float) -> None:
    with pytest.raises(AudioError, match="number of seconds above 0"):
        audio.windows(recording, None, seconds, hop)


def test_windows_shorter_than_a_sample_are_refused(recording: Path) -> None:
    for seconds, hop in ((1e-6, 1.0), (1.0, 1e-6)):
        with pytest.raises(AudioError, match="shorter than a sample"):
            list(audio.windows(recording, None, seconds, hop))


def test_half_an_hour_streams_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "half-an-hour.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for minute in range(30):
            file.write(noise(60 * RATE, seed=minute))
    tracemalloc.start()
    try:
        count = sum(1 for _ in audio.windows(path, 4000, 5.0, 2.5))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 30 * 60 / 2.5 - 1
    assert peak < 10e6  # the whole would be 58 MB at its own rate


# --- writing and finding


@quick
@given(
    values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50),
    case=st.sampled_from(
        [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24")]
    ),
)
def test_what_was_written_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], case: tuple
) -> None:
    path = tmp_path_factory.mktemp("round") / f"x.{case[0]}"
    waveform = np.array(values, np.float32) / 2**15
    audio.write(path, waveform, RATE, subtype=case[1])
    again, rate = audio.read(path)
    np.testing.assert_array_equal(again, waveform)
    assert rate == RATE


def test_write_rounds_clips_and_keeps_channels(tmp_path: Path) -> None:
    audio.write(tmp_path / "a" / "x.wav", np.array([0.4, 0.6, -0.6, 1e9, -1e9]) / 2**15, RATE)
    steps, _ = soundfile.read(tmp_path / "a" / "x.wav", dtype="int16")
    assert steps.tolist() == [0, 1, -1, 32767, -32768]
    audio.write(tmp_path / "stereo.flac", noise(100, 2), RATE)
    assert audio.info(tmp_path / "stereo.flac").channels == 2


@pytest.mark.parametrize(
    ("name", "waveform", "rate", "subtype", "words"),
    [
        ("x.mp3", noise(9), RATE, "PCM_16", "ending"),
        ("x", noise(9), RATE, "PCM_16", "ending"),
        ("x.wav", noise(0), RATE, "PCM_16", "at least one sample"),
        ("x.wav", np.zeros((2, 2, 2)), RATE, "PCM_16", "shape"),
        ("x.wav", np.zeros(9, np.int16), RATE, "PCM_16", "floats"),
        ("x.wav", np.array([0, np.nan]), RATE, "PCM_16", "NaN"),
        ("x.wav", noise(9), 0, "PCM_16", "sample rate"),
        ("x.wav", noise(9), RATE, "PCM_99", "subtype"),
        ("x.flac", noise(9), RATE, "FLOAT", "subtype"),
    ],
)
def test_impossible_writes_leave_nothing(
    tmp_path: Path, name: str, waveform: np.ndarray, rate: int, subtype: str, words: str
) -> None:
    with pytest.raises(AudioError, match=words):
        audio.write(tmp_path / name, waveform, rate, subtype=subtype)
    assert not list(tmp_path.iterdir())


def test_write_where_one_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioError, match="check the folder"):
        audio.write(tmp_path / "file" / "x.wav", noise(9), RATE)


def test_find_audio(tmp_path: Path) -> None:
    for name in ("a.ogg", "b.wav", "b.flac", "c.d.flac", "e.WAV", "f.txt", "g"):
        (tmp_path / name).write_text("")
    (tmp_path / "h.wav").mkdir()
    found = {
        "a.wav": "a.ogg",
        "a": "a.ogg",
        "b.wav": "b.wav",
        "b.flac": "b.flac",
        "b.mp3": "b.wav",
        "c.d.wav": "c.d.flac",
        "c.d": "c.d.flac",
        "e.mp3": "e.WAV",
        "f.txt": "f.txt",
        "g": "g",
        "f.wav": None,
        "h.wav": None,
        "missing/x.wav": None,
    }
    for asked, expected in found.items():
        assert audio.find_audio(tmp_path / asked) == (None if expected is None else tmp_path / expected), asked


def test_find_audio_takes_any_name() -> None:
    for name in ("", ".", "/", "..", "nul\0byte", "x" * 5000 + ".wav"):
        assert audio.find_audio(name) is None


@pytest.mark.data
def test_real_clips_read_at_every_rate(esc50_files: list[Path]) -> None:
    for path in esc50_files[::250]:
        waveform, rate = audio.read(path, 32_000)
        about = audio.info(path)
        assert rate == 32_000
        assert len(waveform) == math.ceil(about.samples * 32_000 / about.sample_rate)
        assert np.abs(waveform).max() < 2
