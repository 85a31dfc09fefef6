"""GitHub Copilot CLI's sessions (`events.jsonl`): events, each with the id of the one before it.

The user's words, the model's text and thoughts, calls and results are a turn each. What the CLI added to the user's
words, and its system message, are system turns; a compaction's summary is named `recap`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines, objects
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, timestamp_of
from ctxmem_mcp.transcripts.parts import text_at, value_at

_FIELDS = Fields(role="type", content="data.content", id="id", parent="parentId")
_TYPES = ("session.start", "user.message", "assistant.message", "tool.execution_complete")


def _is_own(rows: list[Row]) -> bool:
    return any(row.get("type") in _TYPES and isinstance(row.get("data"), dict) for row in rows)


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    start = next((row for _, row in rows if row.get("type") == "session.start"), {})
    title = next((found for _, row in rows if (found := text_at(row, "data.title"))), None)
    return Chat(
        [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows],
        text_at(start, "data.sessionId"),
        title,
        text_at(start, "data.context.cwd"),
    )


def _turns(row: Row) -> Iterator[NewTurn]:
    kind, said_at, words = row.get("type"), timestamp_of(row), text_at(row, "data.content")
    if kind == "user.message":
        yield from _user_turns(words or "", text_at(row, "data.transformedContent") or "", said_at)
    elif kind == "assistant.message":
        if thought := text_at(row, "data.reasoningText"):
            yield NewTurn("assistant", thought, THINKING, said_at)
        if words:
            yield NewTurn("assistant", words, said_at=said_at)
        for _, call in objects(value_at(row, "data.toolRequests")):
            arguments = text_or_json(call.get("arguments", {}))
            yield NewTurn("assistant", arguments, text_at(call, "name"), said_at, text_at(call, "toolCallId"))
    elif kind == "tool.execution_complete":
        found = text_at(row, "data.result.content") or text_at(row, "data.error.message")
        text = found or text_or_json(value_at(row, "data.result") or "")
        yield NewTurn("tool", text, None, said_at, text_at(row, "data.toolCallId"))
    elif kind == "system.message" and words:
        yield NewTurn("system", words, INJECTED, said_at)
    elif kind == "session.compaction_complete" and (summary := text_at(row, "data.summaryContent")):
        yield NewTurn("system", summary, RECAP, said_at)


def _user_turns(words: str, sent: str, said_at: str | None) -> Iterator[NewTurn]:
    """Yields the user's words, before and after them what the CLI added to them in what it sent."""
    before, found, after = sent.partition(words) if words else ("", "", sent)
    host = (before, after) if found or not words else (sent, "")
    for text, role, name in ((host[0], "system", INJECTED), (words, "user", None), (host[1], "system", INJECTED)):
        if text.strip():
            yield NewTurn("user" if role == "user" else "system", text, name, said_at)


looks_like, parse = json_lines("copilot-cli", _is_own, _read)
