"""LibriSpeech train-clean-100: who of some 250 people is reading? 28,539 utterances, split by chapter.

No split for this is published. Of every speaker one chapter is tested, the one with the fewest utterances (of equals
the lower number), and the others are learnt from; utterances of one chapter were read in one sitting, with one
microphone in one room, so a split by utterance would tell how well a sitting is recognised. The group is the chapter.
Speakers who read a single chapter cannot be tested and are left out; a note lists them.

Caveats: a speaker's chapters are often of one book and one room, so the score is an upper bound for another place or
another year; the audio was MP3 once, at several rates.

Source:
    V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books",
    ICASSP 2015, https://www.openslr.org/12
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from soundmark.spec import Spec, take
from soundmark.tasks import fetching, published
from soundmark.tasks.base import Clip, Task

SUBSET = "train-clean-100"
_NAME = re.compile(rf"{SUBSET}/(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<group>(?P=speaker)-(?P=chapter))-\d+")

KNOWN = published.DataSet(
    name="librispeech",
    title="LibriSpeech train-clean-100, speakers",
    folders=("LibriSpeech", "librispeech"),
    recordings=28_539,
    suffix=".flac",
    size="6.3 GB",
    licence="CC BY 4.0",
    source="https://www.openslr.org/12",
)
ARCHIVES = (
    fetching.Archive(
        url="https://www.openslr.org/resources/12/train-clean-100.tar.gz",
        md5="2a93770f6d5c6c964bc36631d331a522",
        strip=1,
    ),
)


def load(spec: Spec, allow_partial: bool = False) -> Task:
    """The task, from the first data folder that has it.

    Args:
        spec: the parsed name; it takes no settings.
        allow_partial: take what is there, and say so, instead of raising; see `soundmark.tasks.published`.

    Raises:
        TaskError: if the data set is not there or is incomplete.
    """
    take(spec, {})
    return load_from(published.find_root(KNOWN, lambda place: (place / SUBSET).is_dir()), allow_partial)


def load_from(root: Path, allow_partial: bool = False) -> Task:
    """The task from the folder that holds `train-clean-100`. Arguments and errors as `load`."""
    there = published.listing(root, KNOWN.suffix, [SUBSET])
    names = {stem: name for stem in sorted(there) if (name := _NAME.fullmatch(stem))}
    found = published.match(KNOWN, root, names, there, allow_partial)
    clips = tuple(
        Clip(path, (names[stem]["speaker"],), group=names[stem]["group"]) for stem, path in found.paths.items()
    )
    task = Task(
        name=KNOWN.name,
        root=root,
        clips=clips,
        classes=tuple(sorted({clip.label for clip in clips}, key=int)),
        protocol="split by chapter inside each speaker, made by Soundmark",
        rounds=(),
    )
    return published.settled(task if found.few else split_by_chapter(task), found, published.by_split)


def split_by_chapter(task: Task) -> Task:
    """The task with one chapter of every speaker in `test` and the others in `train`, and no speaker of one chapter.

    Raises:
        TaskError: if fewer than two speakers have two chapters.
    """
    task = published.without_small(task)
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in task.clips:
        sizes[clip.label][clip.group] += 1
    # By length, then text: the order of whole numbers.
    tested = {min(counts, key=lambda chapter: (counts[chapter], len(chapter), chapter)) for counts in sizes.values()}
    clips = tuple(replace(clip, fold="test" if clip.group in tested else "train") for clip in task.clips)
    return replace(task, clips=clips)


def get(spec: Spec, folder: Path, url: str = "", *, keep_archive: bool = False, progress: bool = True) -> Path:
    """Fetch train-clean-100 into `folder`/LibriSpeech, unless it is there, and check that it is complete.

    Raises:
        DownloadError: if it cannot be fetched or unpacked.
        TaskError: if what came is not LibriSpeech.
    """
    take(spec, {})
    return fetching.get(KNOWN, ARCHIVES, folder, load_from, url, keep_archive=keep_archive, progress=progress)
