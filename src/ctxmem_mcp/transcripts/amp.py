"""Amp's threads."""

from __future__ import annotations

from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.parts import Call, PartTypes, Result, text_at, value_at

_FIELDS = Fields(time="meta.sentAt")
_PARTS = PartTypes(
    thinking={"thinking": "thinking"},
    calls={"tool_use": Call()},
    results={
        "tool_result": Result("run.result.content run.result.output run.result run.error.message run", "toolUseID")
    },
    ignored=("redacted_thinking",),
)


def _is_own(value: object) -> bool:
    messages = [row for _, row in objects(value_at(value, "messages"))]
    return any("messageId" in row and "role" in row and isinstance(row.get("content"), list) for row in messages)


def _read(reader: Reader, value: object) -> Chat:
    messages = reader.messages(objects(value_at(value, "messages"), reader.log), _FIELDS, _PARTS)
    trees = objects(value_at(value, "env.initial.trees"))
    cwd = text_at(trees[0][1], "uri") if trees else None
    return Chat(messages, text_at(value, "id"), text_at(value, "title"), cwd and cwd.removeprefix("file://"))


looks_like, parse = json_document("amp", _is_own, _read)
