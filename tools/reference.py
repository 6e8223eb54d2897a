"""The parts of the documentation that are made from the code and the results, so that they stay true: an MkDocs hook.

In a page, `<!-- insert: NAME WORDS -->` becomes what the function of that name in `PARTS` gives. Nothing of it is
written into the sources.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tables

from soundmark import card, cli, encoders, heads, metrics, published, tasks
from soundmark.encoders import pooling as pooling_module
from soundmark.encoders.weights import CHECKPOINTS
from soundmark.errors import SpecError
from soundmark.spec import Spec
from soundmark.tasks import esc50, toy

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
INSERT = re.compile(r"<!-- insert: (?P<name>[\w-]+)(?P<words>[^>]*?) -->")
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|audio)\b[^>]*?\b(?:src|href)=[\"']?(?P<address>(?:https?:)?//[^\"' >]+)"
)
WIDTH = "88"


# --- What MkDocs calls ---------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Every insert of a page filled."""
    return fill(markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that would load anything from a network; links are welcome."""
    loaded = sorted({match["address"] for match in LOADED.finditer(output) if 'rel="canonical"' not in match[0]})
    if loaded:
        raise SystemExit(f"{page.file.src_uri} loads from the network: {', '.join(loaded)}")
    return output


def fill(markdown: str) -> str:
    """Every insert of a page filled."""

    def made(match: re.Match[str]) -> str:
        if match["name"] not in PARTS:
            raise SystemExit(f"there is nothing called {match['name']!r} to insert; there are: {', '.join(PARTS)}")
        return PARTS[match["name"]](*match["words"].split())

    return INSERT.sub(made, markdown)


# --- The command line ----------------------------------------------------------------------------------------------


def command_line() -> str:
    """The help of every verb and action, as argparse prints it."""
    kept = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    os.environ |= {"COLUMNS": WIDTH, "NO_COLOR": "1"}
    os.environ.pop("FORCE_COLOR", None)
    try:
        return "\n\n".join(_helps(cli.parser(), level=2))
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _helps(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield f"{'#' * level} {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):
                yield from _helps(child, min(level + 1, 3))


# --- Encoders, poolings, heads -------------------------------------------------------------------------------------


def encoder_table() -> str:
    """Every encoder with what it is, the size of its frames and its settings."""
    rows = []
    for name, make in encoders.ENCODERS.items():
        if name in CHECKPOINTS:
            continue  # in a table of their own, which needs no weights
        dim = encoders.load(name).dim
        rows.append([f"`{name}`", about(make, name), str(dim), settings(lambda text: encoders.load(text), name)])
    return tables.table(["name", "what a frame holds", "numbers", "settings and defaults"], rows, numbers=(2,))


def pretrained_table() -> str:
    """Every pretrained encoder with what it has heard and the licence of its weights."""
    rows = [
        [f"`{name}`", about.trained_on, about.licence, f"[{about.file}]({about.url})"]
        for name, about in CHECKPOINTS.items()
        if name in encoders.ENCODERS
    ]
    return tables.table(["name", "trained on", "licence of the weights", "file"], rows)


def head_table() -> str:
    """Every head with what it is and its settings."""
    rows = [
        [f"`{name}`", about(make, name), settings(lambda text: heads.build(text), name)]
        for name, make in heads.HEADS.items()
    ]
    return tables.table(["name", "what it is", "settings and defaults"], rows)


def pooling_list() -> str:
    """The statistics, in the words of their own module."""
    _, _, rest = inspect.cleandoc(pooling_module.__doc__ or "").partition("\n\n")
    return f"```text\n{rest}\n```"


def about(thing: Any, name: str) -> str:
    """The first paragraph of a docstring, without the name it may begin with."""
    first = inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].replace("\n", " ").removeprefix(f"`{name}`: ")
    return first[:1].upper() + first[1:]


def frame_parts(text: str) -> str:
    """What an encoder's frames hold, numbered components together: `mfcc (20)`."""
    names = encoders.load(text).feature_names
    counts = Counter(re.sub(r"( [A-G]#?| \d+| [\d.-]+ Hz)$", "", name) for name in names)
    return ", ".join(name if count == 1 else f"{name} ({count})" for name, count in counts.items())


def settings(load: Callable[[str], Any], name: str) -> str:
    """Settings and defaults, as the error for an unknown setting lists them."""
    try:
        load(str(Spec(name, settings={"nonesuch": "1"})))
    except SpecError as error:
        listed = str(error).partition("its settings and defaults are: ")[2]
        pairs = [pair.partition("=") for pair in listed.split(", ")]
        return ", ".join(f"`{key}={_as_written(value)}`" for key, _, value in pairs if value) or "none"
    raise SystemExit(f"{name} takes the setting nonesuch, so its settings cannot be listed")


def _as_written(value: str) -> str:
    """A default as the grammar writes it."""
    return value.lower() if value in ("True", "False") else value.removesuffix(".0")


# --- Tasks and views -----------------------------------------------------------------------------------------------


def toy_settings() -> str:
    """Settings of the toy task."""
    return settings(lambda text: tasks.load(text), "toy")


def toy_classes() -> str:
    """The toy task's classes, with what each of them is where its function says so."""
    return tables.table(
        ["class", "what is synthesised"], [[f"`{name}`", about(make, name)] for name, make in toy.SOUNDS.items()]
    )


def esc50_classes() -> str:
    """The fifty classes under their five categories."""
    categories = tasks.load_view("major", "esc50").mapping
    columns = list(dict.fromkeys(categories[name] for name in esc50.CLASSES))
    under = [[name for name in esc50.CLASSES if categories[name] == column] for column in columns]
    return tables.table(columns, [[f"`{name}`" for name in row] for row in zip(*under, strict=True)])


def view_table(task: str) -> str:
    """The views shipped for a task: name, title, classes, headline's score."""
    labels = {"esc50": esc50.CLASSES, "toy": tuple(toy.SOUNDS)}[task]
    rows = []
    for view in tasks.views(task):
        counts = Counter(filter(None, map(view.target, labels)))
        joined = ", ".join(f"{name} ({count} classes)" for name, count in counts.items())
        whole = joined if len(counts) < sum(counts.values()) else f"{len(counts)} of the {len(labels)} classes"
        rows.append([f"`{task}:{view.name}`", view.title, whole, (view.metric or "accuracy").replace("_", " ")])
    return tables.table(["name", "what it asks", "classes", "score"], rows)


def view_file(task: str, name: str) -> str:
    """The text of a shipped view."""
    text = (tasks.view.FOLDER / task / f"{name}.toml").read_text(encoding="utf-8")
    return f"```toml\n{text.strip()}\n```"


# --- Scores, errors, files -----------------------------------------------------------------------------------------


def metric_table() -> str:
    """Every score that a summary holds."""
    rows = [[name.replace("_", " "), about(make, name)] for name, make in metrics.METRICS.items()]
    return tables.table(["score", "what it is"], rows)


def docstring(path: str, start: str = "0") -> str:
    """Paragraphs of a docstring, from the given one on, as they stand."""
    module, _, name = path.partition(":")
    thing: Any = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        thing = getattr(thing, part)
    paragraphs = inspect.cleandoc(thing.__doc__ or "").split("\n\n")
    return "\n\n".join(paragraphs[int(start) :])


def file(name: str) -> str:
    """A file of the repository, such as the changes, with its links as a page has them."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def table(name: str) -> str:
    """A table of results, see tools/tables.py."""
    made: str = tables.TABLES[name](RESULTS)
    return made


def model_card(name: str) -> str:
    """The card of a model that lies in the package, without its title."""
    return card.card(published.load(name)).partition("\n")[2].strip()


PARTS: Mapping[str, Callable[..., str]] = {
    "card": model_card,
    "command-line": command_line,
    "docstring": docstring,
    "encoders": encoder_table,
    "pretrained": pretrained_table,
    "esc50-classes": esc50_classes,
    "frame": frame_parts,
    "file": file,
    "heads": head_table,
    "metrics": metric_table,
    "pooling": pooling_list,
    "table": table,
    "toy-classes": toy_classes,
    "toy-settings": toy_settings,
    "view": view_file,
    "views": view_table,
}

if __name__ == "__main__":  # a look at one part: tools/reference.py heads
    print(PARTS[sys.argv[1]](*sys.argv[2:]))
