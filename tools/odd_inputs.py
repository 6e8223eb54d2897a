"""Odd and malformed inputs through the whole house: reading, data check, train, classify; and what each gives.

    python tools/odd_inputs.py            writes results/odd_inputs.json

Recordings are put, all together, into a class of a small task of good ones, so that `data check` and `train` meet them
as they would in a user's folder: one bad file among good ones. Inputs that are no recordings (tables, recipes,
models, names) are given to the command they concern. An outcome is an answer or an error in words; a traceback, a hang
or a half-written file ends this program with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ENCODER = "logmel?precise=true&rate=16000&window=512&hop=256&bands=16"
GOOD = 6  # clips of each good class


def said(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command, run in this process."""
    from soundmark.cli import main

    out, err = io.StringIO(), io.StringIO()
    old = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.stdin = old
    return code, out.getvalue(), err.getvalue()


def good_task(folder: Path) -> None:
    """Two classes that are easy to tell apart."""
    from soundmark import audio

    rng = np.random.default_rng(0)
    time = np.arange(8000) / 16000
    for i in range(GOOD):
        audio.write(folder / "hiss" / f"{i}.wav", rng.normal(0, 0.1, 8000).astype(np.float32), 16000)
        tone = 0.3 * np.sin(2 * np.pi * (300 + 40 * i) * time) + rng.normal(0, 0.001, 8000)
        audio.write(folder / "hum" / f"{i}.wav", tone.astype(np.float32), 16000)


def recordings(odd: ModuleType, place: Path) -> list[list[str]]:
    """Every odd recording through reading, check, train and classify: rows of the table."""
    from soundmark import audio, tasks
    from soundmark.errors import SoundmarkError

    task_folder = place / "recordings"
    good_task(task_folder)
    files: dict[str, Path] = {}
    for number, each in enumerate(odd.ODD):
        own = task_folder / "hum" / f"odd{number:03d}"
        own.mkdir()
        try:
            files[each.name] = each.write(own)
        except odd.Impossible:
            own.rmdir() if not any(own.iterdir()) else None
    clips = {Path(clip.path).as_posix(): clip for clip in tasks.load(str(task_folder)).clips}

    code, out, err = said("data", "check", str(task_folder), "--json")
    no_traceback(err, "data check")
    checked = {row["clip"] for row in json.loads(out)["bad"]}
    code, out, err = said(
        "train", str(task_folder), "--encoder", ENCODER, "--head", "logreg", "--out", str(place / "run")
    )
    no_traceback(err, "train")
    assert code == 0, err
    metrics = json.loads((place / "run" / "metrics.json").read_text(encoding="utf-8"))
    left_out = {row["clip"]: row["error"] for row in metrics["bad_clips"]}

    rows = []
    for name, path in files.items():
        relative = path.relative_to(task_folder).as_posix()
        try:
            samples, rate = audio.read(path)
            read = f"{len(samples)} samples at {rate} Hz"
        except SoundmarkError as error:
            read = tidy(str(error), path)
        code, out, err = said("classify", "--model", str(place / "run" / "model.onnx"), "--json", str(path))
        no_traceback(err, name)
        known = relative in clips
        rows.append(
            [
                name,
                read,
                ("error" if relative in checked else "fine") if known else "passed over: no name of a recording",
                ("left out and listed" if relative in left_out else "used") if known else "passed over",
                "answered" if code == 0 else "error",
            ]
        )
    return rows


def other_inputs(place: Path) -> list[tuple[str, Callable[[Path], list[str]]]]:
    """Inputs that are no recordings: what they are, and the command that meets them (made in a folder of its own)."""

    def table(text: str | bytes, name: str = "list.csv") -> Callable[[Path], list[str]]:
        def make(own: Path) -> list[str]:
            good_task(own)
            (own / name).write_bytes(text.encode() if isinstance(text, str) else text)
            return ["train", str(own / name), "--encoder", ENCODER, "--out", str(own.parent / f"{own.name}-run")]

        return make

    def recipe(text: str) -> Callable[[Path], list[str]]:
        def make(own: Path) -> list[str]:
            (own / "recipe.toml").write_text(text, encoding="utf-8")
            return ["train", "--recipe", str(own / "recipe.toml")]

        return make

    def model(content: Callable[[], bytes]) -> Callable[[Path], list[str]]:
        def make(own: Path) -> list[str]:
            good_task(own)
            (own / "model.onnx").write_bytes(content())
            return ["classify", "--model", str(own / "model.onnx"), str(own / "hum" / "0.wav")]

        return make

    def words(*given: str) -> Callable[[Path], list[str]]:
        return lambda own: [word.replace("HERE", str(own)) for word in given]

    def folder(*files: str) -> Callable[[Path], list[str]]:
        def make(own: Path) -> list[str]:
            for name in files:
                (own / name).parent.mkdir(parents=True, exist_ok=True)
                (own / name).write_bytes(b"")
            return ["train", str(own), "--out", str(own.parent / f"{own.name}-run")]

        return make

    whole = (place / "run" / "model.onnx").read_bytes
    paths = "\n".join(f"hum/{i}.wav,hum\nhiss/{i}.wav,hiss" for i in range(GOOD))
    split = "\n".join(f"hum/{i}.wav,hum,{i % 2},g{i // 2}\nhiss/{i}.wav,hiss,{i % 2},h{i}" for i in range(GOOD))
    good = words("classify", "--model", str(place / "run" / "model.onnx"), "HERE")
    return [
        ("an empty folder", folder()),
        ("a folder of empty folders", folder("a/.keep", "b/.keep")),
        ("a folder with one class", folder("only/a.wav", "only/b.wav")),
        ("a folder of empty files", folder("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav")),
        ("a folder that is not there", words("train", "HERE/nowhere")),
        ("a table without a label column", table(f"path,fold\n{paths}")),
        ("an empty table", table("")),
        ("a table with a header only", table("path,label\n")),
        ("a table of files that are not there", table("path,label\nx.wav,a\ny.wav,b\nz.wav,a\nw.wav,b")),
        ("a table in UTF-16", table(f"path,label\n{paths}".encode("utf-16"))),
        ("a table of random bytes", table(np.random.default_rng(0).bytes(500))),
        ("random bytes named .parquet", table(np.random.default_rng(0).bytes(500), "list.parquet")),
        ("a table whose groups straddle its folds", table(f"path,label,fold,group\n{split}")),
        (
            "a table with a start after its end",
            table("path,label,start,end\nhum/0.wav,hum,0.4,0.1\nhiss/0.wav,hiss,0,1"),
        ),
        ("a table with a word for a start", table("path,label,start\nhum/0.wav,hum,soon\nhiss/0.wav,hiss,0")),
        ("a misspelt task", words("train", "esc5O")),
        ("a misspelt view", words("train", "toy:dangre")),
        ("a misspelt encoder", words("train", "toy", "--encoder", "logmell")),
        ("a misspelt setting", words("train", "toy", "--encoder", "logmel?hops=3")),
        ("a setting of the wrong type", words("train", "toy", "--encoder", "logmel?hop=many")),
        ("a setting out of range", words("train", "toy", "--encoder", "logmel?hop=0")),
        ("a misspelt pooling", words("train", "toy", "--pooling", "meen")),
        ("a misspelt head", words("train", "toy", "--head", "svn")),
        ("a head's setting out of range", words("train", "toy", "--head", "svm?C=-1")),
        ("no task at all", words("train")),
        (
            "a run's folder that holds something else",
            lambda own: (good_task(own), ["train", "toy", "--out", str(own)])[1],
        ),
        ("an output format unknown", words("embed", "toy", "-o", "HERE/x.xlsx")),
        ("a recipe that is not TOML", recipe("task = ")),
        ("a recipe with an unknown entry", recipe('task = "toy"\nhaed = "svm"')),
        ("a recipe without a task", recipe('head = "svm"')),
        ("a model that is not there", words("classify", "--model", "HERE/none.onnx", "HERE")),
        ("an empty model file", model(bytes)),
        ("a text as a model file", model(lambda: b"this is no model\n" * 100)),
        ("half a model file", model(lambda: whole()[: len(whole()) // 2])),
        ("a model file with flipped bytes", model(lambda: whole()[:3000] + bytes(64) + whole()[3064:])),
        ("no model named", words("classify", "HERE")),
        ("nothing to classify", lambda own: good(own)),
        ("a recording that is not there", lambda own: [*good(own)[:-1], str(own / "none.wav")]),
        ("nothing on standard input", lambda own: [*good(own)[:-1], "-"]),
        ("a run to compare that is none", words("compare", "HERE", "HERE")),
        ("a report of a folder that is no run", words("report", "HERE")),
    ]


def others(place: Path) -> list[list[str]]:
    """Every other input: rows of the table."""
    rows = []
    for number, (name, make) in enumerate(other_inputs(place)):
        own = place / "others" / str(number)
        own.mkdir(parents=True)
        words = make(own)
        before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
        code, _, err = said(*words)
        no_traceback(err, name)
        if code == 0:
            rows.append([name, f"`{words[0]}`", "accepted"])
            continue
        after = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
        assert after == before, f"{name}: {words} left {sorted(after.keys() - before.keys())}"
        message = tidy(err.strip().splitlines()[-1], own)
        rows.append([name, f"`{words[0]}`", message.removeprefix("soundmark: error: ")])
    return rows


def no_traceback(text: str, name: str) -> None:
    """A traceback in what was printed is a failure of ours."""
    assert "Traceback" not in text, f"{name} gave a traceback:\n{text}"


def tidy(text: str, path: Path) -> str:
    """A message without this machine's folders."""
    shown = text.replace(str(path), path.name if path.suffix else "DIR").replace(str(path.parent), "DIR")
    return re.sub(r"\s+", " ", shown).replace("|", "/")


def table(odd: ModuleType) -> dict[str, Any]:
    """The whole table, made in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        heard = recordings(odd, place)
        rest = others(place)
    return {
        "title": "Odd inputs",
        "command": "python tools/odd_inputs.py",
        "columns": ["recording", "read", "data check", "train", "classify"],
        "rows": heard,
        "other_columns": ["input", "command", "error"],
        "other_rows": rest,
        "notes": [
            f"{len(heard)} recordings and {len(rest)} other inputs; no traceback, no hang, nothing half-written."
        ],
    }


def load_odd_files() -> ModuleType:
    """The tests' list of odd recordings."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("odd_files", ROOT / "tests" / "odd_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["odd_files"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Write the table."""
    from soundmark.files import write_json

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", default=str(ROOT / "results" / "odd_inputs.json"))
    args = options.parse_args()
    made = table(load_odd_files())
    write_json(args.out, made)
    print(made["notes"][0])


if __name__ == "__main__":
    main()
