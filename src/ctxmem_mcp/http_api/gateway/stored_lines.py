"""The branches of recent conversations as they are stored, and the requests that they were last aligned with.

A request is aligned from where it differs from an earlier one, and only what follows is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxmem_mcp.http_api.gateway.alignment import align
from ctxmem_mcp.http_api.gateway.prefix import shared_prefix
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn

Key = tuple[str, bytes]
# Conversations whose branches are remembered; branches of each.
CONVERSATIONS_MAX, BRANCHES_MAX = 64, 8


@dataclass(slots=True, eq=False)
class StoredLine:
    """A branch.

    Attributes:
        conversation_id: its conversation.
        turns: its turns as they are stored.
        ids: their ids.
        sent: the turns of the request that it was last aligned with.
        positions: the index in `turns` of each of these.
    """

    conversation_id: str
    turns: list[NewTurn]
    ids: list[str]
    sent: list[NewTurn]
    positions: list[int]


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a request continues a branch.

    Attributes:
        line: the branch.
        known: how many of its turns the request has.
        new: the turns that are not stored.
        positions: the index of each of the request's turns in the known turns and the new ones.
    """

    line: StoredLine
    known: int
    new: list[NewTurn]
    positions: list[int]

    @property
    def turns(self) -> list[NewTurn]:
        """All turns of the request as they are stored."""
        return self.line.turns[: self.known] + self.new


class StoredLines:
    """The branches, by the key of their conversation. Losing them costs time only."""

    def __init__(self) -> None:
        self._lines: LRU[Key, list[StoredLine]] = LRU(CONVERSATIONS_MAX)

    def continuation(self, key: Key, sent: Sequence[NewTurn]) -> Continuation | None:
        """Returns how a request continues the branch that it has most in common with; None if it continues none.

        It must have two turns of the branch: what follows the first is found by the conversation's beginning.
        """
        found = [_continuation(line, sent) for line in self._lines.get(key, ())]
        best = max(found, key=lambda one: one.known, default=None)
        return best if best is not None and best.known > 1 else None

    def add(self, key: Key, line: StoredLine, replaced: StoredLine | None = None) -> None:
        """Adds a branch as the newest, in place of one that it continues."""
        lines = [one for one in self._lines.get(key, ()) if one is not replaced]
        self._lines[key] = [*lines, line][-BRANCHES_MAX:]

    def extend(self, key: Key, last_id: str, answer: Sequence[NewTurn], ids: Sequence[str]) -> None:
        """Adds an answer to the newest branch, if it ends with this turn."""
        lines = self._lines.get(key)
        if lines and lines[-1].ids[-1] == last_id:
            lines[-1].turns += answer
            lines[-1].ids += ids

    def remove(self, key: Key) -> None:
        """Removes a conversation."""
        self._lines.pop(key, None)


def _continuation(line: StoredLine, sent: Sequence[NewTurn]) -> Continuation:
    shared = shared_prefix(line.sent, sent)
    positions = line.positions[:shared]
    begin = positions[-1] + 1 if positions else 0
    rest = align(sent[shared:], line.turns[begin:])
    positions += [begin + at for at in rest.positions]
    return Continuation(line, begin + rest.known, list(rest.turns[rest.known :]), positions)
