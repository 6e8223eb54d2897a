import hashlib
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from soundmark import download
from soundmark.download import fetch
from soundmark.errors import DownloadError

CONTENT = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`, and misbehaves as `server.moods` says, one mood per request."""

    def do_GET(self):
        server = self.server
        mood = server.moods.pop(0) if server.moods else "well"
        server.requests.append(dict(self.headers))
        content, wanted = server.content, self.headers.get("Range")
        if mood.isdigit():
            self.send_response(int(mood))
            self.send_header("Retry-After", "0")
            self.end_headers()
            return
        start = 0
        fresh = self.headers.get("If-Range") in (None, server.etag)
        if wanted and fresh and mood != "ignore-range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206)
            told = 0 if mood == "wrong-range" else start
            self.send_header("Content-Range", f"bytes {told}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if mood == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"10\r\n" + content[:16] + b"\r\n")
            return
        if mood != "lengthless":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + 300_000 if mood == "drop" else len(content)
        self.wfile.write(content[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.content, server.etag, server.moods, server.requests = CONTENT, '"v1"', [], []
    server.url = f"http://127.0.0.1:{server.server_port}/set.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new" / "set.zip"


def left_over(target):
    return sorted(set(os.listdir(target.parent)) - {target.name}) if target.parent.exists() else []


def test_a_file_comes_whole(server, target):
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(server.url, target, size=len(CONTENT), sha256=digest, progress=False) == target
    assert target.read_bytes() == CONTENT
    assert left_over(target) == []
    fetch(server.url, target, sha256=digest.upper(), progress=False)
    assert len(server.requests) == 1


def test_broken_connections_are_taken_up_where_they_broke(server, target):
    server.moods = ["drop", "drop", "503", "drop"]
    fetch(server.url, target, md5=hashlib.md5(CONTENT).hexdigest(), progress=False)
    assert target.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None, "bytes=300000-", "bytes=600000-", "bytes=600000-", "bytes=900000-"
    ]  # fmt: skip
    assert server.requests[1]["If-Range"] == '"v1"'


def test_a_later_call_goes_on(server, target):
    server.moods = ["drop", "503", "503"]
    with pytest.raises(DownloadError, match=r"answers 503 .*2 times in a row; 300,000 bytes are kept"):
        fetch(server.url, target, progress=False, tries=2)
    assert not target.exists()
    assert left_over(target) == ["set.zip.part", "set.zip.part.json"]
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=300000-"
    assert left_over(target) == []


def test_a_server_that_ignores_ranges_is_read_from_the_start(server, target):
    server.moods = ["drop", "ignore-range"]
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT


def test_another_part_than_asked_for_is_not_believed(server, target):
    server.moods = ["drop", "wrong-range"]
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT


def test_content_that_changed_meanwhile_is_not_mixed(server, target):
    server.moods = ["drop", "503"]
    with pytest.raises(DownloadError):
        fetch(server.url, target, progress=False, tries=1)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT[::-1]


def test_without_a_mark_of_the_version_nothing_is_resumed(server, target):
    server.etag = ""
    server.moods = ["drop"]
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_a_part_longer_than_the_file_is_thrown_away(server, target):
    server.moods = ["drop", "404"]
    with pytest.raises(DownloadError):
        fetch(server.url, target, progress=False)
    server.content = CONTENT[:1000]
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT[:1000]


def test_a_part_of_another_address_is_thrown_away(server, target):
    server.moods = ["drop", "404"]
    with pytest.raises(DownloadError):
        fetch(server.url, target, progress=False)
    fetch(server.url + "?mirror", target, progress=False)
    assert target.read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_part_that_is_whole_needs_no_connection(server, target):
    target.parent.mkdir()
    target.with_name("set.zip.part").write_bytes(CONTENT)
    notes = f'{{"url": "{server.url}", "total": {len(CONTENT)}, "validator": "\\"v1\\""}}'
    target.with_name("set.zip.part.json").write_text(notes)
    fetch(server.url, target, progress=False)
    assert server.requests == []
    assert target.read_bytes() == CONTENT


def test_a_wrong_beginning_is_found_by_the_checksum_and_fetched_again(server, target):
    target.parent.mkdir()
    target.with_name("set.zip.part").write_bytes(b"x" * 1000)
    notes = f'{{"url": "{server.url}", "total": {len(CONTENT)}, "validator": "\\"v1\\""}}'
    target.with_name("set.zip.part.json").write_text(notes)
    fetch(server.url, target, sha256=hashlib.sha256(CONTENT).hexdigest(), progress=False)
    assert target.read_bytes() == CONTENT


def test_lengthless_and_chunked_answers(server, target):
    server.moods = ["chunked", "lengthless"]
    server.etag = ""
    fetch(server.url, target, progress=False)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"size": 5}, "1,024,000 bytes instead of 5"),
        ({"sha256": "00"}, "its sha256 is .* instead of 00"),
        ({"md5": "00"}, "its md5 is .* instead of 00"),
    ],
)
def test_wrong_content_is_not_kept(server, target, expected, message):
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, target, progress=False, **expected)
    assert not target.exists()
    assert left_over(target) == []


def test_a_file_that_fails_the_checks_is_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(b"something else")
    fetch(server.url, target, size=len(CONTENT), progress=False)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("code", ["404", "403", "410", "400"])
def test_what_the_server_refuses_is_not_asked_for_again(server, target, code):
    server.moods = [code] * 3
    with pytest.raises(DownloadError, match=f"answers {code} .*check the address"):
        fetch(server.url, target, progress=False)
    assert len(server.requests) == 1
    assert left_over(target) == []


def test_a_server_that_never_recovers_is_given_up(server, target):
    server.moods = ["500"] * 10
    with pytest.raises(DownloadError, match=r"answers 500 .*3 times in a row"):
        fetch(server.url, target, progress=False, tries=3)
    assert len(server.requests) == 3


def test_no_server_at_all(target):
    with pytest.raises(DownloadError, match=r"no connection .*1 times in a row"):
        fetch("http://127.0.0.1:9/x", target, progress=False, tries=1)


@pytest.mark.parametrize(
    "url", ["", "ftp://x/y", "file:///etc/passwd", "C:\\x", "http://", "http://[bad", "http://a b/"]
)
def test_what_is_no_address(target, url):
    with pytest.raises(DownloadError, match="cannot fetch"):
        fetch(url, target, progress=False, tries=1)


def test_one_process_at_a_time(server, target):
    target.parent.mkdir()
    with download._only_one(target), pytest.raises(DownloadError, match="another process is fetching"):
        fetch(server.url, target, progress=False)
    fetch(server.url, target, progress=False)


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "set.zip", progress=False)


def test_progress_is_shown_on_a_terminal(server, target, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    server.moods = ["drop"]
    fetch(server.url, target)
    assert "set.zip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7), ("100000", 120), ("Mon, 01 Jan 2001 00:00:00 GMT", 0), ("soon", 0), ("", 0)]
)
def test_waiting_as_long_as_the_server_asks(text, seconds):
    error = download.urllib.error.HTTPError("u", 503, "busy", {"Retry-After": text}, None)
    assert download._retry_after(error) == seconds
