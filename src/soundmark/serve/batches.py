"""Waveforms of many requests through a graph together: those of equal length that happen to wait at the same time.

Nothing waits for company: a graph that is free takes what is there. Under load something always is, and the batches
form by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from soundmark.errors import SoundmarkError
from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings

Graph = Callable[[np.ndarray], np.ndarray]


@dataclass
class _Job:
    key: Any
    graph: Graph
    rows: np.ndarray
    answer: asyncio.Future[np.ndarray]


class Batches:
    """A queue before the graphs. It belongs to one event loop.

    Args:
        settings: how many graphs run at once, how many waveforms go through together and how many may wait.
        told: called with the number of waveforms and the seconds of every run.
    """

    def __init__(self, settings: Settings, told: Callable[[int, float], None] = lambda rows, seconds: None) -> None:
        self.settings, self.told = settings, told
        self.waiting = 0
        self._jobs: deque[_Job] = deque()
        self._any = asyncio.Event()
        self._threads = ThreadPoolExecutor(settings.runs, thread_name_prefix="graph")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to run what is asked for."""
        self._tasks = [asyncio.get_running_loop().create_task(self._run()) for _ in range(self.settings.runs)]

    async def close(self) -> None:
        """Stop; what still waits is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in self._jobs:
            job.answer.cancel()
        self._jobs.clear()
        self._threads.shutdown()

    def admit(self) -> None:
        """Ask before a recording is begun; one that was begun is finished, a few waveforms at a time.

        Raises:
            Problem: 503 if too many waveforms wait already.
        """
        if self.waiting >= self.settings.max_waiting:
            raise Problem(503, "busy", "too many recordings wait for the model: try again in a moment")

    async def ask(self, key: Any, graph: Graph, rows: np.ndarray) -> np.ndarray:
        """What a graph says of waveforms, in company of others if there are any.

        Args:
            key: the same for all that may go through together, besides the length.
            graph: (batch, samples) to (batch, anything); called in a thread.
            rows: float32 (batch, samples).

        Raises:
            SoundmarkError: what the graph raises.
        """
        job = _Job((key, rows.shape[1]), graph, rows, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self.waiting += len(rows)
        self._any.set()
        return await job.answer

    async def _run(self) -> None:
        while True:
            await self._any.wait()
            jobs = self._taken()
            if not jobs:
                self._any.clear()
                continue
            try:
                await self._answer(jobs)
            except asyncio.CancelledError:
                for job in jobs:
                    job.answer.cancel()
                raise

    def _taken(self) -> list[_Job]:
        """The job that has waited longest, and those behind it that fit in with it."""
        taken: list[_Job] = []
        left: deque[_Job] = deque()
        rows = 0
        while self._jobs:
            job = self._jobs.popleft()
            if job.answer.done():  # given up
                self.waiting -= len(job.rows)
            elif not taken or (job.key == taken[0].key and rows + len(job.rows) <= self.settings.batch_rows):
                taken.append(job)
                rows += len(job.rows)
                self.waiting -= len(job.rows)
            else:
                left.append(job)
        self._jobs = left
        return taken

    async def _answer(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        rows = jobs[0].rows if len(jobs) == 1 else np.concatenate([job.rows for job in jobs])
        started = loop.time()
        try:
            said = await loop.run_in_executor(self._threads, jobs[0].graph, rows)
        except SoundmarkError as error:
            if len(jobs) == 1:
                _fail(jobs[0], error)
                return
            for job in jobs:  # one of them is to blame: each for itself
                await self._answer([job])
            return
        except Exception as error:  # must not end the queue
            for job in jobs:
                _fail(job, error)
            return
        self.told(len(rows), loop.time() - started)
        place = 0
        for job in jobs:
            with contextlib.suppress(asyncio.InvalidStateError):  # given up meanwhile
                job.answer.set_result(said[place : place + len(job.rows)])
            place += len(job.rows)


def _fail(job: _Job, error: Exception) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        job.answer.set_exception(error)
