"""Conversations of Cursor's editor, as they are read from its database (capture/cursor_db.py): a document with a
list of them, each with its head, the composer, and its messages by their ids.

The composer's list of messages says which there are and in what order; older ones hold the messages themselves. A
message of type 1 is the user's; others are thoughts, words and a call with its result. Each conversation is a thread of
a transcript that says nothing itself. The context that was sent along with a message is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.cursor.message_lines import AGENT
from ctxmem_mcp.transcripts.json_documents import document
from ctxmem_mcp.transcripts.json_lines import Row, instant_of, instant_of_millis, text_of

STORE_FILE = "state.vscdb"
CONVERSATIONS = "cursor_conversations"
# What of a row is read; the rest is settings and context.
OF_COMPOSER = ("name", "fullConversationHeadersOnly", "conversation", "conversationMap", "workspaceIdentifier")
OF_MESSAGE = ("type", "bubbleId", "text", "thinking", "toolFormerData", "createdAt")
_USER = 1


def looks_like(name: str, head: str) -> bool:
    return head.lstrip().startswith(f'{{"{CONVERSATIONS}"')


def parse(text: str, name: str) -> Transcript:
    notes = Notes()
    body = document(text, notes)
    given = body.get(CONVERSATIONS) if isinstance(body, dict) else None
    told = [_conversation(one) for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return Transcript(AGENT, "", (), threads=tuple(one for one in told if one.turns), warnings=tuple(notes.warnings))


def _conversation(given: Row) -> Transcript:
    notes = Notes()
    composer, messages = _object(given.get("composer")), _object(given.get("messages"))
    if given.get("composer") is None:
        notes.warnings.append("its head is broken; its messages are in the order they were made in")
    notes.warnings += [f"message {key}: is broken and was left out" for key, row in messages.items() if row is None]
    ordered = enumerate(_in_order(composer, messages), 1)
    turns = notes.mended((number, turn) for number, row in ordered for turn in _turns(row, number))
    uri = _object(_object(composer.get("workspaceIdentifier")).get("uri"))
    return Transcript(
        AGENT,
        text_of(given.get("id")) or "",
        turns,
        text_of(composer.get("name")),
        warnings=tuple(notes.warnings),
        cwd=text_of(uri.get("fsPath")),
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_order(composer: Row, messages: dict[str, Any]) -> list[Row]:
    """The messages that the composer lists; without a list, all there are, oldest first."""
    listed = next((composer[key] for key in ("fullConversationHeadersOnly", "conversation") if composer.get(key)), None)
    inline = _object(composer.get("conversationMap"))
    if not isinstance(listed, list):
        return sorted((row for row in messages.values() if isinstance(row, dict)), key=_made)
    found: list[Row] = []
    for head in listed:
        if isinstance(head, dict):
            key = str(head.get("bubbleId"))
            found.append({**head, **_object(inline.get(key)), **_object(messages.get(key))})
    return found


def _made(row: Row) -> str:
    return instant_of(row.get("createdAt")) or instant_of_millis(row.get("createdAt")) or ""


def _turns(row: Row, number: int) -> Iterator[NewTurn]:
    said_at = _made(row) or None
    said = text_of(row.get("text"))
    if row.get("type") == _USER:
        if said:
            yield NewTurn("user", said, None, said_at)
        return
    thinking = row.get("thinking")
    thought = text_of(thinking.get("text") if isinstance(thinking, dict) else thinking)
    if thought:
        yield NewTurn("assistant", thought, THINKING, said_at)
    if said:
        yield NewTurn("assistant", said, None, said_at)
    yield from _call(_object(row.get("toolFormerData")), number, said_at)


def _call(tool: Row, number: int, said_at: str | None) -> Iterator[NewTurn]:
    """A call as the model wrote it, else as Cursor understood it, and its result."""
    name = text_of(tool.get("name"))
    if name is None:
        return
    call = text_of(tool.get("toolCallId")) or f"call-{number}"
    yield NewTurn("assistant", _text(tool.get("rawArgs") or tool.get("params") or {}), name, said_at, call)
    result = next((tool[key] for key in ("result", "error") if tool.get(key)), None)
    if result is not None:
        yield NewTurn("tool", _text(result), name, said_at, call)


def _text(value: object) -> str:
    return value if isinstance(value, str) else compact(value)
