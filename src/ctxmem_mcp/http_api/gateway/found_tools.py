"""Keeps the tools usable that an agent found by searching: the API expands the references in the history. Pure.

The agent's own search is a call whose result holds `tool_reference` blocks. The API's search has both in one message of
the assistant: `server_tool_use` and `tool_search_tool_result`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

from ctxmem_mcp.http_api.gateway.conversation import without_cache_marks
from ctxmem_mcp.http_api.gateway.prefix import PrefixCache

_REFERENCE = "tool_reference"
_THINKING = ("thinking", "redacted_thinking")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a message has of searches: the tools that each result in it names, and the ids of its calls and results."""

    found: tuple[tuple[str, frozenset[str]], ...]
    ids: frozenset[str]


class FoundTools:
    """Finds the searches in messages, each of which is looked at once while a conversation grows."""

    def __init__(self) -> None:
        self._facts: PrefixCache[_Facts] = PrefixCache()

    def in_messages(self, messages: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns messages with only the searches in these messages, and their results, that found further tools."""
        facts = self._facts.map(messages, lambda i: _facts_of(messages[i]))
        known = set[str]()
        searches = set[str]()
        for search, names in chain.from_iterable(map(attrgetter("found"), facts)):
            if names - known:
                known |= names
                searches.add(search)
        if not searches:
            return []
        having = (message for message, one in zip(messages, facts, strict=True) if not searches.isdisjoint(one.ids))
        return [kept for message in having if (kept := _only(message, searches))]


def _facts_of(message: Any) -> _Facts:
    blocks = [*_blocks(message)]
    found = ((str(block.get("tool_use_id") or ""), frozenset(_references(block))) for block in blocks)
    ids = (block.get(name) for block in blocks for name in ("id", "tool_use_id"))
    return _Facts(
        tuple((search, names) for search, names in found if search and names),
        frozenset(id for id in ids if isinstance(id, str)),
    )


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
