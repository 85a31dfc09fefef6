"""Maps agents' session ids to conversation ids."""

from __future__ import annotations

from ctxmem_mcp.patterns import lazy_regex

ID_CHARS_MAX = 128
_UNUSABLE = lazy_regex(r"[^A-Za-z0-9._:@-]+")


def conversation_id_for(session_id: str) -> str | None:
    """Returns the conversation id for an agent's session: its own id, with unusable characters replaced; None if
    nothing is left of it."""
    return _UNUSABLE.sub("-", session_id).strip("._:@-")[:ID_CHARS_MAX] or None
