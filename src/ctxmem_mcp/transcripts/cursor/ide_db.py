"""Conversations of Cursor's editor, as `capture.cursor_db` reads them from its database into one JSON document.

The document is a list of conversations, each with its composer (the conversation's header) and its messages by id. The
composer lists the conversation's messages in order; in older ones the list holds the messages themselves. A message of
type 1 is the user's; others hold thoughts, words, and a call with its result. Each conversation is a thread of a
transcript without turns. The context that was sent along with a message is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, text_or_json
from ctxmem_mcp.transcripts.cursor.jsonl_transcript import AGENT
from ctxmem_mcp.transcripts.json_documents import read_document
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none, timestamp_from_millis, timestamp_or_none

DATABASE_FILE = "state.vscdb"
CONVERSATIONS_KEY = "cursor_conversations"
# The fields that are read; the others are settings and context.
COMPOSER_FIELDS = ("name", "fullConversationHeadersOnly", "conversation", "conversationMap", "workspaceIdentifier")
MESSAGE_FIELDS = ("type", "bubbleId", "text", "thinking", "toolFormerData", "createdAt")
_USER_TYPE = 1


def looks_like(name: str, head: str) -> bool:
    """Recognises the document that `capture.cursor_db` makes."""
    return head.lstrip().startswith(f'{{"{CONVERSATIONS_KEY}"')


def parse(text: str, name: str) -> Transcript:
    """Returns the conversations as threads; those without turns are left out."""
    log = ParseLog()
    body = read_document(text, log)
    conversations = body.get(CONVERSATIONS_KEY) if isinstance(body, dict) else None
    listed = conversations if isinstance(conversations, list) else []
    threads = [_conversation(one) for one in listed if isinstance(one, dict)]
    return Transcript(AGENT, "", (), threads=tuple(one for one in threads if one.turns), warnings=tuple(log.warnings))


def _conversation(conversation: Row) -> Transcript:
    log = ParseLog()
    composer, messages = _object(conversation.get("composer")), _object(conversation.get("messages"))
    if conversation.get("composer") is None:
        log.warnings.append("the conversation's header is broken; its messages are in the order of their creation")
    log.warnings += [f"message {key}: skipped, broken" for key, row in messages.items() if row is None]
    numbered = enumerate(_in_order(composer, messages), 1)
    turns = log.sanitize((number, turn) for number, row in numbered for turn in _turns(row, number))
    uri = _object(_object(composer.get("workspaceIdentifier")).get("uri"))
    return Transcript(
        AGENT,
        text_or_none(conversation.get("id")) or "",
        turns,
        text_or_none(composer.get("name")),
        warnings=tuple(log.warnings),
        cwd=text_or_none(uri.get("fsPath")),
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_order(composer: Row, messages: dict[str, Any]) -> list[Row]:
    """Returns the messages that the composer lists; without a list, all there are, oldest first."""
    listed = next((composer[key] for key in ("fullConversationHeadersOnly", "conversation") if composer.get(key)), None)
    inline = _object(composer.get("conversationMap"))
    if not isinstance(listed, list):
        return sorted((row for row in messages.values() if isinstance(row, dict)), key=_created_at)
    found: list[Row] = []
    for header in listed:
        if isinstance(header, dict):
            key = str(header.get("bubbleId"))
            found.append({**header, **_object(inline.get(key)), **_object(messages.get(key))})
    return found


def _created_at(row: Row) -> str:
    return timestamp_or_none(row.get("createdAt")) or timestamp_from_millis(row.get("createdAt")) or ""


def _turns(row: Row, number: int) -> Iterator[NewTurn]:
    said_at = _created_at(row) or None
    text = text_or_none(row.get("text"))
    if row.get("type") == _USER_TYPE:
        if text:
            yield NewTurn("user", text, None, said_at)
        return
    thinking = row.get("thinking")
    thought = text_or_none(thinking.get("text") if isinstance(thinking, dict) else thinking)
    if thought:
        yield NewTurn("assistant", thought, THINKING, said_at)
    if text:
        yield NewTurn("assistant", text, None, said_at)
    yield from _turns_from_call(_object(row.get("toolFormerData")), number, said_at)


def _turns_from_call(tool: Row, number: int, said_at: str | None) -> Iterator[NewTurn]:
    """Yields a call with the arguments as the model wrote them, or else as Cursor parsed them, and its result."""
    name = text_or_none(tool.get("name"))
    if name is None:
        return
    call_id = text_or_none(tool.get("toolCallId")) or f"call-{number}"
    arguments = tool.get("rawArgs") or tool.get("params") or {}
    yield NewTurn("assistant", text_or_json(arguments), name, said_at, call_id)
    result = next((tool[key] for key in ("result", "error") if tool.get(key)), None)
    if result is not None:
        yield NewTurn("tool", text_or_json(result), name, said_at, call_id)
