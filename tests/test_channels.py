"""Commands, webhooks and MQTT, against local stand-ins that work, fail, hang and refuse."""

from __future__ import annotations

import hmac
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from soundmark.channels import Command, Mqtt, Webhook, signature
from soundmark.errors import ListenError

SAID = {
    "kind": "new", "id": 7, "label": "car $(touch x); horn", "score": 0.9, "start": 1.0, "end": 2.0, "time": 2.0,
    "at": "2026-01-01T00:00:00.000+00:00", "source": "the microphone", "model": "mark1",
}  # fmt: skip


@pytest.fixture
def never() -> threading.Event:
    return threading.Event()


# --- Commands ------------------------------------------------------------------------------------------------------

KEEP = """import json, os, sys
said = {"arguments": sys.argv[2:], "input": json.loads(sys.stdin.read()),
        "environment": {k: v for k, v in os.environ.items() if k.startswith("SOUNDMARK_")}}
open(sys.argv[1], "w").write(json.dumps(said))
"""


def python(tmp_path: Path, text: str, *words: str) -> Command:
    (tmp_path / "script.py").write_text(text, encoding="utf-8")
    return Command([sys.executable, str(tmp_path / "script.py"), *words], timeout=600)


def test_a_command_gets_words_input_and_environment_and_no_shell(tmp_path: Path, never: threading.Event) -> None:
    out = tmp_path / "out.json"
    python(tmp_path, KEEP, str(out), "--of={label}", "{score}", "{nothing").send(SAID, never)
    got = json.loads(out.read_text())
    assert got["arguments"] == ["--of=car $(touch x); horn", "0.9", "{nothing"]
    assert got["input"] == SAID
    assert got["environment"]["SOUNDMARK_LABEL"] == SAID["label"]
    assert got["environment"]["SOUNDMARK_ID"] == "7"
    assert got["environment"].get("SOUNDMARK_MODEL") != "mark1"
    assert [path.name for path in tmp_path.iterdir() if path.name == "x"] == []


def test_a_label_that_names_a_field_is_not_filled_in_again(tmp_path: Path, never: threading.Event) -> None:
    out = tmp_path / "out.json"
    python(tmp_path, KEEP, str(out), "{label}").send(SAID | {"label": "{source}"}, never)
    assert json.loads(out.read_text())["arguments"] == ["{source}"]


def test_a_command_that_fails_is_reported(tmp_path: Path, never: threading.Event) -> None:
    with pytest.raises(ListenError, match="exit code 3"):
        python(tmp_path, "raise SystemExit(3)").send(SAID, never)
    with pytest.raises(ListenError, match=r"nonesuch cannot be run .*check its path"):
        Command([str(tmp_path / "nonesuch")]).send(SAID, never)


def test_a_command_that_hangs_is_ended(tmp_path: Path, never: threading.Event) -> None:
    stuck = python(tmp_path, "import time; time.sleep(600)")
    stuck.timeout = 0.5
    with pytest.raises(ListenError, match=r"not finished after 0\.5 s"):
        stuck.send(SAID, never)


def test_commands_are_read_as_one_types_them() -> None:
    assert Command.parse("notify 'a {label}' {score}", 5).words == ["notify", "a {label}", "{score}"]
    for text, words in (("", "empty"), ("a 'b", "close its quotes"), ("a {nonsense}", "{nonsense}.*there are kind")):
        with pytest.raises(ListenError, match=words):
            Command.parse(text, 5)


def test_a_label_cannot_become_an_option() -> None:
    with pytest.raises(ListenError, match="taken for an option"):
        Command.parse("rm {label}", 5, ["dog", "-rf"])
    assert Command.parse("say --of={label}", 5, ["dog", "-rf"])


# --- Webhooks ------------------------------------------------------------------------------------------------------


class Server:
    """Answers posts with these codes, one after the other; the last for ever."""

    def __init__(self, codes: Sequence[int]) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.posts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                code = codes[min(len(server.posts), len(codes)) - 1]
                self.send_response(code)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/alerts?key=1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(request.param)
    yield made
    made.close()


NOW = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("server", [[500, 503, 204]], indirect=True)
def test_a_post_is_tried_again_and_signed_anew(server: Server, never: threading.Event) -> None:
    Webhook(server.address, "secret", pauses=NOW).send(SAID, never)
    assert [path for path, _, _ in server.posts] == ["/alerts?key=1"] * 3
    assert len({head["x-soundmark-delivery"] for _, head, _ in server.posts}) == 1
    for _, head, body in server.posts:
        assert json.loads(body) == SAID
        assert head["content-type"] == "application/json"
        stamp = head["x-soundmark-timestamp"]
        wanted = hmac.new(b"secret", stamp.encode() + b"." + body, "sha256").hexdigest()
        assert head["x-soundmark-signature"] == f"sha256={wanted}" == signature("secret", stamp, body)


@pytest.mark.parametrize(("server", "posts"), [([404], 1), ([302], 1), ([500], 4), ([429], 4)], indirect=["server"])
def test_some_refusals_are_final(server: Server, posts: int, never: threading.Event) -> None:
    with pytest.raises(ListenError, match=r"it answered \d+, attempt"):
        Webhook(server.address, pauses=NOW).send(SAID, never)
    assert len(server.posts) == posts
    assert "x-soundmark-signature" not in server.posts[0][1]


@pytest.mark.parametrize("server", [[500]], indirect=True)
def test_who_stops_does_not_wait_for_attempts(server: Server) -> None:
    over = threading.Event()
    over.set()
    with pytest.raises(ListenError, match="attempt 1"):
        Webhook(server.address, pauses=(600.0,)).send(SAID, over)


@pytest.mark.parametrize("server", [[200]], indirect=True)
def test_user_and_password_are_sent_and_never_said(server: Server, never: threading.Event) -> None:
    hook = Webhook(server.address.replace("//", "//me:my%20secret@"), "other")
    hook.send(SAID, never)
    assert server.posts[0][1]["authorization"] == "Basic bWU6bXkgc2VjcmV0"
    assert hook.name == "the webhook at 127.0.0.1"
    assert "other" not in repr(hook)


def test_a_server_that_hangs_is_given_up(never: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2, pauses=(0.0,))
        with pytest.raises(ListenError, match=r"no answer \(timed out\), attempt 2"):
            hook.send(SAID, never)


def test_a_server_that_is_not_there_is_given_up(never: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ListenError, match=r"no answer .*attempt 2"):
        Webhook(f"http://127.0.0.1:{port}/", pauses=(0.0,)).send(SAID, never)


@pytest.mark.parametrize("address", ["", "ftp://a/b", "http://", "http://a:x/", "http://a/b c", "http://a/\r\nX: y"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ListenError, match="address is none"):
        Webhook(address)


# --- MQTT ----------------------------------------------------------------------------------------------------------


class Broker:
    """As much of a broker as one publisher needs: takes a connection, acknowledges what is published (MQTT 3.1.1)."""

    def __init__(self, acknowledges: bool = True) -> None:
        self.acknowledges = acknowledges
        self.connect = b""
        self.published: list[tuple[str, bytes]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        connection, _ = self.socket.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(1):
                size = shift = 0
                while True:
                    (byte,) = stream.read(1)
                    size, shift = size | (byte & 127) << shift, shift + 7
                    if byte < 128:
                        break
                body = stream.read(size)
                if head[0] >> 4 == 1:
                    self.connect = body
                    connection.sendall(b"\x20\x02\0\0")
                elif head[0] >> 4 == 3:
                    length = int.from_bytes(body[:2], "big")
                    rest = body[2 + length :]
                    self.published.append((body[2 : 2 + length].decode(), rest[2:]))
                    if self.acknowledges:
                        connection.sendall(b"\x40\x02" + rest[:2])

    def close(self) -> None:
        self.thread.join(30)
        self.socket.close()


def test_a_message_is_published_and_acknowledged(never: threading.Event) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker()
    channel = Mqtt(f"mqtt://me:wrong@127.0.0.1:{broker.port}/home/my%20sounds", "right", timeout=30)
    for number in (1, 2):
        channel.send(SAID | {"id": number}, never)
    channel.close()
    broker.close()
    assert [topic for topic, _ in broker.published] == ["home/my sounds"] * 2
    assert [json.loads(content)["id"] for _, content in broker.published] == [1, 2]
    assert broker.connect.endswith(b"\0\x02me\0\x05right")


def test_a_broker_that_takes_nothing_is_reported(never: threading.Event) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker(acknowledges=False)
    channel = Mqtt(f"mqtt://127.0.0.1:{broker.port}/sounds", timeout=1.0)
    with pytest.raises(ListenError, match=r"was not told of .* within 1 s"):
        channel.send(SAID, never)
    channel.close()
    broker.close()


def test_a_broker_that_is_not_there_is_reported(never: threading.Event) -> None:
    pytest.importorskip("paho.mqtt.client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    channel = Mqtt(f"mqtt://127.0.0.1:{port}/sounds", timeout=0.2)
    with pytest.raises(ListenError, match="there is no connection"):
        channel.send(SAID, never)
    channel.close()


@pytest.mark.parametrize("address", ["", "http://a/b", "mqtt://a", "mqtt://a/", "mqtt:///b", "mqtt://a/b/%23"])
def test_addresses_and_topics_that_are_none(address: str) -> None:
    with pytest.raises(ListenError, match="MQTT address is none"):
        Mqtt(address)
