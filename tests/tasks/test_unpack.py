import io
import tarfile
import zipfile

import pytest

from soundmark.errors import DamagedArchive, DownloadError
from soundmark.tasks.unpack import unpack


@pytest.fixture
def make_zip(tmp_path):
    def make(members, name="set.zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return tmp_path / name

    return make


@pytest.fixture
def make_tar(tmp_path):
    def make(members, name="set.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            for member, content in members.items():
                entry = tarfile.TarInfo(member) if isinstance(member, str) else member
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return tmp_path / name

    return make


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MEMBERS = {"set-1/a/x.wav": b"x" * 1000, "set-1/a/y.wav": b"y", "set-1/notes.txt": b"n", "top.txt": b"t"}


@pytest.mark.parametrize("kind", ["make_zip", "make_tar"])
def test_archives_come_out_as_they_went_in(request, tmp_path, kind):
    archive = request.getfixturevalue(kind)(MEMBERS)
    assert unpack(archive, tmp_path / "out", progress=False) == 4
    assert files(tmp_path / "out") == MEMBERS
    count = unpack(archive, tmp_path / "some", strip=1, wanted=lambda name: name.startswith("a/"), progress=False)
    assert count == 2
    assert files(tmp_path / "some") == {"a/x.wav": b"x" * 1000, "a/y.wav": b"y"}


def test_what_is_there_is_left_alone_and_what_is_cut_off_is_written_again(make_zip, tmp_path):
    out = tmp_path / "out" / "set-1" / "a"
    out.mkdir(parents=True)
    (out / "x.wav").write_bytes(b"z" * 1000)
    (out / "y.wav").write_bytes(b"")
    assert unpack(make_zip(MEMBERS), tmp_path / "out", progress=False) == 4
    assert (out / "x.wav").read_bytes() == b"z" * 1000
    assert (out / "y.wav").read_bytes() == b"y"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:/evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["make_zip", "make_tar"])
def test_nothing_is_written_elsewhere(request, tmp_path, kind, name):
    archive = request.getfixturevalue(kind)({name: b"x"})
    with pytest.raises(DownloadError, match="outside the folder"):
        unpack(archive, tmp_path / "in" / "out", progress=False)
    assert files(tmp_path / "in") == {}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(make_tar, tmp_path, kind):
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = kind, "/etc/passwd"
    with pytest.raises(DownloadError, match="'link', which is a link or a device"):
        unpack(make_tar({entry: b""}), tmp_path / "out", progress=False)
    assert unpack(make_tar({entry: b""}), tmp_path / "out", wanted=lambda name: name != "link", progress=False) == 0


def test_a_link_in_a_zip_is_refused(make_zip, tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with pytest.raises(DownloadError, match="is a link or a device"):
        unpack(make_zip({entry: "/etc/passwd"}), tmp_path / "out", progress=False)


@pytest.mark.parametrize("kind", ["make_zip", "make_tar"])
def test_no_more_is_unpacked_than_allowed(request, tmp_path, kind):
    archive = request.getfixturevalue(kind)({"a": bytes(600), "b": bytes(600)})
    with pytest.raises(DownloadError, match="more than 1,000 bytes"):
        unpack(archive, tmp_path / "out", max_bytes=1000, progress=False)


def test_no_more_files_than_allowed(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr("soundmark.tasks.unpack.MAX_MEMBERS", 3)
    with pytest.raises(DownloadError, match="more than 3 files"):
        unpack(make_zip(MEMBERS), tmp_path / "out", progress=False)


def test_damaged_archives(make_zip, make_tar, tmp_path):
    good = make_zip({"a": bytes(range(256)) * 500}).read_bytes()
    broken = {"cut.zip": good[:-30], "flipped.zip": good[:200] + b"\xff\xff\xff" + good[203:], "empty.zip": b"",
              "text.zip": b"<html>not found</html>"}  # fmt: skip
    tar = make_tar({"a": bytes(range(256)) * 5000}).read_bytes()
    broken |= {"cut.tar.gz": tar[: len(tar) // 2], "flipped.tar.gz": tar[:60] + b"\xff" * 9 + tar[69:]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedArchive, match="damaged or no archive"):
            unpack(tmp_path / name, tmp_path / "out", progress=False)
    assert files(tmp_path / "out") == {}


def test_an_archive_with_a_password(make_zip, tmp_path):
    path = make_zip({"a": b"secret"})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DownloadError, match=r"cannot|damaged"):
        unpack(path, tmp_path / "out", progress=False)


def test_a_missing_archive(tmp_path):
    with pytest.raises(DownloadError, match="cannot unpack"):
        unpack(tmp_path / "none.zip", tmp_path / "out", progress=False)


def test_a_full_disk(make_zip, tmp_path, monkeypatch):
    monkeypatch.setattr("soundmark.tasks.unpack.shutil.disk_usage", lambda path: type("D", (), {"free": 10}))
    with pytest.raises(DownloadError, match="no room on the disk"):
        unpack(make_zip(MEMBERS), tmp_path / "out", progress=False)
