"""Who else is told how a training goes: MLflow and TensorBoard.

Every training is a run of its own: in a fold the one that finds the number of epochs, then the one on all clips, and
every trial of a search. Its parameters are the learner's names; after each epoch come the losses, the accuracies and
the rate. A training that goes on from a checkpoint goes on in the same run. A tracker that fails is told no more, which
is said; no training ends because of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from soundmark.errors import MissingExtra
from soundmark.files import write_json
from soundmark.spec import lookup

FOLDER = "tensorboard"  # in the working directory
RETRIES = "2"  # of a request to an MLflow server, unless the environment says otherwise: it is waited for


class _Run(Protocol):
    """A run of a tracker; `key` finds it again."""

    key: str

    def tell(self, numbers: Mapping[str, float], epoch: int) -> None: ...

    def end(self, *, well: bool) -> None: ...


class _Mlflow:
    """A run in the store that `MLFLOW_TRACKING_URI` names; without, in MLflow's own choice, `mlflow.db` beside us."""

    def __init__(self, task: str, title: str, learner: Mapping[str, str], known: str) -> None:
        import mlflow

        self.client = mlflow.MlflowClient(mlflow.get_tracking_uri())
        if known:
            self.key = known
            self.client.update_run(known, status="RUNNING")
            return
        found = self.client.get_experiment_by_name(task)
        experiment = found.experiment_id if found else self.client.create_experiment(task)
        self.key = str(self.client.create_run(experiment, run_name=title).info.run_id)
        for name, value in learner.items():
            self.client.log_param(self.key, name, value)

    def tell(self, numbers: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        told = [Metric(name, value, now, epoch) for name, value in numbers.items()]
        self.client.log_batch(self.key, metrics=told, synchronous=True)

    def end(self, *, well: bool) -> None:
        self.client.set_terminated(self.key, "FINISHED" if well else "FAILED")


class _TensorBoard:
    """A folder of its own under `tensorboard`, for `tensorboard --logdir tensorboard`."""

    def __init__(self, task: str, title: str, learner: Mapping[str, str], known: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.key = known or str(_new_folder(Path(FOLDER), task, title, learner).resolve())
        self.writer = SummaryWriter(self.key)
        if not known:
            self.writer.add_text("learner", "\n".join(f"    {name}: {value}" for name, value in learner.items()))

    def tell(self, numbers: Mapping[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def end(self, *, well: bool) -> None:
        self.writer.close()


TRACKERS: dict[str, tuple[Callable[[str, str, Mapping[str, str], str], _Run], tuple[str, ...]]] = {
    "mlflow": (_Mlflow, ("mlflow", "sqlalchemy", "alembic")),  # the last two for the store on this machine
    "tensorboard": (_TensorBoard, ("tensorboard",)),
}
"""Every tracker by name, with the packages that it needs."""


def check(names: Sequence[str]) -> None:
    """See whether these trackers can be told anything, before anything is trained.

    Raises:
        SpecError: for an unknown name.
        MissingExtra: if a package is not installed.
    """
    for name in names:
        _, packages = lookup("tracker", name, TRACKERS)
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise MissingExtra(f"{name} needs {package}, which is not installed: pip install 'soundmark[track]'")


def loggers(
    names: Sequence[str], task: str, title: str, learner: Mapping[str, str], kept: Path | None = None
) -> list[Logger]:
    """Lightning's loggers of these names.

    Args:
        names: of `mlflow` and `tensorboard`.
        task: what is learnt: MLflow's experiment, TensorBoard's folder.
        title: of the training: the run's name.
        learner: the names it is made of: the run's parameters.
        kept: a file that remembers the run, for a training that goes on.

    Raises:
        SpecError: for an unknown name.
    """
    return [Tracker(name, task, title, {key: value for key, value in learner.items() if value}, kept) for name in names]


class Tracker(Logger):
    """One tracker in Lightning's words. It begins with the first epoch that it is told of, in the process that tells.

    Args:
        tracker: `mlflow` or `tensorboard`.
        task, title, learner, kept: see `loggers`.
    """

    def __init__(self, tracker: str, task: str, title: str, learner: Mapping[str, str], kept: Path | None) -> None:
        super().__init__()
        self.tracker, self.task, self.title, self.learner, self.kept = tracker, task, title, learner, kept
        self.opens: Callable[[str, str, Mapping[str, str], str], _Run] = lookup("tracker", tracker, TRACKERS)[0]
        self.run: _Run | None = None
        self.failed = False

    @property
    def name(self) -> str:
        """See Lightning."""
        return self.task

    @property
    def version(self) -> str:
        """See Lightning."""
        return self.title

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """See Lightning; the parameters are known already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Tell of an epoch."""
        numbers = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        if "epoch" in metrics and not self.failed:
            with self._forgiven():
                if self.run is None:
                    self.run = self._begun()
                self.run.tell(numbers, int(metrics["epoch"]) + 1)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """See Lightning."""
        if self.run is not None and not self.failed:
            with self._forgiven():
                self.run.end(well=status == "success")
            self.run = None

    def _begun(self) -> _Run:
        known = {}
        if self.kept is not None:
            with contextlib.suppress(OSError, ValueError):
                known = json.loads(self.kept.read_text(encoding="utf-8"))
        try:
            run = self.opens(self.task, self.title, self.learner, known.get(self.tracker, ""))
        except Exception:
            if self.tracker not in known:
                raise
            run = self.opens(self.task, self.title, self.learner, "")  # the run is gone, or in another store
        if self.kept is not None:
            write_json(self.kept, known | {self.tracker: run.key})
        return run

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except Exception as error:
            self.failed = True
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            tqdm.write(
                f"soundmark: {self.tracker} cannot be told of {self.title}, which goes on without: {reason}",
                file=sys.stderr,
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's remarks on its tables, and without minutes of trying again."""
    disabled, retries = logging.root.manager.disable, "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    ours = retries not in os.environ
    logging.disable(logging.WARNING)
    if ours:
        os.environ[retries] = RETRIES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if ours:
            os.environ.pop(retries, None)


def _new_folder(root: Path, task: str, title: str, learner: Mapping[str, str]) -> Path:
    """A folder that was not there: by task, learner and training, and a number where that has been before."""
    digest = hashlib.blake2b(json.dumps(dict(learner)).encode(), digest_size=3).hexdigest()
    names = [
        re.sub(r"[^A-Za-z0-9.=_-]+", "-", text).strip("-")[:80] for text in (task, " ".join(learner.values()), title)
    ]
    place = root / names[0] / f"{names[1]}-{digest}"
    number = 1
    while True:
        folder = place / (f"{names[2]}-{number}" if number > 1 else names[2])
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
