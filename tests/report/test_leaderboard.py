"""The leaderboard's files: what they say, that they need no network, and that strangers' names do no harm."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from handmade import put
from soundmark.cli import main
from soundmark.report import leaderboard

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements of a page with their attributes, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    costs = {"encode_ms": 12.34, "head_ms": 0.5, "encode_mb": 7.0, "encoder_parameters": 26_400_000}
    for seed in (0, 1):
        put(tmp_path, "esc50", head="svm?C=1|2", wrong=range(seed), seed=seed, costs=costs | {"head_parameters": 19300})
    put(tmp_path, "esc50", head="knn", wrong=range(30), notes=[f"Beware of {EVIL}."])
    put(tmp_path, "nsynth", head="knn", wrong=range(6), metric="balanced_accuracy")
    put(tmp_path, "icbhi", head="knn", protocol="sample: 5 group folds")
    out = tmp_path / "out"
    assert main(["leaderboard", str(tmp_path), "-o", str(out)]) == 0
    return out


def test_the_page_loads_nothing_and_runs_its_own_script_only(written: Path) -> None:
    html = (written / "leaderboard.html").read_text(encoding="utf-8")
    elements = Page(html).elements
    assert not [
        (tag, name, value)
        for tag, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action") and value != "data:,"
    ]
    assert not re.search(r"https?://|@import|url\(", html)
    assert [tag for tag, _ in elements].count("script") == 1
    assert EVIL not in html
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in elements if tag == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{digest}'" in policy


def test_every_column_that_is_sorted_has_what_to_sort_by(written: Path) -> None:
    html = (written / "leaderboard.html").read_text(encoding="utf-8")
    (table,) = re.findall(r'<table class="board">.*?</table>', html, re.DOTALL)
    elements = Page(table).elements
    heads = [attributes for tag, attributes in elements if tag == "th" and attributes["scope"] == "col"]
    assert [head["data-name"] for head in heads] == [
        "learner", "mean rank", "esc50", "nsynth", "milliseconds per clip", "megabytes per clip", "parameters",
    ]  # fmt: skip
    assert {head["data-first"] for head in heads} == {"ascending", "descending"}
    cells = [a.get("data-value") for tag, a in elements if tag == "td" or (tag == "th" and a["scope"] == "row")]
    rows = [cells[i : i + len(heads)] for i in range(0, len(cells), len(heads))]
    assert [row[0] for row in rows] == ["logmel mean knn", "logmel mean svm?C=1|2"]
    assert [row[2] for row in rows] == ["0.5", str((1 + 59 / 60) / 2)]
    assert rows[1][1] is rows[1][3] is None  # no rank without every task
    assert float(rows[1][4] or 0) == pytest.approx(12.84)
    assert rows[1][6] == "26419300"


def test_samples_are_in_a_table_of_their_own(written: Path) -> None:
    text = (written / "leaderboard.md").read_text(encoding="utf-8")
    ranked, apart = text.split("## Not ranked")
    assert "icbhi" not in ranked
    assert (
        "| `icbhi` | sample | sample: 5 group folds | 60 | `logmel` | `mean` | `knn` | 100.0 | 95.0 to 104.0 |" in apart
    )
    html = (written / "leaderboard.html").read_text(encoding="utf-8")
    assert html.index("Not ranked") < html.index("icbhi")


def test_the_markdown_says_what_was_found(written: Path) -> None:
    text = (written / "leaderboard.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `logmel`")]
    assert rows[1] == (
        "| `logmel` | `mean` | `svm?C=1\\|2` | – | 99.2 ± 1.2 ★ (93.3 to 104.0) |  | 12.8 | 7 | 26.4 M + 19.3 k |"
    )
    assert rows[0].startswith("| `logmel` | `mean` | `knn` | – | 50.0 (45.0 to 54.0) | ")
    assert "| `nsynth` | balanced accuracy, % | official 3 folds | 60 | 1 | 0 |" in text
    assert "fewer than two learners" in text
    assert "- `esc50`: Beware of" in text


def test_the_table_for_programs_has_every_score(written: Path) -> None:
    with (written / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["task"], row["head"], row["standing"]) for row in rows] == [
        ("esc50", "knn", "ranked"),
        ("esc50", "svm?C=1|2", "ranked"),
        ("nsynth", "knn", "ranked"),
        ("icbhi", "knn", "sample"),
    ]
    assert (rows[1]["best"], rows[0]["best"], rows[0]["not_told_from_best"]) == ("1", "0", "0")
    assert (rows[1]["seeds"], float(rows[1]["score"])) == ("2", pytest.approx((1 + 59 / 60) / 2))
    assert rows[3]["rank"] == ""


@pytest.mark.parametrize(
    ("count", "said"), [(None, "–"), (0, "0"), (394, "394"), (19_250, "19.2 k"), (26_400_000, "26.4 M"), (3e8, "300 M")]
)
def test_parameters_are_told_in_short(count: int | None, said: str) -> None:
    assert leaderboard.parameters({"encoder_parameters": count, "head_parameters": None}) == f"{said} + –"
