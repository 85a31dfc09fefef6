"""Kiro CLI's conversations: pairs of what the user sent, words or results, and of what the model answered, words or
calls."""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row, timestamp_of
from ctxmem_mcp.transcripts.parts import text_at, value_at

_FIELDS = Fields()


def _is_own(value: object) -> bool:
    pairs = objects(value_at(value, "history"))
    return any(isinstance(value_at(row, "user.content"), dict) and "assistant" in row for _, row in pairs)


def _read(reader: Reader, value: object) -> Chat:
    pairs = objects(value_at(value, "history"), reader.log)
    return Chat(
        [reader.message(number, row, _turns(row), _FIELDS) for number, row in pairs],
        text_at(value, "conversation_id"),
        cwd=text_at(value, "cwd"),
    )


def _turns(pair: Row) -> Iterator[NewTurn]:
    user, assistant = pair.get("user"), pair.get("assistant")
    said_at = timestamp_of(user) if isinstance(user, dict) else None
    if prompt := text_at(user, "content.Prompt.prompt"):
        yield NewTurn("user", prompt, said_at=said_at)
    for kind in ("ToolUseResults", "CancelledToolUses"):
        for _, result in objects(value_at(user, f"content.{kind}.tool_use_results")):
            texts = [part.get("Text") or part.get("text") or part for _, part in objects(result.get("content"))]
            for text in texts or [result.get("content", "")]:
                yield NewTurn("tool", text_or_json(text), None, said_at, text_at(result, "tool_use_id"))
    words = text_at(assistant, "Response.content") or text_at(assistant, "ToolUse.content")
    if words:
        yield NewTurn("assistant", words, said_at=said_at)
    for _, call in objects(value_at(assistant, "ToolUse.tool_uses")):
        arguments = text_or_json(call.get("args", call.get("input", "")))
        yield NewTurn("assistant", arguments, text_at(call, "name"), said_at, text_at(call, "id"))


looks_like, parse = json_document("kiro", _is_own, _read)
