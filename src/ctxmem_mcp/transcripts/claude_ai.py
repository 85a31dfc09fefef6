"""Claude.ai's data export (conversations.json), and the conversations that browser extensions export.

Text, thoughts, calls and results are a turn each. The export gives calls no ids, so a result belongs to the first call
of its name that has none yet. Files that the user attached are system turns named `injected`: the file's name, then its
text. Extensions also keep the tree of edited and repeated messages; the other branches are in `abandoned_branches`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, first_object, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none
from ctxmem_mcp.transcripts.parts import ANTHROPIC_PARTS, PartTypes, text_at

_FIELDS = Fields(role="sender", time="created_at", id="uuid", parent="parent_message_uuid")
_PARTS = PartTypes(
    text={"text": "text", "voice_note": "text"},
    thinking={"thinking": "thinking"},
    calls=ANTHROPIC_PARTS.calls,
    results=ANTHROPIC_PARTS.results,
    ignored=("token_budget", "flag", "redacted_thinking"),
)


def _is_own(value: object) -> bool:
    return isinstance(first_object(value).get("chat_messages"), list)


def _read(reader: Reader, value: object) -> list[Chat]:
    listed = value if isinstance(value, list) else [value]
    return [_chat(reader, one) for one in listed if isinstance(one, dict)]


def _chat(reader: Reader, conversation: Row) -> Chat:
    rows = objects(conversation.get("chat_messages"), reader.log)
    return Chat(
        [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows],
        text_at(conversation, "uuid"),
        text_at(conversation, "name"),
        tip=text_at(conversation, "current_leaf_message_uuid"),
    )


def _turns(row: Row) -> Iterator[NewTurn]:
    role, _ = _FIELDS.author(row)
    said_at = _FIELDS.said_at(row)
    for _, attachment in objects(row.get("attachments")):
        words = (text_at(attachment, "file_name"), text_at(attachment, "extracted_content"))
        if text := "\n".join(filter(None, words)):
            yield NewTurn("system", text, INJECTED, said_at)
    for _, file in objects(row.get("files")):
        if name := text_or_none(file.get("file_name")):
            yield NewTurn("system", name, INJECTED, said_at)
    # `text` repeats the blocks, without those that are not text.
    turns = _PARTS.turns(role, row.get("content"), said_at)
    yield from turns or _PARTS.turns(role, row.get("text"), said_at)


looks_like, parse = json_document("claude-ai", _is_own, _read)
