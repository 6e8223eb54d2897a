"""A Griffe extension for docstrings that describe several names in one line (`sha256, md5: its checksums`).

Griffe's parser knows one name per line, so here each name gets the line to itself before it is parsed.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# The names, then the text with its more deeply indented lines.
SHARED = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +.*)*)", re.MULTILINE)


class SharedLines(griffe.Extension):
    """Gives every name of a shared line its own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object once it is loaded."""
        if obj.docstring:
            obj.docstring.value = split(obj.docstring.value)


def split(text: str) -> str:
    """`a, b: text` as `a: text` and `b: text`, with what is indented below."""

    def each(match: re.Match[str]) -> str:
        names = match["names"].split(", ")
        return "\n".join(f"{match['indent']}{name}: {match['text']}" for name in names)

    return SHARED.sub(each, text)
