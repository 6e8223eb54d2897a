"""What tests of the command line begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from soundmark.cli import main

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Said:
    """Call `soundmark` with words, and get its exit code and what it said on either stream."""

    def called(*words: Any) -> tuple[int, str, str]:
        code = main([*map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return called
