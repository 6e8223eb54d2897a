from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from soundmark import ahead


def test_answers_do_not_pile_up() -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def work(i: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        return i

    with ThreadPoolExecutor(4) as threads:
        for i, answer in enumerate(ahead.in_order(threads, work, range(50), ahead=6)):
            assert i == answer
            with lock:
                under_way -= 1
    assert most <= 7


def test_answers_as_they_are_done_are_all_there() -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def work(i: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        return i

    with ThreadPoolExecutor(4) as threads:
        answers = []
        for answer in ahead.as_done(threads, work, range(50), ahead=6):
            answers.append(answer)
            with lock:
                under_way -= 1
    assert sorted(answers) == list(range(50))
    assert most <= 7
