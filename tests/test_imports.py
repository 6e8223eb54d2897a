"""The house's plan, held by tests: imports run one way, and recognising a sound needs few packages."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import soundmark

PACKAGE = Path(soundmark.__file__).parent

# Each room may use those of earlier lines, and its own. A new module must be given its place here.
FLOORS = [
    {"errors"},
    {"remote"},
    {"ahead", "files", "pace", "quiet", "spec", "eventrules"},
    {"rows"},
    {"audio", "intervals", "environment", "download"},
    {"calibration", "detection", "splits", "store", "frontends", "modelfile", "estimators", "probe_heads", "trials"},
    {"metrics", "tasks", "encoders", "model", "heads", "head_graphs"},
    {"comparing", "events"},
    {"alerts", "eventfiles", "soundevents", "sources"},
    {"channels", "listen"},
    {"recipes", "results", "spool", "hear", "networks", "card"},
    {"embeddings", "report", "recipe", "trained", "viewed"},
    {"parted"},
    {"partitions"},
    {"cluster"},
    {"learners", "tables", "transform", "cells"},
    {"tuned", "metadata", "costs", "leaderboard"},
    {"export", "protocol"},
    {"published", "bench"},
    {"runs", "benchmark", "fewshot", "study", "unknown"},
    {"farm"},
    {"analysis", "serve"},
    {"cli"},
]
HEAVY = ("torch", "sklearn", "librosa", "pandas", "pyarrow", "matplotlib", "scipy", "onnx", "skl2onnx", "numba")


@functools.cache  # reading all of the package takes seconds
def rooms() -> dict[str, set[str]]:
    """Every room (top-level module or folder) with the rooms it imports, wherever the import stands."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts in (("__init__",), ("__main__",)):
            continue
        used = found.setdefault(parts[0], set())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        only_types = {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in only_types:
                continue
            if isinstance(node, ast.Import):
                used |= {name.name.split(".")[1] for name in node.names if name.name.startswith("soundmark.")}
            elif isinstance(node, ast.ImportFrom) and node.module == "soundmark":
                used |= {name.name for name in node.names if not name.name.startswith("__")}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("soundmark."):
                used.add((node.module or "").split(".")[1])
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: write imports in full"
        used.discard(parts[0])
    return found


def test_every_room_has_a_floor() -> None:
    placed = [room for floor in FLOORS for room in floor]
    assert len(placed) == len(set(placed))
    assert set(rooms()) <= set(placed)


@pytest.mark.parametrize("room", sorted(rooms()))
def test_imports_run_one_way(room: str) -> None:
    floor = next(i for i, names in enumerate(FLOORS) if room in names)
    below = set[str]().union(*FLOORS[:floor])
    assert rooms()[room] <= below, f"{room} looks up or sideways at {sorted(rooms()[room] - below)}"


def test_results_and_report_do_not_know_learners() -> None:
    """A report is drawn from what was written, so that anyone can draw it again without the learner."""
    assert not rooms()["report"] & {"learners", "protocol", "encoders", "heads", "embeddings"}


def test_the_service_needs_only_what_recognition_needs() -> None:
    assert rooms()["serve"] <= {"errors", "audio", "model", "events", "eventrules"}


@pytest.mark.parametrize(
    "statement",
    [
        "import soundmark; soundmark.load",
        "import soundmark.cli.classify",
        "import soundmark.tasks",
        "import soundmark.events, soundmark.eventfiles, soundmark.cli.events",
        "import soundmark.listen, soundmark.sources, soundmark.alerts, soundmark.channels, soundmark.cli.listen",
        "import soundmark.serve.app, soundmark.serve.server, soundmark.cli.serve, soundmark.serve.decoder",
    ],
)
def test_light_rooms_import_nothing_heavy(statement: str) -> None:
    code = f"import sys\n{statement}\nprint(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
