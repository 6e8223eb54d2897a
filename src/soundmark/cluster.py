"""Partitions of vectors made on Ray: by the processes of this machine, or of a cluster.

What travels to a worker is the names of clips, and what comes back is the bytes of a partition's file, which this
process writes. So only this process needs the folder, and every worker the recordings: on a shared disk, or at an
address. A worker loads the encoder once and encodes with one thread. Ray Data keeps the workers busy, holds them back
when this process cannot follow, starts a worker that died anew, and gives its partition to another.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from soundmark import embeddings, encoders, partitions
from soundmark.environment import cores
from soundmark.errors import MissingExtra, SoundmarkError
from soundmark.parted import identity
from soundmark.partitions import Job, Made, Order
from soundmark.quiet import mute, quiet
from soundmark.tasks.base import Task

STORE_BYTES = 256 << 20  # of Ray's own memory on this machine: partitions on their way are small
_STARTS = 3  # Ray gives itself half a minute to start here, which a busy machine may not have the first time
_IN_FLIGHT = 2  # partitions that wait at a worker: one under way and one to go on with
_LOGGERS = ("ray", "ray.data", "ray.serve", "ray.tune")
_KNOCK_SECONDS = 10.0  # Ray itself waits minutes for a cluster that is not there
# Said before Ray is imported: it then reports nothing to anybody, leaves our settings of GPUs alone, and does not write
# into the terminal what only its developers understand.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def engine(address: str = "", workers: int | None = None) -> partitions.Engine:
    """What makes partitions on Ray, for `soundmark.partitions.write`.

    Args:
        address: of a running cluster, as `ray.init` takes it ("auto", "10.0.0.1:6379"); empty to start Ray here.
        workers: processes, each on a core of its own; by default as many as there are cores.
    """
    return lambda order: made(order, address, workers)


def made(order: Order, address: str = "", workers: int | None = None) -> Iterator[Made]:
    """Make the missing partitions of an order, in the sequence in which they are done.

    Raises:
        MissingExtra: if Ray is not installed.
        SoundmarkError: if Ray cannot be started or found, or gives up; or what loading the encoder raises in a worker.
    """
    if not order.jobs:
        return
    with connected(address, workers) as (ray, count), quiet(*_LOGGERS):
        given = [{"job": job.text()} for job in order.jobs]
        shell = replace(order.task, clips=(), rounds=())
        pool = ray.data.ActorPoolStrategy(size=min(count, len(given)), max_tasks_in_flight_per_actor=_IN_FLIGHT)
        rows = ray.data.from_items(given, override_num_blocks=len(given)).map_batches(
            Worker,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            compute=pool,
            fn_constructor_args=(shell, order.encoder_name, order.pooling, order.about, here()),
        )
        try:
            for row in rows.iter_rows():
                if row["trouble"]:
                    raise SoundmarkError(row["trouble"])
                yield Made(int(row["number"]), row["content"], json.loads(row["bad"]))
        except ray.exceptions.RayError as error:
            raise SoundmarkError(
                f"Ray gave up: {last_line(error)}; run the same command again to go on with what is missing"
            ) from error


Here = tuple[str, dict[str, str]]
"""A process's folder and its settings."""


def here() -> Here:
    """Of this process, for `settle`."""
    return os.getcwd(), {name: value for name, value in os.environ.items() if name.startswith("SOUNDMARK_")}


def settle(driver: Here) -> None:
    """Let a worker find relative paths, and settings that its machine does not make, as the asking process does."""
    folder, settings = driver
    with suppress(OSError):  # on another machine there may be no such folder
        os.chdir(folder)
    for name, value in settings.items():
        os.environ.setdefault(name, value)


class Worker:
    """A process that makes partitions.

    Args:
        task: without clips.
        encoder_name, pooling: names in the grammar.
        about: the question; an encoder that is another one here than where it was asked for is refused.
        driver: where it was asked.
    """

    def __init__(self, task: Task, encoder_name: str, pooling: str, about: dict[str, Any], driver: Here) -> None:
        settle(driver)
        self.trouble = ""
        try:
            module = encoders.load(encoder_name)
            if identity(module) != about["identity"]:
                raise SoundmarkError(
                    f"{encoder_name} is another encoder on a worker of Ray than here: give all machines the same "
                    "weights and the same version of Soundmark"
                )
        except (SoundmarkError, ModuleNotFoundError) as error:
            self.trouble = str(error)
            return
        self.order = Order(Path(), task, module, encoder_name, pooling, about, (), 0)
        self.threads = embeddings.worker_threads(1)  # one for good: every new thread would keep memory of its own

    def __call__(self, table: pa.Table) -> pa.Table:
        """Make the partitions of a table of jobs: number, bytes, and the clips that could not be read."""
        found: list[tuple[int, bytes, str, str]] = []
        for text in table["job"].to_pylist():
            if self.trouble:
                found.append((0, b"", "{}", self.trouble))
                continue
            one = partitions.make(self.order, Job.of(text), self.threads)
            found.append((one.number, one.content, json.dumps(one.bad), ""))
        numbers, contents, bad, trouble = (list(column) for column in zip(*found, strict=True))
        return pa.table(
            {
                "number": pa.array(numbers, pa.int64()),
                "content": pa.array(contents, pa.large_binary()),
                "bad": pa.array(bad, pa.string()),
                "trouble": pa.array(trouble, pa.string()),
            }
        )


@contextmanager
def connected(address: str = "", workers: int | None = None) -> Iterator[tuple[Any, int]]:
    """Ray, started here or found at an address, and how many workers of one core it has room for.

    One that this process has started or joined before is taken as it is, and left running.

    Raises:
        MissingExtra: if it is not installed.
        SoundmarkError: if it cannot be started or found.
    """
    if workers is not None and workers < 1:
        raise SoundmarkError(f"there must be 1 worker or more, not {workers}")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra(f"--engine ray needs Ray ({error}): pip install 'soundmark[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        _begin(ray, address, workers)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        room = int(ray.cluster_resources().get("CPU", 0))
        if room < 1:
            raise SoundmarkError("the Ray cluster has no core to work with: add machines to it")
        yield ray, min(workers or room, room)
    finally:
        if ours:
            ray.shutdown()


def _begin(ray: Any, address: str, workers: int | None) -> None:
    given: dict[str, Any] = {"address": address or "local", "logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        given |= {"num_cpus": workers or cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
    for left in reversed(range(1 if address else _STARTS)):
        try:
            _knock(address)
            with quiet(*_LOGGERS), mute():
                ray.init(**given)
            return
        except Exception as error:  # it has no class of its own for what can go wrong here
            ray.shutdown()
            if not left:
                _explain(address, error)


def _knock(address: str) -> None:
    """See whether anybody is at home at `host:port`."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()


def _explain(address: str, error: Exception) -> NoReturn:
    what = f"there is no Ray cluster to join at {address}" if address else "Ray cannot be started on this machine"
    there, here = "check --address, and the token it may ask for", "try again when it is less busy, or work without Ray"
    hint = there if address else here
    raise SoundmarkError(f"{what} ({last_line(error)}): {hint}") from error


def last_line(error: BaseException) -> str:
    """What an error of Ray comes down to; before it may stand pages of traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
