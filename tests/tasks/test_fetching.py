import hashlib
import io
import tarfile
from dataclasses import replace

import pytest

from soundmark.errors import DownloadError, TaskError
from soundmark.tasks import fetching
from soundmark.tasks.base import Clip, Task
from soundmark.tasks.published import DataSet
from trees import wav

BIRDS = DataSet("birds", "Birds", ("Birds",), 2, ".wav", "2 MB", "CC0", "https://birds.example")


def load_from(root):
    """A data set of two recordings and a list."""
    names = ["a/owl.wav", "b/tit.wav"]
    if not all((root / name).is_file() for name in [*names, "list.txt"]):
        raise TaskError(f"{root} is incomplete")
    return Task("birds", root, tuple(Clip(name, ("x",)) for name in names), ("x",), "none", ())


@pytest.fixture
def host(tmp_path, serve):
    """Put archives on the server; their description."""

    def put(**members):
        archives = [fetching.Archive(url=f"{serve}/list.txt", plain=True)]
        (tmp_path / "web" / "list.txt").write_text("owl\ntit\n")
        for name, files in members.items():
            path = tmp_path / "web" / f"{name}.tar.gz"
            with tarfile.open(path, "w:gz") as archive:
                for member, content in files.items():
                    entry = tarfile.TarInfo(member)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
            archives.append(
                fetching.Archive(
                    url=f"{serve}/{name}.tar.gz",
                    md5=hashlib.md5(path.read_bytes()).hexdigest() if name == "one" else "",
                    strip=1,
                    wanted=lambda member: not member.endswith(".html"),
                )
            )
        return archives

    return put


def get(tmp_path, archives, **said):
    return fetching.get(BIRDS, archives, tmp_path / "sets", load_from, progress=False, **said)


def whole():
    return {"one": {"top/a/owl.wav": wav(), "top/index.html": b"x"}, "two": {"top/b/tit.wav": wav()}}


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "sets").iterdir())


def test_several_files_make_one_data_set(host, tmp_path):
    archives = host(**whole())
    place = get(tmp_path, archives)
    assert place == tmp_path / "sets" / "Birds"
    assert names(tmp_path) == ["Birds"]
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    assert found == ["a/owl.wav", "b/tit.wav", "list.txt"]
    for path in (tmp_path / "web").iterdir():
        path.unlink()
    assert get(tmp_path, archives) == place  # nothing is fetched again


def test_what_is_lost_is_fetched_again_and_archives_can_be_kept(host, tmp_path):
    archives = host(**whole())
    place = get(tmp_path, archives, keep_archive=True)
    assert names(tmp_path) == ["Birds", "one.tar.gz", "two.tar.gz"]
    (place / "b" / "tit.wav").unlink()
    assert (get(tmp_path, archives) / "b" / "tit.wav").read_bytes() == wav()
    assert names(tmp_path) == ["Birds"]


def test_another_address_is_that_of_the_folder_or_of_the_only_file(host, tmp_path, serve):
    archives = [
        fetching.Archive(url=each.url.replace(serve, "http://127.0.0.1:9"), plain=each.plain, strip=each.strip)
        for each in host(**whole())
    ]
    assert get(tmp_path, archives, url=f"{serve}/").is_dir()
    (tmp_path / "web" / "alone.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DownloadError, match="damaged or no archive"):
        fetching.get(
            replace(BIRDS, folders=("One",)), archives[1:2], tmp_path / "sets", load_from, url=f"{serve}/alone.tar.gz"
        )


def test_a_page_in_place_of_an_archive_is_thrown_away_and_the_way_by_hand_told(host, tmp_path):
    archives = host(**whole())
    (tmp_path / "web" / "two.tar.gz").write_text("<html>please register</html>")
    with pytest.raises(DownloadError, match=r"register.*in a browser at https://birds.example, save the file as .*two"):
        get(tmp_path, archives)
    assert names(tmp_path) == ["Birds.part", "one.tar.gz"]
    (tmp_path / "sets" / "two.tar.gz").write_bytes(b"")
    host(**whole())
    (tmp_path / "web" / "two.tar.gz").replace(tmp_path / "sets" / "two.tar.gz")  # as by hand
    assert get(tmp_path, archives).name == "Birds"


def test_checksums_are_checked(host, tmp_path):
    archives = host(**whole())
    (tmp_path / "web" / "one.tar.gz").write_bytes(b"another")
    with pytest.raises(DownloadError, match=r"its md5 is .* instead of .*register"):
        get(tmp_path, archives)
    assert "Birds" not in names(tmp_path)


@pytest.mark.parametrize(
    ("two", "message"), [({"top/b/owl.wav": b"x"}, "is incomplete"), ({"top/b/tit.wav": b""}, "are empty files")]
)
def test_what_is_not_the_data_set_is_not_put_in_its_place(host, tmp_path, two, message):
    with pytest.raises(TaskError, match=rf"{message}.*came from .*one.tar.gz and .*two.tar.gz: delete"):
        get(tmp_path, host(**{**whole(), "two": two}))
    assert names(tmp_path) == ["Birds.part", "one.tar.gz", "two.tar.gz"]
