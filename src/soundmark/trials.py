"""The trials of a search: what was chosen, how it did, and what Optuna proposes next.

A search keeps no state but the list of its trials. Optuna's study is made of them anew each time, with a seed for each
number, so a search that was stopped proposes what it would have proposed anyway; and the file of them, written whole
after each trial, cannot be left damaged as a journal that is appended to can.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soundmark.files import write_json
from soundmark.spec import Range

if TYPE_CHECKING:
    import optuna

BEFORE_PRUNING = 5  # trials that must be complete before any is given up
WARM_STEPS = 3  # of a training, in which it is not given up
FILE = "trials.json"
_creating = threading.Lock()


@dataclass
class Trial:
    """One choice of settings, and how it did.

    Attributes:
        names: the recipe's names with everything settled.
        settings: what was chosen, by what it is called: `adamw.rate`.
        drawn: the same as Optuna knows it: value and distribution of each parameter.
        state: `complete`, `pruned` or `failed`.
        score: the task's metric on the clips held out, of a complete one.
        log_loss: there, likewise; it decides between equal scores.
        reported: minus the loss on the clips held out, by step of the training.
        rows, rates: of a network, see `soundmark.networks.lesson.Course`.
        seconds: what it took.
        error: why it failed.
    """

    names: dict[str, str]
    settings: dict[str, str]
    drawn: dict[str, tuple[Any, str]]
    state: str = "failed"
    score: float | None = None
    log_loss: float | None = None
    reported: dict[int, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better; of a complete one."""
        assert self.score is not None
        assert self.log_loss is not None
        return self.score, -self.log_loss

    def choose(self, asked: optuna.Trial, name: str, among: Range | Sequence[str]) -> str:
        """Let Optuna choose a setting, and write it down; how it is written."""
        import optuna

        again = sum(known.partition(" ")[0] == name for known in self.settings)
        called = f"{name} {again + 1}" if again else name
        key = f"{called}={among}"  # of equal keys the distributions are equal, whatever alternative they belong to
        value: Any
        if not isinstance(among, Range):
            text = value = str(asked.suggest_categorical(key, list(among)))
        else:
            if among.whole:
                value = asked.suggest_int(key, int(among.low), int(among.high), log=among.log)
            else:
                value = asked.suggest_float(key, among.low, among.high, log=among.log)
            text = among.write(value)
        self.settings[called] = text
        self.drawn[key] = value, optuna.distributions.distribution_to_json(asked.distributions[key])
        return text


def read(folder: Path | None, identity: str) -> list[Trial]:
    """The trials that are kept there, if they answer the same question; a file that is damaged counts as none."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8")) if folder else {}
        if content.get("identity") != identity:
            return []
        for each in content["trials"]:
            each["reported"] = {int(step): value for step, value in each["reported"].items()}
        return [Trial(**each) for each in content["trials"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def write(folder: Path, identity: str, trials: Sequence[Trial]) -> None:
    """Keep trials, with a digest of the question that they answer."""
    write_json(folder / FILE, {"identity": identity, "trials": [asdict(trial) for trial in trials]})


def proposal(before: Sequence[Trial], seed: int) -> optuna.Trial:
    """Optuna's next trial after these; it depends on them and on the seed alone."""
    import optuna
    from optuna.trial import TrialState

    draw = int(np.random.SeedSequence([seed, len(before)]).generate_state(1)[0])
    with _creating:
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=draw),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=BEFORE_PRUNING, n_warmup_steps=WARM_STEPS),
        )
        optuna.logging.set_verbosity(level)
    for trial in before:
        study.add_trial(
            optuna.create_trial(
                # One that failed counts as given up at once, so that the sampler keeps away from there.
                state=TrialState.COMPLETE if trial.state == "complete" else TrialState.PRUNED,
                value=trial.score,
                params={name: value for name, (value, _) in trial.drawn.items()},
                distributions={
                    name: optuna.distributions.json_to_distribution(text) for name, (_, text) in trial.drawn.items()
                },
                intermediate_values=trial.reported,
            )
        )
    return study.ask()
