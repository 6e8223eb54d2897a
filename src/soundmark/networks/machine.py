"""What a training runs on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from soundmark.errors import SoundmarkError


@dataclass(frozen=True)
class Machine:
    """What a training runs on; none of it is part of the question that a result answers.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: how many; several train together, each on its share of every batch (DDP).
    """

    device: str = "auto"
    devices: int = 1

    def first(self) -> torch.device:
        """The device that a single process uses.

        Raises:
            SoundmarkError: if there is no such device here.
        """
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.device != "auto" and not there.get(self.device, False):
            found = ", ".join(name for name, here in there.items() if here)
            raise SoundmarkError(f"there is no device {self.device!r} here: choose among auto, {found}")
        name = self.device if self.device != "auto" else "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
        return torch.device(name)

    def name(self) -> str:
        """For people: the GPU's model, or the processor with its threads."""
        device = self.first()
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
            return f"{self.devices} x {name}" if self.devices > 1 else name
        return device.type if device.type != "cpu" else f"cpu, {torch.get_num_threads()} threads"
