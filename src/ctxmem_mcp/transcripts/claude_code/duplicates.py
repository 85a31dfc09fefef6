"""Rows that a Claude Code session file holds twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ctxmem_mcp.transcripts.base import compact_json
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none

# The fields that may hold a row's content; a row has one of them.
_CONTENT_FIELDS = ("message", "attachment", "data", "content")
# What Claude Code writes in place of a result that it took out of its context.
_CLEARED = "[Old tool result content cleared]"


def without_duplicates(numbered: Iterable[NumberedRow]) -> list[NumberedRow]:
    """Drops rows appended again, and makes the dropped rows' children those of the rows that stay.

    A row is dropped if an earlier one has the same uuid and the same content, or has words where this one has none (a
    compaction that failed leaves such rows); or if it is the same message under another uuid. Rows without a message
    are dropped too: others name them as their parents, and a second copy in another place would start a branch.
    """
    seen = SeenRows()
    return [(line, kept) for line, row in numbered if (kept := seen.add(row)) is not None]


class SeenRows:
    """The rows read so far, as far as it takes to recognise a duplicate."""

    def __init__(self) -> None:
        self._contents: dict[str, set[str]] = {}
        self._first: dict[str, str] = {}  # a message's key, and the uuid of its first row
        self._alias: dict[str, str] = {}  # a dropped row's uuid, and that of the row that stays

    def add(self, row: Row) -> Row | None:
        """Returns the row, its parent one that stays; None if it is a duplicate."""
        parent = text_or_none(row.get("parentUuid"))
        if parent in self._alias:
            row = {**row, "parentUuid": self._alias[parent]}
        uuid = text_or_none(row.get("uuid"))
        if uuid is None:
            return row
        content = _content(row)
        text = compact_json(content)
        known = self._contents.setdefault(uuid, set())
        if known and (text in known or is_blank(content)):
            return None
        first = next((self._first[key] for key in message_keys(row) if key in self._first), uuid)
        if first != uuid and not known:
            self._alias[uuid] = first
            return None
        known.add(text)
        for key in keys_of_copies(row):
            self._first.setdefault(key, uuid)
        return row


def message_keys(row: Row) -> Iterator[str]:
    """Yields the keys that a row shares with the same message under another uuid.

    The same words in two rows are two messages unless the rows also agree on where they belong. A row that the API or
    a tool wrote has an id: the time or the parent is enough then. Of two that only a user could have written, both.
    """
    message = row.get("message")
    parent, time = text_or_none(row.get("parentUuid")), text_or_none(row.get("timestamp"))
    if not isinstance(message, dict):
        return
    text = compact_json([row.get("type"), message.get("id"), message.get("content")])
    if text_or_none(message.get("id")) or _is_result(message.get("content")):
        if time:
            yield f"time {time} {text}"
        if parent:
            yield f"parent {parent} {text}"
    elif parent and time:
        yield f"both {parent} {time} {text}"


def keys_of_copies(row: Row) -> Iterator[str]:
    """Yields the keys by which a later row is recognised as a copy: the row's own, and that of its child."""
    yield from message_keys(row)
    message = row.get("message")
    if isinstance(message, dict) and text_or_none(message.get("id")) and text_or_none(row.get("uuid")):
        yield from message_keys({**row, "parentUuid": row["uuid"], "timestamp": None})


def _content(row: Row) -> Any:
    content = next((row[field] for field in _CONTENT_FIELDS if field in row), row)
    return content["content"] if "message" in row and isinstance(content, dict) and "content" in content else content


def _is_result(content: object) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )


def is_blank(content: object) -> bool:
    """Returns whether a message's content has no words, or only those that stand for a result taken out."""
    if isinstance(content, str):
        return content.strip() in ("", _CLEARED)
    if isinstance(content, list):
        return all(is_blank(block) for block in content)
    if not isinstance(content, dict):
        return content is None
    fields = [content[name] for name in ("text", "thinking", "content", "input") if name in content]
    return bool(fields) and all(field == {} or is_blank(field) for field in fields)
