"""The gateway's routes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from ctxmem_mcp import usage_ledger
from ctxmem_mcp.http_api.errors import OWN_PATHS
from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.endpoints import NotConfigured, api_of, endpoint_of
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.proxy import Gateway, ProxiedRequest
from ctxmem_mcp.http_api.gateway.responses import Responses

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.http_api.gateway.upstream import Upstream

_Handler = Callable[["Request"], Awaitable[Response]]


def build_routes(deps: Deps, upstream: Upstream | None = None) -> list[Route]:
    """Returns the gateway's routes. `upstream` replaces the network."""
    gateway = Gateway(deps, upstream)
    deps.on_shutdown.append(gateway.close)
    openai, anthropic, responses = OpenAI(), Anthropic(), Responses()

    def post_handler(provider: Provider, *, counts_only: bool = False) -> _Handler:
        async def handler(request: Request) -> Response:
            try:
                endpoint = endpoint_of(_raw_path(request), request.headers, deps.settings)
            except NotConfigured as error:
                return _unconfigured(provider, error)
            return await gateway.handle(request, provider, endpoint, counts_only=counts_only)

        return handler

    async def pass_through(request: Request) -> Response:
        """Forwards any other path of the upstream's API (models, embeddings, files ...) without memory."""
        path = _raw_path(request)
        api = api_of(path, request.headers, deps.settings)
        provider: Provider = anthropic if api == "anthropic" else openai
        # The path is forwarded unchanged; dot segments would reach another one of the upstream, with its key.
        if not {".", ".."}.isdisjoint(request.path_params.get("path", "").split("/")):
            return JSONResponse(provider.error_body(404, "A path must not have a . or .. segment."), 404)
        try:
            endpoint = endpoint_of(path, request.headers, deps.settings)
        except NotConfigured as error:
            if path != "/v1/models":
                raise HTTPException(404) from None
            return _unconfigured(provider, error)
        return await gateway.forward(ProxiedRequest(request, provider, endpoint, await request.body()))

    async def usage(request: Request) -> Response:
        """GET /v1/usage: tokens and cost per conversation and day, or those of `?conversation_id=`."""
        await gateway.flush_ledger()
        conversation_id = request.query_params.get("conversation_id")
        entries = await asyncio.to_thread(usage_ledger.read, deps.folder(request), conversation_id)
        return JSONResponse(usage_ledger.usage_report(entries, deps.settings))

    return [
        Route("/v1/chat/completions", post_handler(openai), methods=["POST"]),
        Route("/v1/responses", post_handler(responses), methods=["POST"]),
        Route("/v1/messages", post_handler(anthropic), methods=["POST"]),
        Route("/v1/messages/count_tokens", post_handler(anthropic, counts_only=True), methods=["POST"]),
        Route("/v1/models", pass_through, methods=["GET"]),
        Route("/v1/usage", usage, methods=["GET"]),
        _UpstreamRoute("/v1/{path:path}", pass_through, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]


# With another method than POST these are no paths of an API.
_POSTED = ("/v1/chat/completions", "/v1/responses", "/v1/messages")


class _UpstreamRoute(Route):
    """Matches what is neither this server's own path nor one of an API that was called with the wrong method."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path = scope.get("path", "")
        if path.startswith(OWN_PATHS) or path in _POSTED:
            return Match.NONE, {}
        return super().matches(scope)


def _raw_path(request: Request) -> str:
    """Returns the path as the client has percent-encoded it."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1")


def _unconfigured(provider: Provider, error: NotConfigured) -> Response:
    return JSONResponse(provider.error_body(503, f"No upstream is configured. Set {error.setting}."), 503)
