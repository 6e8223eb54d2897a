"""Serve models over HTTP and WebSocket, with a page to look at: drop a recording, or use the microphone."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundmark.cli.options import MODEL_HELP, model_asked, number

if TYPE_CHECKING:
    from soundmark.serve.models import Served
    from soundmark.serve.settings import Settings

ASKED = "SOUNDMARK_SERVE"  # what was asked for, for the processes of a server
KEYS = "SOUNDMARK_KEYS"
_port = number("port", int, "give a port from 0 to 65535", 0, 65535)
_count = number("count", int, "give a whole number from 1 up", 1, 10_000)
_number = number("number", float, "give a number above 0", 0, 100_000, above=True)
EXAMPLES = """examples:
  soundmark serve                                        the model that comes along, at http://127.0.0.1:8000
  soundmark serve --model runs/esc50 --model mn04        two models; the first answers where none is asked for
  soundmark serve --model door=runs/doors/model.onnx     one under a name of your own
  soundmark serve --host 0.0.0.0 --keys keys.txt         to the network, for those who have a key
  curl --data-binary @dog.wav http://127.0.0.1:8000/v1/classify

Keys stand one per line in a file, or in $SOUNDMARK_KEYS, separated by commas; clients send `Authorization: Bearer KEY`.
"""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    options = verbs.add_parser(
        "serve", help="serve models over HTTP and WebSocket, with a page", description=__doc__,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    options.add_argument(
        "--model", metavar="[NAME=]M", action="append", default=[], help=f"{MODEL_HELP}; may be given several times"
    )
    options.add_argument(
        "--alarm", metavar="V", help="view whose class looked for gives alarm (default: danger, where a model has it)"
    )
    options.add_argument("--host", metavar="H", default="127.0.0.1", help="address to bind to (default: 127.0.0.1)")
    options.add_argument("--port", metavar="P", type=_port, default=8000, help="0 takes a free one (default: 8000)")
    options.add_argument(
        "--host-name", metavar="N", action="append", default=[],
        help="name the service may be called by, besides that of the loopback; may be given several times",
    )  # fmt: skip
    options.add_argument("--keys", metavar="FILE", help=f"file with keys, one per line (default: ${KEYS})")
    options.add_argument("--no-keys", action="store_true", help="serve a network without asking for a key")
    options.add_argument("--workers", metavar="N", type=_count, default=1, help="server processes (default: 1)")
    options.add_argument("--decoders", metavar="N", type=_count, help="processes that decode, per server process")
    options.add_argument("--threads", metavar="N", type=_count, help="graphs that run at once, per server process")
    options.add_argument("--max-megabytes", metavar="N", type=_number, default=16.0, help="of a body (default: 16)")
    options.add_argument(
        "--max-seconds", metavar="S", type=_number, default=300.0, help="of a recording (default: 300)"
    )
    options.add_argument("--max-requests", metavar="N", type=_count, default=64, help="at once (default: 64)")
    options.add_argument("--max-streams", metavar="N", type=_count, default=64, help="at once (default: 64)")
    options.add_argument("--timeout", metavar="S", type=_number, default=60.0, help="of a request (default: 60)")


def run(args: argparse.Namespace) -> int:
    """Carry the verb out."""
    from soundmark.errors import SpecError
    from soundmark.serve import server

    loopback = server.is_loopback(args.host)
    settings = _settings(args, loopback)
    if not loopback and not settings.keys and not args.no_keys:
        raise SpecError(
            f"{args.host} can be reached from the network: give --keys FILE, or --no-keys if everybody may use it"
        )
    models = _models(args)
    with server.bound(args.host, args.port) as listening:
        app: Any = "soundmark.cli.serve:application"
        if args.workers == 1:
            from soundmark.serve.app import create_app

            app = create_app(models, settings)
        else:
            os.environ[ASKED] = json.dumps(vars(args))
            os.environ[KEYS] = ",".join(settings.keys)
        names = ", ".join(model.name for model in models)
        print(f"soundmark: serving {names} at {server.address(listening)}", file=sys.stderr, flush=True)
        server.run(app, listening, args.workers)
    return 0


def application() -> Any:
    """The application of one of several server processes, from what the first process was asked for."""
    from soundmark.serve import server
    from soundmark.serve.app import create_app

    args = argparse.Namespace(**json.loads(os.environ[ASKED]))
    return create_app(_models(args), _settings(args, server.is_loopback(args.host)))


def _settings(args: argparse.Namespace, loopback: bool) -> Settings:
    from soundmark.serve.settings import LOOPBACK, Settings, cores

    hosts = (*LOOPBACK, *(name.lower() for name in args.host_name)) if loopback or args.host_name else ()
    return Settings(
        max_bytes=round(args.max_megabytes * (1 << 20)),
        max_seconds=args.max_seconds,
        max_requests=args.max_requests,
        max_streams=args.max_streams,
        request_seconds=args.timeout,
        decoders=args.decoders or cores(),
        runs=args.threads or cores(),
        keys=_keys(args.keys),
        hosts=hosts,
    )


def _keys(path: str | None) -> tuple[str, ...]:
    from soundmark.errors import SpecError

    if path is None:
        return tuple(filter(None, (key.strip() for key in os.environ.get(KEYS, "").split(","))))
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"cannot read the keys in {path} ({reason}): write one key per line") from None
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not keys:
        raise SpecError(f"there are no keys in {path}: write one per line")
    return keys


def _models(args: argparse.Namespace) -> list[Served]:
    from soundmark.published import load
    from soundmark.serve.models import alarm_view, by_name, served
    from soundmark.tasks import load_view

    found = []
    for given in args.model or [None]:
        name, given = _named(given)
        classifier = load(model_asked(given), threads=1)
        view = alarm_view(classifier, args.alarm)
        task = str(classifier.metadata.get("task", ""))
        found.append(served(classifier, name, load_view(view, task) if view else None))
    return list(by_name(found).values())


def _named(given: str | None) -> tuple[str | None, str | None]:
    """`NAME=M` apart, unless that is the name of a file."""
    if given and "=" in given and not Path(given).exists():
        name, _, given = given.partition("=")
        return name, given
    return None, given
