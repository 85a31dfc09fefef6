"""Stores the requests of agents' sessions in the conversations that the agents' hooks fill too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.gateway.agent_session import (
    NOT_STORED,
    AlignedStart,
    LineTurn,
    align_session,
    calls_in,
)
from ctxmem_mcp.http_api.gateway.prefix import shared_prefix
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.content_blocks import name_results

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import Turn

# Sessions whose current branch is remembered.
LINES_MAX = 64


@dataclass(slots=True, eq=False)
class _Session:
    """A session's current branch, and the request that it was last aligned with.

    Attributes:
        line: the branch.
        sent: the request's turns.
        named: the same, their results with the names of their tools.
        names: the names of the tools, by the call's id.
        positions: the index in the branch of each of the request's turns.
        calls: the index in the branch of each call and result.
    """

    line: list[LineTurn] = field(default_factory=list)
    sent: list[NewTurn] = field(default_factory=list)
    named: list[NewTurn] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    positions: Sequence[int] = ()
    calls: dict[tuple[str, str | None], int] = field(default_factory=dict)

    def name(self, sent: Sequence[NewTurn]) -> tuple[list[NewTurn], int]:
        """Returns a request's turns with the names of tools, and how many of them the last request had too."""
        shared = shared_prefix(self.sent, sent)
        new = ((0, turn) for turn in sent[shared:])
        return [*self.named[:shared], *(turn for _, turn in name_results(new, self.names))], shared

    def start(self, line: Sequence[LineTurn], shared: int) -> AlignedStart | None:
        """Returns the alignment of the turns that the last request had too, if their part of the branch is the same."""
        positions = self.positions[:shared]
        last = max(positions, default=NOT_STORED)
        same = shared_prefix(self.line, line)
        if last == NOT_STORED or last >= same:
            return None
        if same < len(self.line):
            self.calls = calls_in(line[:same])
        self.calls |= calls_in(line, same)
        return AlignedStart(positions, self.calls)


class SessionLines:
    """The current branches of recent sessions, by principal and conversation."""

    def __init__(self) -> None:
        self._sessions: LRU[tuple[str, str], _Session] = LRU(LINES_MAX)

    def in_order(self, principal: str, conversations: Sequence[str], sent: Sequence[NewTurn]) -> list[str]:
        """Returns the conversations of a run's sessions in the order in which a request is compared with them.

        First those whose last request and answer it repeats and continues, then the others as they are.
        """

        def is_continued(conversation: str) -> bool:
            session = self._sessions.get((principal, conversation))
            return session is not None and len(session.sent) < len(sent) and session.sent == sent[: len(session.sent)]

        return sorted(conversations, key=lambda conversation: not is_continued(conversation))

    async def store(
        self,
        memory: Memory,
        principal: str,
        conversation: str,
        sent: Sequence[NewTurn],
        days: int | None,
        since: int,
        *,
        may_begin: bool,
        moves_head: bool = True,
    ) -> tuple[list[LineTurn], tuple[int, ...]] | None:
        """Stores the turns of a request that its session's conversation lacks.

        Args:
            memory: where to store them.
            principal: whose memory it is.
            conversation: the session's conversation.
            sent: all turns of the request.
            days: the days to keep the conversation.
            since: the memory's `count_tombstones` when the request arrived.
            may_begin: a session may begin with this request.
            moves_head: the session goes on after the last turn. If not, what is new is only stored beside its branch.

        Returns:
            The branch that the request continues, and the index of each of its turns there; None if the request is not
            the session's own.
        """
        line = await self._read(memory, principal, conversation)
        if not line and not may_begin:
            return None
        session = self._sessions.get((principal, conversation)) or _Session()
        turns, shared = session.name(sent)
        alignment = align_session(turns, line, session.start(line, shared))
        if alignment is None:
            return None
        known = line[: alignment.known]
        if alignment.new:
            after = known[-1].id if known else None
            done = await memory.sync(
                alignment.new,
                conversation_id=conversation,
                after=after,
                retention_days=days,
                since=since,
                moves_head=moves_head,
            )
            known += map(LineTurn, alignment.new, done.turn_ids)
            line = known
        if not moves_head:
            return line, alignment.positions
        calls = (
            session.calls if session.line and shared_prefix(session.line, line) == len(session.line) else calls_in(line)
        )
        calls |= calls_in(line, len(session.line))
        self._sessions[principal, conversation] = _Session(
            line, list(sent), turns, session.names, alignment.positions, calls
        )
        return line, alignment.positions

    async def _read(self, memory: Memory, principal: str, conversation: str) -> list[LineTurn]:
        """Returns the current branch; only what hooks have added since is read."""
        head = await memory.stored_head(conversation)
        if head is None:
            self._sessions.pop((principal, conversation), None)
            return []
        session = self._sessions.get((principal, conversation))
        line = session.line if session else []
        if line and line[-1].id == head:
            return line
        if line:
            later = await memory.turns(conversation, first=len(line) - 1)
            if later and later[0].id == line[-1].id:
                return [*line, *map(_line_turn, later[1:])]
        return [_line_turn(turn) for turn in await memory.turns(conversation)]


def _line_turn(turn: Turn) -> LineTurn:
    return LineTurn(NewTurn(turn.role, turn.content, turn.name, call_id=turn.call_id), turn.id)
