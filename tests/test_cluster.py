"""Partitions made on Ray: the same files as here, whatever dies on the way."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rays import ENCODER, MARKS, TASK
from soundmark import cluster, parted, partitions
from soundmark.cli import main
from soundmark.errors import AudioError, MissingExtra, SoundmarkError
from soundmark.parted import identity
from soundmark.tasks.base import Task

pytestmark = MARKS


def write(task: Task, folder: Path, **more: Any) -> partitions.Written:
    return partitions.write(task, ENCODER, "mean+std", folder, **{"part_clips": 16, "progress": False} | more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in parted.parts(folder)}


def test_nothing_to_do_needs_no_ray(toy: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(toy, tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert write(toy, tmp_path, engine=cluster.engine()).made == 0
    with pytest.raises(MissingExtra, match=r"--engine ray needs Ray .*pip install 'soundmark\[ray\]'"):
        write(toy, tmp_path / "new", engine=cluster.engine())


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path, toy: Task) -> None:
    pytest.importorskip("ray", reason="SKIPPED FOR WANT OF RAY: pip install 'soundmark[ray]'", exc_type=ImportError)
    import ray

    if ray.is_initialized():
        pytest.skip("the session's Ray is running, and would be taken")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(SoundmarkError, match=rf"no Ray cluster to join at {address} .*: check --address"):
            write(toy, tmp_path, engine=cluster.engine(address))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embed", TASK, "-o", "x.parquet", "--engine", "ray"], "--engine ray writes a folder of partitions"),
        (["embed", TASK, "-o", "x/", "--address", "auto"], "add --engine ray"),
        (["embed", TASK, "-o", "x/", "--engine", "ray", "--engine", "local"], "local.* exclude each other"),
        (["embed", TASK, "-o", "x/", "--engine", "onnx", "--engine", "int8"], "int8 exclude each other"),
        (["benchmark", "--tasks", TASK, "--out", "x", "--workers", "2"], "--workers are processes of Ray"),
    ],
)
def test_engines_that_do_not_go_together(
    words: list[str], said: str, toy: Task, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert re.search(said, capsys.readouterr().err)


def test_a_worker_is_a_plain_class_that_names_an_encoder(toy: Task) -> None:
    """What Ray's process does, in this one: so that it is tested where there is no Ray, too."""
    import pyarrow as pa

    from soundmark import encoders

    about = {"identity": identity(encoders.load(ENCODER)), "dim": 16}
    worker = cluster.Worker(replace(toy, clips=()), ENCODER, "mean", about, (os.getcwd(), {}))
    jobs = [partitions.Job(number, toy.clips[number : number + 2], "s") for number in (0, 5)]
    found = worker(pa.table({"job": [job.text() for job in jobs]})).to_pylist()
    assert [row["number"] for row in found] == [0, 5]
    assert all(row["trouble"] == "" and row["content"][:4] == b"PAR1" for row in found)
    bad = cluster.Worker(toy, "nonesuch", "mean", about, (os.getcwd(), {}))
    (row,) = bad(pa.table({"job": [jobs[0].text()]})).to_pylist()
    assert "no encoder called 'nonesuch'" in row["trouble"]


def test_a_worker_takes_folder_and_settings_of_who_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOUNDMARK_CACHE", "mine")
    monkeypatch.delenv("SOUNDMARK_OTHER", raising=False)
    (tmp_path / "below").mkdir()
    cluster.settle((str(tmp_path / "below"), {"SOUNDMARK_CACHE": "theirs", "SOUNDMARK_OTHER": "theirs"}))
    assert Path.cwd() == tmp_path / "below"
    assert os.environ["SOUNDMARK_CACHE"] == "mine"
    assert os.environ.pop("SOUNDMARK_OTHER") == "theirs"
    cluster.settle((str(tmp_path / "nowhere"), {}))
    assert Path.cwd() == tmp_path / "below"


# --- On Ray -----------------------------------------------------------------------------------------------------------


def test_ray_writes_the_files_that_the_local_engine_writes(running_ray: Any, broken: Task, tmp_path: Path) -> None:
    here = write(broken, tmp_path / "local", workers=1)
    there = write(broken, tmp_path / "ray", engine=cluster.engine())
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")  # bytes of vectors and of errors
    assert there == here
    assert len(there.bad) == 3


def test_ray_goes_on_where_it_was(running_ray: Any, toy: Task, tmp_path: Path) -> None:
    write(toy, tmp_path / "x", engine=cluster.engine())
    before = contents(tmp_path / "x")
    for number in (1, 4):
        (tmp_path / "x" / f"part-0000{number}.parquet").unlink()
    asked: list[int] = []

    def spy(order: partitions.Order) -> Iterator[partitions.Made]:
        asked.extend(job.number for job in order.jobs)
        return cluster.made(order)

    assert write(toy, tmp_path / "x", engine=spy).made == 2
    assert asked == [1, 4]
    assert contents(tmp_path / "x") == before
    assert write(toy, tmp_path / "x", engine=spy).made == 0


def test_strict_stops_ray(running_ray: Any, broken: Task, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"\.wav"):
        write(broken, tmp_path / "x", engine=cluster.engine(), strict=True)


def test_an_encoder_that_cannot_be_loaded_is_told_once(running_ray: Any, toy: Task, tmp_path: Path) -> None:
    order = partitions.ordered(toy, ENCODER, "mean", tmp_path / "x")
    with pytest.raises(SoundmarkError, match="there is no encoder called 'nonesuch'"):
        list(cluster.made(replace(order, encoder_name="nonesuch")))
    with pytest.raises(SoundmarkError, match="another encoder on a worker of Ray than here"):
        list(cluster.made(replace(order, encoder_name=ENCODER.replace("bands=16", "bands=8"))))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the worker in /proc")
def test_a_killed_worker_loses_nothing_and_nothing_comes_twice(running_ray: Any, toy: Task, tmp_path: Path) -> None:
    write(toy, tmp_path / "local", part_clips=2)
    numbers: list[int] = []
    killed: list[int] = []

    def counted(order: partitions.Order) -> Iterator[partitions.Made]:
        for made in cluster.made(order, workers=1):
            numbers.append(made.number)
            if not killed:
                killed.extend(workers())
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
            yield made

    write(toy, tmp_path / "ray", part_clips=2, engine=counted)
    assert killed
    assert sorted(numbers) == list(range(50))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def workers() -> list[int]:
    """Processes that encode."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::") and b"Worker" in words:
            found.append(int(place.name))
    return found


def test_the_command_takes_ray(running_ray: Any, toy: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", TASK, "--encoder", ENCODER, "--part-clips", "30"]
    assert main([*words, "-o", f"{tmp_path}/ray/", "--engine", "ray"]) == 0
    said = capsys.readouterr()
    assert "100 rows in 4 partitions, 4 of them made now" in said.out
    assert said.err == ""
    assert main([*words, "-o", f"{tmp_path}/local/"]) == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_a_session_of_somebody_elses_is_left_running(running_ray: Any) -> None:
    with cluster.connected() as (ray, count):
        assert count >= 1
    assert ray.is_initialized()
