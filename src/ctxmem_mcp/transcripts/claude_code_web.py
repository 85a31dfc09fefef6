"""Sessions of Claude Code on the web, as its API returns them: the rows of a session in `loglines`."""

from __future__ import annotations

from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.parts import ANTHROPIC_PARTS, text_at, value_at

_FIELDS = Fields(role="message.role", content="message.content", time="timestamp", id="uuid", parent="parentUuid")


def _is_own(value: object) -> bool:
    return any(isinstance(row.get("message"), dict) for _, row in objects(value_at(value, "loglines")))


def _read(reader: Reader, value: object) -> Chat:
    rows = [pair for pair in objects(value_at(value, "loglines"), reader.log) if "message" in pair[1]]
    return Chat(
        reader.messages(rows, _FIELDS, ANTHROPIC_PARTS),
        text_at(value, "session_id") or text_at(value, "id"),
        text_at(value, "title"),
    )


looks_like, parse = json_document("claude-code", _is_own, _read)
