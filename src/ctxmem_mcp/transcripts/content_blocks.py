"""Content blocks as Anthropic's API has them (text, thinking, tool_use, tool_result, image ...), as turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ctxmem_mcp.models import THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import compact
from ctxmem_mcp.transcripts.json_lines import text_of


def turns_of_blocks(role: Role, content: object, said_at: str | None = None) -> Iterator[NewTurn]:
    """A message's content, a string or a list of blocks: a turn per block. Thoughts without text are left out."""
    if isinstance(content, str):
        yield NewTurn(role, content, said_at=said_at)
        return
    for block in content if isinstance(content, list) else []:
        if isinstance(block, str):
            yield NewTurn(role, block, said_at=said_at)
        elif isinstance(block, dict):
            yield from _turns_of_block(role, block, said_at)


def _turns_of_block(role: Role, block: dict[str, Any], said_at: str | None) -> Iterator[NewTurn]:
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        yield NewTurn(role, block["text"], said_at=said_at)
    elif kind in ("thinking", "redacted_thinking"):
        if text_of(block.get("thinking")):
            yield NewTurn("assistant", block["thinking"], THINKING, said_at)
    elif kind in ("tool_use", "server_tool_use"):
        given = block.get("input")
        content = given if isinstance(given, str) else compact(given)
        yield NewTurn("assistant", content, text_of(block.get("name")), said_at, text_of(block.get("id")))
    elif isinstance(kind, str) and kind.endswith("tool_result"):
        call = text_of(block.get("tool_use_id"))
        for text in _texts_of_result(block.get("content")):
            yield NewTurn("tool", text, None, said_at, call)
    else:
        yield NewTurn(role, compact(block), said_at=said_at)


def _texts_of_result(content: object) -> list[str]:
    """A result's parts: text as it is, anything else as JSON; one empty part where there is nothing."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return ["" if content is None else compact(content)]
    return [_text_of_part(part) for part in content] or [""]


def _text_of_part(part: object) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return part if isinstance(part, str) else compact(part)


def named_by_calls(numbered: Iterable[tuple[int, NewTurn]]) -> Iterator[tuple[int, NewTurn]]:
    """Results with the names of their calls' tools."""
    names: dict[str, str] = {}
    for number, turn in numbered:
        if turn.role == "assistant" and turn.call_id and turn.name:
            names[turn.call_id] = turn.name
        if turn.role == "tool" and turn.call_id and turn.name is None:
            turn = replace(turn, name=names.get(turn.call_id))
        yield number, turn
