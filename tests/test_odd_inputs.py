"""Odd and malformed inputs through the whole house; tools/odd_inputs.py ends with an error if one misbehaves."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("odd_inputs", ROOT / "tools" / "odd_inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["odd_inputs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_no_odd_input_gives_a_traceback_or_half_a_file(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # whatever a command writes by default is seen below
    made = tool.table(tool.load_odd_files())
    assert list(tmp_path.iterdir()) == []
    assert len(made["rows"]) + len(made["other_rows"]) >= 40
    outcome = {row[0]: row for row in made["rows"]}
    assert outcome["16-bit WAV"][2:] == ["fine", "used", "answered"]
    assert outcome["empty file"][2:] == ["error", "left out and listed", "error"]
    by_name = {row[0]: row[2] for row in made["other_rows"]}
    assert "did you mean 'esc50'" in by_name["a misspelt task"]
    committed: dict[str, Any] = json.loads((ROOT / "results" / "odd_inputs.json").read_text(encoding="utf-8"))
    assert [row[0] for row in committed["other_rows"]] == list(by_name), "run tools/odd_inputs.py again and commit"
