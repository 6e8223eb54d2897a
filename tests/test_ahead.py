from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from soundmark import ahead


class Counted:
    """Work that knows how much of it is under way."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    def begin(self, i: int) -> int:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        return i

    def end(self) -> None:
        with self.lock:
            self.under_way -= 1


def test_answers_do_not_pile_up() -> None:
    work = Counted()
    with ThreadPoolExecutor(4) as threads:
        for i, answer in enumerate(ahead.in_order(threads, work.begin, range(50), ahead=6)):
            assert i == answer
            work.end()
    assert work.most <= 7


def test_answers_as_they_are_done_are_all_there() -> None:
    work = Counted()
    with ThreadPoolExecutor(4) as threads:
        answers = []
        for answer in ahead.as_done(threads, work.begin, range(50), ahead=6):
            answers.append(answer)
            work.end()
    assert sorted(answers) == list(range(50))
    assert work.most <= 7
