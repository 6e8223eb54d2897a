"""How numbers and tables are written in Markdown; for `tables.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    right = set(numbers)
    lines = [columns, ["---:" if i in right else "---" for i in range(len(columns))], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain(content: Mapping[str, Any]) -> str:
    """A table that stands in its file as `columns` and `rows` (lists, or objects by column), with notes."""
    rows = content.get("rows", [])
    columns = content.get("columns") or list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    listed = [[row.get(column, "") for column in columns] if isinstance(row, dict) else row for row in rows]
    cells = [[_text(value) for value in row] for row in listed]
    numbers = [i for i in range(len(columns)) if listed and all(_is_number(row[i]) for row in listed)]
    made = f"Made by `{content['command']}`." if content.get("command") else ""
    return paragraphs(table(columns, cells, numbers), *map(str, content.get("notes", [])), made, machine(content))


def machine(*measured: Mapping[str, Any]) -> str:
    """The versions and cores that results were made with, where they say so."""
    found = [each["environment"] for each in measured if each.get("environment")]
    if not found:
        return ""
    commits = list(dict.fromkeys(_short(each["commit"]) for each in found if each.get("commit")))
    listed = ", ".join(commits[:3]) + (" and others" if len(commits) > 3 else "")
    packages = found[0].get("packages", {})
    facts = [
        f"Soundmark {found[0]['soundmark']}{f' ({listed})' if commits else ''}",
        f"Python {found[0]['python']}",
        *(f"{name} {packages[name]}" for name in ("torch", "scikit-learn") if name in packages),
        f"{found[0]['cpus']} cores",
    ]
    return f"Made with {', '.join(facts)}."


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval(score: Mapping[str, Any], prefix: str = "") -> str:
    """An interval in per cent."""
    low, high = score.get(f"{prefix}low"), score.get(f"{prefix}high")
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def nothing(command: str) -> str:
    """What stands where a result is not there yet."""
    return f"*Not measured yet. `{command}` is how it will be.*"


def ordered(names: Iterable[str]) -> list[str]:
    """Different names, short ones first, so that plain encoders and poolings stand above joined ones."""
    return sorted(set(names), key=lambda name: (name.count("+"), len(name), name))


def paragraphs(*parts: str) -> str:
    """Parts with an empty line between them; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def _short(commit: str) -> str:
    digits, dirty, _ = commit.partition("-dirty")
    return digits[:7] + dirty


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("\n", " ").replace("<", "&lt;")
