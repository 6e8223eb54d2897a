"""The training loop: one network, the clips it may learn from, and the clips it is watched on.

Lightning runs it, on a processor, a GPU or several. What makes a training repeatable is decided here: the order of the
clips and everything that augmentation draws depend on the seed and the number of the epoch alone, so a training that
was killed and goes on from its last finished epoch ends with the weights of one that was not.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.nn import functional
from tqdm import tqdm

from soundmark.errors import SoundmarkError
from soundmark.files import atomic_path
from soundmark.networks.bank import Bank
from soundmark.networks.base import Network
from soundmark.networks.hints import Hints
from soundmark.networks.lesson import Course, Lesson, Teacher
from soundmark.networks.listening import logits_of
from soundmark.networks.machine import Machine
from soundmark.networks.optimisers import average, class_weights, optimiser
from soundmark.networks.settings import Plateau, Training, factor
from soundmark.quiet import quiet

_LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
_TALK = ("lightning.pytorch", "lightning.fabric", "lightning")


class _Loop(pl.LightningModule):
    """The steps, in Lightning's words."""

    def __init__(
        self, network: Network, lesson: Lesson, file: Path, progress: bool, told: Callable[[dict[str, Any]], bool]
    ) -> None:
        super().__init__()
        self.network, self.file, self.progress, self.told = network, file, progress, told
        self.averaged = copy.deepcopy(network).requires_grad_(False) if lesson.training.ema else None
        self.lesson, self.course = lesson, Course()
        self.bank: Bank | None = None
        self.teacher: Teacher | None = None
        self.hints: Hints | None = None
        if lesson.teacher is not None and lesson.training.hints:
            self.hints = Hints(network.head.in_features, lesson.teacher.network.head.in_features)
        self.plateau = Plateau(lesson.training)
        self.ratio = 1.0  # of the learning rates, in a plateau schedule
        self.register_buffer("class_weights", class_weights(lesson), persistent=False)
        self.order = torch.empty(0, dtype=torch.int64)
        self.sums = [torch.zeros(3), torch.zeros(3)]  # loss, right and clips, of either side in this epoch
        self.said: Tensor | None = None  # of the clips watched, in this epoch
        self.error = 0.0  # standard error of the loss on the clips watched
        self.began, self.bar = 0.0, None

    bar: Any
    class_weights: Tensor | None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if multiprocessing.current_process().name != "MainProcess":  # one of several that train together, and no more
            for name in _TALK:
                logging.getLogger(name).setLevel(logging.ERROR)
            warnings.simplefilter("ignore")

    @property
    def tested(self) -> Network:
        """The weights that count: the average, where there is one."""
        found = self.averaged if self.averaged is not None else self.network
        assert isinstance(found, Network)
        return found

    @property
    def steps(self) -> int:
        """In an epoch; batches differ by one clip at most, so that no clip is left out or alone."""
        return max(1, math.ceil(len(self.lesson.train) / self.lesson.training.batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """See Lightning."""
        return optimiser(self.network, self.lesson.training, self.hints)

    def train_dataloader(self) -> Sequence[int]:
        """The numbers of the steps: which clips they take is looked up in the epoch's order."""
        return range(self.steps)

    def val_dataloader(self) -> Sequence[int]:
        """One step that watches everything."""
        return range(1 if self.lesson.watch else 0)

    def on_fit_start(self) -> None:
        """Take the clips to the device, and show how far it is."""
        self.bank = self.lesson.bank.on(self.device)
        if self.lesson.teacher is not None:
            self.teacher = replace(
                self.lesson.teacher,
                network=self.lesson.teacher.network.to(self.device).eval(),
                bank=self.lesson.teacher.bank.on(self.device),
            )
        if self.trainer.is_global_zero:
            self.bar = tqdm(
                total=self.trainer.max_epochs, initial=len(self.course.rows), desc=self.lesson.title, unit="epoch",
                leave=False, disable=None if self.progress else True,
            )  # fmt: skip

    def on_fit_end(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_train_epoch_start(self) -> None:
        """Draw the epoch's order, and begin its random numbers."""
        seed = 1_000_003 * self.lesson.seed + self.current_epoch
        torch.manual_seed(seed + 7919 * self.global_rank)  # dropout's
        self.rng = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(len(self.lesson.train), generator=self.rng)
        self.rng.manual_seed(seed + 7919 * self.global_rank + 1)
        self.sums = [torch.zeros(3, device=self.device) for _ in range(2)]
        self.began = time.perf_counter()

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        """Set the learning rates."""
        done = self.current_epoch + batch_idx / self.steps
        for group in self._groups():
            group["lr"] = group["peak"] * self._ratio(done)
            if self.current_epoch < self.lesson.training.frozen and not group["head"]:
                group["lr"] = 0.0

    def _groups(self) -> list[dict[str, Any]]:
        found = self.optimizers()
        assert not isinstance(found, list)
        groups: list[dict[str, Any]] = found.param_groups
        return groups

    def _ratio(self, done: float) -> float:
        training = self.lesson.training
        if self.lesson.rates:
            return self.lesson.rates[min(int(done), len(self.lesson.rates) - 1)]
        if training.schedule == "plateau":
            return self.ratio
        return factor(training, done, self.lesson.span or training.epochs)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        place = self.order.tensor_split(self.steps)[batch][self.global_rank :: self.trainer.world_size]
        assert self.bank is not None
        labels = functional.one_hot(self.lesson.targets[place], self.lesson.classes).float().to(self.device)
        before = self.rng.get_state()
        heard, labels = self._drawn(self.network, self.bank, self.lesson.train[place], labels, self.rng)
        theirs = None
        if self.teacher is not None:
            said, theirs = self._taught(self.teacher, place, labels, before)
            labels = labels.lerp(said, self.lesson.training.taught)
        frozen = self.current_epoch < self.lesson.training.frozen
        if frozen:
            self.network.eval()  # its batch norms too stay as they are
            with torch.no_grad():
                vectors = self.network.vectors(heard)
            self.network.train()
        else:
            vectors = self.network.vectors(heard)
        logits = self.network.head(vectors).float()
        loss = functional.cross_entropy(
            logits, labels, self.class_weights, label_smoothing=self.lesson.training.smoothing
        )
        right = (logits.detach().argmax(1) == labels.argmax(1)).sum()
        self.sums[0] += torch.stack([loss.detach() * len(labels), right, right.new_tensor(len(labels))])
        if self.hints is not None and theirs is not None:
            with torch.autocast(self.device.type, enabled=False):
                loss = loss + self.lesson.training.hints * self.hints(vectors, theirs)
        return loss

    @torch.no_grad()
    def _drawn(
        self, network: Network, bank: Bank, positions: Tensor, labels: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What a network hears of some clips in a step, and the labels of that."""
        augment, front = self.lesson.augment, network.front
        heard = bank.crops(positions, rng, self.device)
        with torch.autocast(self.device.type, enabled=False):
            if bank.values.dim() == 1:
                heard = network.hear(augment.on_waveforms(heard, network.sample_rate, rng))
            if front is not None:
                heard = augment.on_levels(heard, front, rng)
            return augment.mixed(heard, labels, front, rng)

    @torch.no_grad()
    def _taught(self, teacher: Teacher, place: Tensor, labels: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and vectors that the teacher has for what the network hears, through ears of its own.

        From the same random numbers the same stretches, changes and mixtures come, whatever hears them.
        """
        rng = torch.Generator()
        rng.set_state(before)
        heard, _ = self._drawn(teacher.network, teacher.bank, teacher.train[place], labels, rng)
        vectors = teacher.network.vectors(heard)
        return teacher.network.head(vectors).float().softmax(1), vectors

    def on_train_batch_end(self, outputs: Any, batch: int, batch_idx: int) -> None:
        """Move the average."""
        if self.averaged is not None:
            steps = self.global_step
            average(self.averaged, self.network, min(self.lesson.training.ema, (1 + steps) / (10 + steps)))

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Hear the clips watched, each whole."""
        assert self.lesson.watch is not None
        assert self.bank is not None
        positions, targets = self.lesson.watch
        self.said = logits = logits_of(self.tested, self.bank, positions, self.device)
        losses = functional.cross_entropy(logits, targets, reduction="none")
        right = (logits.argmax(1) == targets).sum()
        clips = len(targets)
        self.sums[1] = torch.tensor([float(losses.sum()), float(right), clips]).to(self.device)
        self.error = float(losses.std(correction=0)) / math.sqrt(clips)

    def on_train_epoch_end(self) -> None:
        """Write down how the epoch went, and keep its end."""
        gathered = self.all_gather(self.sums[0])
        assert isinstance(gathered, Tensor)
        train = gathered.reshape(-1, 3).sum(0).tolist()
        # Of several processes the first one's: their running statistics differ a little, and all must decide alike.
        valid, error = self.trainer.strategy.broadcast((self.sums[1].tolist(), self.error))
        row: dict[str, Any] = {"epoch": self.current_epoch + 1, "rate": max(group["lr"] for group in self._groups())}
        for name, (loss, right, clips) in (("train", train), ("valid", valid)):
            row[f"{name}_loss"] = loss / clips if clips else None
            row[f"{name}_accuracy"] = right / clips if clips else None
        row["valid_error"] = error if valid[2] else None
        row["seconds"] = time.perf_counter() - self.began
        if not math.isfinite(row["train_loss"] + (row["valid_loss"] or 0.0)):
            raise SoundmarkError(
                f"the loss grew beyond all bounds in epoch {row['epoch']}: choose a lower rate, or clip gradients with "
                "clip=1"
            )
        self.course.rows.append(row)
        self.course.rates.append(self._ratio(self.current_epoch + 1 - 0.5 / self.steps))
        if self.lesson.training.schedule == "plateau" and row["valid_loss"] is not None:
            self.ratio = self.plateau.after(row["valid_loss"])
        self.log_dict(
            {name: value for name, value in row.items() if value is not None and name != "epoch"}, sync_dist=False
        )
        if self.course.best == len(self.course.rows) or not self.lesson.training.validate:
            self.course.watched = self.said
        first = self.trainer.is_global_zero
        with atomic_path(self.file) if first else nullcontext(self.file) as temporary:
            self.trainer.save_checkpoint(temporary)  # all meet here, and the first one writes
        self.trainer.should_stop = not self.told(row) or self.course.ended(self.lesson)
        if first:
            shown = [name for name in ("train_loss", "valid_loss", "valid_accuracy") if row[name] is not None]
            self.bar.set_postfix({name: f"{row[name]:.3f}" for name in shown}, refresh=False)
            self.bar.update()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights do not tell."""
        checkpoint["soundmark"] = {
            "identity": self.lesson.identity,
            "rows": self.course.rows,
            "rates": self.course.rates,
            "plateau": [self.plateau.now, self.plateau.best, self.plateau.since],
            "ratio": self.ratio,
            "watched": self.course.watched,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        said = checkpoint["soundmark"]
        self.course = Course(list(said["rows"]), list(said["rates"]), said["watched"])
        self.plateau.now, self.plateau.best, self.plateau.since = said["plateau"]
        self.ratio = said["ratio"]


def train(
    network: Network, lesson: Lesson, *, machine: Machine, place: Path | None = None, loggers: Sequence[Any] = (),
    told: Callable[[dict[str, Any]], bool] | None = None, progress: bool = True,
) -> tuple[Network, Course]:  # fmt: skip
    """Train a network.

    Args:
        network: with the weights to start from; it is changed.
        lesson: what to learn, and how.
        machine: what to run on.
        place: a file for the checkpoint of the last finished epoch. If it holds one of the same lesson, training goes
            on from there.
        loggers: Lightning's, that are told of every epoch.
        told: called with the row of every epoch, those of a checkpoint too, and says whether to go on. Where several
            devices train together, each process has a copy of its own.
        progress: show a bar on a terminal, with the time left.

    Returns:
        The network with the weights that count, in evaluation mode on the CPU; and how it went.

    Raises:
        SoundmarkError: if the loss is no longer a number, there is no such device, or a step has fewer clips than there
            are devices.
    """
    device, told = machine.first(), told or _always
    with tempfile.TemporaryDirectory() as folder, _quiet(), torch.random.fork_rng():
        file = place or Path(folder) / "last.ckpt"
        file.parent.mkdir(parents=True, exist_ok=True)
        if lesson.training.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = _Loop(network, lesson, file, progress, told)
        if len(lesson.train) // loop.steps < machine.devices:
            raise SoundmarkError(
                f"{machine.devices} devices have too few clips to share in a step: choose a larger batch"
            )
        known = _known(file, lesson.identity)
        if known:
            loop.on_load_checkpoint(known)
        if all(told(row) for row in loop.course.rows) and not loop.course.ended(lesson):
            trainer = pl.Trainer(
                accelerator={"cuda": "gpu"}.get(device.type, device.type),
                devices=machine.devices,
                strategy=_strategy(machine, lesson.training),
                precision="bf16-mixed" if lesson.training.precision == "bf16" else "32-true",
                max_epochs=lesson.length,
                gradient_clip_val=lesson.training.clip or None,
                logger=list(loggers) or False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                num_sanity_val_steps=0,
                limit_val_batches=1 if lesson.watch else 0,
                log_every_n_steps=1,
                default_root_dir=folder,
            )
            _fit(trainer, loop, str(file) if known else None)
        if known or machine.devices > 1:  # the loop that learnt may have lived in another process
            found = _read(file)
            loop.load_state_dict(found["state_dict"])
            loop.on_load_checkpoint(found)
    return loop.tested.eval().cpu(), loop.course


def _fit(trainer: pl.Trainer, loop: _Loop, checkpoint: str | None) -> None:
    """Run the trainer; an interrupt comes out as one, and the next is heard again."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(loop, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of an interrupt
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    except ProcessRaisedException as error:  # one of several processes; what it says ends with its own error
        _, found, text = str(error).rpartition(f"{SoundmarkError.__module__}.{SoundmarkError.__name__}: ")
        if not found:
            raise
        raise SoundmarkError(text.strip()) from None


def _always(row: dict[str, Any]) -> bool:
    return True


def _strategy(machine: Machine, training: Training) -> str:
    if machine.devices == 1:
        return "auto"
    return "ddp_spawn_find_unused_parameters_true" if training.frozen else "ddp_spawn"


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return content


def _known(file: Path, identity: str) -> dict[str, Any] | None:
    """A checkpoint of the same lesson; one that is damaged, or another's, is removed."""
    if file.is_file():
        with contextlib.suppress(Exception):  # whatever the damage leads to
            found = _read(file)
            if found["soundmark"]["identity"] == identity:
                return found
        file.unlink()
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks: on what it found, on loaders that are no loaders, on tips."""
    ours = _LOG_LEVEL not in os.environ
    os.environ.setdefault(_LOG_LEVEL, "ERROR")  # for processes that train together, whose PyTorch begins after this
    try:
        with quiet(*_TALK):
            yield
    finally:
        if ours:
            os.environ.pop(_LOG_LEVEL, None)
