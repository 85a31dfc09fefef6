"""Runs the MCP server on a transport: stdio for a host that starts us, streamable HTTP for those that connect.

Under stdio, standard output is the wire and nothing else may write there; logging goes to stderr, always.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, cast

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.settings import Settings

if TYPE_CHECKING:
    from mcp.server import MCPServer

Transport = Literal["stdio", "http"]
# Below the default of the SDK would refuse what one tool call of a real session can bring (a 2 MB turn, a transcript).
BODY_BYTES_MAX = 64 * 1024 * 1024
MCP_PATH, HEALTH_PATH = "/mcp", "/health"
SHUTDOWN_SECONDS = 5

_log = logging.getLogger(__name__)


def serve(
    settings: Settings,
    transport: Transport = "stdio",
    host: str | None = None,
    port: int | None = None,
    insecure: bool = False,
) -> None:
    """Serves until stdin ends (stdio) or the process is told to stop (http). host and port: those of the settings.

    Raises InvalidArgument for a bind that others could reach, unless insecure.
    """
    raise NotImplementedError
