from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from soundmark.errors import SoundmarkError
from soundmark.store import VectorStore, store_path


def test_what_is_put_is_got(own_cache: Path) -> None:
    rows = {f"clip{i}": {"mean": np.full(4, i, np.float32), "std": np.full(4, -i, np.float32)} for i in range(1100)}
    with VectorStore.open("encoder") as store:
        store.put(rows.items())
    with VectorStore.open("encoder") as store:
        found = store.get(rows, ["mean", "std"])
        assert found.keys() == rows.keys()
        np.testing.assert_array_equal(found["clip7"]["std"], rows["clip7"]["std"])
        assert store.get(["clip7", "unknown"], ["std"]).keys() == {"clip7"}
        assert store.get(["clip7"], ["max"]) == {}
    assert own_cache in store_path("encoder").parents


def test_another_encoder_has_another_store() -> None:
    with VectorStore.open("a") as store:
        store.put([("clip", {"mean": np.zeros(2, np.float32)})])
    with VectorStore.open("b") as store:
        assert store.get(["clip"], ["mean"]) == {}


def test_without_a_fingerprint_nothing_is_kept(own_cache: Path) -> None:
    with VectorStore.open(None) as store:
        store.put([("clip", {"mean": np.zeros(2, np.float32)})])
        assert store.get(["clip"], ["mean"])
    assert list(own_cache.iterdir()) == []


def test_a_kill_in_mid_batch_leaves_the_batches_before_it(own_cache: Path) -> None:
    code = (
        "import os, numpy as np\n"
        "from soundmark.store import VectorStore\n"
        "def rows():\n"
        "    yield 'late', {'mean': np.ones(2, np.float32)}\n"
        "    os.kill(os.getpid(), 9)\n"
        "with VectorStore.open('e') as store:\n"
        "    store.put([('early', {'mean': np.ones(2, np.float32)})])\n"
        "    store.put(rows())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode != 0
    with VectorStore.open("e") as store:
        assert store.get(["early", "late"], ["mean"]).keys() == {"early"}


def test_two_processes_write_at_once(own_cache: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from soundmark.store import VectorStore\n"
        "with VectorStore.open('e') as store:\n"
        "    for i in range(200):\n"
        "        store.put((f'{name}{i}', {'mean': np.ones(2, np.float32)}) for name in (sys.argv[1], 'both'))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [each.wait(timeout=60) for each in running] == [0, 0]
    with VectorStore.open("e") as store:
        assert len(store.get([f"{name}{i}" for name in ("a", "b", "both") for i in range(200)], ["mean"])) == 600


def test_a_broken_store_says_which_file_to_delete() -> None:
    path = store_path("e")
    path.parent.mkdir(parents=True)
    path.write_text("this is no database, and long enough to be read as one" * 20, encoding="utf-8")
    with pytest.raises(SoundmarkError, match="delete that file"), VectorStore.open("e"):
        pass


def test_a_cache_that_cannot_be_written_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SOUNDMARK_CACHE", str(tmp_path / "file"))
    with pytest.raises(SoundmarkError, match="SOUNDMARK_CACHE"), VectorStore.open("e"):
        pass
