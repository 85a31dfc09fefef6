"""The gateway: a proxy for models' APIs that stores conversations and replaces the older part of long ones by a view.

POST /v1/chat/completions        OpenAI's       → CTXMEM_UPSTREAM_BASE_URL
POST /v1/messages                Anthropic's    → CTXMEM_UPSTREAM_ANTHROPIC_URL
POST /v1/messages/count_tokens
POST /v1/responses               OpenAI's       → CTXMEM_UPSTREAM_BASE_URL
POST /v1beta/models/M:generateContent, :streamGenerateContent, :countTokens
                                 Gemini's       → CTXMEM_UPSTREAM_GEMINI_URL
GET  /v1/usage                   tokens sent and saved, and their cost
any  /v1/...                     other paths of the API that the client uses, without memory
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps


def build_routes(deps: Deps) -> list[Route]:
    """Returns the gateway's routes. Nothing for the upstream is imported before the first request."""
    from ctxmem_mcp.http_api.gateway.routes import build_routes

    return build_routes(deps)
