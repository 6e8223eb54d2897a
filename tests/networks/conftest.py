"""Pretrained networks in small, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from soundmark.encoders import audiosep, mobilenet, panns


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for one another on a busy machine take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Give a name with `weights=` to a checkpoint of random numbers; PANNs and AudioSep are made narrow."""
    for name, channels in {"cnn14": (4, 6, 8, 10, 12, 14), "cnn10": (4, 6, 8, 10), "cnn6": (4, 6, 8, 10)}.items():
        monkeypatch.setitem(panns._CHANNELS, name, channels)
    monkeypatch.setattr(audiosep, "CHANNELS", (3, 3, 4, 5, 6, 7, 7))

    def named(text: str) -> str:
        name = text.partition("@")[0].partition("?")[0]
        path = tmp_path / f"{name}.pth"
        if not path.exists():
            if name in mobilenet.WIDTHS:
                module: nn.Module = mobilenet.Published(mobilenet.WIDTHS[name])
            else:
                module = audiosep.blank() if name == "audiosep" else panns.blank(name)
            torch.save(_filled(module), path)
        return f"{text}{'&' if '?' in text else '?'}weights={path}"

    return named


def _filled(module: nn.Module) -> dict[str, torch.Tensor]:
    """Numbers of about the size that training gives; counters stand still."""
    generator, state = torch.Generator().manual_seed(0), {}
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.1 * noise.abs()
        elif value.dim() == 1:
            state[name] = float(name.endswith("weight")) + 0.1 * noise
        else:
            state[name] = noise * (2 / value[0].numel()) ** 0.5
    return state
