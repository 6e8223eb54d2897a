"""A recipe: everything needed to measure a learner again, as a small TOML file."""

from __future__ import annotations

import hashlib
import os
import shlex
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w

from soundmark.errors import SpecError
from soundmark.results import RECIPE
from soundmark.splits import INNER_FOLDS


@dataclass(frozen=True)
class Recipe:
    """What to measure, and how.

    Attributes:
        task: name in the grammar, or a folder or manifest of your own.
        encoder, pooling, head: names in the grammar. Several values (`C=1,10`, `mean|mean+std`) are candidates,
            among which every fold chooses on its own training side.
        seed: of heads and inner splits.
        inner_folds: folds of the inner split.
        allow_partial: measure on the clips that are there when a data set is incomplete.
        strict: stop at the first clip that cannot be read.
    """

    task: str
    encoder: str = "logmel"
    pooling: str = "mean+std"
    head: str = "svm"
    seed: int = 0
    inner_folds: int = INNER_FOLDS
    allow_partial: bool = False
    strict: bool = False

    def to_toml(self) -> str:
        """The recipe as TOML."""
        return tomli_w.dumps(asdict(self))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe from a TOML file, or from the folder of a run.

        Raises:
            SpecError: if the file is missing, is not TOML, or has unknown or mistyped entries.
        """
        file = Path(path) / RECIPE if Path(path).is_dir() else Path(path)
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
        if recipe.inner_folds < 2:
            raise SpecError(f"{name}: inner_folds should be 2 or more, not {recipe.inner_folds}")
        return recipe

    def command(self, folder: str | os.PathLike[str] | None = None) -> str:
        """The command line that measures this recipe."""
        words = ["soundmark", "train", self.task]
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
        text = "-".join([task, self.encoder, self.pooling, self.head])
        readable = "".join(c if c.isalnum() or c in "._" else "-" for c in text)[:80].strip("-")
        return f"{readable}-{hashlib.blake2b(self.to_toml().encode(), digest_size=3).hexdigest()}"
