"""The gateway: stands before the model that the user talks to, and sends long conversations on as a view and a rest.

POST /v1/chat/completions        OpenAI's       → CTXMEM_UPSTREAM_BASE_URL
POST /v1/messages                Anthropic's    → CTXMEM_UPSTREAM_ANTHROPIC_URL
POST /v1/messages/count_tokens
GET  /v1/models                  of whichever the client speaks
GET  /v1/usage                   what was sent and saved, and what it cost
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps


def build_routes(deps: Deps) -> list[Route]:
    """The gateway's routes. Nothing of an upstream is loaded before the first request."""
    from ctxmem_mcp.http_api.gateway.routes import build_routes

    return build_routes(deps)
