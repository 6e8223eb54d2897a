"""Libraries that talk, told not to: what matters to the user is raised, or said by us."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Without warnings, and without what these loggers have to say short of an error."""
    silenced = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in silenced]
    for logger in silenced:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(silenced, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def mute() -> Iterator[None]:
    """Without what compiled code writes to the terminal past Python's streams. For moments: it hears no thread."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
