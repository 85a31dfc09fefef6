"""Lossless, hierarchical memory for conversations, as a library. The command and the MCP server stand on it."""

from __future__ import annotations

__version__ = "0.1.0"
