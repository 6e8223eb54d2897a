"""How someone is told: by a command, a webhook or an MQTT topic. `soundmark.alerts` decides of what, and when."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from soundmark import __version__
from soundmark.alerts import Message
from soundmark.errors import ListenError

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds between attempts
FIELDS = ("kind", "id", "label", "score", "start", "end", "time", "at", "source", "model")
_GLANCE = 0.2  # seconds between looks at a command
_AGAIN = {408, 425, 429}  # refusals that may be different in a moment, beside those from 500 up


@dataclass
class Command:
    """Runs a program, without a shell: nothing in a label or a name can become another command.

    Attributes:
        words: program and arguments; `{label}`, `{score}` and the other fields of a message are filled in.
        timeout: seconds after which it is ended.

    It finds the message as JSON on its standard input, and its fields in the environment as `SOUNDMARK_LABEL` and so
    on (but for the model, since `SOUNDMARK_MODEL` is ours). What it prints goes to our error stream.
    """

    words: Sequence[str]
    timeout: float = 30.0

    @property
    def name(self) -> str:
        """The program."""
        return f"the command {self.words[0]}"

    @classmethod
    def parse(cls, text: str, timeout: float, labels: Collection[str] = ()) -> Command:
        """From a line as one would type it.

        Raises:
            ListenError: if it is empty, has an unclosed quote or a field that is none, or a label would be taken for
                an option.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise ListenError(f"the command {text!r} cannot be read ({error}): close its quotes") from None
        if not words:
            raise ListenError("the command is empty: name a program")
        for name in re.findall(r"\{(\w*)\}", text):
            if name not in FIELDS:
                raise ListenError(f"the command {text!r} has the field {{{name}}}: there are {', '.join(FIELDS)}")
        risky = [label for label in labels if label.startswith("-")]
        if risky and any(word.startswith("{label}") for word in words):
            raise ListenError(
                f"the label {risky[0]!r} would be taken for an option of {words[0]}: read it from SOUNDMARK_LABEL"
            )
        return cls(words, timeout)

    def send(self, message: Message, over: threading.Event) -> None:
        """Run it and wait for its end."""
        words = [re.sub(r"\{(\w+)\}", lambda match: str(message[match[1]]), word) for word in self.words]
        more = {f"SOUNDMARK_{key.upper()}": str(value) for key, value in message.items() if key != "model"}
        try:
            process = subprocess.Popen(  # noqa: S603  # what the user asked for
                words, stdin=subprocess.PIPE, stdout=sys.__stderr__, env=os.environ | more, start_new_session=True
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ListenError(f"{self.name} cannot be run ({reason}): check its path") from None
        with process:
            try:
                code = self._finish(process, json.dumps(message).encode() + b"\n", over)
            except BaseException:  # leaving the block waits for its end
                _end(process)
                raise
        if code:
            raise ListenError(f"{self.name} failed (exit code {code})")

    def _finish(self, process: subprocess.Popen[bytes], content: bytes | None, over: threading.Event) -> int:
        until, given = time.monotonic() + self.timeout, content
        while True:
            try:
                process.communicate(given, timeout=_GLANCE)
                return process.returncode
            except subprocess.TimeoutExpired:
                given = None  # it is on its way, and may not be given twice
                if time.monotonic() >= until or over.is_set():
                    raise ListenError(f"{self.name} was ended: it had not finished after {self.timeout:g} s") from None

    def close(self) -> None:
        """Nothing is open."""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program with what it has started."""
    with suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.kill()


@dataclass
class Webhook:
    """Posts messages as JSON.

    Attributes:
        address: http or https; user and password in it are sent as basic authorisation.
        secret: signs every post; empty for none.
        timeout: seconds that an attempt may wait for the server.
        pauses: seconds before every further attempt.

    Headers: `X-Soundmark-Delivery` is the same in all attempts at one message, so that a receiver can pass over what
    it has had. With a secret, `X-Soundmark-Timestamp` holds Unix seconds and `X-Soundmark-Signature` holds `sha256=`
    and the hexadecimal HMAC-SHA256 of the timestamp, a full stop and the body.

    A redirection is a failure: a post does not survive one.

    Raises:
        ListenError: if the address is none.
    """

    address: str
    secret: str = field(default="", repr=False)
    timeout: float = 10.0
    pauses: Sequence[float] = PAUSES

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.address)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good or any(ord(letter) <= 32 for letter in self.address):
            raise ListenError("the webhook's address is none: give one such as https://example.org/alerts")

    @property
    def name(self) -> str:
        """The host; paths may hold keys."""
        return f"the webhook at {urlsplit(self.address).hostname}"

    def send(self, message: Message, over: threading.Event) -> None:
        """Post it, several times if need be."""
        body, delivery = json.dumps(message).encode(), str(uuid.uuid4())
        attempts = len(self.pauses) + 1
        for attempt, pause in enumerate((*self.pauses, 0.0), start=1):
            reason, final = self._attempt(body, delivery)
            if not reason:
                return
            if final or attempt == attempts or over.wait(pause):
                raise ListenError(f"{self.name} was not told of {message['label']}: {reason}, attempt {attempt}")

    def _attempt(self, body: bytes, delivery: str) -> tuple[str, bool]:
        """Why it failed, or nothing; and whether that is final."""
        parts = urlsplit(self.address)
        assert parts.hostname
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            connection = kind(parts.hostname, parts.port, timeout=self.timeout)
            try:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("POST", path, body, self._headers(body, delivery))
                status = connection.getresponse().status
            finally:
                connection.close()
        except ssl.SSLCertVerificationError as error:
            return f"its certificate is not good ({error.verify_message})", True
        except (OSError, http.client.HTTPException) as error:
            return f"no answer ({error or type(error).__name__})", False
        if 200 <= status < 300:
            return "", True
        return f"it answered {status}", not (status >= 500 or status in _AGAIN)

    def _headers(self, body: bytes, delivery: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"soundmark/{__version__}",
            "X-Soundmark-Delivery": delivery,
        }
        if self.secret:
            stamp = str(int(time.time()))
            headers |= {"X-Soundmark-Timestamp": stamp, "X-Soundmark-Signature": signature(self.secret, stamp, body)}
        parts = urlsplit(self.address)
        if parts.username is not None:
            from base64 import b64encode

            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        return headers

    def close(self) -> None:
        """Nothing is open."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What `X-Soundmark-Signature` holds; for receivers, who should compare it by `hmac.compare_digest`."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@dataclass
class Mqtt:
    """Publishes messages as JSON, by paho-mqtt (extra `mqtt`), at least once.

    Attributes:
        address: `mqtt://[user:password@]host[:port]/topic`, or `mqtts://` for TLS.
        password: in place of the one in the address, where other users of the machine could read it.
        timeout: seconds until the broker must have taken a message.

    Raises:
        ListenError: if the address is none.
        ModuleNotFoundError: if paho-mqtt is not installed.
    """

    address: str
    password: str = field(default="", repr=False)
    timeout: float = 10.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.address)
            good = parts.scheme in ("mqtt", "mqtts") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        self.topic = unquote(parts.path[1:]) if good else ""
        if not self.topic or set(self.topic) & {"#", "+", "\0"}:
            raise ListenError("the MQTT address is none: give one such as mqtt://broker.example.org/home/sounds")
        from paho.mqtt import client, enums

        self._ok = client.MQTT_ERR_SUCCESS
        self._client: Any = client.Client(enums.CallbackAPIVersion.VERSION2)
        self._client.max_queued_messages_set(1)
        if parts.username is not None:
            self._client.username_pw_set(unquote(parts.username), self.password or unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        self._started = False

    @property
    def name(self) -> str:
        """Host and topic."""
        return f"the MQTT broker at {urlsplit(self.address).hostname}"

    def send(self, message: Message, over: threading.Event) -> None:
        """Publish it, over a connection that is kept and that the library takes up again."""
        try:
            if not self._started:
                self._client.connect_async(urlsplit(self.address).hostname, self._port, keepalive=60)
                self._client.loop_start()
                self._started = True
            until = time.monotonic() + self.timeout
            while not self._client.is_connected() and time.monotonic() < until and not over.wait(0.05):
                pass
            if not self._client.is_connected():
                raise ListenError(f"{self.name} was not told of {message['label']}: there is no connection")
            handed = self._client.publish(self.topic, json.dumps(message), qos=1)
            if handed.rc != self._ok:
                raise ListenError(f"{self.name} was not told of {message['label']}: error {handed.rc}")
            handed.wait_for_publish(max(0.1, until - time.monotonic()))
            if not handed.is_published():
                raise ListenError(f"{self.name} was not told of {message['label']} within {self.timeout:g} s")
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, ListenError):
                raise
            raise ListenError(f"{self.name} was not told of {message['label']}: {error}") from None

    def close(self) -> None:
        """Take leave of the broker."""
        if self._started:
            self._client.disconnect()
            self._client.loop_stop()
