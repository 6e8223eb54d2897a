"""A figure drawn once: as PNG and SVG files, and as SVG that takes the page's colours.

Every colour below stands for a role. In the files it is the light theme's; in the page it becomes the CSS variable of
that role, so one drawing serves light and dark. Shades are opacities of a role, never mixed colours, for the same
reason. Blue and vermilion (after Okabe & Ito 2008) are told apart by everyone.

Labels come from strangers: nothing in them is read as mathematics or mark-up.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soundmark.files import atomic_path, write_text

INK, MUTED, LINE, TRACK, PAPER = "#1b2330", "#667080", "#d5dae2", "#eef1f5", "#ffffff"
RIGHT, WRONG = "#0b66b8", "#cf5200"
ROLES = {INK: "ink", MUTED: "muted", LINE: "line", TRACK: "track", PAPER: "paper", RIGHT: "right", WRONG: "wrong"}

WIDTH = 400.0
MARGIN = 10.0
TITLE_ROOM = 32.0
DPI = 200
MOST_LETTERS = 24
_UNFIT = {"Cc", "Cn", "Cs", "Zl", "Zp"}  # kinds of letters that XML or one line cannot hold
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
}


@dataclass
class Drawing:
    """A figure in the making, measured in points, with the words shown when an element is pointed at."""

    name: str
    title: str
    caption: str
    width: float
    height: float
    figure: Figure
    tips: list[str] = field(default_factory=list)

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes in this place, counted from the lower left."""
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def words(self, left: float, below: float, text: str) -> None:
        """A line of text at a distance below the title."""
        place = left / self.width, 1 - (TITLE_ROOM + below) / self.height
        self.figure.text(*place, text, fontsize=9.5, color=MUTED, va="baseline")

    def tip(self, artist: Any, text: str) -> None:
        """Show this text when the artist is pointed at."""
        artist.set_gid(f"tip-{len(self.tips)}")
        self.tips.append(shown(text, 300))


@dataclass(frozen=True)
class Plot:
    """A drawn figure as the page needs it: name of its files, title, words for those who cannot see it, inline SVG."""

    name: str
    title: str
    caption: str
    svg: str
    width: float


def drawing(name: str, title: str, caption: str, key: str, width: float, height: float) -> Drawing:
    """A figure with its title and, below it, the key that says what is drawn."""
    height += TITLE_ROOM
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    text = figure.text(MARGIN / width, 1 - 24 / height, title, fontsize=13, fontweight="bold", va="baseline")
    text.set_gid("title")
    made = Drawing(name, title, caption, width, height, figure)
    made.words(MARGIN, 12, key)
    return made


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style inside the block, whatever the user's own matplotlib settings."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        mpl.rcParams.update(STYLE)
        yield


def saved(drawing: Drawing, folder: Path | None) -> Plot:
    """Write a drawing as PNG and SVG into a folder, if one is given, and make it fit for the page."""
    with mpl.rc_context({"svg.hashsalt": drawing.name}):  # names inside differ from figure to figure, not run to run
        text = io.StringIO()
        drawing.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = _finished(text.getvalue(), drawing.tips)
    if folder is not None:
        write_text(folder / f"{drawing.name}.svg", svg)
        with atomic_path(folder / f"{drawing.name}.png") as temporary:
            drawing.figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return Plot(drawing.name, drawing.title, drawing.caption, inline(svg, drawing.caption), drawing.width)


def _finished(svg: str, tips: Sequence[str]) -> str:
    def titled(match: re.Match[str]) -> str:
        return f'<g class="tip"><title>{escape(tips[int(match[1])])}</title>'

    svg = svg.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")  # few systems have the first
    return re.sub(r'<g id="tip-(\d+)">', titled, svg)


def inline(svg: str, caption: str) -> str:
    """The figure as an element of the page: the page's colours and font, no title (the page has its own)."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="title">.*?</g>', "", svg, count=1, flags=re.DOTALL)
    width, height = (float(number) for number in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    box = f"{MARGIN:g} {TITLE_ROOM:g} {width - MARGIN:g} {height - TITLE_ROOM:g}"
    head = f'<svg viewBox="{box}" role="img" aria-label="{escape(caption)}" style="max-width: {1.5 * width:g}px">'
    svg = head + svg[svg.index(">") + 1 :]
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    for colour, role in ROLES.items():
        svg = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--{role})", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def shown(label: str, most: int = MOST_LETTERS) -> str:
    """A label fit for a figure: one line, no control characters, not too long."""
    text = "".join(" " if unicodedata.category(letter) in _UNFIT else letter for letter in label)
    text = " ".join(text.replace("_", " ").split()) or "(no name)"
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as words, with a space that does not break: `74.3 %`; a dash where it is undefined."""
    return "–" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def spread(low: float | None, high: float | None, digits: int = 1) -> str:
    """An interval of shares as words: `72.1–76.5 %`, or a dash where it is undefined."""
    return "–" if low is None or high is None else f"{100 * low:.{digits}f}–{percent(high, digits)}"
