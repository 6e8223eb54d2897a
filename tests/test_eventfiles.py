"""Events in files: what each format holds comes back; what is no event is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soundmark import eventfiles
from soundmark.errors import EventError
from soundmark.events import Event

FOUND = [
    ("a b.wav", Event(0.0, 2.5, "dog", 0.9)),
    ("a b.wav", Event(1.25, 3.125, 'car, "horn"', 0.512345)),
    ("deep/c.wav", Event(3600.0, 3601.5, "crying baby", 1.0)),
]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_lines_and_tables_hold_everything(tmp_path: Path, ending: str) -> None:
    eventfiles.write(tmp_path / f"x.{ending}", FOUND)
    assert eventfiles.read(tmp_path / f"x.{ending}") == FOUND


def test_json_lines_are_json(tmp_path: Path) -> None:
    eventfiles.write(tmp_path / "x.jsonl", FOUND)
    rows = [json.loads(row) for row in (tmp_path / "x.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {"path": "a b.wav", "start": 0.0, "end": 2.5, "label": "dog", "score": 0.9}


def test_rttm_has_words_without_spaces(tmp_path: Path) -> None:
    eventfiles.write(tmp_path / "x.rttm", FOUND)
    text = (tmp_path / "x.rttm").read_text("utf-8").splitlines()
    assert text[0] == "SPEAKER a_b 1 0.000 2.500 <NA> <NA> dog 0.9 <NA>"
    assert all(len(row.split(" ")) == 10 for row in text)
    assert eventfiles.read(tmp_path / "x.rttm") == [
        ("a_b", FOUND[0][1]),
        ("a_b", Event(1.25, 3.125, 'car,_"horn"', 0.512345)),
        ("c", Event(3600.0, 3601.5, "crying_baby", 1.0)),
    ]


def test_audacity_has_times_and_labels_of_one_recording(tmp_path: Path) -> None:
    eventfiles.write(tmp_path / "x.txt", FOUND[:1])
    assert (tmp_path / "x.txt").read_text("utf-8") == "0.000\t2.500\tdog\n"
    assert eventfiles.read(tmp_path / "x.txt") == [("", Event(0.0, 2.5, "dog", 1.0))]
    with pytest.raises(EventError, match="do not name their recording"):
        eventfiles.write(tmp_path / "y.txt", FOUND)
    assert not (tmp_path / "y.txt").exists()


def test_what_other_programs_add_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1.0\t2.0\tdog\n\\\t200.0\t900.0\n\n", encoding="utf-8")
    assert len(eventfiles.read(tmp_path / "x.txt")) == 1
    (tmp_path / "x.rttm").write_text(
        ";; comment\nSPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA>\nSPEAKER a 1 1.0 0.5 <NA> <NA> dog <NA> <NA>\n",
        encoding="utf-8",
    )
    assert eventfiles.read(tmp_path / "x.rttm") == [("a", Event(1.0, 1.5, "dog", 1.0))]


def test_no_events_are_a_file_too(tmp_path: Path) -> None:
    eventfiles.write(tmp_path / "x.csv", [])
    assert (tmp_path / "x.csv").read_text("utf-8") == "path,start,end,label,score\n"
    assert eventfiles.read(tmp_path / "x.csv") == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("x.jsonl", '{"start": 1, "end": 2, "label": "a"}\nnonsense\n', 2),
        ("x.jsonl", "[]\n", 1),
        ("x.csv", "path,start,end,label\na,1,x,dog\n", 2),
        ("x.csv", "path,begin\na,1\n", 2),
        ("x.txt", "1.0\t2.0\n", 1),
        ("x.txt", "2.0\t1.0\tdog\n", 1),
        ("x.rttm", "SPEAKER a 1 1.0\n", 1),
        ("x.jsonl", '{"start": 1, "end": 1e999, "label": "a"}\n', 1),
    ],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(EventError, match=f"line {line} of .*{name}"):
        eventfiles.read(tmp_path / name)


def test_files_and_formats_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(EventError, match="no ending of events"):
        eventfiles.write(tmp_path / "x.doc", FOUND)
    with pytest.raises(EventError, match=r"cannot read .*none\.csv"):
        eventfiles.read(tmp_path / "none.csv")
    with pytest.raises(EventError, match="no format 'srt'"):
        eventfiles.line("srt", *FOUND[0])
