"""A server over a memory in its own folder, used by the official client in both protocol eras."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.server import Server
from mcp.types import CallToolResult, TextContent

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.mcp_server.lazy_memory import RequestMemory
from ctxmem_mcp.mcp_server.server import build_server
from ctxmem_mcp.settings import Settings


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Any:
    """auto: the revision of 2026-07-28; legacy: the handshake of earlier ones."""
    return request.param


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def server(settings: Settings) -> Server[RequestMemory]:
    return build_server(functools.partial(open_memory, settings))


@pytest.fixture
async def client(server: Server[RequestMemory], era: Any) -> AsyncIterator[Client]:
    async with Client(server, mode=era) as client:
        yield client


class Caller:
    """Calls tools and parses their results."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def record(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A structured result; its text is checked to be the same."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        assert result.structured_content == json.loads(text_of(result))
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def text(self, tool: str, **arguments: Any) -> tuple[dict[str, Any], str]:
        """A text-only result: its header and its body."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, text_of(result)
        assert result.structured_content is None
        header, _, body = text_of(result).partition("\n")
        return json.loads(header), body

    async def refusal(self, tool: str, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, text_of(result)
        assert result.structured_content is None
        return text_of(result)

    async def append(self, content: str, conversation_id: str = "c", **more: Any) -> dict[str, Any]:
        given = {"role": "user", "conversation_id": conversation_id, "content": content, **more}
        return await self.record("append_turn", **given)


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.fixture
def call(client: Client) -> Caller:
    return Caller(client)
