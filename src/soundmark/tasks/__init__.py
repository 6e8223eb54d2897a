"""Tasks: labelled collections of recordings and the protocols by which learners are measured on them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

from soundmark.errors import TaskError
from soundmark.remote import Place, Url, is_url
from soundmark.spec import Spec, parse
from soundmark.tasks import esc50, folder, icbhi, librispeech, nsynth, speech_commands, toy, urbansound8k
from soundmark.tasks.base import Clip, Round, Task, check_groups, fold_rounds, leak_notes, leaks, only, split_rounds
from soundmark.tasks.view import View, load_view, views

TASKS: dict[str, Callable[[Spec, bool], Task]] = {
    "esc50": esc50.load,
    "icbhi": icbhi.load,
    "librispeech": librispeech.load,
    "nsynth": nsynth.load,
    "speech_commands": speech_commands.load,
    "toy": toy.load,
    "urbansound8k": urbansound8k.load,
}

GETTERS: dict[str, Callable[..., Path]] = {
    "esc50": esc50.get,
    "icbhi": icbhi.get,
    "librispeech": librispeech.get,
    "nsynth": nsynth.get,
    "speech_commands": speech_commands.get,
    "toy": toy.get,
    "urbansound8k": urbansound8k.get,
}


def load(text: str, *, allow_partial: bool = False) -> Task:
    """The task of this name, through its view where one is named.

    Args:
        text: `esc50`, `esc50:danger`, `toy?clips=8`, the path or the address of a folder (a folder per class inside) or
            of a CSV or Parquet manifest; behind a colon the name of a shipped view or the path of a view's TOML file. A
            name in `TASKS` is that task even where a folder is called the same: write `./toy` for the folder.
        allow_partial: take an incomplete data set, with a note, instead of raising.

    Raises:
        TaskError: if there is no such task or view, or its data are not there or not usable.
        SpecError: if the text is not in the grammar, or a setting is unknown.
        LeakError: if a group straddles the given folds of a user's own table.
    """
    name = text.strip().partition(":")[0].partition("?")[0]
    if name in TASKS:
        spec = parse(text)
        if spec.layer:
            raise TaskError(f"{text!r}: a task has no layers")
        task, view = TASKS[name](spec, allow_partial), spec.view
    else:
        address = is_url(text.strip().removeprefix("folder:"))
        path: Place
        path, view, settings = _split_address(text.strip()) if address else _split_path(text.strip())
        task = folder.load(path, settings, allow_partial)
    return load_view(view, name if name in TASKS else "folder").apply(task) if view else task


def _split_address(text: str) -> tuple[Url, str, str]:
    """Address, view and settings of a collection. Web addresses have question marks of their own, and ports."""
    text = text.removeprefix("folder:")
    whole, mark, settings = text.rpartition("?")
    if not mark or {pair.partition("=")[0] for pair in settings.split("&")} - set(folder.DEFAULTS):
        whole, settings = text, ""
    scheme, _, rest = whole.partition("://")
    host, slash, path = rest.partition("/")
    path, _, view = path.partition(":")
    return Url(f"{scheme}://{host}{slash}{path}"), view, settings


def _split_path(text: str) -> tuple[Path, str, str]:
    """Path, view and settings of a user's own collection. Windows paths hold colons, so what exists decides."""
    text = text.removeprefix("folder:")
    for whole, settings in _cuts(text, "?"):
        for path, view in _cuts(whole, ":"):
            if path and "?" not in view and _exists(path):
                return Path(path), view, settings
    name = text.partition(":")[0].partition("?")[0]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TaskError(
        f"there is no task, folder or manifest {text!r}{hint}; the tasks are {', '.join(sorted(TASKS))}, and your own "
        "recordings are the path of a folder (with a folder per class) or of a .csv or .parquet manifest"
    )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a file's name, or with a NUL in it
        return False


def _cuts(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """The text whole, then cut in two at each mark, the longest left part first."""
    yield text, ""
    place = len(text)
    while (place := text.rfind(mark, 0, place)) != -1:
        yield text[:place], text[place + 1 :]


__all__ = [
    "GETTERS",
    "TASKS",
    "Clip",
    "Round",
    "Task",
    "View",
    "check_groups",
    "fold_rounds",
    "leak_notes",
    "leaks",
    "load",
    "load_view",
    "only",
    "split_rounds",
    "views",
]
