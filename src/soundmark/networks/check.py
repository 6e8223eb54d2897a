"""The network contract, executable: what every network must do before any time is spent on training it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from soundmark.audio import WindowPolicy
from soundmark.audio.waveforms import samples_of
from soundmark.encoders.check import ContractError, signals
from soundmark.encoders.graph import export_graph
from soundmark.errors import SoundmarkError
from soundmark.networks import build
from soundmark.networks.base import Exported, Network
from soundmark.networks.front import Front

_STEPS = 6
_RATE = 1e-5  # low enough for any network: of those whose norms are folded in, a higher one overshoots
_CLIPS = 4


@dataclass
class _Case:
    """A network under examination, and how near is equal."""

    name: str
    classes: int
    network: Network
    tolerance: float

    def samples(self, seconds: float = 0.5) -> int:
        """So many seconds in samples, but never fewer than it takes, and as many as it takes where that is fixed."""
        policy = self.network.policy
        return samples_of(policy.window_seconds or max(seconds, policy.min_seconds), self.network.sample_rate)

    def noise(self, seconds: float = 0.5, clips: int = _CLIPS) -> Tensor:
        """(clips, samples) of noise, each of another colour."""
        generator = torch.Generator().manual_seed(7)
        noise = torch.randn(clips, self.samples(seconds), generator=generator)
        smooth = noise.cumsum(1) / 30
        share = torch.linspace(0, 1, clips)[:, None]
        return 0.1 * ((1 - share) * noise + share * (smooth - smooth.mean(1, keepdim=True))).clamp(-10, 10)


def check_network(name: str, *, classes: int = 3, tolerance: float = 1e-5, graph: bool = True) -> list[str]:
    """Check everything that training, measuring and model files take for granted about a network.

    Args:
        name: in the grammar, such as `cnn?width=32`.
        classes: how many it is to tell apart.
        tolerance: how far, relative L2, a clip's vector may differ with other clips beside it.
        graph: write the ONNX graph too and compare it, which takes seconds.

    Returns:
        A line for everything that held.

    Raises:
        ContractError: listing all that does not hold.
        SpecError: for a name that is none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        case = _Case(name, classes, build(name, classes), tolerance)
        held: list[str] = []
        faults: list[str] = []
        for check in (*_CHECKS, *([_graph] if graph else [])):
            said = (check.__doc__ or "").strip().rstrip(".")
            try:
                found = list(check(case))
            except Exception as error:  # a network may raise anything, and the others are still to be checked
                found = [f"raised {type(error).__name__}: {error}"]
            held += [] if found else [said]
            faults += [f"{said}: {fault}" for fault in found]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ContractError(f"the network {name} breaks the contract in {len(faults)} way(s):\n{listed}")
    return held


def _attributes(case: _Case) -> Iterator[str]:
    """It says what it is."""
    network = case.network
    wanted: dict[str, Callable[[object], bool]] = {
        "spec": lambda value: isinstance(value, str) and bool(value),
        "sample_rate": lambda value: isinstance(value, int) and value > 0,
        "front": lambda value: value is None or isinstance(value, Front),
        "head": lambda value: isinstance(value, nn.Linear) and value.out_features == case.classes,
        "policy": lambda value: isinstance(value, WindowPolicy) and value.min_seconds > 0,
        "exportable": lambda value: isinstance(value, bool),
        "dim": lambda value: isinstance(value, int) and value > 0,
    }
    yield from (
        f"{name} is {getattr(network, name, None)!r}"
        for name, fits in wanted.items()
        if not fits(getattr(network, name, None))
    )
    again = build(network.spec, case.classes).spec
    if again != network.spec:
        yield f"its spec {network.spec} makes the network {again}"


def _front(case: _Case) -> Iterator[str]:
    """Its front end makes levels of power and power of levels."""
    front = case.network.front
    if front is None:
        return
    levels = front(case.noise())
    frames = levels.shape[1]
    if levels.shape != (_CLIPS, frames, front.bands) or levels.requires_grad or levels.dtype != torch.float32:
        yield f"levels are {tuple(levels.shape)} {levels.dtype}"
    if abs(frames - case.samples() / front.hop) > 2:
        yield f"a hop of {front.hop} samples does not give {frames} frames of {case.samples()}"
    power = front.power(levels)
    if power.min() < 0 or not torch.isfinite(power).all():
        yield "power is negative or not finite"
    if _apart(front.levels(power), levels) > 1e-4:
        yield "levels of the power of levels are others"
    if not 0 < front.low < front.high <= front.sample_rate / 2:
        yield f"its bands reach from {front.low} to {front.high} Hz"


def _shapes(case: _Case) -> Iterator[str]:
    """It gives one vector and one row of logits for each clip, long or short."""
    network = case.network.eval()
    with torch.no_grad():
        for seconds in (0.0, 0.7, 1.37):
            clips = case.noise(seconds, clips=2)
            vectors, logits = network.whole(network.hear(clips)), network(clips)
            if vectors.shape != (2, network.dim) or logits.shape != (2, case.classes):
                yield f"{clips.shape[1]} samples give {tuple(vectors.shape)} and {tuple(logits.shape)}"
            if vectors.dtype != torch.float32 or logits.dtype != torch.float32:
                yield f"they are {vectors.dtype} and {logits.dtype}"
            if not torch.equal(network.head(vectors), logits):
                yield "calling it differs from hear, whole and head"
        brief = np.full(max(1, case.samples(0.0) // 3), 0.1, np.float32)
        filled = torch.from_numpy(network.policy.prepare(brief, network.sample_rate))[None]
        if not torch.isfinite(network(filled)).all():
            yield "a short clip, filled as its policy says, gives logits that are not finite"


def _lengths(case: _Case) -> Iterator[str]:
    """A network of one length refuses others."""
    network = case.network.eval()
    if network.policy.window_seconds:
        for samples in (case.samples() // 2, 2 * case.samples()):
            try:
                network(torch.zeros(1, samples))
                yield f"it takes {samples} samples"
            except SoundmarkError:
                pass


def _steady(case: _Case) -> Iterator[str]:
    """Hearing changes nothing, and a clip's vector does not depend on its neighbours."""
    network = case.network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clips = signals(case.samples(), network.sample_rate)
    with torch.no_grad():
        together = torch.stack(list(clips.values()))
        given = together.clone()
        vectors = network.vectors(network.hear(together))
        if not torch.equal(vectors, network.vectors(network.hear(together))):
            yield "the same clips give other vectors the second time"
        if not torch.equal(given, together):
            yield "it changes the waveforms it is given"
        for (name, clip), vector in zip(clips.items(), vectors, strict=True):
            alone = network.vectors(network.hear(clip[None]))[0]
            if not torch.isfinite(alone).all():
                yield f"{name} gives a vector that is not finite"
            elif _apart(vector, alone) > case.tolerance:
                yield f"the vector of {name} changes by {_apart(vector, alone):.1e} with other clips beside it"
    if not all(torch.equal(value, network.state_dict()[name]) for name, value in before.items()):
        yield "hearing in evaluation mode changes parameters or buffers"


def _depths(case: _Case) -> Iterator[str]:
    """Its depths hold every parameter that learns, but the head's, once."""
    head = {id(each) for each in case.network.head.parameters()}
    depths = [id(each) for group in case.network.depths() for each in group]
    learning = {id(each) for each in case.network.parameters() if each.requires_grad} - head
    if not all(case.network.depths()):
        yield "a group is empty"
    if len(set(depths)) < len(depths):
        yield "a parameter stands twice"
    if set(depths) != learning:
        yield f"{len(learning - set(depths))} parameters are missing, and {len(set(depths) - learning)} do not belong"


def _learning(case: _Case) -> Iterator[str]:
    """It learns: gradients reach every parameter, and the loss falls."""
    network = case.network.train()
    heard = network.hear(case.noise())
    if heard.requires_grad:
        yield "what it hears requires gradients"
    losses = _trained(network, heard, _labels(case))
    if not losses[-1] < losses[0]:
        yield f"the loss goes from {losses[0]:.4f} to {losses[-1]:.4f} in {_STEPS} steps"
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            yield f"no gradient reaches {name}"
        elif not torch.isfinite(parameter.grad).all():
            yield f"the gradient of {name} is not finite"


def _hard(case: _Case) -> Iterator[str]:
    """It learns from silent and loud clips too."""
    network = copy.deepcopy(case.network).train()
    clips = signals(case.samples(), network.sample_rate)
    heard = network.hear(torch.stack([clips[name] for name in ("silence", "a full-scale square wave", "silence")]))
    _trained(network, heard, torch.tensor([0, 1, 0]), steps=2)
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        yield "weights are no longer finite"


def _bf16(case: _Case) -> Iterator[str]:
    """It learns in mixed precision, channels last."""
    network = copy.deepcopy(case.network).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heard = network.hear(case.noise())
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network.head(network.vectors(heard))
    loss = functional.cross_entropy(logits.float(), _labels(case))
    torch.autograd.backward(loss)
    if not torch.isfinite(loss):
        yield "the loss is not finite"
    yield from (
        f"the gradient of {name} is {'missing' if each.grad is None else each.grad.dtype}"
        for name, each in network.named_parameters()
        if each.requires_grad and (each.grad is None or each.grad.dtype != torch.float32)
    )


def _copies(case: _Case) -> Iterator[str]:
    """A copy of it, and one filled with its weights, hear what it hears."""
    network, clips = case.network.eval(), case.noise()
    filled = build(case.name, case.classes).eval()
    filled.load_state_dict(network.state_dict())
    with torch.no_grad():
        vectors = network.vectors(network.hear(clips))
        for said, other in (("a copy", copy.deepcopy(network)), ("one filled with its weights", filled)):
            if not torch.equal(other.vectors(other.hear(clips)), vectors):
                yield f"{said} gives other vectors"


def _graph(case: _Case) -> Iterator[str]:
    """Its ONNX graph agrees with it, or it says that it has none."""
    if not case.network.exportable:
        return
    import onnxruntime

    module = Exported(case.network.eval())
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "network.onnx"
        export_graph(module, case.samples(1.0), path, output_names=("probabilities", "embedding"))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for seconds, count in ((0.0, 1), (0.5, 3), (1.37, 2)):
            clips = case.noise(seconds, count)
            wanted = module(clips)
            found = session.run(["probabilities", "embedding"], {"audio": clips.numpy()})
            apart = max(_apart(torch.from_numpy(ours), theirs) for ours, theirs in zip(found, wanted, strict=True))
            if not apart < 1e-4:
                yield f"it differs by {apart:.1e} for {count} clip(s) of {clips.shape[1]} samples"


_CHECKS: tuple[Callable[[_Case], Iterator[str]], ...] = (
    _attributes, _front, _shapes, _lengths, _steady, _depths, _learning, _hard, _bf16, _copies,
)  # fmt: skip


def _labels(case: _Case) -> Tensor:
    return torch.arange(_CLIPS) % case.classes


def _trained(network: Network, heard: Tensor, labels: Tensor, steps: int = _STEPS) -> list[float]:
    """Losses of some steps of Adam on the same clips."""
    optimiser = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], _RATE)
    losses = []
    for _ in range(steps):
        torch.manual_seed(0)  # the same neurons are dropped at every step, so that losses can be compared
        loss = functional.cross_entropy(network.head(network.vectors(heard)), labels)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Relative L2 distance."""
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))
