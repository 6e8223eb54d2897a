import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from soundmark.cli import main
from soundmark.encoders import weights
from soundmark.encoders.weights import CHECKPOINTS, Checkpoint
from soundmark.errors import DownloadError, SpecError, WeightsError
from soundmark.spec import parse

CONTENT = b"not weights, but as good for looking after"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/net.pt"


class Sampler:
    """What training scripts leave beside the tensors."""

    def __init__(self):
        self.order = np.arange(5)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A table of one checkpoint, `net`, and a folder that SOUNDMARK_WEIGHTS names; the net is out of reach."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("SOUNDMARK_WEIGHTS", str(folder))
    monkeypatch.setattr(weights, "_TRIES", 1)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def publish(**facts):
        about = replace(Checkpoint("net.pt", NOWHERE, "MIT", "noise", "nobody"), **facts)
        monkeypatch.setattr(weights, "CHECKPOINTS", {"net": about})
        return folder / "net.pt"

    return publish


def test_every_checkpoint_says_what_a_user_must_know():
    for about in CHECKPOINTS.values():
        assert about.url.startswith("https://")
        assert all([about.licence, about.trained_on, about.source])
        assert len(about.sha256) in (0, 64)
        assert len(about.md5) in (0, 32)
    assert len({about.file for about in CHECKPOINTS.values()}) == len(CHECKPOINTS)


def test_the_users_folders_come_before_the_cache(published, own_cache):
    mine = published(sha256=SHA256)
    cached = own_cache / "weights" / "net.pt"
    cached.parent.mkdir()
    cached.write_bytes(CONTENT)
    assert weights.find("net") == cached
    mine.write_bytes(CONTENT)
    assert weights.find("net") == mine


def test_without_the_file_and_without_a_net_the_message_says_what_to_do(published, own_cache):
    published()
    with pytest.raises(
        DownloadError, match=r"weights of net are not here.* fetch http://127\.0\.0\.1:9/net\.pt"
    ) as said:
        weights.find("net")
    assert str(own_cache / "weights" / "net.pt") in str(said.value)


def test_what_is_fetched_is_verified(published, own_cache, monkeypatch):
    published(md5=hashlib.md5(CONTENT).hexdigest())
    asked = {}

    def fetch(url, target, **checks):
        asked.update(checks, url=url)
        target.parent.mkdir(parents=True)
        target.write_bytes(CONTENT)

    monkeypatch.setattr(weights, "fetch", fetch)
    path = weights.find("net", progress=False)
    assert path == own_cache / "weights" / "net.pt"
    assert asked["url"] == NOWHERE
    assert asked["md5"] == hashlib.md5(CONTENT).hexdigest()
    assert weights.find("net") == path


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"size": 5}, "42 bytes instead of 5"),
        ({"sha256": "0" * 64}, "not the published file: its sha256 is"),
        ({"md5": "0" * 32}, "not the published file: its md5 is"),
    ],
)
def test_another_file_of_the_same_name_is_refused(published, facts, message):
    mine = published(**facts)
    mine.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=message):
        weights.find("net")


def test_without_a_published_checksum_the_first_use_is_noted_and_holds(published, capsys):
    mine = published()
    mine.write_bytes(CONTENT)
    assert weights.verify("net", mine) == "nothing"
    assert f"its sha256 {SHA256} is noted in {mine}.sha256" in capsys.readouterr().err
    assert (mine.parent / "net.pt.sha256").read_text() == f"{SHA256}  net.pt\n"
    assert weights.verify("net", mine) == "first use"
    mine.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="has changed since its first use"):
        weights.find("net")


def test_a_digest_follows_the_content(tmp_path):
    (tmp_path / "x").write_bytes(b"a")
    before = weights.digest(tmp_path / "x")
    assert before == hashlib.sha256(b"a").hexdigest()
    (tmp_path / "x").write_bytes(b"ab")
    assert weights.digest(tmp_path / "x") == hashlib.sha256(b"ab").hexdigest()
    with pytest.raises(WeightsError, match="cannot read the weights"):
        weights.digest(tmp_path / "y")


# --- names ---------------------------------------------------------------------------------------------------------


def test_settings_that_say_what_holds_anyway_are_left_out(published):
    mine = published()
    mine.write_bytes(CONTENT)
    assert [str(x) for x in weights.chosen(parse("net@a?precision=float32"))] == ["net@a", str(mine), "float32"]
    spec, path, precision = weights.chosen(parse(f"net?weights={mine}&precision=bf16"))
    assert (str(spec), path, precision) == (f"net?precision=bf16&weights={mine}", mine, "bf16")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("other", SpecError, "no checkpoint called 'other'; there are: net"),
        ("net:view", SpecError, "has no views"),
        ("net?size=3", SpecError, "no setting 'size'"),
        ("net?precision=int3", SpecError, "it is float32 or bf16"),
        ("net?weights=nowhere.pt", WeightsError, "there is no file of weights nowhere.pt"),
    ],
)
def test_names_that_cannot_be(published, name, error, message):
    published().write_bytes(CONTENT)
    with pytest.raises(error, match=message):
        weights.chosen(parse(name))


# --- content -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "iteration": 5},
        lambda state: {"state_dict": state, "pytorch-lightning_version": "1.9", "loops": {}},
        lambda state: {"model": state, "sampler": Sampler(), "scores": [np.float64(0.5)]},
    ],
    ids=["plain", "PANNs", "Lightning", "with training state"],
)
def test_every_form_of_a_checkpoint(tmp_path, wrap, zipped):
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    torch.save(wrap(state), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = weights.load(tmp_path / "x.pt")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def test_no_code_of_a_checkpoint_runs(tmp_path):
    torch.save({"model": {"a": torch.ones(1)}, "extra": Bomb(str(tmp_path / "mark"))}, tmp_path / "x.pt")
    assert list(weights.load(tmp_path / "x.pt")) == ["a"]
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a checkpoint"),
        (b"<html>404</html>" * 50, "cannot be read as a checkpoint"),
        (b"PK\x03\x04" + bytes(100), "cannot be read as a checkpoint"),
        (b"\x80\x02}q\x00.", "cannot be read as a checkpoint"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path, content, message):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.load(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epochs": 3}, torch.ones(2)])
def test_files_without_tensors_by_name(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        weights.load(tmp_path / "x.pt")


def test_a_checkpoint_cut_short(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:2000])
    with pytest.raises(WeightsError, match="damaged, cut short"):
        weights.load(tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="cannot read the weights"):
        weights.load(tmp_path)
    with pytest.raises(WeightsError, match="cannot read the weights"):
        weights.load(tmp_path / "nowhere.pt")


def test_every_tensor_that_does_not_fit_is_named():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    state = {"weight": torch.zeros(3, 4), "scale": torch.zeros(1), "shift": torch.zeros(1)}
    with pytest.raises(WeightsError) as said:
        weights.fill(module, state, "x.pt")
    assert str(said.value) == (
        "the weights in x.pt do not fit Linear: 1 missing: bias; 2 unexpected: scale, shift; "
        "1 of the wrong shape: weight (3, 4) instead of (3, 2)"
    )
    assert torch.equal(module.weight, before)
    with pytest.raises(WeightsError, match="another network's"):
        weights.fill(module, {"a": torch.zeros(1)}, "x.pt")


def test_filling_copies():
    module, other = nn.Linear(2, 3), nn.Linear(2, 3)
    weights.fill(module, other.state_dict(), "x.pt")
    assert torch.equal(module.weight, other.weight)
    assert module.weight.data_ptr() != other.weight.data_ptr()


# --- the command line ----------------------------------------------------------------------------------------------


def test_list_get_and_verify(published, monkeypatch, capsys):
    mine = published(sha256=SHA256)
    assert main(["weights", "list"]) == 0
    assert f"not here: {NOWHERE}" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0
    assert "no weights here yet" in capsys.readouterr().out
    assert main(["weights", "verify", "net"]) == 1
    assert "run `soundmark weights get net`" in capsys.readouterr().err
    assert main(["weights", "get", "net"]) == 1
    assert "save it as" in capsys.readouterr().err
    mine.write_bytes(CONTENT)
    assert main(["weights", "get", "net", "--to", str(mine.parent)]) == 0
    assert capsys.readouterr().out == f"net: {mine}\n"
    assert main(["weights", "verify"]) == 0
    assert "is the published file (sha256)" in capsys.readouterr().out
    assert main(["weights", "list", "--json"]) == 0
    assert str(mine) in capsys.readouterr().out
    mine.write_bytes(b"x")
    assert main(["weights", "verify"]) == 1
    assert main(["weights", "get", "cnn7"]) == 1
    assert "there is no checkpoint called 'cnn7'" in capsys.readouterr().err


@pytest.mark.weights
def test_the_real_checkpoint_is_the_published_one(checkpoint):
    assert weights.verify("mn04", checkpoint("mn04")) == "sha256"
