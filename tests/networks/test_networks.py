"""Networks by name, and what all of them must do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from soundmark.audio import WindowPolicy
from soundmark.encoders.check import ContractError
from soundmark.errors import AudioError, SpecError
from soundmark.networks import NETWORKS, build, densenet, resnet
from soundmark.networks.base import Network, mean_and_peak
from soundmark.networks.check import check_network
from soundmark.networks.front import LogMel
from soundmark.spec import Spec

NAMES = frozenset(NETWORKS)  # before any test adds its own
SMALL = [
    "cnn?bands=16&width=3",
    "conv1d?bands=16&kernel=4&width=6",
    "densenet121?bands=32&growth=3",
    "mark1?bands=16&width=3",
    "mark1?bands=16&blocks=2&width=2",
    "mark1?bands=16&views=5&width=3",
    "mlp?bands=16&hidden=8&seconds=0.4",
    "resnet18?bands=16&width=3",
    "resnet18?bands=16&stem=small&width=3",
    "resnet34?bands=16&width=2",
]


@pytest.fixture
def shallow(monkeypatch):
    """Deep networks with one block or layer to each stage."""
    for table in (densenet.BLOCKS, resnet.BLOCKS):
        for name in table:
            monkeypatch.setitem(table, name, (1, 1, 1, 1))


def test_every_network_is_tested():
    assert {name.partition("?")[0] for name in SMALL} == NAMES


def test_the_page_says_what_they_cost():
    page = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\d.]+) \| ([\d.]+) \|$", page.read_text("utf-8"), re.MULTILINE)
    assert {name for name, *_ in rows} == NAMES
    for name, millions, operations in rows:
        network = build(name, 2).eval()
        heard = network.hear(torch.zeros(1, 5 * network.sample_rate))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.vectors(heard)
        weights = sum(each.numel() for group in network.depths() for each in group)
        assert f"{weights / 1e6:.2f}" == millions, name
        assert f"{counter.get_total_flops() / 1e9:.2f}" == operations, name


@pytest.mark.parametrize("name", SMALL)
def test_the_contract(shallow, name):
    graph = not name.startswith("resnet34")  # it is resnet18's, only deeper
    assert len(check_network(name, classes=3, graph=graph)) == 10 + graph


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_decides_the_weights(shallow, name):
    def drawn(seed):
        torch.manual_seed(seed)
        return torch.cat([each.detach().flatten() for each in build(name, 3).parameters()])

    with torch.random.fork_rng(devices=[]):
        first, again, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["mlp?hidden=4", "conv1d?width=2"])
def test_five_seconds_are_128_bands_and_431_frames(name):
    network = build(name, 2)
    assert network.sample_rate == 22_050
    assert network.hear(torch.zeros(1, 110_250)).shape == (1, 431, 128)


@pytest.mark.parametrize(("name", "most"), [("mark1", 1_500_000), ("mark1?width=10", 150_000)])
def test_our_own_is_small(name, most):
    assert sum(each.numel() for each in build(name, 50).parameters()) <= most


def test_a_network_of_one_length_says_so():
    network = build("mlp?bands=16&hidden=4&seconds=1", 2).eval()
    assert network.policy == WindowPolicy(min_seconds=0.05, window_seconds=1.0)
    with pytest.raises(AudioError, match=r"mlp\?.* hears 87 frames \(1 s\) at once, not 173: cut or fill"):
        network(torch.zeros(1, 2 * 22_050))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("transformer", r"no network called 'transformer'; there are: .*cnn14, .*hf, .*mlp, mn01"),
        ("cnn+mlp", "cannot read the name"),
        ("cnn?depth=3", r"'cnn' has no setting 'depth'"),
        ("cnn?width=0", r"width=0 in 'cnn' is out of bounds: it must lie from 1 to 1024"),
        ("cnn?bands=8", r"bands=8 in 'cnn' is out of bounds: it must lie from 16 to 4096"),
        ("cnn?fmin=9000&rate=16000", r"fmin=9000 and fmax=0 in 'cnn' do not lie in order"),
        ("conv1d?kernel=0", "kernel=0 in 'conv1d' is out of bounds"),
        ("densenet121?bands=16", "bands=16 in 'densenet121' is out of bounds: it must lie from 32 to 4096"),
        ("densenet121?growth=x", "growth=x in 'densenet121' should be of type int"),
        ("mlp?dropout=1", "dropout=1 in 'mlp' is out of bounds: it must lie from 0 to 0.99"),
        ("mlp?dropout=nan", "dropout=nan in 'mlp' is out of bounds"),
        ("mlp?seconds=60&hidden=65536", r"would have [\d,]+ weights: choose fewer seconds"),
        ("resnet18?stem=huge", "stem=huge in 'resnet18': it is one of large, small"),
        ("resnet18?hop=0", "hop=0 in 'resnet18' is out of bounds"),
    ],
)
def test_what_cannot_be_built_is_refused(name, message):
    with pytest.raises(SpecError, match=message):
        build(name, 2)


def test_mean_and_peak_hears_a_short_sound_in_a_long_silence():
    maps = torch.zeros(1, 2, 10, 4)
    maps[0, 1, 3] = 5.0
    assert mean_and_peak(maps).tolist() == [[0.0, 5.5]]


class Broken(Network):
    """Hears through its neighbours, leaves a layer without work, and one of its groups is empty."""

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.spec, self.sample_rate, self.front = str(spec), 8000, LogMel(8000, 256, 128, 8)
        self.policy = WindowPolicy(min_seconds=0.1)
        self.idle, self.head = nn.Linear(8, 8), nn.Linear(8, classes)

    def vectors(self, heard: torch.Tensor) -> torch.Tensor:
        """Centred on the batch's mean."""
        means = heard.mean(1)
        return means - means.mean(0)

    def depths(self) -> list[list[nn.Parameter]]:
        """The first group has nothing."""
        return [[], [self.idle.weight]]


def test_a_network_that_breaks_the_contract_is_told_how(monkeypatch):
    monkeypatch.setitem(NETWORKS, "broken", Broken)
    with pytest.raises(ContractError) as caught:
        check_network("broken", graph=False)
    for words in (
        "the network broken breaks the contract in",
        "the vector of silence changes by",
        "a group is empty",
        "1 parameters are missing",
        "no gradient reaches idle.weight",
        "the gradient of idle.bias is missing",
    ):
        assert words in str(caught.value)


def test_mark1_hears_a_clip_in_as_many_views_as_asked() -> None:
    plain, thrice = (build(f"mark1?bands=16&width=3&views={views}", 4).eval() for views in (1, 3))
    thrice.load_state_dict(plain.state_dict())
    heard = plain.hear(torch.sin(torch.arange(22050) * 0.2)[None] * torch.linspace(0, 1, 22050))
    assert [*map(id, plain.views(heard))] == [id(heard)]
    whole, up, down = thrice.views(heard)
    assert whole is heard
    frames = heard.shape[1]
    assert up.shape == down.shape == (1, frames * 11 // 10, 16)
    for view, bands in ((up, 1), (down, -1)):
        # Of every eleven frames two are one that was heard, and a band has what its neighbour had.
        for number in (0, 1, 10, 11, 12, 47):
            was = heard[0, number * 10 // 11]
            assert torch.equal(view[0, number].roll(-bands)[1:-1], was[1:-1])
            assert view[0, number, 0 if bands > 0 else -1] == was[0 if bands > 0 else -1]
    with torch.no_grad():
        vectors = torch.stack([plain.vectors(view) for view in (whole, up, down)])
        torch.testing.assert_close(thrice.whole(heard), vectors.mean(0))
        torch.testing.assert_close(plain.whole(heard), vectors[0])
        assert torch.equal(thrice.vectors(heard), plain.vectors(heard)), "what is learnt from is as it is"
