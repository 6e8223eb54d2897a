"""Trackers are told of every epoch, go on where they were, and never stand in a training's way."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from soundmark.errors import MissingExtra, SpecError
from soundmark.networks import tracking
from soundmark.networks.machine import Machine
from soundmark.networks.tracking import TRACKERS, check, loggers
from soundmark.tasks.base import Task
from soundmark.trained import Trained

LEARNER = {"network": "cnn?width=4", "augment": "", "training": "adamw?rate=0.01"}
NETWORK = "cnn?rate=16000&window=512&hop=256&bands=16&width=2"


def missing(name: str) -> str:
    return " ".join(package for package in TRACKERS[name][1] if importlib.util.find_spec(package) is None)


class Told(NamedTuple):
    """A tracker that is installed, and a task's name that no other test uses."""

    name: str
    task: str


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's, made once: its tables take seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store').as_posix()}/mlflow.db"


@pytest.fixture(params=sorted(TRACKERS))
def tracker(request: pytest.FixtureRequest, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Told:
    name = str(request.param)
    if lacking := missing(name):
        pytest.skip(f"SKIPPED FOR WANT OF {lacking.upper()}: {name} is not tested")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return Told(name, request.node.name)


def told(to: Told, kept: Path | None = None, title: str = "1: training", epochs: range = range(3)) -> Any:
    (logger,) = loggers([to.name], to.task, title, LEARNER, kept)
    for epoch in epochs:
        logger.log_metrics({"train_loss": 3.0 - epoch, "rate": 0.01, "epoch": epoch}, step=7 * epoch)
    logger.finalize("success")
    return logger


def runs(of: Told) -> dict[str, tuple[dict[str, str], dict[str, list[tuple[int, float]]]]]:
    """What the store holds: of every run its parameters and, by metric, steps and values."""
    if of.name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = {}
        for folder in sorted({path.parent for path in Path("tensorboard").rglob("*tfevents*")}):
            events = EventAccumulator(str(folder)).Reload()
            text = events.Tensors("learner/text_summary")[0].tensor_proto.string_val[0].decode()
            parameters = dict(line.strip().split(": ", 1) for line in text.splitlines())
            found[folder.name] = (
                parameters,
                {key: [(e.step, e.value) for e in events.Scalars(key)] for key in events.Tags()["scalars"]},
            )
        return found
    import mlflow

    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    found = {}
    for experiment in client.search_experiments(filter_string=f"name = '{of.task}'"):
        for run in client.search_runs([experiment.experiment_id]):
            assert run.info.status == "FINISHED"
            numbers = {
                key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            found[run.info.run_name] = (run.data.params, numbers)
    return found


@pytest.mark.filterwarnings("ignore")  # of the trackers' own
def test_a_run_has_a_name_parameters_and_an_entry_for_every_epoch(tracker: Told) -> None:
    told(tracker)
    ((name, (parameters, numbers)),) = runs(tracker).items()
    assert name in ("1: training", "1-training")
    assert parameters == {"network": "cnn?width=4", "training": "adamw?rate=0.01"}
    assert numbers["train_loss"] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [step for step, _ in numbers["rate"]] == [1, 2, 3]
    assert set(numbers) == {"train_loss", "rate"}


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_goes_on_goes_on_in_the_same_run_and_another_has_its_own(tracker: Told, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    told(tracker, kept, epochs=range(2))
    told(tracker, kept, epochs=range(2, 3))
    ((_, numbers),) = runs(tracker).values()
    assert [step for step, _ in numbers["train_loss"]] == [1, 2, 3]
    told(tracker, None, title="2: training")
    assert len(runs(tracker)) == 2
    kept.write_text(json.dumps({tracker.name: "/proc/nowhere"}), encoding="utf-8")  # the run is gone
    assert not told(tracker, kept, title="3: training").failed
    assert len(runs(tracker)) == 3


@pytest.mark.filterwarnings("ignore")
def test_it_is_quiet_and_leaves_nothing_set(tracker: Told, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    told(tracker)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert logging.root.manager.disable == logging.NOTSET
    assert {key for key in os.environ if "RETRIES" in key or "TRACKING_URI" in key} <= set(before)


@pytest.mark.filterwarnings("ignore")
def test_a_logger_can_be_sent_to_another_process(tracker: Told) -> None:
    (logger,) = loggers([tracker.name], tracker.task, "1: training", LEARNER)
    logger = pickle.loads(pickle.dumps(logger))
    logger.log_metrics({"train_loss": 1.0, "epoch": 0})
    logger.finalize("success")
    assert len(runs(tracker)) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_whole_training_is_told(tracker: Told, toy: Task, tmp_path: Path) -> None:
    learner = Trained(NETWORK, "", "adamw?epochs=2&batch=40", Machine("cpu"), track=(tracker.name,), progress=False)
    learner.prepare(toy, progress=False)
    learner.fit(toy, 0, tmp_path / "run" / "training" / "5")
    found = {
        name.replace(": ", "-").replace(" ", "-"): run
        for name, run in runs(tracker._replace(task=toy.full_name)).items()
    }
    assert set(found) == {"5-training", "5-finding-the-number-of-epochs"}
    parameters, numbers = found["5-finding-the-number-of-epochs"]
    assert parameters["network"] == NETWORK
    assert set(numbers) >= {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "rate", "seconds"}
    assert [step for step, _ in numbers["valid_loss"]] == [1, 2]


@pytest.mark.parametrize("when", ["begin", "tell", "end"])
def test_a_tracker_that_fails_ends_no_training(
    when: str, toy: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        key = "x"

        def __init__(self, *args: Any) -> None:
            self.fail("begin")

        def tell(self, *args: Any) -> None:
            self.fail("tell")

        def end(self, *, well: bool) -> None:
            self.fail("end")

        def fail(self, now: str) -> None:
            if now == when:
                raise RuntimeError("the server is down\nand more")

    monkeypatch.setitem(tracking.TRACKERS, "broken", (Broken, ()))
    learner = Trained(NETWORK, "", "adamw?epochs=2&validate=false", Machine("cpu"), track=("broken",), progress=False)
    learner.prepare(toy, progress=False)
    learner.fit(toy, 0)
    assert learner.training()["epochs"] == 2
    said = capsys.readouterr().err
    assert said == "soundmark: broken cannot be told of training, which goes on without: the server is down\n"


def test_an_absent_package_is_an_error_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "mlflow", (lambda *_: None, ("no_such_package",)))
    with pytest.raises(MissingExtra, match=r"mlflow needs no_such_package.*pip install 'soundmark\[track\]'"):
        Trained(NETWORK, "", "adamw", Machine("cpu"), track=("mlflow",))
    with pytest.raises(SpecError, match="no tracker called 'wandb'"):
        check(["wandb"])
