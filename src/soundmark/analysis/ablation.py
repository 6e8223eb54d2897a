"""Ablations: a learner measured again with one part of it changed or taken away at a time, on the same clips.

Every variation is a recipe and a run of its own, so that a stopped ablation goes on where it was, and one that is asked
for more measures only that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from soundmark import encoders, results, runs
from soundmark.encoders.network import NetworkEncoder
from soundmark.errors import SpecError
from soundmark.files import write_json, write_text
from soundmark.networks.machine import Machine
from soundmark.networks.settings import Training, parse_training
from soundmark.recipe import OF_NETWORKS, PROBE, Recipe
from soundmark.spec import Spec, parse_joined, with_settings

WHOLE = "nothing"  # what is changed in the learner that all others are held against
LONE_POOLINGS = ("mean", "max", "std")  # what stands in for a single statistic, which cannot be left out
RESULT, TABLE = "ablation.json", "ablation.md"


@dataclass(frozen=True)
class Variation:
    """A learner with one part changed.

    Attributes:
        name: what was changed, in the words it was asked for.
        recipe: what is measured.
    """

    name: str
    recipe: Recipe


def variations(recipe: Recipe, parts: Sequence[str]) -> list[Variation]:
    """The learner as it is, and one variation or more for every part.

    Args:
        recipe: of one learner, without candidates.
        parts: for a network: names of its augmentations, which are left out (several joined with + together), or
            `augment`, all of them; one with settings (`mix?p=1`), which takes the place of its like; settings of its
            training, which get their default (`ema`) or a value (`ema=0.9`); `teacher`, which is left out. For a probe:
            `scaler`; `pooling`, `encoder`, each of whose joined parts is left out in turn, or of a single statistic
            each of `LONE_POOLINGS` instead; `layer`, every other layer of the encoder's network. For both, fields of
            the recipe with a value: `head=svm`.

    Raises:
        SpecError: for a part that the learner lacks, or one whose change would change nothing.
    """
    found = [Variation(WHOLE, recipe)]
    for part in parts:
        fresh = list(_changed(recipe, part))
        for each in fresh:
            if any(each.recipe == other.recipe for other in found):
                raise SpecError(f"{each.name!r} changes nothing in this learner, or the same as another variation")
        found += fresh
    return found


def run(
    recipe: Recipe, parts: Sequence[str], folder: Path, *, machine: Machine | None = None, command: str = "",
    progress: bool = True, told: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a learner and its variations by the task's protocol, and compare each with the learner as it is.

    Args:
        recipe: of one learner; its `folds` are measured in every variation.
        parts: see `variations`.
        folder: gets a run for every variation, `ablation.json` and `ablation.md`.
        machine: what networks are trained on.
        command: what to say in the result of how it was made.
        progress: show bars on a terminal.
        told: called with every row as it is measured.

    Returns:
        The content of `ablation.json`: `rows`, each with `changed`, `score` {value, low, high}, `parameters` and
        `seconds` where they were measured; and, but for the first, `difference` {value, low, high, p}, its p from the
        permutation test over groups.

    Raises:
        SpecError: see `variations`; nothing has been measured then.
        SoundmarkError: what `soundmark.runs.run` raises.
    """
    rows: list[dict[str, Any]] = []
    first: results.Run | None = None
    for each in variations(recipe, parts):
        done = runs.run(each.recipe, folder / _folder(each.name), model=False, page=False, machine=machine,
                        progress=progress)  # fmt: skip
        first = first or done
        rows.append(_row(each, done, first))
        if told is not None:
            told(rows[-1])
    assert first is not None
    kept = ("task", "protocol", "clips", "groups", "learner", "seed", "notes")
    content = {"command": command} | {key: first.metrics[key] for key in kept if key in first.metrics}
    content |= {"folds": recipe.folds, "metric": first.metrics["headline"]["metric"], "rows": rows}
    content["environment"] = results.environment()
    write_json(folder / RESULT, content)
    write_text(folder / TABLE, table(content))
    return content


def table(content: dict[str, Any]) -> str:
    """What was measured, as a Markdown table."""
    metric = content["metric"].replace("_", " ")
    lines = [
        f"| changed | {metric} | 95 % interval | difference, points | 95 % interval | p |",
        "|---|--:|---|--:|---|--:|",
    ]
    for row in content["rows"]:
        score, apart = row["score"], row.get("difference")
        cells = [row["changed"], f"{100 * score['value']:.1f} %", _between(score, ".1f", " %")]
        cells += ["", "", ""] if apart is None else [
            f"{100 * apart['value']:+.1f}", _between(apart, "+.1f", ""), f"{apart['p']:.2g}"
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _between(row: dict[str, Any], form: str, unit: str) -> str:
    if row["low"] is None or row["high"] is None:
        return "–"
    return f"{100 * row['low']:{form}} to {100 * row['high']:{form}}{unit}"


def _row(each: Variation, done: results.Run, first: results.Run) -> dict[str, Any]:
    head = done.metrics["headline"]
    row: dict[str, Any] = {
        "changed": each.name,
        "command": each.recipe.command(),
        "score": {key: head[key] for key in ("value", "low", "high")},
        "seconds": done.metrics.get("seconds"),
    }
    if training := done.metrics.get("training"):
        row["parameters"] = training[0]["parameters"]
    if done is not first:
        apart = results.compare(first, done)
        row["difference"] = {
            "value": apart["difference"], "low": apart["low"], "high": apart["high"],
            "p": apart["permutation"]["p"],
        }  # fmt: skip
    return row


def _folder(name: str) -> str:
    """A name for a variation's folder; different parts of the grammar stay different."""
    return re.sub(r"[^A-Za-z0-9.=+_-]", "-", name.replace("?", "--").replace("&", "-"))


# --- What can be changed -----------------------------------------------------------------------------------------


def _changed(recipe: Recipe, part: str) -> Iterator[Variation]:
    """What a part stands for: `head=svm`, a field of such a recipe with a value, or what its kind of learner has."""
    key, equals, value = part.partition("=")
    if equals and key in (OF_NETWORKS if recipe.network else PROBE):
        given: dict[str, Any] = {key: value}
        yield Variation(part, replace(recipe, **given))
    else:
        yield from (_of_network if recipe.network else _of_probe)(recipe, part)


def _of_network(recipe: Recipe, part: str) -> Iterator[Variation]:
    own = parse_joined(recipe.augment) if recipe.augment else []
    asked = part.split("+")
    key, equals, value = part.partition("=")
    if part == "teacher" and recipe.teacher:
        yield Variation(part, replace(recipe, teacher=""))
    elif part == "augment" and own:
        yield Variation(part, replace(recipe, augment=""))
    elif set(asked) <= {spec.name for spec in own}:
        yield Variation(part, replace(recipe, augment=_joined(spec for spec in own if spec.name not in asked)))
    elif "?" in part and parse_joined(part)[0].name in {spec.name for spec in own}:
        (other,) = parse_joined(part)
        changed = _joined(other if spec.name == other.name else spec for spec in own)
        yield Variation(part, replace(recipe, augment=changed))
    elif key in {each.name for each in fields(Training)}:
        text = with_settings(recipe.training, **{key: value}) if equals else _default(recipe.training, key)
        yield Variation(part, replace(recipe, training=parse_training(text).text))
    else:
        known = [spec.name for spec in own] + (["augment"] if own else []) + (["teacher"] if recipe.teacher else [])
        settings = ", ".join(each.name for each in fields(Training)[1:])
        raise SpecError(
            f"this learner has no part {part!r}; it has {', '.join(known) or 'no augmentation'}, and its training has "
            f"{settings}"
        )


def _default(training: str, key: str) -> str:
    """The training with a setting at its default."""
    how = parse_training(training)
    return replace(how, **{key: getattr(Training(), key)}).text


def _joined(specs: Iterator[Spec]) -> str:
    return "+".join(map(str, specs))


def _of_probe(recipe: Recipe, part: str) -> Iterator[Variation]:
    if part == "scaler":
        yield Variation(part, replace(recipe, head=with_settings(recipe.head, scale="false")))
    elif part == "pooling" and "+" not in recipe.pooling:
        for other in LONE_POOLINGS:
            if other != recipe.pooling:
                yield Variation(f"pooling={other}", replace(recipe, pooling=other))
    elif part in ("pooling", "encoder") and "+" in getattr(recipe, part):
        pieces: list[Spec] = parse_joined(getattr(recipe, part))
        for left in pieces:
            rest: dict[str, Any] = {part: _joined(spec for spec in pieces if spec is not left)}
            yield Variation(f"{part} without {left}", replace(recipe, **rest))
    elif part == "layer":
        yield from _layers(recipe)
    else:
        raise SpecError(
            f"this learner has no part {part!r} to take away; there are scaler, pooling, layer (of a pretrained "
            "network), encoder (of several joined), and fields with a value, such as head=svm"
        )


def _layers(recipe: Recipe) -> Iterator[Variation]:
    """Every other layer of the network."""
    encoder = encoders.load(recipe.encoder)
    if not isinstance(encoder, NetworkEncoder):
        raise SpecError(f"the encoder {recipe.encoder} has no layers to choose from: give a pretrained network")
    (spec,) = parse_joined(recipe.encoder)
    for name in encoder.trunk.layers:
        if name != encoder.layer:
            yield Variation(f"layer={name}", replace(recipe, encoder=str(replace(spec, layer=name))))
