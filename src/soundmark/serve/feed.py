"""What streams publish, for those who follow: dashboards. Nothing is kept for who comes later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from soundmark.serve.problems import Problem

WAITING = 100  # messages that a slow follower may be behind; beyond, the oldest are lost to it


class Feed:
    """Messages to all who follow at the moment."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._followers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._followers)

    def publish(self, message: dict[str, Any]) -> None:
        """Give a message to every follower."""
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)

    def close(self) -> None:
        """Let every follower go."""
        self._closed = True
        for queue in self._followers:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    def follow(self, patience: float) -> AsyncIterator[dict[str, Any] | None]:
        """The messages from now on; None after `patience` seconds without one.

        Raises:
            Problem: 503 if too many follow already, or the service is being stopped.
        """
        if self._closed:
            raise Problem(503, "closing", "the service is being stopped")
        if len(self._followers) >= self.most:
            raise Problem(503, "busy", f"{self.most} follow already: try again later")
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(WAITING)
        self._followers.add(queue)
        return self._messages(queue, patience)

    async def _messages(
        self, queue: asyncio.Queue[dict[str, Any] | None], patience: float
    ) -> AsyncIterator[dict[str, Any] | None]:
        try:
            while True:
                try:
                    async with asyncio.timeout(patience):
                        message = await queue.get()
                except TimeoutError:
                    yield None
                    continue
                if message is None:
                    return
                yield message
        finally:
            self._followers.discard(queue)
