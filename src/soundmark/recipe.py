"""A recipe: everything needed to measure a learner again, as a small TOML file."""

from __future__ import annotations

import hashlib
import os
import shlex
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from soundmark.errors import SpecError
from soundmark.results import RECIPE
from soundmark.splits import INNER_FOLDS

PROBE, NETWORK = ("encoder", "pooling", "head"), ("network", "augment", "training")
"""Entries of the two kinds of learner: names in the grammar."""

OF_NETWORKS = (*NETWORK, "teacher")
"""All that only networks have a use for."""


def shipped() -> dict[str, str]:
    """Every recipe that comes with the package: its name, and what it says of itself in its first line."""
    found = [file for file in resources.files("soundmark.recipes").iterdir() if file.name.endswith(".toml")]
    about = {file.name.removesuffix(".toml"): file.read_text("utf-8").partition("\n")[0].strip("# ") for file in found}
    return dict(sorted(about.items()))


def _shipped(name: str) -> str:
    return resources.files("soundmark.recipes").joinpath(f"{name}.toml").read_text("utf-8")


@dataclass(frozen=True)
class Recipe:
    """What to measure, and how.

    Attributes:
        task: name in the grammar, or a folder or manifest of your own.
        encoder, pooling, head: names in the grammar. Several values (`C=1,10`, `mean|mean+std`) are candidates,
            among which every fold chooses on its own training side.
        network, augment, training: in place of those three, a network that is trained end to end; names in the
            grammar, with candidates likewise.
        teacher: a recipe of another network, if any, that is trained on the same clips first and then teaches this one.
        folds: the rounds of the protocol to measure, by name and separated by commas; all of them if empty.
        trials: of settings within the ranges (`rate=0.0001..0.01`) that names may hold; see `soundmark.tuned`.
        seed: of heads, networks and inner splits.
        inner_folds: folds of the inner split.
        allow_partial: measure on the clips that are there when a data set is incomplete.
        strict: stop at the first clip that cannot be read.
    """

    task: str
    encoder: str = "logmel"
    pooling: str = "mean+std"
    head: str = "svm"
    network: str = ""
    augment: str = ""
    training: str = "adamw"
    teacher: str = ""
    folds: str = ""
    trials: int = 0
    seed: int = 0
    inner_folds: int = INNER_FOLDS
    allow_partial: bool = False
    strict: bool = False

    def to_toml(self) -> str:
        """The recipe as TOML, without what its kind of learner has no use for."""
        unused = PROBE if self.network else OF_NETWORKS
        said = {key: value for key, value in asdict(self).items() if key not in unused}
        return tomli_w.dumps(
            {key: value for key, value in said.items() if value or key not in ("folds", "trials", "teacher")}
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe from a TOML file, from the folder of a run, or by the name of one that comes with the package.

        Raises:
            SpecError: if the file is missing, is not TOML, or has unknown or mistyped entries.
        """
        file = Path(path) / RECIPE if Path(path).is_dir() else Path(path)
        if not file.exists() and os.fspath(path) in shipped():
            return cls.from_dict(tomllib.loads(_shipped(os.fspath(path))), f"recipe {path}")
        if not file.exists() and not file.suffix:
            raise SpecError(f"there is no recipe {path}: give a TOML file, a run's folder, or {', '.join(shipped())}")
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SpecError(f"cannot read the recipe {file}: {error}") from None
        return cls.from_dict(content, str(file))

    @classmethod
    def from_dict(cls, content: dict[str, Any], name: str = "recipe") -> Recipe:
        """Make a recipe from plain data, checking names and types."""
        known = {each.name: each for each in fields(cls)}
        if unknown := sorted(content.keys() - known.keys()):
            raise SpecError(f"{name} has unknown entries: {', '.join(unknown)}; known are: {', '.join(known)}")
        if "task" not in content:
            raise SpecError(f'{name} names no task: add a line such as task = "esc50"')
        types = {"str": str, "int": int, "bool": bool}
        for key, value in content.items():
            wanted = types[str(known[key].type)]
            if type(value) is not wanted:
                raise SpecError(f"{name}: {key} should be {wanted.__name__}, not {value!r}")
        recipe = cls(**content)
        if not 0 <= recipe.seed < 2**32:
            raise SpecError(f"{name}: seed should be from 0 to {2**32 - 1}, not {recipe.seed}")
        said = {key for key, value in content.items() if value != known[key].default}
        if used := [key for key in PROBE if recipe.network and key in said]:
            raise SpecError(f"{name} has both a network and {', '.join(used)}: a network needs none of these")
        if used := [key for key in OF_NETWORKS[1:] if not recipe.network and key in said]:
            raise SpecError(f"{name} has {', '.join(used)} and no network: name one, such as cnn")
        if recipe.trials < 0:
            raise SpecError(f"{name}: trials should be 0 or more, not {recipe.trials}")
        if recipe.inner_folds < 2:
            raise SpecError(f"{name}: inner_folds should be 2 or more, not {recipe.inner_folds}")
        return recipe

    def command(self, folder: str | os.PathLike[str] | None = None) -> str:
        """The command line that measures this recipe."""
        words = ["soundmark", "tune" if self.trials else "train", self.task]
        for each in fields(self)[1:]:
            value = getattr(self, each.name)
            if value == each.default:
                continue
            option = "--" + each.name.replace("_", "-")
            words += [option] if value is True else [option, str(value)]
        return shlex.join(words + (["--out", Path(folder).as_posix()] if folder else []))

    @property
    def folder_name(self) -> str:
        """A name for the run's folder: readable, and different for every different recipe."""
        task = Path(self.task).name if Path(self.task).exists() else self.task
        parts = [self.network] if self.network else [self.encoder, self.pooling, self.head]
        text = "-".join([task, *parts])
        readable = "".join(c if c.isalnum() or c in "._" else "-" for c in text)[:80].strip("-")
        return f"{readable}-{hashlib.blake2b(self.to_toml().encode(), digest_size=3).hexdigest()}"
