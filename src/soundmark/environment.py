"""What a result was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from soundmark import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "soundfile",
    "soxr",
    "onnxruntime",
    "onnx",
    "pyarrow",
    "transformers",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment() -> dict[str, Any]:
    """What a run was made with: versions, commit, machine. It names neither the user nor any folder.

    Returns:
        `soundmark`; `commit`, of Soundmark's own checkout, with "-dirty" where it was changed, or None; `python`,
        `platform`, `machine`; `cpus`, those this process may use; `threads` {torch, and the variables set};
        `packages` {name: version}.
    """
    found: dict[str, str | int] = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    if "torch" in sys.modules:
        found["torch"] = sys.modules["torch"].get_num_threads()
    return {
        "soundmark": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "cpus": cores(),
        "threads": found,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    package = Path(__file__).resolve().parent
    root = package.parents[1]
    if package != root / "src" / "soundmark" or not (root / ".git").exists():
        return None  # installed; a repository around it would be somebody else's
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("-dirty" if changed else "")


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 - our own words
    return run.stdout.strip()
