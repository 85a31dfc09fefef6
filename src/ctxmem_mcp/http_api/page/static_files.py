"""The page's own files, with a policy that lets it load and ask nothing but this server."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ctxmem_mcp.http_api.page.paths import ROOT

if TYPE_CHECKING:
    from starlette.requests import Request

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes() -> list[Route]:
    """Returns the routes of the page's files."""
    return [
        Route(ROOT, _redirect),
        Route(f"{ROOT}/", _index),
        *(Route(f"{ROOT}/{name}", _file) for name in _files() if name != "index.html"),
    ]


@cache
def _files() -> dict[str, bytes]:
    """The files by name. They are few and small, so they stay in memory."""
    folder = resources.files(__package__).joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if f".{file.name.rpartition('.')[2]}" in _TYPES}


async def _redirect(_: Request) -> Response:
    return RedirectResponse(f"{ROOT}/", headers=_HEADERS)


async def _index(_: Request) -> Response:
    return _response("index.html")


async def _file(request: Request) -> Response:
    return _response(request.url.path.rpartition("/")[2])


def _response(name: str) -> Response:
    content = _files().get(name)
    if content is None:
        raise HTTPException(404)
    suffix = f".{name.rpartition('.')[2]}"
    return Response(content, media_type=f"{_TYPES[suffix]}; charset=utf-8", headers=_HEADERS)
