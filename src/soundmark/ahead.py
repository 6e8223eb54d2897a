"""Work that is done ahead of who asks for it, but never far ahead: memory stays what it is, however long the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_order(
    threads: ThreadPoolExecutor, work: Callable[[Item], Answer], items: Sequence[Item], ahead: int = 8
) -> Iterator[Answer]:
    """`work` of every item, in order, with at most `ahead` under way: finished answers never pile up in memory."""
    queue: deque[Future[Answer]] = deque()
    try:
        for item in items:
            queue.append(threads.submit(work, item))
            if len(queue) >= ahead:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        for future in queue:
            future.cancel()


def as_done(
    threads: ThreadPoolExecutor, work: Callable[[Item], Answer], items: Sequence[Item], ahead: int = 8
) -> Iterator[Answer]:
    """`work` of every item as it is finished, with at most `ahead` under way: nothing waits for what is slow."""
    pending: set[Future[Answer]] = set()
    try:
        for item in items:
            pending.add(threads.submit(work, item))
            if len(pending) >= ahead:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        for future in pending:
            future.cancel()
