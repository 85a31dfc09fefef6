"""The branches of a Claude Code session: the current one, and those that the user rewound or edited away.

An exchange is a prompt with the rows up to the next prompt. Within an exchange rows stay in file order: parallel calls
fork the tree of rows there, and every fork is part of the conversation. A rewind shows as a prompt whose parent another
prompt has answered already. Nothing else makes a branch: neither a compaction, whose rows follow the row before them
in the file, nor another row of the host's that names an old parent. Only a prompt moves the end of the current branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ctxmem_mcp.transcripts.claude_code.rows import (
    in_parent_order,
    is_compaction,
    is_host_written,
    is_prompt,
    parent_uuid,
)
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none

ExchangeRow = tuple[int, NumberedRow]
"""A row with its exchange, which is named by the line of its prompt."""


def find_branches(numbered: Iterable[NumberedRow]) -> list[list[NumberedRow]]:
    """Returns each branch from the first prompt to a last one, its rows in the order they are read.

    The branch of the last prompt comes last. Without rows there is one empty branch.
    """
    exchanges = split_exchanges(numbered)
    parent_of, end = exchanges.parent_of, exchanges.end
    parents = set(parent_of.values())
    tips = [exchange for exchange in parent_of if exchange not in parents and exchange != end]
    branches = []
    for tip in [*tips, end]:
        members = set(exchanges.line_of(tip))
        branches.append([pair for exchange, pair in exchanges.placed if exchange in members])
    return branches


@dataclass(slots=True)
class Exchanges:
    """The exchanges of a session.

    Attributes:
        placed: the rows in the order they are read, each with its exchange.
        parent_of: each exchange with the one before it (None for the first).
        end: the exchange that the current branch ends in; None without rows.
        anchor_of: each row's uuid with the exchange that a prompt whose parent it is continues. Only a host's row with
            an old parent has another than its own.
    """

    placed: list[ExchangeRow] = field(default_factory=list)
    parent_of: dict[int, int | None] = field(default_factory=dict)
    end: int | None = None
    anchor_of: dict[str, int] = field(default_factory=dict)

    def line_of(self, exchange: int | None) -> Iterator[int]:
        """Yields an exchange and those before it, back to the first."""
        while exchange is not None:
            yield exchange
            exchange = self.parent_of[exchange]


def split_exchanges(numbered: Iterable[NumberedRow]) -> Exchanges:
    """Assigns each row to an exchange. A row whose parent is not in the file follows the row before it."""
    splitter = _Splitter()
    for line, row in in_parent_order(sorted(numbered, key=lambda pair: pair[0])):
        splitter.add(line, row)
    return splitter.exchanges


class _Splitter:
    """Places the rows one after the other.

    `_message_of` maps each row's uuid to the last message, not the host's, on the way up to it. `_answered` maps such
    a message to the exchange that the last prompt after it continued.
    """

    def __init__(self) -> None:
        self.exchanges = Exchanges()
        self._exchange_of: dict[str, int] = {}
        self._message_of: dict[str, str | None] = {}
        self._answered: dict[str | None, int] = {}
        self._last_message: str | None = None
        self._stale: dict[str, list[int]] = {}  # a host's row with an old parent, and the places of those before it
        self._moved: set[int] = set()

    def add(self, line: int, row: Row) -> None:
        if is_prompt(row) or self.exchanges.end is None:
            self._start_exchange(line, row)
        elif is_compaction(row):
            self._place(line, row, self.exchanges.end, self.exchanges.end)
        else:
            self._continue_exchange(line, row, self.exchanges.end)

    def _start_exchange(self, line: int, row: Row) -> None:
        parent = parent_uuid(row) or ""
        base = self._base(parent)
        if base is not None and base != self.exchanges.end:
            base = self._move_stale(self._stale.get(parent, []), base)
        self.exchanges.parent_of[line] = base
        if base is not None:
            self._answered[self._message_of.get(parent, self._last_message)] = base
        self.exchanges.end = line
        self._place(line, row, line, line)

    def _move_stale(self, places: list[int], base: int) -> int:
        """Makes the host's rows between a rewind and its prompt an exchange of their own; returns the last one."""
        placed, own = self.exchanges.placed, None
        for at in places:
            exchange, (line, row) = placed[at]
            if at in self._moved:
                base = exchange
                continue
            if own is None:
                own = line
                self.exchanges.parent_of[own] = base
            self._moved.add(at)
            placed[at] = (own, (line, row))
            uuid = row["uuid"]
            self._exchange_of[uuid] = self.exchanges.anchor_of[uuid] = own
            self._message_of[uuid] = uuid
        return base if own is None else own

    def _base(self, parent: str) -> int | None:
        """Returns the exchange that a prompt continues: an earlier one than the current only after a rewind."""
        end = self.exchanges.end
        anchor = self.exchanges.anchor_of.get(parent, end)
        if anchor == end:
            return end
        message = self._message_of.get(parent)
        if message in self._answered:
            return self._answered[message]
        return end if anchor in set(self.exchanges.line_of(end)) else anchor

    def _continue_exchange(self, line: int, row: Row, end: int) -> None:
        parent = parent_uuid(row) or ""
        if not is_host_written(row):
            exchange = self._exchange_of.get(parent, end)
            self._place(line, row, exchange, exchange)
            return
        anchor = self.exchanges.anchor_of.get(parent, end)
        if anchor != end and (uuid := text_or_none(row.get("uuid"))):
            self._stale[uuid] = [*self._stale.get(parent, ()), len(self.exchanges.placed)]
        self._place(line, row, end, anchor)

    def _place(self, line: int, row: Row, exchange: int, anchor: int) -> None:
        self.exchanges.placed.append((exchange, (line, row)))
        uuid = text_or_none(row.get("uuid"))
        if uuid is None:
            return
        self._exchange_of[uuid] = exchange
        self.exchanges.anchor_of[uuid] = anchor
        if is_compaction(row):
            self._message_of[uuid] = self._last_message
        elif is_host_written(row):
            self._message_of[uuid] = self._message_of.get(parent_uuid(row) or "", self._last_message)
        else:
            self._message_of[uuid] = uuid
            if exchange == self.exchanges.end:
                self._last_message = uuid
