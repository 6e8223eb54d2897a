"""The page at `/`: a few files of the package, under fixed names, held in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"
FILES = ("page.css", "page.js", "draw.js", "service.js", "shown.js", "worklet.js", "mark.svg")


def add_page(app: FastAPI) -> None:
    """Add the page's addresses. No part of a request is taken for a file's name."""
    folder = resources.files("soundmark").joinpath("serve", "page")
    for name in (INDEX, *FILES):
        path = "/" if name == INDEX else f"/assets/{name}"
        content = folder.joinpath(name).read_bytes()
        give = _giver(content, TYPES[name.rpartition(".")[2]])
        app.add_api_route(path, give, methods=["GET"], include_in_schema=False)


def _giver(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def give() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return give
