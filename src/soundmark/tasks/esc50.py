"""ESC-50: 2000 environmental recordings of 5 s in 50 classes and five official folds.

Source:
    K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015,
    https://github.com/karolpiczak/ESC-50
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from soundmark.audio import AUDIO_SUFFIXES
from soundmark.errors import TaskError
from soundmark.files import data_folders
from soundmark.spec import Spec, take
from soundmark.tasks import fetching
from soundmark.tasks.base import Clip, Task, fold_rounds, leak_notes
from soundmark.tasks.published import DataSet

KNOWN = DataSet(
    name="esc50",
    title="ESC-50, environmental sounds",
    folders=("ESC-50", "ESC-50-master"),
    recordings=2000,
    suffix=".wav",
    size="0.6 GB",
    licence="CC BY-NC 3.0 (its ESC-10 part CC BY 3.0)",
    source="https://github.com/karolpiczak/ESC-50",
)
ADDRESS = f"{KNOWN.source}/archive/master.zip"
COLUMNS = ("filename", "fold", "target", "category", "src_file")
CLIPS, FOLDS = KNOWN.recordings, 5

# In the order of the table's `target` column; every ten are one of the five major categories.
CLASSES: tuple[str, ...] = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine"),
    *("train", "church_bells", "airplane", "fireworks", "hand_saw"),
)


def find_root() -> Path | None:
    """The folder of the data set on the search path of data folders, or None."""
    for folder in data_folders():
        for place in (folder, *(folder / name for name in KNOWN.folders)):
            if (place / "meta" / "esc50.csv").is_file():
                return place
    return None


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has it.

    Args:
        spec: the parsed name; it takes no settings.
        allow_partial: take what is there, and say in the notes what is missing, instead of raising.

    Raises:
        TaskError: if the data set is not there, is incomplete, or its table is not the published one.
    """
    take(spec, {})
    root = find_root()
    if root is None:
        searched = os.pathsep.join(map(str, data_folders()))
        raise TaskError(
            f"ESC-50 is not here (searched {searched}): run `soundmark data get esc50`, which fetches {ADDRESS} "
            f"({KNOWN.size}), or put the folder that holds ESC-50 into SOUNDMARK_DATA"
        )
    return load_from(root, allow_partial)


def load_from(root: Path, allow_partial: bool = False) -> Task:
    """The task from its own folder, which holds `audio` and `meta`. Arguments and errors as `load`."""
    rows = read_table(root / "meta" / "esc50.csv")
    notes = [] if len(rows) == CLIPS else [f"The table lists {len(rows)} of the {CLIPS} clips."]
    names = _by_stem(root / "audio")
    there = [row for row in rows if Path(row["filename"]).stem in names]
    if len(there) < len(rows):
        missing = sorted({row["filename"] for row in rows} - {row["filename"] for row in there})
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        notes.append(f"{len(missing)} of {len(rows)} clips are missing: {listed}.")
    if notes and not allow_partial:
        raise TaskError(
            f"ESC-50 in {root} is incomplete. {' '.join(notes)} Run `soundmark data get esc50` to fetch it again"
        )
    clips = tuple(
        Clip(
            path=f"audio/{names[Path(row['filename']).stem]}",
            labels=(row["category"],),
            group=row["src_file"],
            fold=row["fold"],
        )
        for row in there
    )
    kinds = Counter(Path(clip.path).suffix.lower() for clip in clips)
    if set(kinds) - {".wav"}:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common())
        notes.append(f"The audio files are not the published WAVs but {listed}.")
    present = {clip.label for clip in clips}
    task = Task(
        name="esc50",
        root=root,
        clips=clips,
        classes=tuple(name for name in CLASSES if name in present),
        protocol="official 5 folds" + (f", incomplete: {len(clips)} of {CLIPS} clips" if len(clips) < CLIPS else ""),
        rounds=fold_rounds(clips),
        metric="accuracy",
        title=KNOWN.title,
        licence=KNOWN.licence,
        source=KNOWN.source,
        notes=tuple(notes),
        official=True,
    )
    return replace(task, notes=(*notes, *leak_notes(task)))


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch the data set into `folder`/ESC-50, unless it is there, and check that it is complete.

    The host makes the archive anew from time to time, so it has no fixed checksum: its members are checked.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not ESC-50.
    """
    take(spec, {})
    archive = fetching.Archive(url=ADDRESS, name="ESC-50.zip", strip=1, wanted=_is_ours)
    return fetching.get(KNOWN, (archive,), folder, load_from, url, keep_archive=keep_archive, progress=progress)


def _is_ours(name: str) -> bool:
    return name.startswith(("audio/", "meta/")) or name in ("LICENSE", "README.md")


def read_table(path: Path) -> list[Mapping[str, str]]:
    """The rows of `meta/esc50.csv`, checked against what was published.

    Raises:
        TaskError: if it cannot be read, lacks columns, or names other classes or folds.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            rows: list[Mapping[str, str]] = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"cannot read the table {path}: {error}") from None
    if not rows or any(row.get(column) in (None, "") for row in rows for column in COLUMNS):
        raise TaskError(f"{path} should have the columns {', '.join(COLUMNS)} filled in every row; fetch it again")
    for row in rows:
        name = CLASSES[int(row["target"])] if row["target"].isdecimal() and int(row["target"]) < len(CLASSES) else None
        if name != row["category"] or row["fold"] not in map(str, range(1, FOLDS + 1)):
            raise TaskError(
                f"{path}: the row of {row['filename']} (fold {row['fold']}, target {row['target']}, "
                f"{row['category']}) is not that of the published table; fetch it again"
            )
    return rows


def _by_stem(folder: Path) -> dict[str, str]:
    """File name of every clip by its stem, from one listing; a WAV wins where a clip is there twice."""
    try:
        names = sorted(os.listdir(folder), key=lambda name: (not name.endswith(".wav"), name), reverse=True)
    except OSError as error:
        raise TaskError(f"cannot list the clips of ESC-50 in {folder}: {error.strerror}") from None
    return {Path(name).stem: name for name in names if Path(name).suffix.lower() in AUDIO_SUFFIXES}
