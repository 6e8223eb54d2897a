from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from soundmark import embeddings, tables
from soundmark.cli import main
from soundmark.tasks.base import Task

TASK = "toy?clips=10&seconds=0.5"
ENCODER = "logmel?rate=16000&window=512&hop=256&bands=16"


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_one_row_per_clip(toy: Task, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    assert main(["embed", TASK, "--encoder", ENCODER, "--pooling", "mean+max", "-o", str(path)]) == 0
    table = pyarrow.parquet.read_table(path) if suffix == "parquet" else pyarrow.csv.read_csv(path)
    assert table.column_names[:4] == ["clip", "label", "group", "fold"]
    assert table.num_rows == 100
    expected = embeddings.embed(toy, ENCODER, "mean+max", progress=False).vectors
    got = np.stack([table[name].to_numpy() for name in table.column_names[4:]], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert len(set(table.column_names)) == 4 + 32


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_one_row_per_moment(toy: Task, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    assert main(["embed", TASK, "--encoder", ENCODER, "--frames", "-o", str(path)]) == 0
    table = pyarrow.parquet.read_table(path) if suffix == "parquet" else pyarrow.csv.read_csv(path)
    assert table.num_rows == 100 * 32
    first = [row for row in table.select(["clip", "time"]).to_pylist() if row["clip"] == toy.clips[0].key]
    np.testing.assert_allclose([row["time"] for row in first], np.arange(32) * 256 / 16000, atol=1e-6)


def test_bad_clips_are_left_out_and_said(broken: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from soundmark import tables
    from soundmark.encoders import load

    assert tables.write_frames(broken, load(ENCODER), tmp_path / "x.csv")[0] == 97 * 32
    rows, bad = tables.write_vectors(broken, load(ENCODER), "mean", tmp_path / "y.csv")
    assert (rows, len(bad)) == (97, 3)


@pytest.mark.parametrize("frames", [[], ["--frames"]])
def test_nothing_is_written_when_nothing_can_be(
    tmp_path: Path, frames: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for label in "ab":
        for i in range(3):
            (tmp_path / "mine" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / label / f"{i}.wav").write_bytes(b"RIFF" + bytes([i]) * 50)
    out = tmp_path / "out"
    assert main(["embed", str(tmp_path / "mine"), *frames, "-o", str(out / "x.parquet")]) == 1
    assert "error" in capsys.readouterr().err
    assert not out.exists() or list(out.iterdir()) == []
    assert main(["embed", TASK, *frames, "-o", str(out / "x.xlsx")]) == 1
    assert ".parquet or .csv" in capsys.readouterr().err


def test_a_small_table_leaves_empty_what_is_undefined(tmp_path: Path) -> None:
    rows = [["a,b", 1, 0.123456789, np.float64(2e-9)], ["c", None, math.nan, math.inf]]
    tables.write_rows(tmp_path / "new" / "t.csv", ["name", "n", "x", "y"], rows)
    assert (tmp_path / "new" / "t.csv").read_bytes() == b'name,n,x,y\n"a,b",1,0.123457,2e-09\nc,,,\n'
