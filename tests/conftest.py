"""Fixtures shared by every test. Those that need real data skip, and say what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from soundmark.files import data_folders


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
