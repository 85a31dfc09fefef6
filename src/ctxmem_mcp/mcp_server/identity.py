"""What the server says about itself: to clients that connect, and in the file by which it is found over HTTP."""

from __future__ import annotations

from typing import Any

from ctxmem_mcp import __version__

NAME, TITLE = "ctxmem", "ctxmem: lossless conversation memory"
DESCRIPTION = "Lossless hierarchical conversation memory for agents."
WEBSITE = "https://ctxmem.github.io/ctxmem-mcp"
ICON: dict[str, Any] = {
    "src": "https://raw.githubusercontent.com/ctxmem/ctxmem-mcp/main/packages/mcpb/icon.png",
    "mimeType": "image/png",
    "sizes": ["512x512"],
}
# Where an HTTP server describes itself to clients that do not know it yet.
CARD_PATH = "/.well-known/mcp.json"


def server_card(endpoint: str) -> dict[str, Any]:
    """Returns the description of an HTTP server. endpoint: the path of its MCP endpoint."""
    return {
        "name": NAME, "title": TITLE, "description": DESCRIPTION, "version": __version__, "websiteUrl": WEBSITE,
        "icons": [ICON], "transport": {"type": "streamable-http", "endpoint": endpoint},
    }  # fmt: skip
