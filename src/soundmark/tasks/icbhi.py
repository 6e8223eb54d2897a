"""ICBHI 2017: 920 recordings of the breath of 126 patients, 10 to 90 s each, annotated by breathing cycle.

Two labellings: a recording is `abnormal` if any of its cycles has a crackle or a wheeze (`icbhi`), and every cycle is
normal, crackle, wheeze or both (`icbhi?labels=cycles`, the challenge's own). The score is the challenge's, see
`soundmark.metrics.icbhi_score`. The group is the patient.

Two divisions: the challenge's list (60 % of the recordings to train on, 40 % to test), and five folds by patient made
here (`icbhi?split=patients`). The list has patients 156 and 218 on both sides; the result says what that concerns.

Caveats: the list names `226_1b1_Pl_sc_Meditron`, which is `226_1b1_Pl_sc_LittC2SE` in the database; four devices at 4,
10 and 44.1 kHz, unevenly spread over patients, labels and sides, so that a classifier may hear the device; in an early
release 92 files bore wrong recording indices, so fetch it anew if names are missing.

Source:
    B. M. Rocha et al., "An open access database for the evaluation of respiratory sound classification algorithms",
    Physiological Measurement 40, 2019, https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from soundmark.errors import TaskError
from soundmark.spec import Spec, bounded, take
from soundmark.tasks import fetching, published
from soundmark.tasks.base import Clip, Task, leaks

LIST = "ICBHI_challenge_train_test.txt"
DATABASE = "ICBHI_final_database"
RENAMED = {"226_1b1_Pl_sc_Meditron": "226_1b1_Pl_sc_LittC2SE"}  # in the list, and in the database
DEFAULTS = {"labels": "recordings", "split": "official"}

# The normal class is the first: the score goes by it.
CLASSES: dict[str, tuple[str, ...]] = {
    "recordings": ("normal", "abnormal"),
    "cycles": ("normal", "crackle", "wheeze", "both"),
}
PROTOCOLS = {"official": "official 60/40 split", "patients": "5 folds by patient, made by Soundmark"}

KNOWN = published.DataSet(
    name="icbhi",
    title="ICBHI 2017, respiratory sounds",
    folders=("ICBHI", "ICBHI_2017"),
    recordings=920,
    suffix=".wav",
    size="2 GB",
    licence="free for research; see the challenge's page",
    source="https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge",
)
_FOLDER = "https://bhichallenge.med.auth.gr/sites/default/files/ICBHI_final_database"
ARCHIVES = (
    fetching.Archive(url=f"{_FOLDER}/{LIST}", plain=True),
    fetching.Archive(url=f"{_FOLDER}/ICBHI_final_database.zip"),
)


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has it.

    Args:
        spec: the parsed name. Settings: `labels`, recordings or cycles; `split`, official or patients.
        allow_partial: take what is there, and say so, instead of raising; see `soundmark.tasks.published`.

    Raises:
        TaskError: if the data set is not there, is incomplete, or a table is not a published one.
        SpecError: for an unknown setting.
    """
    _settings(spec)
    return load_from(published.find_root(KNOWN, lambda place: (place / LIST).is_file()), allow_partial, spec)


def load_from(root: Path, allow_partial: bool = False, spec: Spec = Spec("icbhi")) -> Task:  # noqa: B008  # immutable
    """The task from the folder that holds the list and the database. Arguments and errors as `load`."""
    given = _settings(spec)
    there = published.listing(root, KNOWN.suffix, [DATABASE])
    sides = {_on_disk(name, there): side for name, side in read_list(root / LIST).items()}
    found = published.match(KNOWN, root, sides, there, allow_partial)
    clips: list[Clip] = []
    for stem, path in found.paths.items():
        cycles = read_cycles(root / f"{stem}.txt")
        clip = Clip(path, (), group=Path(stem).name.partition("_")[0], fold=sides[stem])
        if given["labels"] == "cycles":
            clips += [replace(clip, labels=(label,), start=start, end=end) for start, end, label in cycles]
        else:
            normal = all(label == "normal" for _, _, label in cycles)
            clips.append(replace(clip, labels=("normal" if normal else "abnormal",)))
    official = given["split"] == "official"
    task = Task(
        name=str(Spec(KNOWN.name, settings={key: given[key] for key in given if given[key] != DEFAULTS[key]})),
        root=root,
        clips=tuple(clips),
        classes=CLASSES[given["labels"]],
        protocol=PROTOCOLS[given["split"]],
        rounds=(),
        metric="icbhi_score",
        positive="abnormal" if given["labels"] == "recordings" else "",
        official=official,
    )
    task = published.settled(task, found, published.by_split if official else published.by_groups)
    if task.classes[0] != "normal":
        raise TaskError(f"{task.full_name} in {root}: no two patients here breathe normally, and the score needs that")
    return replace(task, notes=(*task.notes, *_patients(task)))


def _settings(spec: Spec) -> dict[str, str]:
    given = take(spec, DEFAULTS)
    bounded(spec, given, labels=tuple(CLASSES), split=tuple(PROTOCOLS))
    return given


def _on_disk(name: str, there: published.Paths) -> str:
    stem, other = f"{DATABASE}/{name}", f"{DATABASE}/{RENAMED.get(name, name)}"
    return other if other in there else stem


def _patients(task: Task) -> list[str]:
    """What to say of patients on both sides, whatever their labels: `leak_notes` counts those of one class only."""
    found = [leaks(task, each, any_label=True) for each in task.rounds]
    patients = sorted(set().union(*found))
    if not patients:
        return []
    clips = sum(len(positions) for one in found for positions in one.values())
    tested = sum(len(each.test) for each in task.rounds)
    who = f"patient{'s' if len(patients) > 1 else ''} {', '.join(patients)}"
    heard = f"{clips} of {tested} test clips {'is' if clips == 1 else 'are'} of a patient who was heard in training"
    return [f"The official split has {who} on both sides: {heard}."]


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch the database and the list into `folder`/ICBHI, unless they are there, and check that they are complete.

    No checksums are published, so the members are checked.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not the data set.
    """
    _settings(spec)
    return fetching.get(KNOWN, ARCHIVES, folder, load_from, url, keep_archive=keep_archive, progress=progress)


def read_list(path: Path) -> dict[str, str]:
    """Name of every recording to `train` or `test`, by the challenge's list.

    Raises:
        TaskError: if it cannot be read or is not that list.
    """
    sides: dict[str, str] = {}
    for number, line in enumerate(published.read_text(path).splitlines(), 1):
        name, _, side = line.strip().partition("\t")
        if line.strip():
            if side not in ("train", "test") or name.count("_") != 4:
                raise TaskError(f"{path}, line {number}: {line.strip()!r} is no recording and its side; fetch it again")
            sides[name] = side
    return sides


def read_cycles(path: Path) -> list[tuple[float, float, str]]:
    """First and last second and label of every breathing cycle, by a recording's annotation.

    Raises:
        TaskError: if it cannot be read, or a line is not onset, offset, crackles (0 or 1), wheezes (0 or 1).
    """
    names = {("0", "0"): "normal", ("1", "0"): "crackle", ("0", "1"): "wheeze", ("1", "1"): "both"}
    cycles = []
    for number, line in enumerate(published.read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            onset, offset, crackles, wheezes = line.split()
            start, end, label = float(onset), float(offset), names[crackles, wheezes]
        except (ValueError, KeyError):
            start, end, label = 0.0, 0.0, ""
        if not 0 <= start < end < math.inf:
            raise TaskError(
                f"{path}, line {number}: {line.strip()!r} should be onset, offset, crackles and wheezes; fetch it again"
            )
        cycles.append((start, end, label))
    if not cycles:
        raise TaskError(f"{path} holds no breathing cycles; fetch it again")
    return cycles
