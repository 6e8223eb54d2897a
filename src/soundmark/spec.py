"""One grammar for every name: `task:view`, `encoder@layer?setting=value&other=value`, joined with `+`.

The same words work on the command line, in recipes and in Python. A setting with several values (`C=0.1,1,10`) stands
for several candidates, among which the protocol chooses on the training side. A range (`C=0.01..10`) stands for all
that lies between, among which `soundmark.tuned` searches.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from soundmark.errors import SpecError

_SPEC = re.compile(r"(?P<name>[^?:@+&=]+)(?::(?P<view>[^?@]+))?(?:@(?P<layer>[^?:]+))?(?:\?(?P<settings>.*))?")
_NUMBER = r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:e-?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})", re.IGNORECASE)
_DIGITS = 3  # of what is drawn from a range of fractions


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


@dataclass(frozen=True)
class Range:
    """All settings from `low` to `high`, both included.

    Attributes:
        low, high: the ends.
        whole: of whole numbers only, as between two that are written as such.
        log: whether tenfold steps count alike, as from a positive `low` to a `high` of ten times that and more.
    """

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """See the class."""
        return self.low > 0 and self.high / self.low >= 10

    @property
    def middle(self) -> float:
        """Half-way, by the logarithm if `log`."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def write(self, value: float) -> str:
        """A number of the range as a setting, to three digits where there are fractions."""
        if self.whole:
            return str(round(value))
        short = float(f"{value:.{_DIGITS}g}")
        text = f"{short:g}" if self.low <= short <= self.high else repr(value)
        return text.replace("e+", "e")  # a plus joins names


def parse_range(value: str) -> Range | None:
    """The range that a setting's value is, such as `8..32` or `1e-4..0.01`; None for what is none, as the path `../x`.

    Raises:
        SpecError: for half a range, one in a list, or one that is not from a number to a greater one.
    """
    if match := _RANGE.fullmatch(value):
        whole = all(re.fullmatch(r"-?\d+", end) for end in match.groups())
        found = Range(float(match[1]), float(match[2]), whole)
        if found.low < found.high < math.inf:
            return found
    ends = value.split("..")
    if match or (len(ends) > 1 and any(re.fullmatch(_NUMBER, end, re.IGNORECASE) for end in ends)):
        raise SpecError(
            f"cannot read the range {value!r}: write it as low..high, from one number to a greater, and not in a list"
        )
    return None


def is_open(text: str) -> bool:
    """Whether a name holds a range.

    Raises:
        SpecError: for a malformed one.
    """
    found = [
        parse_range(value)
        for alternative in text.split("|")
        for spec in parse_joined(alternative)
        for value in spec.settings.values()
    ]
    return any(found)


def settled(text: str, kind: str, choose: Callable[[str, Range | Sequence[str]], str]) -> str:
    """One of the single-valued names that `text` stands for.

    Args:
        text: a name with alternatives, lists and ranges.
        kind: what `choose` is to call the alternatives.
        choose: asked for the value of each thing that is open, by what it is called (`adamw.rate`) and what there is to
            choose from: a range, or at least two values.
    """

    def value_of(part: str, key: str, value: str) -> str:
        among = parse_range(value) or value.split(",")
        return value if among == [value] else choose(f"{part}.{key}", among)

    alternatives = text.split("|")
    return _with_values(choose(kind, alternatives) if len(alternatives) > 1 else text, value_of)


def corners(text: str) -> list[str]:
    """Every single-valued name that `text` stands for, with the ends of a range for all that it holds."""

    def ends_of(part: str, key: str, value: str) -> str:
        found = parse_range(value)
        return f"{found.write(found.low)},{found.write(found.high)}" if found else value

    return candidates("|".join(_with_values(alternative, ends_of) for alternative in text.split("|")))


def _with_values(text: str, value_of: Callable[[str, str, str], str]) -> str:
    """Joined names with other values: those that `value_of` gives for a part's name, a setting, and its value."""
    return "+".join(
        str(replace(spec, settings={key: value_of(spec.name, key, value) for key, value in spec.settings.items()}))
        for spec in parse_joined(text)
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


def bounded(spec: Spec, given: Mapping[str, Any], **limits: tuple[float, float] | tuple[str, ...]) -> None:
    """Refuse settings out of bounds.

    Args:
        spec: the parsed name, for the message.
        given: settings by name.
        limits: the least and the most that a number may be, or all words that a text may be.

    Raises:
        SpecError: for the first one that is neither between them nor one of them; not a number is neither.
    """
    for key, limit in limits.items():
        value = given[key]
        if isinstance(value, str):
            if value not in limit:
                raise SpecError(f"{key}={value} in {spec.name!r}: it is one of {', '.join(map(str, limit))}")
            continue
        low, high = map(float, limit)
        if not low <= value <= high:
            raise SpecError(f"{key}={value:g} in {spec.name!r} is out of bounds: it must lie from {low:g} to {high:g}")


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


def written(value: Any) -> str:
    """A setting's value as the grammar writes it: one text for each value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`, or a `SpecError` that lists what there is."""
    if name not in table:
        raise SpecError(f"there is no {kind} called {name!r}; there are: {', '.join(sorted(table))}")
    return table[name]
