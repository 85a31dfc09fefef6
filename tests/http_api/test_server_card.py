"""What the server says about itself over HTTP, to clients that do not know it yet."""

from __future__ import annotations

import json

import httpx2
import pytest

from ctxmem_mcp.mcp_server.identity import CARD_PATH

pytestmark = pytest.mark.anyio
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
}  # fmt: skip


async def test_the_card_names_the_endpoint_and_is_what_the_server_says_there(http: httpx2.AsyncClient) -> None:
    card = (await http.get(CARD_PATH)).json()
    headers = {"accept": "application/json, text/event-stream"}
    response = await http.post(card["transport"]["endpoint"], json=INITIALIZE, headers=headers)
    text = response.text
    found = json.loads(text if text.startswith("{") else text.partition("data: ")[2].partition("\n")[0])
    info = found["result"]["serverInfo"]
    assert {name: card[name] for name in ("name", "title", "version", "websiteUrl", "icons")} == {
        name: info[name] for name in ("name", "title", "version", "websiteUrl", "icons")
    }
