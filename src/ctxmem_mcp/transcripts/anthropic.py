"""Anthropic's messages, as turns: a request's body, a list of messages, one message a line, or a reply as it came.

A message's content is text or blocks, a turn each: text, thinking (an assistant turn named 'thinking'), a call with
its input as JSON, a result's parts. Results stand in the user's messages and are a tool's all the same. The body's
`system` is the first turn. Reminders that a host put among the user's words are 'injected', its summaries 'recap'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import INJECTED, RECAP, ROLES, NewTurn, Role
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.content_blocks import named_by_calls, turns_of_blocks
from ctxmem_mcp.transcripts.json_documents import document
from ctxmem_mcp.transcripts.json_lines import Row, first_rows, instant_of, rows, text_of

AGENT = "anthropic"
_ROLES: dict[str, Role] = {role: role for role in ROLES}
# Blocks that nobody else's messages have; text alone would be OpenAI's as well.
_OWN_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use")
_INJECTED = ("<system-reminder>",)
_RECAPS = ("This session is being continued from a previous conversation",)


def looks_like(name: str, head: str) -> bool:
    """JSON with messages beside a `system`, or with blocks of Anthropic's own; or lines of such messages."""
    if head.lstrip()[:1] not in ("{", "["):
        return False
    if name.endswith(".jsonl"):
        return any(_is_own(row) for row in first_rows(head))
    body = document(head, Notes())
    if isinstance(body, dict) and "system" in body and isinstance(body.get("messages"), list):
        return True
    return any(_is_own(message) for message in _messages_in(body))


def parse(text: str, name: str) -> Transcript:
    """The messages of a file, in order, one that stands there twice under its id once."""
    notes = Notes()
    if name.endswith(".jsonl"):
        body: object = None
        numbered = [*rows(text, notes)]
    else:
        body = document(text, notes)
        numbered = [*_told(_messages_in(body), notes)]
    turns = notes.mended(named_by_calls([*_system(body), *_turns(numbered)]))
    return Transcript(AGENT, "", turns, warnings=tuple(notes.warnings))


def _messages_in(body: object) -> list[object]:
    if isinstance(body, dict) and "messages" not in body and "role" in body:
        return [body]
    messages = body.get("messages") if isinstance(body, dict) else body
    return messages if isinstance(messages, list) else []


def _is_own(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) and "role" in message else None
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, dict) and block.get("type") in _OWN_BLOCKS for block in blocks)


def _told(messages: list[object], notes: Notes) -> Iterator[tuple[int, Row]]:
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict):
            yield number, message
        else:
            notes.warnings.append(f"message {number}: is no object and was left out")


# ---------------------------------------------------------------- turns


def _system(body: object) -> Iterator[tuple[int, NewTurn]]:
    if isinstance(body, dict) and "messages" in body:
        yield from ((1, turn) for turn in turns_of_blocks("system", body.get("system")) if turn.content)


def _turns(numbered: list[tuple[int, Row]]) -> Iterator[tuple[int, NewTurn]]:
    seen: set[str] = set()
    for number, message in numbered:
        key = compact(message)
        if text_of(message.get("id")) and key in seen:
            continue
        seen.add(key)
        role = _ROLES.get(str(message.get("role")), "system")
        said_at = instant_of(message.get("timestamp")) or instant_of(message.get("created_at"))
        for turn in turns_of_blocks(role, message.get("content"), said_at):
            if turn.content or turn.call_id:
                yield number, _as_said(turn)


def _as_said(turn: NewTurn) -> NewTurn:
    start = turn.content[:200].lstrip() if turn.role == "user" else ""
    if start.startswith(_RECAPS):
        return replace(turn, role="system", name=RECAP)
    return replace(turn, role="system", name=INJECTED) if start.startswith(_INJECTED) else turn
