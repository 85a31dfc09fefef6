"""The branches of a Claude Code session: the current one, and those that a rewind abandoned.

A rewind shows as a prompt whose parent already has another prompt after it. An exchange is a prompt with the rows up to
the next prompt. Within an exchange rows stay in file order: parallel calls fork the tree of rows there, and every fork
is part of the conversation.
"""

from __future__ import annotations

from collections.abc import Iterable

from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none

ExchangeRow = tuple[int, NumberedRow]
"""A row with its exchange, which is named by the line of its prompt."""


def find_branches(numbered: Iterable[NumberedRow]) -> list[list[NumberedRow]]:
    """Returns each branch from the first prompt to a last one, its rows in file order.

    The branch that the file ends in comes last. Without rows there is one empty branch.
    """
    placed, parent_of = split_exchanges(numbered)
    if not placed:
        return [[]]
    end = placed[-1][0]
    parents = set(parent_of.values())
    tips = [exchange for exchange in parent_of if exchange not in parents and exchange != end]
    branches = []
    for tip in [*tips, end]:
        members = _with_ancestors(parent_of, tip)
        branches.append([pair for exchange, pair in placed if exchange in members])
    return branches


def split_exchanges(numbered: Iterable[NumberedRow]) -> tuple[list[ExchangeRow], dict[int, int | None]]:
    """Assigns each row to an exchange.

    A row whose parent is not in the file belongs to the exchange of the row before it.

    Returns:
        The rows in file order, each with its exchange; and each exchange with the one before it (None for the first).
    """
    exchange_of: dict[str, int] = {}
    parent_of: dict[int, int | None] = {}
    placed: list[ExchangeRow] = []
    current: int | None = None
    for line, row in sorted(numbered, key=lambda pair: pair[0]):
        uuid = text_or_none(row.get("uuid"))
        exchange = exchange_of.get(parent_uuid(row) or "", current)
        if exchange is None or is_prompt(row):
            parent_of[line] = exchange
            exchange = line
        if uuid:
            exchange_of[uuid] = exchange
        if uuid or current is None:
            current = exchange
        placed.append((exchange, (line, row)))
    return placed, parent_of


def parent_uuid(row: Row) -> str | None:
    """Returns the id of the row's parent; across a compaction, of its logical parent."""
    return text_or_none(row.get("parentUuid")) or text_or_none(row.get("logicalParentUuid"))


def is_prompt(row: Row) -> bool:
    """Returns whether a row starts an exchange: the user's, not a tool's result, nor injected or queued by the host."""
    message = row.get("message")
    if row.get("type") != "user" or row.get("isMeta") or not row.get("uuid") or not isinstance(message, dict):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    return isinstance(content, str)


def _with_ancestors(parent_of: dict[int, int | None], exchange: int | None) -> set[int]:
    members: set[int] = set()
    while exchange is not None and exchange not in members:
        members.add(exchange)
        exchange = parent_of.get(exchange)
    return members
