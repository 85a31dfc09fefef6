"""Anthropic's messages: a request's body, a list of messages, one message a line, or a response.

A message's content is text or blocks, each a turn: text, thinking (an assistant turn named `thinking`), a call with its
input as JSON, a result's parts. Results are in the user's messages; they are turns of the tool nevertheless. The body's
`system` is the first turn. Reminders that a host put among the user's words are named `injected`, the host's summaries
`recap`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import INJECTED, RECAP, ROLES, NewTurn, Role
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript, compact_json
from ctxmem_mcp.transcripts.content_blocks import name_results, turns_from_blocks
from ctxmem_mcp.transcripts.json_documents import numbered_objects, read_document, read_head
from ctxmem_mcp.transcripts.json_lines import (
    NumberedRow,
    count_unread,
    first_rows,
    read_rows,
    text_or_none,
    timestamp_of,
)

AGENT = "anthropic"
_ROLES: dict[str, Role] = {role: role for role in ROLES}
# Blocks that only these messages have; those of text could be OpenAI's.
_BLOCK_TYPES = ("tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use")
_INJECTED_PREFIXES = ("<system-reminder>",)
_RECAP_PREFIXES = ("This session is being continued from a previous conversation",)


def looks_like(name: str, head: str) -> bool:
    """Recognises JSON with messages beside a `system`, or with Anthropic's own blocks; or lines of such messages."""
    if head.lstrip()[:1] not in ("{", "["):
        return False
    if name.endswith(".jsonl"):
        rows = first_rows(head)
        return any(_has_own_blocks(row) for row in rows) and not any(_is_foreign(row) for row in rows)
    body = read_head(head)
    if any(_is_foreign(message) for message in _messages(body)):
        return False
    if isinstance(body, dict) and "system" in body and isinstance(body.get("messages"), list):
        return True
    return any(_has_own_blocks(message) for message in _messages(body))


def parse(text: str, name: str) -> Transcript:
    """Returns the messages of a file in order. A message that is there twice under its id counts once."""
    log = ParseLog()
    if name.endswith(".jsonl"):
        body: object = None
        numbered = [*read_rows(text, log)]
    else:
        body = read_document(text, log)
        numbered = [*numbered_objects(_messages(body), log)]
    count_unread(numbered, lambda pair: next(_turns([pair]), None) is not None, log)
    turns = log.sanitize(name_results([*_system_turns(body), *_turns(numbered)]))
    return Transcript(AGENT, "", turns, warnings=tuple(log.warnings), unread=log.unread)


def _messages(body: object) -> list[object]:
    if isinstance(body, dict) and "messages" not in body and "role" in body:
        return [body]
    messages = body.get("messages") if isinstance(body, dict) else body
    return messages if isinstance(messages, list) else []


def _has_own_blocks(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) and "role" in message else None
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, dict) and block.get("type") in _BLOCK_TYPES for block in blocks)


def _is_foreign(message: object) -> bool:
    """Returns whether a message is Amp's, whose blocks are similar: it has a `messageId`, its results a `toolUseID`."""
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else []
    return (isinstance(message, dict) and "messageId" in message) or any(
        isinstance(block, dict) and "toolUseID" in block for block in blocks
    )


# ---------------------------------------------------------------- turns


def _system_turns(body: object) -> Iterator[NumberedTurn]:
    if isinstance(body, dict) and "messages" in body:
        yield from ((1, turn) for turn in turns_from_blocks("system", body.get("system")) if turn.content)


def _turns(numbered: list[NumberedRow]) -> Iterator[NumberedTurn]:
    seen: set[str] = set()
    for number, message in numbered:
        key = compact_json(message)
        if text_or_none(message.get("id")) and key in seen:
            continue
        seen.add(key)
        role = _ROLES.get(str(message.get("role")), "system")
        said_at = timestamp_of(message)
        for turn in turns_from_blocks(role, message.get("content"), said_at):
            if turn.content or turn.call_id:
                yield number, _attributed(turn)


def _attributed(turn: NewTurn) -> NewTurn:
    """Returns the turn under its author: the host's text in the user's place becomes a system turn."""
    start = turn.content[:200].lstrip() if turn.role == "user" else ""
    if start.startswith(_RECAP_PREFIXES):
        return replace(turn, role="system", name=RECAP)
    return replace(turn, role="system", name=INJECTED) if start.startswith(_INJECTED_PREFIXES) else turn
