"""Turns from content blocks as Anthropic's API has them: text, thinking, tool_use, tool_result, image and others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

from ctxmem_mcp.models import THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import NumberedTurn, compact_json, text_or_json
from ctxmem_mcp.transcripts.json_lines import text_or_none


def turns_from_blocks(role: Role, content: object, said_at: str | None = None) -> Iterator[NewTurn]:
    """Yields a message's turns, one for each block.

    Tool results become turns of the tool and thinking becomes an assistant turn, whatever the role; thinking without
    text is left out. A block that is none of text, thinking, call and result becomes its JSON.

    Args:
        role: the role of the message.
        content: a string or a list of blocks; anything else has no turns.
        said_at: the message's time in ISO 8601.
    """
    if isinstance(content, str):
        yield NewTurn(role, content, said_at=said_at)
        return
    for block in content if isinstance(content, list) else []:
        if isinstance(block, str):
            yield NewTurn(role, block, said_at=said_at)
        elif isinstance(block, dict):
            yield from _turns_from_block(role, block, said_at)


def _turns_from_block(role: Role, block: dict[str, Any], said_at: str | None) -> Iterator[NewTurn]:
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        yield NewTurn(role, block["text"], said_at=said_at)
    elif kind in ("thinking", "redacted_thinking"):
        if text_or_none(block.get("thinking")):
            yield NewTurn("assistant", block["thinking"], THINKING, said_at)
    elif kind in ("tool_use", "server_tool_use"):
        name, call_id = text_or_none(block.get("name")), text_or_none(block.get("id"))
        yield NewTurn("assistant", text_or_json(block.get("input")), name, said_at, call_id)
    elif isinstance(kind, str) and kind.endswith("tool_result"):
        call_id = text_or_none(block.get("tool_use_id"))
        for text in result_texts(block.get("content")):
            yield NewTurn("tool", text, None, said_at, call_id)
    else:
        yield NewTurn(role, compact_json(block), said_at=said_at)


def result_texts(content: object) -> list[str]:
    """Returns the parts of a result, those that are not text as JSON; one empty part if there are none.

    The tools that a search found are one part, a line each.
    """
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return ["" if content is None else compact_json(content)]
    groups = groupby(content, key=_is_tool_reference)
    texts = [
        text
        for is_reference, parts in groups
        for text in (["\n".join(map(part_text, parts))] if is_reference else map(part_text, parts))
    ]
    return texts or [""]


def _is_tool_reference(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_reference"


def part_text(part: object) -> str:
    """Returns the text of a text block or a string, and any other part as JSON."""
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return text_or_json(part)


def name_results(numbered: Iterable[NumberedTurn], names: dict[str, str] | None = None) -> Iterator[NumberedTurn]:
    """Yields the turns, each tool result that has no name with the name of the tool that its call names.

    The call is usually before the result; if none is, the first one after it counts.

    Args:
        numbered: the turns.
        names: the names in the turns before these, by the call's id; those in these are added.
    """
    turns = list(numbered)
    names = {} if names is None else names
    for _, turn in reversed(turns):
        names.update(_name_in(turn))
    for number, turn in turns:
        names.update(_name_in(turn))
        if turn.role == "tool" and turn.call_id and turn.name is None:
            turn = replace(turn, name=names.get(turn.call_id))
        yield number, turn


def _name_in(turn: NewTurn) -> dict[str, str]:
    return {turn.call_id: turn.name} if turn.role == "assistant" and turn.call_id and turn.name else {}
