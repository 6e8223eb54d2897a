"""Colours for any number of classes, as far from each other as they can be."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Okabe & Ito (2008), told apart with every kind of colour vision; the first classes of a map take them.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_LIGHTNESS, _CHROMA, _HUES = (0.45, 0.56, 0.67, 0.78), (0.08, 0.13, 0.18), 48  # all can be seen on white and on black


@lru_cache(maxsize=32)
def palette(count: int) -> tuple[str, ...]:
    """So many different colours as `#rrggbb`, each as far as possible from all before it; beyond some 300 they repeat.

    Distances are taken in Oklab (Ottosson 2020), the choice is Glasbey's and others' (2007): the first few are given,
    and each further one is the candidate whose nearest neighbour among those chosen is farthest. Equal counts give
    equal colours, and a greater count begins with the same.
    """
    chosen = list(OKABE_ITO[:count])
    names, candidates = _candidates()
    nearest = np.full(len(candidates), np.inf)
    for name in chosen:
        nearest = np.minimum(nearest, np.linalg.norm(candidates - _oklab(name), axis=1))
    while len(chosen) < min(count, len(OKABE_ITO) + len(names)):
        best = int(np.argmax(nearest))
        chosen.append(names[best])
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[best], axis=1))
        nearest[best] = -1
    return tuple(chosen[i % len(chosen)] for i in range(count))


@lru_cache(maxsize=1)
def _candidates() -> tuple[list[str], np.ndarray]:
    """Colours to choose from, those that a screen can show: their names, and (colours, 3) in Oklab."""
    names = []
    for lightness in _LIGHTNESS:
        for chroma in _CHROMA:
            for step in range(_HUES):
                hue = 2 * np.pi * step / _HUES
                linear = _linear(np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)]))
                if linear.min() >= 0 and linear.max() <= 1:
                    names.append(_name(linear))
    names = list(dict.fromkeys(names))
    return names, np.stack([_oklab(name) for name in names])


# Björn Ottosson, "A perceptual color space for image processing", 2020.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _linear(lab: np.ndarray) -> np.ndarray:
    """(3,) linear red, green and blue of a colour in Oklab."""
    return np.asarray(np.linalg.solve(_TO_CONES, np.linalg.solve(_TO_LAB, lab) ** 3))


def _name(linear: np.ndarray) -> str:
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in shown)


def _oklab(name: str) -> np.ndarray:
    shown = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    return np.asarray(_TO_LAB @ np.cbrt(_TO_CONES @ linear))
