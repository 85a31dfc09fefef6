"""The page's own files, with a policy that lets it load and ask nothing but this server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ctxmem_mcp import page_files
from ctxmem_mcp.http_api.auth.access import space_prefix
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


def routes() -> list[Route]:
    """Returns the routes of the page's files."""
    return [
        Route(ROOT, _redirect),
        Route(f"{ROOT}/", _index),
        *(Route(f"{ROOT}/{name}", _file) for name in page_files.files() if name != "index.html"),
    ]


async def _redirect(request: Request) -> Response:
    return RedirectResponse(f"{space_prefix(request.scope)}{ROOT}/", headers=_HEADERS)


async def _index(_: Request) -> Response:
    return _response("index.html")


async def _file(request: Request) -> Response:
    return _response(request.url.path.rpartition("/")[2])


def _response(name: str) -> Response:
    content = page_files.files().get(name)
    if content is None:
        raise HTTPException(404)
    suffix = f".{name.rpartition('.')[2]}"
    return Response(content, media_type=f"{page_files.TYPES[suffix]}; charset=utf-8", headers=_HEADERS)
