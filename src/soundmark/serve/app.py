"""The application: addresses, what they take and what they answer.

from soundmark.serve.app import create_app
from soundmark.serve.models import served

app = create_app([served(soundmark.load())])  # for uvicorn, or any other ASGI server
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from soundmark import __version__
from soundmark.errors import ModelError
from soundmark.serve import answers, bodies
from soundmark.serve.assets import add_page
from soundmark.serve.guard import Guard
from soundmark.serve.hearing import Hearing
from soundmark.serve.meters import CONTENT_TYPE
from soundmark.serve.models import Served, by_name, described
from soundmark.serve.problems import Problem
from soundmark.serve.server import told_to_stop
from soundmark.serve.settings import Settings
from soundmark.serve.streams import stream
from soundmark.serve.work import Service

ABOUT = """Recognises sounds. Send a recording (WAV, FLAC, Ogg, MP3, and with ffmpeg WebM, M4A and more) as the body of
a request, or as `file` of a multipart form. Nothing of it is kept. Every error is `{"error": words, "code": code}`."""

ModelName = Annotated[
    str | None, Query(alias="model", description="name of a model; the first where none is given", max_length=200)
]
WindowSeconds = Annotated[
    float | None, Query(ge=0.1, le=600, description="seconds of the windows; the model's own where none is given")
]
HopSeconds = Annotated[
    float | None, Query(ge=0.01, le=600, description="seconds between windows; end to end where none is given")
]
Threshold = Annotated[
    float | None, Query(gt=0, le=1, description="score from which on a label is there; the model's where none is given")
]
MinSeconds = Annotated[float, Query(ge=0, le=3600, description="shorter events are dropped")]
TopK = Annotated[int, Query(ge=1, le=100, description="labels per answer and window")]

FEED_SECONDS = 15.0  # between signs of life on a silent feed

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "the recording"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "audio/wav": {"schema": {"type": "string", "format": "binary"}},
            "audio/webm": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": answers.Error, "description": "The form cannot be read"},
    401: {"model": answers.Error, "description": "No key, or a wrong one"},
    403: {"model": answers.Error, "description": "Called under another name, or by another site's page"},
    404: {"model": answers.Error, "description": "No such model"},
    408: {"model": answers.Error, "description": "The body was too slow"},
    413: {"model": answers.Error, "description": "Too many bytes, or too many seconds"},
    415: {"model": answers.Error, "description": "Not a type of a recording"},
    422: {"model": answers.Error, "description": "Cannot be decoded within the limits, or a setting is wrong"},
    503: {"model": answers.Error, "description": "Too much at once; `Retry-After` says when to try again"},
}
_FEW: dict[int | str, dict[str, Any]] = {number: ERRORS[number] for number in (401, 403)}


def create_app(models: Sequence[Served], settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Args:
        models: the first answers where a request names none.
        settings: limits and keys.

    Returns:
        An ASGI application; `app.state.service` is what its requests share.

    Raises:
        ModelError: if there is no model, or two have one name.
    """
    service = Service(by_name(models), settings or Settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            loop = asyncio.get_running_loop()
            with told_to_stop(lambda: _soon(loop, service)):
                yield
        finally:
            await service.close()

    app = FastAPI(
        title="Soundmark", version=__version__, description=ABOUT, lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    _recognition(app, service)
    _upkeep(app, service)
    add_page(app)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    paths = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    guard = Guard(app, service, paths)

    @app.websocket("/v1/stream")
    async def streaming(socket: WebSocket) -> None:
        await stream(socket, service, guard)

    app.add_middleware(Guard, service=service, paths=paths)
    return app


async def _known_settings(request: Request) -> None:
    """Refuse a setting that the address does not take: a misspelt one would do nothing, without a word."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise Problem(
                422, "bad_setting", f"{name[:50]!r} is no setting of this address: it takes {', '.join(known)}"
            )


def _recognition(app: FastAPI, service: Service) -> None:
    takes: dict[str, Any] = {
        "responses": ERRORS, "openapi_extra": BODY, "tags": ["recognise"], "dependencies": [Depends(_known_settings)],
    }  # fmt: skip

    @app.post("/v1/classify", response_model=answers.Classified, **takes)
    async def classify(
        request: Request, model: ModelName = None, top_k: TopK = 5, window: WindowSeconds = None,
        hop: HopSeconds = None, unknown: bool = False, plain: bool = False,
    ) -> Response:  # fmt: skip
        """The labels of a recording, best first, and of its windows over time.

        `unknown` answers `unknown` first where no label scores as known sounds do. `plain` gives the labels alone, as
        Hugging Face's `audio-classification` does.
        """
        chosen = service.model(model)
        if unknown:
            _can_say_unknown(chosen)
        heard = await service.listen(await bodies.recording(request, service.settings), chosen, window, hop)
        said = answers.classified(chosen, heard, top_k, unknown)
        return JSONResponse(said["labels"] if plain else said)

    @app.post("/v1/events", response_model=answers.Happened, **takes)
    async def events(
        request: Request, model: ModelName = None, top_k: TopK = 5, window: WindowSeconds = None,
        hop: HopSeconds = None, threshold: Threshold = None, min_seconds: MinSeconds = 0.0,
        label: Annotated[list[str] | None, Query(description="look for this; may be repeated", max_length=1000)] = None,
    ) -> Response:  # fmt: skip
        """The sound events of a recording: what began and ended when, by the model's thresholds, and its windows.

        The class looked for, such as danger, is among them with `alarm` true.
        """
        chosen = service.model(model)
        hearing = Hearing(chosen, threshold, label or (), window, hop, min_seconds)
        content, rules = await bodies.recording(request, service.settings), hearing.settings
        heard = await service.listen(content, chosen, rules.window_seconds, rules.hop_seconds)
        return JSONResponse(answers.happened(chosen, heard, hearing, top_k))

    @app.get(
        "/v1/feed",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Never ends"}, 503: ERRORS[503], **_FEW},
        tags=["recognise"],
    )
    async def feed() -> Response:
        """Windows and events of all streams that are published, as server-sent events, from now on."""
        return StreamingResponse(_lines(service.feed.follow(FEED_SECONDS)), media_type="text/event-stream")

    @app.post("/v1/embed", response_model=answers.Embedded, **takes)
    async def embed(
        request: Request, model: ModelName = None, window: WindowSeconds = None, hop: HopSeconds = None
    ) -> Response:
        """The vectors of a recording, one per window."""
        chosen = service.model(model)
        content = await bodies.recording(request, service.settings)
        heard = await service.listen(content, chosen, window, hop, output="embedding")
        return JSONResponse(answers.embedded(chosen, heard))

    @app.get("/v1/models", response_model=answers.Models, responses=_FEW, tags=["recognise"])
    async def models() -> Response:
        """The models: what each hears, how good it is, and under which licence."""
        return JSONResponse({"models": [described(model) for model in service.models.values()]})


async def _lines(messages: AsyncIterator[dict[str, Any] | None]) -> AsyncIterator[str]:
    """As server-sent events; a comment now and then shows whether the reader is still there."""
    yield ": what streams publish follows\n\n"
    async for message in messages:
        yield ":\n\n" if message is None else f"event: {message['type']}\ndata: {json.dumps(message)}\n\n"


def _upkeep(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=answers.Health, tags=["upkeep"])
    async def healthz() -> Response:
        """Whether the process lives."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=answers.Health, responses={503: ERRORS[503]}, tags=["upkeep"])
    async def readyz() -> Response:
        """Whether a request would be served now."""
        if not service.ready:
            raise Problem(503, "closing" if service.closing else "busy", "not ready: try again in a moment")
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, **_FEW}, tags=["upkeep"])
    async def metrics() -> Response:
        """Counters for Prometheus."""
        service.measure()
        return Response(service.meters.text(), media_type=CONTENT_TYPE)


def _soon(loop: asyncio.AbstractEventLoop, service: Service) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(service.close_soon)


def _can_say_unknown(model: Served) -> None:
    try:
        _ = model.classifier.unknown_below
    except ModelError as error:
        raise Problem(422, "bad_setting", str(error)) from None


async def _invalid(_: Request, error: Exception) -> Response:
    """Settings that are not what they may be, in one line."""
    assert isinstance(error, RequestValidationError)
    words = "; ".join(f"{each['loc'][-1]}: {str(each['msg'])[:100]}" for each in error.errors()[:5])
    problem = Problem(422, "bad_setting", f"{words}: see /openapi.json for what is taken")
    return JSONResponse(problem.content(), problem.status)


async def _refused(_: Request, error: Exception) -> Response:
    """Addresses and methods that there are not."""
    assert isinstance(error, HTTPException)
    code, words = {
        404: ("not_found", "there is no such address: see /openapi.json"),
        405: ("wrong_method", "the address does not take this method: see /openapi.json"),
    }.get(error.status_code, ("bad_request", str(error.detail)))
    return JSONResponse({"error": words, "code": code}, error.status_code, dict(error.headers or {}))
