"""Published classifiers: written once, loaded like any model file, and by ONNX Runtime alone from then on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import soundmark
from soundmark import audio, published
from soundmark.cli import main
from soundmark.encoders import mobilenet, weights
from soundmark.errors import DownloadError, ModelError
from soundmark.tasks import esc50, load_view

RATE = 32_000


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the model file of mn01 is, made of random weights that SOUNDMARK_WEIGHTS then holds."""
    folder = tmp_path_factory.mktemp("published")
    about = weights.CHECKPOINTS["mn01"]
    state = torch.random.fork_rng(devices=[])
    with state:
        torch.manual_seed(0)
        network = mobilenet.Published(0.1)
    (folder / "weights").mkdir()
    torch.save(network.state_dict(), folder / "weights" / about.file)
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        published.model_file("mn01")
    return folder


def use(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("SOUNDMARK_CACHE", str(folder))
    patch.setenv("SOUNDMARK_WEIGHTS", str(folder / "weights"))
    patch.setattr(weights, "_TRIES", 1)
    about = weights.CHECKPOINTS["mn01"]
    patch.setitem(weights.CHECKPOINTS, "mn01", replace(about, url="http://127.0.0.1:9/mn01.pt"))


@pytest.fixture
def at_hand(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use(monkeypatch, cache)
    return cache


def test_the_names_are_the_encoders() -> None:
    assert set(published.TAGGERS) == set(mobilenet.WIDTHS) <= set(weights.CHECKPOINTS)


def test_labels_are_audiosets() -> None:
    labels = published.labels()
    assert len(labels) == len(set(labels)) == mobilenet.TAGS
    assert labels[:2] == ("Speech", "Male speech, man speaking")
    assert labels[-1] == "Field recording"


def test_the_file_says_what_the_network_says(at_hand: Path) -> None:
    recognise = soundmark.load("mn01")
    clip = np.random.default_rng(0).uniform(-0.5, 0.5, (2, RATE)).astype(np.float32)
    tagger = mobilenet.Tagger(mobilenet.read("mn01", weights.find("mn01"))).eval()
    with torch.inference_mode():
        wanted, embedding = tagger(torch.from_numpy(clip))
    np.testing.assert_allclose(recognise.predict_proba(clip), wanted.numpy(), atol=1e-4)
    np.testing.assert_allclose(recognise.embed(clip), embedding.numpy(), rtol=1e-3, atol=1e-4)
    assert recognise.facts.kind == "multi"
    assert recognise.metadata["licence"] == "MIT"
    assert "AudioSet" in recognise.metadata["training_data"]["title"]
    assert recognise.metadata["learner"]["sha256"] == weights.digest(weights.find("mn01"))


def test_long_recordings_are_heard_in_windows_and_short_ones_as_they_are(at_hand: Path) -> None:
    recognise = soundmark.load("mn01")

    def spans(seconds: float) -> list[tuple[float, float]]:
        noise = np.random.default_rng(1).uniform(-0.5, 0.5, round(seconds * 8000)).astype(np.float32)
        return [(round(start, 3), round(end, 3)) for start, end, _ in recognise.windows((noise, 8000))]

    assert spans(0.01) == [(0.0, 0.01)]
    assert spans(12.0) == [(0.0, 12.0)]
    assert spans(25.0) == [(0.0, 10.0), (10.0, 20.0), (15.0, 25.0)]


def test_classify_needs_no_pytorch_once_the_file_is_written(at_hand: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    code = (
        "import sys\nfrom soundmark.cli import main\n"
        f"assert main(['classify', {str(tmp_path / 'a.wav')!r}, '--model', 'mn01', '--json', '--top', '600']) == 0\n"
        "assert not set(sys.modules) & {'torch', 'onnx', 'sklearn'}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)["labels"]
    assert len(labels) == 527
    assert sum(one["score"] for one in labels) > 1.5  # tags may be heard together, so they do not share a whole


def test_views_of_a_task_do_not_apply(at_hand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    assert main(["classify", str(tmp_path / "a.wav"), "--model", "mn01", "--view", "danger"]) == 1
    assert "'audioset' has no view 'danger'" in capsys.readouterr().err


def test_other_weights_make_another_file(at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(published, "_write", lambda file, *_: written.append(file))
    before = published.model_file("mn01")
    assert written == []
    about = weights.CHECKPOINTS["mn01"]
    state = torch.load(at_hand / "weights" / about.file, weights_only=True)
    state["classifier.5.bias"] += 1
    torch.save(state, tmp_path / about.file)
    monkeypatch.setenv("SOUNDMARK_WEIGHTS", str(tmp_path))
    note = at_hand / "models" / "mn01.json"
    kept = note.read_bytes()
    after = published.model_file("mn01")
    note.write_bytes(kept)
    assert written == [after]
    assert after != before


def test_the_file_serves_on_where_the_weights_are_gone(
    at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "weights_folders", lambda: [tmp_path])
    assert published.model_file("mn01").is_file()


def test_without_weights_the_message_says_where_they_come_from(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, own_cache)
    with pytest.raises(DownloadError, match=r"fetch http://127\.0\.0\.1:9/mn01\.pt and save it as"):
        soundmark.load("mn01")


def test_names_that_are_no_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="there is no published classifier 'mn07'; there are: mn01, "):
        published.model_file("mn07")
    with pytest.raises(ModelError, match="there is no model file mn07"):
        soundmark.load("mn07")


def test_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mn04").write_bytes(tiny_model())
    assert soundmark.load("mn04").labels == ("quiet", "loud")


def test_a_file_that_does_not_agree_is_not_written(at_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "WITHIN", -1.0)
    monkeypatch.setattr(published, "BUILD", published.BUILD + 1)
    network = mobilenet.Tagger(mobilenet.read("mn01", weights.find("mn01"))).eval()
    with pytest.raises(ModelError, match="does not agree with the network"):
        published._compare(
            network, soundmark.load(at_hand / "models" / next(iter(files(at_hand)))), published._sounds(RATE)
        )
    assert len(files(at_hand)) == 1


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").glob("*.onnx"))


@pytest.mark.weights
@pytest.mark.data
def test_a_dog_is_heard(checkpoint: Callable[[str], Path], esc50_root: Path) -> None:
    tagger = mobilenet.Tagger(mobilenet.read("mn04", checkpoint("mn04"))).eval()
    (dog,) = (esc50_root / "audio").glob("1-100032-A-0.*")
    clip, _ = audio.read(dog, RATE)
    with torch.inference_mode():
        probabilities, _ = tagger(torch.from_numpy(clip)[None])
    best = probabilities[0].topk(5).indices.tolist()
    assert {"Dog", "Animal"} <= {published.labels()[index] for index in best}


def test_a_model_lies_in_the_package() -> None:
    file = Path(soundmark.__file__).parent / "models" / f"{published.BUNDLED}.onnx"
    assert file.stat().st_size <= 2_500_000
    recognise = soundmark.load()
    assert recognise.name == published.BUNDLED == soundmark.load(published.BUNDLED).name
    assert recognise.labels == esc50.CLASSES
    assert set(recognise.thresholds) == set(esc50.CLASSES)
    assert 0 < recognise.unknown_below < 1
    said = recognise.metadata
    assert (said["code_licence"], said["licence"]) == ("MIT", esc50.KNOWN.licence)
    assert "non-commercial" in said["licence_note"]
    assert said["metrics"]["protocol"] == "official 5 folds"
    assert len(said["metrics"]["per_class"]) == 50
    danger = recognise.with_view(load_view("danger", "esc50"))
    assert set(danger.thresholds) == {"danger"}


def test_the_model_of_the_package_needs_neither_network_nor_pytorch(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.zeros(RATE, np.float32), RATE)
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from soundmark.cli import main\n"
        f"assert main(['classify', {str(tmp_path / 'a.wav')!r}, '--json']) == 0\n"
        "assert not set(sys.modules) & {'torch', 'onnx', 'sklearn', 'pyarrow', 'scipy'}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.data
def test_the_model_of_the_package_knows_what_it_learnt(esc50_files: list[Path]) -> None:
    recognise = soundmark.load()
    some = esc50_files[::40]
    right = [recognise(path, 1)[0]["label"] == esc50.CLASSES[int(path.stem.rpartition("-")[2])] for path in some]
    assert np.mean(right) > 0.9
