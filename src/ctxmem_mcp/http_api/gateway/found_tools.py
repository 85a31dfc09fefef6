"""Keeps the tools usable that an agent found by searching: the API expands the references in the history. Pure.

The agent's own search is a call whose result holds `tool_reference` blocks. The API's search has both in one message of
the assistant: `server_tool_use` and `tool_search_tool_result`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ctxmem_mcp.http_api.gateway.conversation import without_cache_marks

_REFERENCE = "tool_reference"
_THINKING = ("thinking", "redacted_thinking")


def found_tools(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns messages with only the searches in these messages, and their results, that found further tools."""
    known = set[str]()
    searches = set[Any]()
    for message in messages:
        for block in _blocks(message):
            new = set(_references(block)) - known
            if new and block.get("tool_use_id"):
                known |= new
                searches.add(block["tool_use_id"])
    return [kept for message in messages if (kept := _only(message, searches))] if searches else []


def _only(message: Any, searches: set[Any]) -> dict[str, Any] | None:
    """Returns a message with only the blocks of these searches, and the thinking before them; None if it has none."""
    blocks = [*_blocks(message)]
    kept = [block for block in blocks if block.get("id") in searches or block.get("tool_use_id") in searches]
    if not kept:
        return None
    thinking = [block for block in blocks if block.get("type") in _THINKING]
    return {**message, "content": without_cache_marks([*thinking, *kept])}


def _blocks(message: Any) -> Iterator[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    yield from (block for block in content if isinstance(block, dict)) if isinstance(content, list) else ()


def _references(value: Any) -> Iterator[str]:
    """Yields the names of the tools that a result refers to."""
    if isinstance(value, list):
        for part in value:
            yield from _references(part)
    elif isinstance(value, dict):
        if value.get("type") == _REFERENCE and isinstance(value.get("tool_name"), str):
            yield value["tool_name"]
        yield from _references(value.get("content"))
        yield from _references(value.get("tool_references"))
