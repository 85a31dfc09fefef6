"""Calls a tool of a service over HTTP, without a client library."""

from __future__ import annotations

from typing import Any

import httpx2

HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def body_of(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


async def call_tool(client: httpx2.AsyncClient, tool: str, **arguments: Any) -> str:
    """Returns the body of the response, which must not be an error."""
    response = await client.post("/mcp", json=body_of(tool, arguments), headers=HEADERS)
    assert response.status_code == 200, response.text
    assert '"isError":true' not in response.text, response.text
    return response.text
