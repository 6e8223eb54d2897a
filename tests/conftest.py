"""Fixtures shared by every test. Those that need real data skip, and say what is missing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from soundmark import tasks
from soundmark.files import data_folders
from soundmark.tasks.base import Task


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own, so none sees what another, or the user, has left behind."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SOUNDMARK_CACHE", str(folder))
    return folder


@pytest.fixture
def esc50_root() -> Path:
    """Folder of the real ESC-50."""
    for folder in data_folders():
        if (folder / "ESC-50" / "meta" / "esc50.csv").is_file():
            return folder / "ESC-50"
    pytest.skip("SKIPPED FOR WANT OF DATA: no ESC-50 in SOUNDMARK_DATA; real recordings are not tested")


@pytest.fixture
def esc50_files(esc50_root: Path) -> list[Path]:
    """Every real clip of ESC-50, sorted by name."""
    return sorted((esc50_root / "audio").iterdir())


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the tests that only read the toy task, so that its clips are made once."""
    return tmp_path_factory.mktemp("toy-cache")


@pytest.fixture
def toy(toy_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """The toy task in small: ten classes, ten half-second clips each, five folds."""
    monkeypatch.setenv("SOUNDMARK_CACHE", str(toy_cache))
    return tasks.load("toy?clips=10&seconds=0.5")


@pytest.fixture
def broken(toy: Task, tmp_path: Path) -> Task:
    """A copy of the toy task in which one clip is empty, one is text and one is missing."""
    root = tmp_path / "broken"
    shutil.copytree(toy.root, root)
    (root / toy.clips[0].path).write_bytes(b"")
    (root / toy.clips[15].path).write_text("not a sound", encoding="utf-8")
    (root / toy.clips[27].path).unlink()
    return replace(toy, root=root)
