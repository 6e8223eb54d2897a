"""Speech Commands: single words of at most 1 s, spoken by some two thousand people into their own microphones.

Version 0.02 has 105,829 recordings of 35 words (`speech_commands`), version 0.01 64,727 of 30
(`speech_commands?version=1`). `validation_list.txt` and `testing_list.txt` are the official split, all else is to train
on. The group is the speaker's hash, which the lists keep on one side.

`labels=12` is the usual form of twelve classes: ten words, `unknown` for all others, and `silence`, which is cut from
the background noises. As in the authors' trainer, each of the two is a tenth of the ten words' clips, on every side.
Which other words are `unknown` is drawn by a digest of their names, the same at every call. Unlike there, no noise
recording is on two sides, and its level is left as it is; the separate test archive is not used. Scores lie close to
published ones, and are not the same measurement.

Caveats: some recordings are shorter than a second, cut off or mislabelled; white and pink noise are synthetic.

Source:
    P. Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018,
    https://arxiv.org/abs/1804.03209
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from soundmark import audio
from soundmark.errors import TaskError
from soundmark.spec import Spec, bounded, take
from soundmark.tasks import fetching, published
from soundmark.tasks.base import Clip, Task

VALID, TEST, NOISE = "validation_list.txt", "testing_list.txt", "_background_noise_"
DEFAULTS = {"version": 2, "labels": "words"}
SHARE = 10  # one clip of `unknown`, and one of `silence`, to so many of the ten words

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_OTHERS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
_SECOND = ("backward", "follow", "forward", "learn", "visual")
WORDS = {1: (*COMMANDS, *_DIGITS, *_OTHERS), 2: (*COMMANDS, *_DIGITS, *_OTHERS, *_SECOND)}

# Whole recordings to a side, so that none is on two.
NOISES = {
    "doing_the_dishes": "train",
    "dude_miaowing": "train",
    "white_noise": "train",
    "exercise_bike": "valid",
    "pink_noise": "test",
    "running_tap": "test",
}
_NAME = re.compile(r"(?P<word>[a-z]+)/(?P<speaker>[0-9a-z]+)_nohash_\d+")
_HOST = "http://download.tensorflow.org/data"


def _known(version: int, name: str, recordings: int, size: str) -> published.DataSet:
    return published.DataSet(
        name=name,
        title=f"Speech Commands v0.0{version}",
        folders=(
            f"speech_commands_v0.0{version}",
            "speech_commands",
            f"SpeechCommands/speech_commands_v0.0{version}",
        ),
        recordings=recordings,
        suffix=".wav",
        size=size,
        licence="CC BY 4.0",
        source="https://arxiv.org/abs/1804.03209",
    )


KNOWN = {
    1: _known(1, "speech_commands?version=1", 64_727, "1.5 GB"),
    2: _known(2, "speech_commands", 105_829, "2.4 GB"),
}
ARCHIVES = {
    1: fetching.Archive(
        url=f"{_HOST}/speech_commands_v0.01.tar.gz",
        sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
    ),
    2: fetching.Archive(
        url=f"{_HOST}/speech_commands_v0.02.tar.gz",
        size=2_428_923_189,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
}


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has this version.

    Args:
        spec: the parsed name. Settings: `version`, 1 or 2; `labels`, words or 12.
        allow_partial: take what is there, and say so, instead of raising; see `soundmark.tasks.published`.

    Raises:
        TaskError: if the data set is not there, is incomplete, or a list is not a published one.
        SpecError: for an unknown setting.
    """
    version, _ = _settings(spec)
    root = published.find_root(KNOWN[version], lambda place: (place / TEST).is_file() and version_of(place) == version)
    return load_from(root, allow_partial, spec)


def load_from(root: Path, allow_partial: bool = False, spec: Spec = Spec("speech_commands")) -> Task:  # noqa: B008
    """The task from the folder that holds the words and the lists. Arguments and errors as `load`."""
    version, labels = _settings(spec)
    twelve, given = labels == "12", {"version": version, "labels": labels}
    sides = dict.fromkeys(read_list(root / VALID, version), "valid")
    sides |= dict.fromkeys(read_list(root / TEST, version), "test")
    there = published.listing(root, ".wav", [word for word in WORDS[version] if (root / word).is_dir()])
    names = [*sides, *(stem for stem in sorted(there) if stem not in sides and _NAME.fullmatch(stem))]
    found = published.match(KNOWN[version], root, names, there, allow_partial)
    clips = [_clip(stem, path, sides.get(stem, "train")) for stem, path in found.paths.items()]
    task = Task(
        name=str(Spec("speech_commands", settings={k: str(v) for k, v in given.items() if v != DEFAULTS[k]})),
        root=root,
        clips=tuple(twelve_classes(clips, root) if twelve else clips),
        classes=(*COMMANDS, "unknown", "silence") if twelve else WORDS[version],
        protocol="official lists" + (", unknown and silence drawn by Soundmark" if twelve else ""),
        rounds=(),
        title=KNOWN[version].title + (", twelve classes" if twelve else ""),
        official=True,
    )
    return published.settled(task, found, published.by_split)


def _settings(spec: Spec) -> tuple[int, str]:
    given = take(spec, DEFAULTS)
    bounded(spec, given, version=(1, 2), labels=("words", "12"))
    return given["version"], given["labels"]


def _clip(stem: str, path: str, side: str) -> Clip:
    word, _, name = stem.partition("/")
    return Clip(path, (word,), group=name.partition("_")[0], fold=side)


def twelve_classes(clips: Sequence[Clip], root: Path) -> list[Clip]:
    """The ten words' clips, and of every side a tenth as many `unknown` and `silence`.

    Where none of the ten words is there, as in a sample of digits, all other words stay, with as much silence.
    """
    kept: list[Clip] = []
    for side in ("train", "valid", "test"):
        here = [clip for clip in clips if clip.fold == side]
        words = [clip for clip in here if clip.label in COMMANDS]
        others = sorted((clip for clip in here if clip.label not in COMMANDS), key=_digest)
        count = math.ceil(len(words) / SHARE) if words else len(others)
        kept += words
        kept += [Clip(clip.path, ("unknown",), group=clip.group, fold=side) for clip in others[:count]]
        kept += silence(root, side, count)
    return kept


def _digest(clip: Clip) -> bytes:
    return hashlib.blake2b(clip.path.rpartition(".")[0].encode(), digest_size=8).digest()


def silence(root: Path, side: str, count: int) -> list[Clip]:
    """`count` seconds of this side's background noises, evenly spread; they overlap where there are many.

    Raises:
        AudioError: if a noise cannot be read.
    """
    there = published.listing(root, ".wav", [NOISE]) if (root / NOISE).is_dir() else {}
    paths = [there[f"{NOISE}/{name}"] for name in NOISES if NOISES[name] == side and f"{NOISE}/{name}" in there]
    clips: list[Clip] = []
    for number, path in enumerate(paths):
        share = count // len(paths) + (number < count % len(paths))
        room = audio.info(root / path).duration - 1.0
        for i in range(share if room >= 0 else 0):
            start = round(room * (i + 0.5) / share, 4)
            clips.append(Clip(path, ("silence",), start, start + 1.0, group=path.rpartition(".")[0], fold=side))
    return clips


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch a version into a folder of its name, unless it is there, and check that it is complete.

    Raises:
        DownloadError: if it cannot be fetched or unpacked, or is not the published archive.
        TaskError: if what came is not the data set.
    """
    version, _ = _settings(spec)
    ours = Spec("speech_commands", settings={"version": str(version)})
    known, archives, loaded = KNOWN[version], (ARCHIVES[version],), partial(load_from, spec=ours)
    return fetching.get(known, archives, folder, loaded, url, keep_archive=keep_archive, progress=progress)


def version_of(root: Path) -> int:
    """2 where the test list has words that only version 0.02 has, else 1.

    Raises:
        TaskError: if the list cannot be read.
    """
    words = {line.partition("/")[0] for line in published.read_text(root / TEST).splitlines()}
    return 2 if words & set(_SECOND) else 1


def read_list(path: Path, version: int) -> list[str]:
    """The recordings that one of the official lists names, without their ending.

    Raises:
        TaskError: if it cannot be read, or a line is no recording of a word of this version.
    """
    stems = []
    for number, line in enumerate(published.read_text(path).split(), 1):
        stem = line.rpartition(".")[0]
        name = _NAME.fullmatch(stem)
        if not name or name["word"] not in WORDS[version]:
            raise TaskError(
                f"{path}, line {number}: {line!r} is no recording of Speech Commands v0.0{version}; fetch it again"
            )
        stems.append(stem)
    return stems
