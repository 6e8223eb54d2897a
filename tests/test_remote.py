"""Files at addresses: in fsspec's memory, and on a web server of this machine."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soundmark import audio, remote
from soundmark.errors import AudioError, MissingExtra, RemoteError
from soundmark.files import file_digest
from soundmark.remote import Url

fsspec = pytest.importorskip(
    "fsspec", reason="SKIPPED FOR WANT OF FSSPEC: pip install 'soundmark[remote]'; addresses are not tested"
)


@pytest.fixture
def memory() -> Iterator[Any]:
    """Fsspec's file system in memory, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))


@pytest.fixture
def wave(tmp_path: Path) -> bytes:
    noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    audio.write(tmp_path / "x.wav", noise, 16000)
    return (tmp_path / "x.wav").read_bytes()


def test_an_address_has_the_parts_of_a_path() -> None:
    url = Url("s3://bucket/a folder/x.tar.WAV")
    assert (url.name, url.stem, url.suffix, url.scheme) == ("x.tar.WAV", "x.tar", ".WAV", "s3")
    assert url.parent == Url("s3://bucket/a folder")
    assert url.parent / "y.wav" == Url("s3://bucket/a folder/y.wav")
    assert len({url, Url(url.text)}) == 1
    signed = Url("https://host:8000/d/clips.csv?key=1/2.3")
    assert (signed.suffix, signed.parent / "a.wav") == (".csv", Url("https://host:8000/d/a.wav"))
    assert all(map(remote.is_url, ("hf://x/y", "memory:///x")))
    assert not any(map(remote.is_url, ("C:/x", "c://x", "a:b", "/x", "x.csv", "s3://")))
    assert remote.join(Path("/x"), "s3://b/a.wav") == Url("s3://b/a.wav")
    assert remote.join(Url("s3://b"), "a.wav") == Url("s3://b/a.wav")
    assert remote.join(Path("x"), "a.wav") == Path("x/a.wav")


def test_sound_is_read_from_addresses_as_from_files(memory: Any, serve: str, tmp_path: Path, wave: bytes) -> None:
    memory.pipe("/b/x.wav", wave)
    (tmp_path / "web" / "a x.wav").write_bytes(wave)
    expected, rate = audio.read(tmp_path / "x.wav")
    for url in ("memory://b/x.wav", f"{serve}/a x.wav", f"{serve}/a%20x.wav"):
        got, there = audio.read(Url(url))
        assert there == rate
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(audio.read(url, start=0.1, end=0.2)[0], expected[1600:3200])
        assert audio.info(url).duration == 0.5
        assert file_digest(Url(url)) == file_digest(tmp_path / "x.wav")


def test_a_large_file_is_read_in_parts(
    memory: Any, tmp_path: Path, wave: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/b/x.wav", wave)
    monkeypatch.setattr(remote, "WHOLE_BYTES", 1000)
    copied: list[object] = []
    monkeypatch.setattr(remote.shutil, "copyfileobj", lambda *given: copied.append(given))
    np.testing.assert_array_equal(audio.read("memory://b/x.wav")[0], audio.read(tmp_path / "x.wav")[0])
    assert not copied


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://b/gone.wav", "there is no file memory://b/gone.wav: check the address"),
        ("{serve}/gone.wav", r"there is no file http://.*/gone\.wav: check the address"),
        ("http://127.0.0.1:9/x.wav", "cannot be read .*: check the address and your access"),
        ("nonesuch://b/x.wav", "nothing here reads nonesuch://; https://, s3://"),
    ],
)
def test_what_is_not_there_is_named(url: str, said: str, memory: Any, serve: str) -> None:
    url = url.format(serve=serve)
    with pytest.raises(AudioError, match=said):
        audio.read(url)
    with pytest.raises(OSError, match=said):
        file_digest(Url(url))


def test_a_failed_read_is_tried_again(memory: Any, wave: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/b/x.wav", wave)
    real, failures = remote._filesystem, [TimeoutError("slow"), ConnectionError("gone")]

    def shaky(url: Url) -> Any:
        if failures:
            raise failures.pop()
        return real(url)

    monkeypatch.setattr(remote, "_filesystem", shaky)
    assert Url("memory://b/x.wav").read_bytes() == wave
    failures += [TimeoutError("slow")] * 3
    with pytest.raises(RemoteError, match=r"x\.wav cannot be read \(slow\)"):
        Url("memory://b/x.wav").read_bytes()


def test_half_a_file_is_not_taken_for_a_whole_one(memory: Any, wave: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/b/x.wav", wave)
    real = remote.shutil.copyfileobj
    monkeypatch.setattr(remote.shutil, "copyfileobj", lambda source, target, length: target.write(source.read(100)))
    with pytest.raises(RemoteError, match=rf"only 100 of {len(wave)} bytes came"):
        Url("memory://b/x.wav").read_bytes()
    monkeypatch.setattr(remote.shutil, "copyfileobj", real)
    with ExitStack() as stack:
        file = remote.opened(Url("memory://b/x.wav"), stack)
        assert file.name == "memory://b/x.wav"
        assert file.read(4) == b"RIFF"


@pytest.mark.parametrize(
    ("module", "url", "said"),
    [
        ("fsspec", "s3://b/x.wav", r"addresses need fsspec: pip install 'soundmark\[remote\]'"),
        ("s3fs", "s3://b/x.wav", "s3:// needs a package that is not installed: pip install s3fs"),
        ("gcsfs", "gs://b/x.wav", "pip install gcsfs"),
    ],
)
def test_a_missing_package_is_named(module: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(f"Install {module}", name=module)
        return real(name, *given, **more)

    def unknown(address: str) -> Any:
        raise ImportError(f"Install {module} to read this", name=module)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(fsspec.core, "url_to_fs", unknown)
    with pytest.raises(MissingExtra, match=said):
        Url(url).read_bytes()


def test_a_folder_is_listed_with_the_marks_its_store_gives(memory: Any, serve: str, tmp_path: Path) -> None:
    memory.pipe("/b/c/y.wav", b"1")
    memory.pipe("/b/x.wav", b"1")
    memory.pipe("/bb/z.wav", b"1")
    assert remote.listing(Url("memory://b")) == {"c/y.wav": "", "x.wav": ""}
    assert remote.listing(Url("memory://b/")) == {"c/y.wav": "", "x.wav": ""}
    (tmp_path / "web" / "c").mkdir()
    (tmp_path / "web" / "c" / "y.wav").write_bytes(b"1")
    assert list(remote.listing(Url(serve))) == ["c/y.wav"]
    assert remote._mark({"ETag": '"abc"'}) == '"abc"'
    with pytest.raises(RemoteError, match="nothing below memory://gone"):
        remote.listing(Url("memory://gone"))
