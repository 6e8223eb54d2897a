"""One grammar for every name: `task:view`, `encoder@layer?setting=value&other=value`, joined with `+`.

The same words work on the command line, in recipes and in Python. A setting with several values (`C=0.1,1,10`) stands
for several candidates, among which the protocol chooses on the training side.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soundmark.errors import SpecError

_SPEC = re.compile(r"(?P<name>[^?:@+&=]+)(?::(?P<view>[^?@]+))?(?:@(?P<layer>[^?:]+))?(?:\?(?P<settings>.*))?")


@dataclass(frozen=True)
class Spec:
    """A parsed name. `settings` are strings as written; `take` turns them into typed values."""

    name: str
    view: str = ""
    layer: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = self.name
        text += f":{self.view}" if self.view else ""
        text += f"@{self.layer}" if self.layer else ""
        if self.settings:
            text += "?" + "&".join(f"{key}={value}" for key, value in sorted(self.settings.items()))
        return text


def parse(text: str) -> Spec:
    """Parse one name, such as `esc50:danger`, `cnn14@block4` or `logmel?hop=256&bands=128`.

    Raises:
        SpecError: if the text is not in the grammar.
    """
    match = _SPEC.fullmatch(text.strip())
    if not match:
        raise SpecError(
            f"cannot read the name {text!r}: write it as name, task:view, encoder@layer or name?setting=value"
        )
    settings: dict[str, str] = {}
    for pair in filter(None, (match["settings"] or "").split("&")):
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise SpecError(f"cannot read the setting {pair!r} in {text!r}: write it as setting=value")
        if key in settings:
            raise SpecError(f"the setting {key!r} stands twice in {text!r}: give it once")
        settings[key] = value
    return Spec(match["name"], match["view"] or "", match["layer"] or "", settings)


def parse_joined(text: str) -> list[Spec]:
    """Parse names joined with `+`, such as `logmel+mfcc?bands=40` or `mean+std+max`."""
    return [parse(part) for part in text.split("+")]


def candidates(text: str) -> list[str]:
    """Every single-valued name that `text` stands for: `svm?C=1,10` gives `svm?C=1` and `svm?C=10`.

    Several names separated by `|` are alternatives too: `mean|mean+std`. The order is that of the text.
    """
    return [spec for alternative in text.split("|") for spec in _expand_joined(alternative)]


def with_settings(text: str, **settings: str | None) -> str:
    """`text` with these settings added to every part of every alternative; those that are None are left alone."""
    given = {key: value for key, value in settings.items() if value is not None}
    if not given:
        return text
    return "|".join(
        "+".join(
            str(Spec(spec.name, spec.view, spec.layer, {**spec.settings, **given}))
            for spec in parse_joined(alternative)
        )
        for alternative in text.split("|")
    )


def _expand_joined(text: str) -> list[str]:
    parts = [_expand(spec) for spec in parse_joined(text)]
    return ["+".join(choice) for choice in itertools.product(*parts)]


def _expand(spec: Spec) -> list[str]:
    keys = list(spec.settings)
    values = [spec.settings[key].split(",") for key in keys]
    return [
        str(Spec(spec.name, spec.view, spec.layer, dict(zip(keys, choice, strict=True))))
        for choice in itertools.product(*values)
    ]


def take(spec: Spec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `spec` over `defaults`, each converted to the type of its default.

    Booleans are written `true` or `false`. A default of None takes a number when the text is one, else the text.

    Raises:
        SpecError: for an unknown setting (the known ones are listed) or a value of the wrong type.
    """
    values = dict(defaults)
    for key, text in spec.settings.items():
        if key not in defaults:
            known = ", ".join(f"{name}={value}" for name, value in defaults.items()) or "none"
            raise SpecError(f"{spec.name!r} has no setting {key!r}; its settings and defaults are: {known}")
        values[key] = _convert(spec, key, text, defaults[key])
    return values


def _convert(spec: Spec, key: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
        if isinstance(default, str):
            return text
    except (KeyError, ValueError):
        raise SpecError(
            f"{key}={text} in {spec.name!r} should be of type {type(default).__name__}, like {default!r}"
        ) from None
    try:
        return float(text)
    except ValueError:
        return text


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`, or a `SpecError` that lists what there is."""
    if name not in table:
        raise SpecError(f"there is no {kind} called {name!r}; there are: {', '.join(sorted(table))}")
    return table[name]
