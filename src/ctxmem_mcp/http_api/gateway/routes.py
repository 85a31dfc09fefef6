"""The gateway's routes: which API a request speaks, and where it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Shape
from ctxmem_mcp.http_api.gateway.proxy import Doing, Gateway, Target
from ctxmem_mcp.http_api.gateway.usage_routes import usage

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.http_api.gateway.upstream import Upstream
    from ctxmem_mcp.settings import Settings

_Handler = Callable[["Request"], Awaitable[Response]]
# A header that only Anthropic's clients send.
_ANTHROPIC = "anthropic-version"


def build_routes(deps: Deps, upstream: Upstream | None = None) -> list[Route]:
    """upstream: another way there than the network."""
    gateway = Gateway(deps, upstream)
    deps.on_shutdown.append(gateway.close)
    openai, anthropic = OpenAI(), Anthropic()

    def posted(shape: Shape, path: str, *, counts: bool = False) -> _Handler:
        async def handler(request: Request) -> Response:
            target = target_of(deps.settings, shape, path)
            if isinstance(target, str):
                return _unconfigured(shape, target)
            return await gateway.answer(request, shape, target, counts=counts)

        return handler

    async def models(request: Request) -> Response:
        wants_anthropic = _ANTHROPIC in request.headers or deps.settings.upstream_base_url is None
        shape: Shape = anthropic if wants_anthropic and deps.settings.upstream_anthropic_url else openai
        # A model's name goes on as it came; one with steps up would ask the upstream for something else, with its key.
        if not {".", ".."}.isdisjoint(request.path_params.get("model", "").split("/")):
            return JSONResponse(shape.error(404, "A model's name has no . or .. between slashes."), 404)
        _, _, below = request.scope["raw_path"].decode("latin-1").partition("/models")
        target = target_of(deps.settings, shape, f"/models{below}")
        if isinstance(target, str):
            return _unconfigured(shape, target)
        return await gateway.sent_on(Doing(request, shape, target, b""))

    async def spent(request: Request) -> Response:
        await gateway.settled()
        return await usage(deps, request)

    return [
        Route("/v1/chat/completions", posted(openai, "/chat/completions"), methods=["POST"]),
        Route("/v1/messages", posted(anthropic, "/messages"), methods=["POST"]),
        Route("/v1/messages/count_tokens", posted(anthropic, "/messages/count_tokens", counts=True), methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{model:path}", models, methods=["GET"]),
        Route("/v1/usage", spent, methods=["GET"]),
    ]


def target_of(settings: Settings, shape: Shape, path: str) -> Target | str:
    """Where it goes; or the setting that is missing."""
    if isinstance(shape, Anthropic):
        if settings.upstream_anthropic_url is None:
            return "CTXMEM_UPSTREAM_ANTHROPIC_URL"
        base = settings.upstream_anthropic_url.removesuffix("/v1")
        key = settings.upstream_anthropic_api_key
        return Target(f"{base}/v1{path}", {"x-api-key": key} if key else {})
    if settings.upstream_base_url is None:
        return "CTXMEM_UPSTREAM_BASE_URL"
    key = settings.upstream_api_key
    return Target(f"{settings.upstream_base_url}{path}", {"authorization": f"Bearer {key}"} if key else {})


def _unconfigured(shape: Shape, setting: str) -> Response:
    return JSONResponse(shape.error(503, f"This server stands before no model: set {setting}."), 503)
