"""Memory of this process, as the benchmarks report it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Peak resident memory of this process, MiB. Linux's getrusage would count what the parent had when it forked."""
    if STATUS.exists():
        return _of_linux("VmHWM")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def resident_mib() -> float:
    """Memory of this process that is in use now, MiB; elsewhere than on Linux, psutil has to be there."""
    if STATUS.exists():
        return _of_linux("VmRSS")
    import psutil

    return float(psutil.Process().memory_info().rss / 2**20)


def _of_linux(name: str) -> float:
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) / 1024  # type: ignore[index]
