"""Hear a microphone, a pipe, a network stream or a recording, and tell of sounds as they begin and end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from soundmark.audio.pcm import CODINGS
from soundmark.cli.options import add_finding, classifier_asked, count, finding_of, period, printable

if TYPE_CHECKING:
    from soundmark.alerts import Alerts
    from soundmark.cli.screen import Screen
    from soundmark.events import Settings
    from soundmark.listen import Listener
    from soundmark.model import Classifier
    from soundmark.sources import Source

EXAMPLES = """examples:
  soundmark listen                                           the microphone
  soundmark listen --list-devices
  soundmark listen --device 3 --view danger --false-alarms 0.01
  soundmark listen rtsp://camera.local/stream --view danger --json
  ffmpeg -i SOURCE -f wav - | soundmark listen -
  arecord -f S16_LE -r 44100 -t raw | soundmark listen - --rate 44100
  soundmark listen day.flac --realtime
  soundmark listen --view danger --on danger --run 'notify-send {label} {score}'
  soundmark listen --on dog --webhook https://example.org/alerts --webhook-secret-env HOOK_SECRET
  soundmark listen --on siren --when new --when end --mqtt mqtt://broker.local/home/sounds --cooldown 60

A command runs without a shell; it finds the message as JSON on its standard input, and its fields in SOUNDMARK_LABEL,
SOUNDMARK_SCORE and so on. Fields: kind, id, label, score, start, end, time, at, source, model.

It ends with the sound (exit code 0), by SIGTERM (0) or by Ctrl-C (130); what is open then ends, and alerts are still
sent.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "listen", help="hear a microphone, a pipe or a network stream, and tell of sounds", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument(
        "source", nargs="?", metavar="SOURCE", help="- for a pipe, a URL, or a recording (default: the microphone)"
    )
    _add_source(options.add_argument_group("source"))
    add_finding(options)
    options.add_argument(
        "--update", metavar="S", type=period, default=5.0, help="seconds between updates of an event (default: 5)"
    )
    options.add_argument("--json", action="store_true", help="print every change of an event as a JSON object")
    options.add_argument(
        "--threads", metavar="N", type=count, default=1, help="cores that the model may use (default: 1)"
    )
    _add_alerts(options.add_argument_group("alerts"))


def _add_source(options: argparse._ArgumentGroup) -> None:
    options.add_argument("--device", metavar="D", help="input device: its number, or a part of its name")
    options.add_argument("--list-devices", action="store_true", help="print the input devices and leave")
    options.add_argument("--rate", metavar="HZ", type=count, help="of raw samples on a pipe, or of the microphone")
    options.add_argument("--channels", metavar="N", type=count, default=1, help="of raw samples (default: 1)")
    options.add_argument("--coding", choices=tuple(CODINGS), default="s16le", help="of raw samples (default: s16le)")
    options.add_argument("--realtime", action="store_true", help="play a recording at its own pace")
    options.add_argument("--once", action="store_true", help="end with the stream instead of connecting again")
    options.add_argument(
        "--backlog", metavar="S", type=period, default=30.0,
        help="seconds of sound that may wait; the oldest of what cannot wait longer is dropped (default: 30)",
    )  # fmt: skip


def _add_alerts(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="L",
        help="alert on this label; several times for more (default: all)",
    )
    options.add_argument(
        "--when", action="append", choices=("new", "update", "end"), help="alert on these changes (default: new)"
    )
    options.add_argument(
        "--cooldown", metavar="S", type=period, default=0.0, help="seconds before a label alerts again (default: 0)"
    )
    options.add_argument("--run", action="append", default=[], metavar="CMD", help="run a command, without a shell")
    options.add_argument("--webhook", action="append", default=[], metavar="URL", help="post a JSON object")
    options.add_argument(
        "--webhook-secret-env", metavar="NAME", help="sign posts with the secret in this environment variable"
    )
    options.add_argument("--mqtt", action="append", default=[], metavar="URL", help="publish: mqtt://host/topic")
    options.add_argument(
        "--mqtt-password-env", metavar="NAME", help="the broker's password is in this environment variable"
    )
    options.add_argument(
        "--timeout", metavar="S", type=period, default=10.0, help="seconds that an alert may take (default: 10)"
    )


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark.cli.screen import Screen
    from soundmark.listen import Listener

    printable()
    if args.list_devices:
        return _list_devices()
    source = _source(args)
    classifier = classifier_asked(args, args.threads)
    settings = finding_of(args, classifier, args.update)
    places = [place for place, label in enumerate(classifier.labels) if label in settings.thresholds]
    screen = Screen([classifier.labels[place] for place in places], places, as_json=args.json)
    alerts = _alerts(args, settings, screen)
    listener = Listener(classifier, source, settings, backlog_seconds=args.backlog, say=screen.note)
    screen.note(
        f"{source.name}, windows of {settings.window_seconds:g} s every {settings.hop_seconds:g} s; Ctrl-C ends"
    )
    try:
        code = _listen(listener, classifier, screen, alerts)
    finally:
        screen.close()
        alerts.close(args.timeout)
    return code


def _listen(listener: Listener, classifier: Classifier, screen: Screen, alerts: Alerts) -> int:
    from soundmark.alerts import message
    from soundmark.cli import INTERRUPTED

    asked: list[int] = []

    def leave(number: int, frame: Any) -> None:
        asked.append(number)
        listener.stop()
        if len(asked) > 1:  # it takes too long for whoever asked
            raise KeyboardInterrupt

    before = _handle(leave)
    try:
        for moment in listener:
            for change in moment.changes:
                said = message(change, listener.source.name, classifier.name)
                screen.tell(said)
                alerts.tell(change, said)
            screen.show(moment)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return INTERRUPTED if signal.SIGINT in asked else 0


def _handle(leave: Any) -> dict[int, Any]:
    """Have the signals that end a program end the listening; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}


def _list_devices() -> int:
    from soundmark.cli.screen import plain
    from soundmark.sources import devices

    found = devices()
    for number, name, channels, rate in found:
        print(f"{number:3d}  {plain(name)}  ({channels} channels, {rate} Hz)")
    if not found:
        print("there is no input device")
    return 0


def _source(args: argparse.Namespace) -> Source:
    from soundmark import sources
    from soundmark.audio.pcm import Layout
    from soundmark.errors import ListenError

    text = args.source
    if text is None:
        device = int(args.device) if args.device and args.device.isdecimal() else args.device
        return sources.Microphone(device=device, rate=args.rate, once=args.once)
    if text == "-":
        if sys.stdin.isatty():
            raise ListenError("standard input is a terminal: pipe sound into it, or leave - out for the microphone")
        given = Layout(args.rate, args.channels, args.coding) if args.rate else None
        # Unbuffered: no lock is held where the thread that reads is left behind at the end.
        return sources.Pipe(os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False), given)
    if "://" in text:
        return sources.Stream(address=text, once=args.once)
    return sources.Recording(text, args.realtime)


def _alerts(args: argparse.Namespace, settings: Settings, screen: Screen) -> Alerts:
    from soundmark.alerts import Alerts, Channel
    from soundmark.channels import Command, Mqtt, Webhook
    from soundmark.errors import ListenError

    strange = [label for label in args.on if label not in settings.thresholds]
    if strange:
        there = ", ".join(list(settings.thresholds)[:60])
        raise ListenError(f"--on {strange[0]} is not looked for; looked for are: {there}")
    channels: list[Channel] = [Command.parse(text, args.timeout, settings.thresholds) for text in args.run]
    secret = _secret(args.webhook_secret_env)
    channels += [Webhook(address, secret, args.timeout) for address in args.webhook]
    password = _secret(args.mqtt_password_env)
    channels += [Mqtt(address, password, args.timeout) for address in args.mqtt]
    return Alerts(channels, labels=args.on, kinds=args.when or ["new"], cooldown=args.cooldown, say=screen.note)


def _secret(name: str | None) -> str:
    """What an environment variable holds; it stands in no command line."""
    from soundmark.errors import ListenError

    if name is None:
        return ""
    if not os.environ.get(name):
        raise ListenError(f"the environment variable {name} is empty or not set: put the secret there")
    return os.environ[name]
