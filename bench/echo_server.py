"""The baseline of latency: an MCP server on the same SDK with one tool that does nothing."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("echo", version="0", log_level="WARNING")


@server.tool()
async def echo(role: str, content: str) -> str:
    """Returns the length of the content."""
    return str(len(content))


if __name__ == "__main__":
    server.run()
