"""The route to the MCP server of each principal and shared space.

Messages that the SDK does not respond to as JSON-RPC 2.0 says are rejected here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ctxmem_mcp.http_api.deps import access_of
from ctxmem_mcp.mcp_server.jsonrpc import Rejection, parse_message
from ctxmem_mcp.mcp_server.stdio_lines import strip_bom

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from ctxmem_mcp.http_api.tenants import Tenants


class McpEndpoint:
    """A class, because Starlette treats an instance as an ASGI app: the SDK responds to GET, POST and DELETE itself."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        tenant = await self._tenants.get(access_of(request).tenant)
        if request.method == "POST":
            body = strip_bom(await request.body())
            parsed = parse_message(body)
            if isinstance(parsed, Rejection):
                rejection = Response(parsed.text, 400, media_type="application/json")
                return await rejection(scope, receive, send)
            receive = _Replay(body, receive)
        return await (await tenant.mcp()).handle_request(scope, receive, send)


class _Replay:
    """Receives a body that was read before, then what follows it: the client's disconnect."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
