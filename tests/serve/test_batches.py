"""Waveforms of many requests go through a graph together, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from soundmark.errors import AudioError
from soundmark.serve.batches import Batches
from soundmark.serve.problems import Problem
from soundmark.serve.settings import Settings


def rows(value: float, samples: int = 4, count: int = 1) -> np.ndarray:
    return np.full((count, samples), value, np.float32)


class Held:
    """A graph that waits until it may go on, and remembers what went through it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.begun.set()
        self.go.wait(60)
        self.shapes.append(batch.shape)
        if (batch < 0).any():
            raise AudioError("below zero")
        return batch.sum(axis=1, keepdims=True)


def run(settings: Settings, work: Callable[[Batches], Any]) -> Any:
    async def inner() -> Any:
        batches = Batches(settings)
        batches.start()
        try:
            return await work(batches)
        finally:
            await batches.close()

    return asyncio.run(inner())


async def begun(graph: Held) -> None:
    while not graph.begun.is_set():
        await asyncio.sleep(0.001)


async def asked(batches: Batches, graph: Held, *waiting: np.ndarray) -> list[Any]:
    """Answers to waveforms that wait while the graph is held up by another."""
    first = asyncio.create_task(batches.ask("a", graph, rows(0)))
    await begun(graph)
    tasks = [asyncio.create_task(batches.ask("a", graph, each)) for each in waiting]
    while batches.waiting < sum(map(len, waiting)):
        await asyncio.sleep(0.001)
    graph.go.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_those_of_equal_length_go_together_and_each_gets_its_own(small: Callable[..., Settings]) -> None:
    graph = Held()
    said = run(
        small(batch_rows=3), lambda batches: asked(batches, graph, rows(1), rows(2, 5), rows(3), rows(4, count=2))
    )
    assert [one.ravel().tolist() for one in said] == [[4.0], [10.0], [12.0], [16.0, 16.0]]
    assert sorted(graph.shapes[1:]) == [(1, 5), (2, 4), (2, 4)]


def test_one_that_fails_fails_alone(small: Callable[..., Settings]) -> None:
    said = run(small(), lambda batches: asked(batches, Held(), rows(1), rows(-1), rows(2)))
    assert said[0].item() == 4
    assert isinstance(said[1], AudioError)
    assert said[2].item() == 8


def test_a_mistake_ends_no_queue(small: Callable[..., Settings]) -> None:
    def broken(batch: np.ndarray) -> np.ndarray:
        raise KeyError("broken")

    async def work(batches: Batches) -> Any:
        with pytest.raises(KeyError):
            await batches.ask("b", broken, rows(1))
        graph = Held()
        graph.go.set()
        return (await batches.ask("a", graph, rows(1))).item()

    assert run(small(), work) == 4


def test_a_full_queue_lets_nobody_begin(small: Callable[..., Settings]) -> None:
    graph = Held()

    async def work(batches: Batches) -> Any:
        first = asyncio.create_task(batches.ask("a", graph, rows(0)))
        batches.admit()
        await begun(graph)
        tasks = [first, *(asyncio.create_task(batches.ask("a", graph, rows(1))) for _ in range(3))]
        while batches.waiting < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(Problem) as problem:
            batches.admit()
        graph.go.set()
        await asyncio.gather(*tasks)
        batches.admit()
        return problem.value.status, problem.value.headers

    assert run(small(max_waiting=2), work) == (503, {"Retry-After": "1"})


def test_what_is_given_up_is_not_computed(small: Callable[..., Settings]) -> None:
    graph = Held()

    async def work(batches: Batches) -> Any:
        first = asyncio.create_task(batches.ask("a", graph, rows(0)))
        second = asyncio.create_task(batches.ask("a", graph, rows(1, 7)))
        while batches.waiting < 1 or len(batches._jobs) != 1:
            await asyncio.sleep(0.001)
        second.cancel()
        await asyncio.sleep(0)
        graph.go.set()
        await first
        graph.go.set()
        await batches.ask("a", graph, rows(2))
        return graph.shapes, batches.waiting

    assert run(small(), work) == ([(1, 4), (1, 4)], 0)
