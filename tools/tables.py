"""Tables of the README and of the documentation, made from the files under `results/`: no number is typed by hand.

    tools/tables.py             fill the README's tables
    tools/tables.py --check     change nothing; exit with 1 if the README is stale

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` lists the names. It reads

    results/grid/*.json         cells that `soundmark benchmark` wrote, one learner each
    results/runs/*.json         the metrics.json of selected runs
    results/benchmarks/*.json   speed: title, command, columns, rows, notes
    results/odd_inputs.json     the same keys: what malformed files give

What is not there yet is said to be not there yet.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import leaderboards
from markup import interval, machine, nothing, ordered, paragraphs, percent, plain, table
from pretrained import FOLDERS

import networks

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
README = ROOT / "README.md"
MARKED = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Json = dict[str, Any]


def fill(text: str, results: Path) -> str:
    """The text with every marked table made anew."""

    def made(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise SystemExit(f"there is no table {name!r}; there are: {', '.join(TABLES)}")
        return f"{match[1]}{TABLES[name](results).strip()}\n{match[3]}"

    return MARKED.sub(made, text)


# --- What was measured ---------------------------------------------------------------------------------------------


def headlines(results: Path) -> str:
    """The selected runs: task, learner, score with its interval, spread over folds, and the commands."""
    runs = selected(results)
    if not runs:
        return nothing("soundmark train esc50 --head 'svm?C=1,10'")
    rows = [
        [
            networks.task(run),
            learner(run),
            metric(run),
            percent(run["headline"]["value"]),
            interval(run["headline"]),
            folds(run),
            *networks.trained_on(run, runs),
        ]
        for run in runs
    ]
    columns = ["task", "learner", "score", "", "95 % interval", "over folds", *networks.trained_on(None, runs)]
    return paragraphs(table(columns, rows, numbers=(3, 4, 5)), *footnotes(runs), commands(runs))


def alarms(results: Path) -> str:
    """For two-class runs: how much danger is caught at a stated rate of false alarms."""
    runs = [run for run in read_all(results / "runs") if run.get("alarm")]
    if not runs:
        return nothing("soundmark train esc50:danger")
    rows = [
        [
            networks.task(run),
            learner(run),
            percent(row["max_false_alarm"], 0),
            percent(row["recall"]),
            interval(row),
            f"{percent(row['realised'])} ({interval(row, 'realised_')})",
            *networks.trained_on(run, runs),
        ]
        for run in runs
        for row in run["alarm"]
    ]
    columns = ["task", "learner", "false alarms allowed", "caught", "95 % interval", "false alarms that came about"]
    columns += networks.trained_on(None, runs)
    return paragraphs(table(columns, rows, numbers=(2, 3, 4, 5)))


def training(results: Path) -> str:
    """For trained networks: how large, how many epochs, how long and on what; and the commands."""
    runs = [run for run in selected(results) if networks.is_network(run)]
    if not runs:
        return nothing("soundmark train esc50 --network cnn")
    said = (
        "Epochs: those run on the whole training side of a fold, of the most there might have been. Where a part of it "
        "was held out first to find how many, the hours are of both trainings."
    )
    rows = networks.trainings(runs, [learner(run) for run in runs])
    return paragraphs(rows, said, networks.trained_with(runs), machine(*runs), commands(runs))


def grid_best(results: Path, task: str = "esc50") -> str:
    """The grid in short: encoders down, heads across, in each cell the best of the poolings."""
    cells = grid_cells(results).get(task, [])
    if not cells:
        return nothing(f"soundmark benchmark --tasks {task}")
    cells = sorted(cells, key=by_score)
    best: dict[tuple[str, str], Json] = {}
    for cell in cells:
        best.setdefault((cell["encoder"], cell["head"]), cell)
    top, heads = cells[0], ordered(cell["head"] for cell in cells)
    rows = [
        [f"`{encoder}`", *(_cell(best.get((encoder, head)), top["headline"]["value"]) for head in heads)]
        for encoder in ordered(cell["encoder"] for cell in cells)
    ]
    columns = [f"{metric(top)}, %", *(f"`{head}`" for head in heads)]
    score = top["headline"]
    width = max(
        max(each["high"] - each["value"], each["value"] - each["low"]) for each in (c["headline"] for c in cells)
    )
    poolings = len({cell["pooling"] for cell in cells})
    said = (
        f"Each number is the best of up to {poolings} poolings, by the {top['protocol']}; 95 % intervals reach up to "
        f"{100 * width:.1f} points to either side. The best of all {len(cells)} lines is `{top['encoder']}` with "
        f"`{top['pooling']}` and `{top['head']}`: {percent(score['value'])} ({interval(score)}). Picking the best of "
        "so many by test scores flatters it a little; the table of runs has scores that are free of such a choice."
    )
    return paragraphs(
        table(columns, rows, numbers=range(1, len(columns))), said, *footnotes(cells), grid_command(cells)
    )


def grid(results: Path) -> str:
    """The grid in full: for every task and pooling, encoders down and heads across; then the commands."""
    tasks = grid_cells(results)
    if not tasks:
        return nothing("soundmark benchmark --tasks esc50")
    parts = []
    for task, cells in tasks.items():
        parts.append(f"### `{task}`: {metric(cells[0])}, {cells[0]['protocol']}")
        heads = ordered(cell["head"] for cell in cells)
        for pooling in ordered(cell["pooling"] for cell in cells):
            found = {(cell["encoder"], cell["head"]): cell for cell in cells if cell["pooling"] == pooling}
            top = max(cell["headline"]["value"] for cell in found.values())
            rows = [
                [f"`{encoder}`", *(_cell(found.get((encoder, head)), top) for head in heads)]
                for encoder in ordered(encoder for encoder, _ in found)
            ]
            columns = [f"pooling `{pooling}`", *(f"`{head}`" for head in heads)]
            parts.append(table(columns, rows, numbers=range(1, len(columns))))
        parts += [*footnotes(cells), grid_command(cells)]
    return paragraphs(*parts)


def grid_all(results: Path) -> str:
    """Every line of the grid with its interval, the best first."""
    tasks = grid_cells(results)
    if not tasks:
        return nothing("soundmark benchmark --tasks esc50")
    parts = [part for task, cells in tasks.items() for part in (f"### `{task}`", full_rows(cells))]
    return paragraphs(*parts)


def speed(results: Path) -> str:
    """Every benchmark of speed, one table each."""
    found = read_all(results / "benchmarks")
    if not found:
        return nothing("make bench")
    return paragraphs(*(part for content in found for part in (f"### {content['title']}", benchmark(content))))


def of_folder(name: str) -> Callable[[Path], str]:
    """The table made of a folder of results of one kind."""
    folder, written, command = BY_FOLDER[name]

    def made(results: Path) -> str:
        found = read_all(results / folder)
        return written(found) if found else nothing(command)

    return made


def odd_inputs(results: Path) -> str:
    """What malformed and odd files give."""
    path = results / "odd_inputs.json"
    if not path.is_file():
        return "*Not tried yet.*"
    content = read(path)
    more = {"columns": content.get("other_columns", []), "rows": content.get("other_rows", [])}
    return paragraphs(plain(content), plain(more) if more["rows"] else "")


BY_FOLDER = {**FOLDERS, **networks.FOLDERS, **leaderboards.FOLDERS}

TABLES: dict[str, Callable[[Path], str]] = {
    "headlines": headlines,
    "alarms": alarms,
    "training": training,
    "grid-best": grid_best,
    "grid": grid,
    "grid-all": grid_all,
    "speed": speed,
    "odd-inputs": odd_inputs,
    **{name: of_folder(name) for name in BY_FOLDER},
}


# --- Reading -------------------------------------------------------------------------------------------------------


def read_all(folder: Path) -> list[Json]:
    """Every JSON file of a folder, by name; none where there is no folder."""
    return [read(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]  # half-written ones


def selected(results: Path) -> list[Json]:
    """The selected runs: by task, the best first; those on a part of a data set stand apart, behind all others."""
    return sorted(
        read_all(results / "runs"), key=lambda run: (run["task"], networks.part(run), -run["headline"]["value"])
    )


def read(path: Path) -> Json:
    """One JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path} is not JSON ({error}): write it again") from None
    if not isinstance(content, dict):
        raise SystemExit(f"{path} holds no JSON object: write it again")
    return {"title": path.stem.replace("_", " ").capitalize(), **content}


def grid_cells(results: Path) -> dict[str, list[Json]]:
    """Cells of the grid by task, those of several seeds as one."""
    # Not a choice among candidates, which belongs to the runs, nor a part of a data set, which the leaderboard has.
    cells = [each for each in read_all(results / "grid") if "encoder" in each["learner"] and not networks.part(each)]
    tasks: dict[str, list[Json]] = defaultdict(list)
    for cell in leaderboards.over_seeds(cells):
        tasks[cell["task"]].append(cell)
    return dict(sorted(tasks.items()))


# --- Writing -------------------------------------------------------------------------------------------------------


def benchmark(content: Json) -> str:
    """One benchmark: those of features and of a cold start as they are, others by their `columns` and `rows`."""
    if "native" in content:
        return of_features(content)
    return of_cold_start(content) if "times_the_bare_script" in content else plain(content)


def of_features(content: Json) -> str:
    """What `benchmarks/features.py` wrote."""
    kinds = [content[key] for key in ("native", "resampled_32k") if key in content]
    rows = [
        [
            f"{kind['rate']} Hz{', resampled' if kind['resampled'] else ''}",
            *(f"{kind['median_seconds'][name]:.1f} s" for name in ("librosa", "soundmark")),
            f"**{kind['times_faster_than_librosa']:.1f} times**",
            *(f"{kind['median_seconds'][name]:.1f} s" for name in ("decode_libsndfile", "decode_soundmark")),
            f"{kind['max_difference_db']:.1e} dB",
        ]
        for kind in kinds
    ]
    columns = ["sample rate", "plain librosa loop", "Soundmark", "faster", "decoding alone, libsndfile",
               "decoding alone, Soundmark", "largest difference"]  # fmt: skip
    memory = content.get("peak_memory_mib", {})
    peaks = "; ".join(f"{clips} clips: {mib:.0f} MiB" for clips, mib in memory.items())
    return paragraphs(
        f"{kinds[0]['clips']} clips, {content['what']}. Soundmark's cache is empty and the page cache warm; times are "
        "medians. Decoding alone, on all cores, is the floor.",
        table(columns, rows, numbers=range(1, len(columns))),
        f"Peak memory: {peaks}." if peaks else "",
        f"```sh\n{content['command']}\n```",
        machine(content),
    )


def of_cold_start(content: Json) -> str:
    """What `benchmarks/classify_cold.py` wrote."""
    names = {"bare": "bare script", "soundmark": "`soundmark classify`"}
    rows = [
        [title, f"{content['median_seconds'][name]:.2f} s", f"{content['slowest_seconds'][name]:.2f} s"]
        for name, title in names.items()
    ]
    parts = " · ".join(f"`{name}`" for name in (content.get("learner") or {}).values())
    recording = content["recording"]
    return paragraphs(
        f"{content['what'].capitalize()}; a recording of {recording['seconds']:g} s at {recording['sample_rate']} Hz "
        f"({recording['format']}), a model of {content['model_bytes'] / 1e6:.1f} MB{f' ({parts})' if parts else ''}.",
        table(["process", "median", "slowest"], rows, numbers=(1, 2)),
        f"That is {content['times_the_bare_script']:g} times the bare script, which is the least anybody could write.",
        f"```sh\n{content['command']}\n```",
        machine(content),
    )


def full_rows(cells: Iterable[Json]) -> str:
    """Encoder, pooling, head and score of every cell, the best first."""
    rows = [
        [
            *(f"`{cell[key]}`" for key in ("encoder", "pooling", "head")),
            percent(cell["headline"]["value"]),
            interval(cell["headline"]),
        ]
        for cell in sorted(cells, key=by_score)
    ]
    score = metric(next(iter(cells))) if rows else "score"
    return table(["encoder", "pooling", "head", score, "95 % interval"], rows, numbers=(3, 4))


def grid_command(cells: Sequence[Json]) -> str:
    """The command that measures all these cells, and what it still has to do."""
    learners = [(cell["encoder"], cell["pooling"], cell["head"]) for cell in cells]
    whole = math.prod(len(set(names)) for names in zip(*learners, strict=True))
    todo = f"{len(cells)} of its {whole} cells are measured so far." if len(cells) < whole else ""
    command = leaderboards.command([cells[0]["task"]], learners, max(cell["seeds"] for cell in cells))
    return paragraphs(f"```sh\n{command}\n```", todo)


def commands(runs: Sequence[Json]) -> str:
    """The runs' commands in their order, without the folder that each was written to."""
    lines = [without_out(run["command"]) for run in runs if run.get("command")]
    return "```sh\n" + "\n".join(dict.fromkeys(lines)) + "\n```" if lines else ""


def without_out(command: str) -> str:
    """A command without its `--out FOLDER`."""
    words = shlex.split(command)
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    return shlex.join(words)


def footnotes(measured: Sequence[Json]) -> list[str]:
    """How the intervals were made, on what machine, and every caveat that the results carry."""
    notes = Counter(note for each in measured for note in each.get("notes", []))
    some = [f"{note}{'' if count == len(measured) else ' (Not in every line.)'}" for note, count in notes.items()]
    text = "Intervals: 95 %, by bootstrap over whole groups (source recordings). " + " ".join(some)
    return [text.strip(), machine(*measured)]


def learner(run: Json) -> str:
    """A run's learner in one cell; where every fold chose its own, how many there were and which was chosen most."""
    names = run["learner"]
    if "candidates" not in names:
        return " · ".join(networks.parts(names) if "network" in names else (f"`{name}`" for name in names.values()))
    chosen = Counter(each["chosen"] for each in run.get("selection", []))
    if not chosen:
        return f"chosen in each fold among {names['candidates']}"
    name, times = chosen.most_common(1)[0]
    said = " · ".join(
        networks.chosen(name) if networks.is_network(run) else (f"`{part}`" for part in name.split(" / "))
    )
    often = "always" if times == chosen.total() else f"{times} of {chosen.total()} times"
    return f"chosen in each fold among {names['candidates']}; {often} {said}"


def folds(run: Json) -> str:
    """Mean and standard deviation over the folds."""
    spread = run.get("over_folds", {}).get(run["headline"]["metric"])
    if not spread or spread["mean"] is None or spread["std"] is None:
        return ""
    return f"{percent(spread['mean'])} ± {100 * spread['std']:.1f}"


def metric(run: Json) -> str:
    """The headline's name in words."""
    mean = ", mean over folds" if run["headline"].get("over") == "folds" else ""
    return str(run["headline"]["metric"]).replace("_", " ") + mean


def by_score(cell: Json) -> tuple[Any, ...]:
    """Sorts the best first; equals by name."""
    return -cell["headline"]["value"], cell["encoder"], cell["pooling"], cell["head"]


def _cell(cell: Json | None, top: float) -> str:
    if cell is None:
        return ""
    value = cell["headline"]["value"]
    return f"**{100 * value:.1f}**" if value == top else f"{100 * value:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the README, or say that it is stale."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the README is stale")
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options.add_argument("--readme", type=Path, default=README, metavar="FILE")
    args = options.parse_args(argv)
    text = args.readme.read_text(encoding="utf-8")
    filled = fill(text, args.results)
    if filled == text:
        return 0
    if args.check:
        print(f"{args.readme.name} is stale: run `make tables`", file=sys.stderr)
        return 1
    args.readme.write_text(filled, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
