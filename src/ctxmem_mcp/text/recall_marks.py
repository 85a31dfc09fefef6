"""The lines around a text that ctxmem-mcp itself adds to a session's context (a recall block). Imports nothing."""

from __future__ import annotations

RECALL_START, RECALL_END = "[ctxmem-mcp recalls]", "[ctxmem-mcp: end of what was recalled]"
