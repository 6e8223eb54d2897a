"""A map as a page to wander in: one HTML file with the clips' sound, which needs no network."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from markupsafe import Markup
from tqdm import tqdm

from soundmark import __version__, ahead, audio
from soundmark.analysis.scatter import Colouring
from soundmark.errors import SoundmarkError
from soundmark.report import mistakes, page
from soundmark.tasks.base import Clip, Task

MOST_BYTES = 24 << 20
RATE, SECONDS, COMPRESSION = 16_000, 3.0, 0.9  # enough to know a sound by, in 5 to 10 kB
_HERE = "soundmark.analysis"


def sounds(task: Task, clips: Sequence[Clip], most: int, *, progress: bool = True) -> dict[int, str]:
    """The first seconds of clips as data URIs, until the page would hold more than it may.

    Args:
        task: where the recordings are.
        clips: that are on the map.
        most: bytes of all URIs together.
        progress: show a bar on a terminal.

    Returns:
        URIs by position. The first clip of every class comes before the second of any; what cannot be read is silent.
    """
    order = _by_turns([clip.labels for clip in clips])
    found: dict[int, str] = {}
    held = 0

    def sound(i: int) -> str | None:
        return _sound(task, clips[i])

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        heard = ahead.in_order(threads, sound, order)
        for i, uri in zip(
            order, tqdm(heard, "sounds", len(order), unit="clip", disable=None if progress else True), strict=False
        ):
            if uri is None:
                continue
            held += len(uri)
            if held > most:
                break
            found[i] = uri
        heard.close()  # type: ignore[attr-defined]  # a generator: what is under way need not be waited for
    return found


def _by_turns(labels: Sequence[tuple[str, ...]]) -> list[int]:
    seen: Counter[tuple[str, ...]] = Counter()
    turns = []
    for i, label in enumerate(labels):
        turns.append((seen[label], i))
        seen[label] += 1
    return [i for _, i in sorted(turns)]


def _sound(task: Task, clip: Clip) -> str | None:
    try:
        path = task.path(clip)
        last = clip.start + SECONDS if clip.end is None else min(clip.end, clip.start + SECONDS)
        waveform, _ = audio.read(path, RATE, start=clip.start, end=min(last, audio.info(path).duration))
    except (SoundmarkError, OSError, ValueError):
        return None
    return mistakes.encoded(waveform, RATE, COMPRESSION)


def render(
    task: Task, content: Mapping[str, Any], words: Mapping[str, str], positions: np.ndarray,
    rows: Sequence[Mapping[str, Any]], colours: Mapping[str, Colouring], colour: str,
) -> str:  # fmt: skip
    """The page.

    Args:
        task: whose clips are shown.
        content: of `map.json`.
        words: `title` and `trust`, in words.
        positions: (n, 2).
        rows: of every clip its `clip`, `label`, `group`, `fold`, `predicted`, `right` and `sound`, a URI; None where
            there is none.
        colours: by what they stand for.
        colour: which of them is shown at first.
    """
    script = page.source("script.js") + page.source("map.js", _HERE)
    heard = sum(row["sound"] is not None for row in rows)
    found: str = page.template(page.source("map.html.j2", _HERE)).render(
        title=words["title"],
        trust=words["trust"],
        content=content,
        facts=list(_facts(content)),
        kinds=[kind for kind in ("class", "fold", "error", "group") if kind in colours],
        colour=colour,
        clips=len(rows),
        heard=heard,
        seconds=f"{SECONDS:g}",
        credit=f"Recordings: {task.title or task.name}, {task.licence}." if heard and task.licence else "",
        version=__version__,
        data=Markup(_json(_data(positions, rows, colours))),  # noqa: S704 - escaped by _json
        style=Markup(page.source("style.css") + page.source("map.css", _HERE)),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=page.digest(script),
    )
    return found.strip() + "\n"


def _facts(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Task", content["task"]
    yield "Encoder", content["encoder"]
    yield "Pooling", content["pooling"]
    given = ", ".join(f"{name} {value}" for name, value in content["settings"].items())
    yield "Method", f"{content['method']}, {given}, seed {content['seed']}"
    if content["run"]:
        yield "Run", f"{content['run']['name']}: {content['run']['right']} of {content['run']['clips']} right"


def _data(positions: np.ndarray, rows: Sequence[Mapping[str, Any]], colours: Mapping[str, Colouring]) -> dict[str, Any]:
    """What the script draws: columns instead of rows, positions from 0 to 1 with the map's own proportions."""
    low = positions.min(axis=0)
    spread = float(np.ptp(positions, axis=0).max()) or 1.0
    places = (positions - low) / spread + (1 - np.ptp(positions, axis=0) / spread) / 2
    names = ("clip", "label", "group", "fold", "predicted", "right", "sound")
    return {name: [row[name] for row in rows] for name in names} | {
        "x": places[:, 0].round(5).tolist(),
        "y": (1 - places[:, 1]).round(5).tolist(),  # a screen counts from above
        "colours": {
            kind: {"names": each.names, "colours": each.colours, "of": each.of.tolist()}
            for kind, each in colours.items()
        },
    }


def _json(data: Any) -> str:
    """JSON that can stand in a page's script element, whatever names hold."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
