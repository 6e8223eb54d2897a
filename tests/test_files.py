from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from soundmark import files


def test_nothing_is_left_when_a_write_fails(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"

    with pytest.raises(KeyboardInterrupt), files.atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    files.write_text(target, "old")
    with files.atomic_path(target) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
        assert temporary.suffix == ".txt"
    assert target.read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["x.txt"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.write_bytes(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"score": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOUNDMARK_CACHE", str(tmp_path))
    monkeypatch.setenv("SOUNDMARK_DATA", os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b")]))
    monkeypatch.delenv("SOUNDMARK_WEIGHTS", raising=False)
    assert files.data_folders() == [tmp_path / "a", tmp_path / "b", tmp_path / "data"]
    assert files.weights_folders() == [tmp_path / "weights"]
    monkeypatch.setenv("SOUNDMARK_WEIGHTS", os.pathsep.join([str(tmp_path / "v"), str(tmp_path / "w")]))
    assert files.weights_folders() == [tmp_path / "v", tmp_path / "w", tmp_path / "weights"]


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"other")):
        (tmp_path / name).write_bytes(content)
    assert files.file_digest(tmp_path / "a") == files.file_digest(tmp_path / "b") != files.file_digest(tmp_path / "c")
