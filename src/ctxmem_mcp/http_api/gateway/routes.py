"""The gateway's routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from ctxmem_mcp import usage_ledger
from ctxmem_mcp.http_api.errors import OWN_PATHS, UPSTREAM_PATHS
from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.endpoints import CODE_ASSIST, Api, NotConfigured, api_of, endpoint_of
from ctxmem_mcp.http_api.gateway.gemini import CodeAssist, Gemini
from ctxmem_mcp.http_api.gateway.memory_options import plain_model
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.proxied_request import ProxiedRequest
from ctxmem_mcp.http_api.gateway.proxy import Gateway
from ctxmem_mcp.http_api.gateway.responses import Responses
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Scope

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.http_api.gateway.upstream import Upstream

_Handler = Callable[["Request"], Awaitable[Response]]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_GEMINI_VERSIONS = ("v1beta", "v1", "v1alpha")
_COUNT = "countTokens"
_GEMINI_METHODS = ("generateContent", "streamGenerateContent", _COUNT)


def build_routes(deps: Deps, upstream: Upstream | None = None) -> list[Route]:
    """Returns the gateway's routes. `upstream` replaces the network."""
    gateway = Gateway(deps, upstream)
    deps.on_shutdown.append(gateway.close)
    handlers = _Handlers(deps, gateway)
    openai, anthropic, responses = OpenAI(), Anthropic(), Responses()
    return [
        Route("/v1/chat/completions", handlers.post(openai), methods=["POST"]),
        Route("/v1/responses", handlers.post(responses), methods=["POST"]),
        Route("/v1/messages", handlers.post(anthropic), methods=["POST"]),
        Route("/v1/messages/count_tokens", handlers.post(anthropic, counts_only=True), methods=["POST"]),
        Route("/v1/models", handlers.pass_through, methods=["GET"]),
        Route("/v1/usage", handlers.usage, methods=["GET"]),
        *_gemini_routes(handlers),
        *(
            _UpstreamRoute(f"{prefix}{{path:path}}", handlers.pass_through, methods=_METHODS)
            for prefix in UPSTREAM_PATHS
        ),
    ]


def _gemini_routes(handlers: _Handlers) -> list[Route]:
    """Gemini's API in its versions, and the API of Gemini CLI's Google login."""
    gemini, code_assist = Gemini(), CodeAssist()
    routes: list[Route] = []
    for method in _GEMINI_METHODS:
        for version in _GEMINI_VERSIONS:
            path = f"/{version}/models/{{model}}:{method}"
            routes.append(Route(path, handlers.post_to_model(gemini, method), methods=["POST"]))
        handler = handlers.post(code_assist, counts_only=method == _COUNT)
        routes.append(Route(f"{CODE_ASSIST}:{method}", handler, methods=["POST"]))
    return routes


class _Handlers:
    """The handlers of the routes."""

    def __init__(self, deps: Deps, gateway: Gateway) -> None:
        self._deps, self._gateway, self._settings = deps, gateway, deps.settings
        self._providers: dict[Api, Provider] = {"openai": OpenAI(), "anthropic": Anthropic(), "gemini": Gemini()}

    def post(self, provider: Provider, *, counts_only: bool = False) -> _Handler:
        """Returns the handler of a path with memory."""

        async def handler(request: Request) -> Response:
            return await self._handle(request, provider, _raw_path(request), counts_only=counts_only)

        return handler

    def post_to_model(self, provider: Provider, method: str) -> _Handler:
        """Returns the handler of a path with memory that names a model and a method of it."""

        async def handler(request: Request) -> Response:
            model: str = request.path_params["model"]
            path = _raw_path(request)
            if plain_model(model) != model:
                path = f"{path.partition('/models/')[0]}/models/{quote(plain_model(model), safe=':')}:{method}"
            return await self._handle(request, provider, path, counts_only=method == _COUNT, model=model)

        return handler

    async def _handle(
        self, request: Request, provider: Provider, path: str, *, counts_only: bool, model: str | None = None
    ) -> Response:
        try:
            endpoint = endpoint_of(path, request.headers, self._settings)
        except NotConfigured as error:
            return _unconfigured(provider, error)
        return await self._gateway.handle(request, provider, endpoint, counts_only=counts_only, model=model)

    async def pass_through(self, request: Request) -> Response:
        """Forwards any other path of the upstream's API (models, embeddings, files ...) without memory."""
        path = _raw_path(request)
        provider = self._providers[api_of(path, request.headers, self._settings)]
        # The path is forwarded unchanged; dot segments would reach another one of the upstream, with its key.
        if not {".", ".."}.isdisjoint(request.path_params.get("path", "").split("/")):
            return JSONResponse(provider.error_body(404, "A path must not have a . or .. segment."), 404)
        try:
            endpoint = endpoint_of(path, request.headers, self._settings)
        except NotConfigured as error:
            if path != "/v1/models":
                raise HTTPException(404) from None
            return _unconfigured(provider, error)
        return await self._gateway.forward(ProxiedRequest(request, provider, endpoint, await request.body()))

    async def usage(self, request: Request) -> Response:
        """GET /v1/usage: tokens and cost per conversation and day, or those of `?conversation_id=`."""
        await self._gateway.flush_ledger()
        conversation_id = request.query_params.get("conversation_id")
        entries = await self._deps.records(request, Right.READ).usage(conversation_id)
        return JSONResponse(usage_ledger.usage_report(entries, self._settings))


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
