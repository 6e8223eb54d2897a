"""NSynth: 305,979 notes of 4 s in 11 families of instruments, and the official split into train, valid and test.

The group is the instrument: notes of one instrument, at other pitches and velocities, resemble each other far more than
those of another of its family. No instrument of the training notes is in valid or test, but valid and test share
theirs. Validation notes of instruments that are tested are therefore no part of the training side here; a note says how
many they are.

Caveats: `synth_lead` is learnt and never tested, being in neither valid nor test; families are uneven (a fifth of the
notes are `bass`); the notes are rendered from sample libraries, not played in a room; the training notes are 23 GB.

Source:
    J. Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", ICML 2017,
    https://magenta.tensorflow.org/datasets/nsynth
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from soundmark.errors import TaskError
from soundmark.spec import Spec, take
from soundmark.tasks import fetching, published
from soundmark.tasks.base import Clip, Task, counted

PARTS = ("train", "valid", "test")
TABLE = "examples.json"
FIELDS = ("instrument_family_str", "instrument_str")

# In the order of the tables' `instrument_family`.
CLASSES: tuple[str, ...] = (
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet"),
    *("organ", "reed", "string", "synth_lead", "vocal"),
)
KNOWN = published.DataSet(
    name="nsynth",
    title="NSynth, notes of musical instruments",
    folders=("nsynth", "NSynth"),
    recordings=305_979,
    suffix=".wav",
    size="24 GB",
    licence="CC BY 4.0",
    source="https://magenta.tensorflow.org/datasets/nsynth",
)
ARCHIVES = tuple(
    fetching.Archive(url=f"http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{part}.jsonwav.tar.gz")
    for part in ("test", "valid", "train")  # the small ones first: they tell early that something is amiss
)


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has it.

    Args:
        spec: the parsed name; it takes no settings.
        allow_partial: take what is there, and say so, instead of raising; see `soundmark.tasks.published`.

    Raises:
        TaskError: if the data set is not there, is incomplete, or a table is not a published one.
    """
    take(spec, {})
    return load_from(published.find_root(KNOWN, lambda place: bool(_parts(place))), allow_partial)


def load_from(root: Path, allow_partial: bool = False) -> Task:
    """The task from the folder that holds `nsynth-train` and its sisters. Arguments and errors as `load`."""
    about: dict[str, tuple[str, str, str]] = {}
    for part in _parts(root):
        for name, family, instrument in read_table(root / f"nsynth-{part}" / TABLE):
            about[f"nsynth-{part}/audio/{name}"] = (family, instrument, part)
    folders = [f"nsynth-{part}/audio" for part in _parts(root)]
    found = published.match(KNOWN, root, about, published.listing(root, KNOWN.suffix, folders), allow_partial)
    clips = []
    for stem, path in found.paths.items():
        family, instrument, part = about[stem]
        clips.append(Clip(path, (family,), group=instrument, fold=part))
    task = Task(
        name=KNOWN.name,
        root=root,
        clips=tuple(clips),
        classes=CLASSES,
        protocol="official split into train and test",
        rounds=(),
        official=True,
    )
    kept = task if found.few else without_tested(task)
    return published.settled(kept, found, published.by_split)


def without_tested(task: Task) -> Task:
    """The task without validation notes of instruments that are tested: they must not be on the training side."""
    tested = {clip.group for clip in task.clips if clip.fold == "test"}
    shared = [clip for clip in task.clips if clip.fold == "valid" and clip.group in tested]
    if not shared:
        return task
    note = f"Left out: {counted(len(shared), 'validation note')} of instruments that are tested too."
    return replace(task.drop(shared), notes=(*task.notes, note))


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch the data set into `folder`/nsynth, unless it is there, and check that it is complete.

    No checksums are published, so the members are checked.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not NSynth.
    """
    take(spec, {})
    return fetching.get(KNOWN, ARCHIVES, folder, load_from, url, keep_archive=keep_archive, progress=progress)


def read_table(path: Path) -> list[tuple[str, str, str]]:
    """Name, family and instrument of every note in an `examples.json`.

    Raises:
        TaskError: if it cannot be read, is no such table, or names another family.
    """
    text = published.read_text(path)
    try:
        table: Any = json.loads(text)
        rows = [(str(name), str(note[FIELDS[0]]), str(note[FIELDS[1]])) for name, note in table.items()]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise TaskError(f"{path} should be a JSON table of notes with {' and '.join(FIELDS)}; fetch it again") from None
    odd = sorted({family for _, family, _ in rows} - set(CLASSES))
    if odd:
        raise TaskError(f"{path} names families that NSynth does not have: {published.shortened(odd)}; fetch it again")
    return rows


def _parts(root: Path) -> Sequence[str]:
    return [part for part in PARTS if (root / f"nsynth-{part}" / TABLE).is_file()]
