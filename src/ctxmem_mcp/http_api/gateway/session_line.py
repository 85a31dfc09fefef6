"""Stores the requests of agents' sessions in the conversations that the agents' hooks fill too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.gateway.agent_session import LineTurn, align_session
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.content_blocks import name_results

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import Turn

# Sessions whose current branch is remembered.
LINES_MAX = 64


class SessionLines:
    """The current branches of recent sessions, by principal and conversation."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[str, str], list[LineTurn]] = OrderedDict()

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

        Returns:
            The branch that the request continues, and the index of each of its turns there; None if the request is not
            the session's own.
        """
        line = await self._read(memory, principal, conversation)
        if not line and not may_begin:
            return None
        turns = [turn for _, turn in name_results((0, turn) for turn in sent)]
        alignment = align_session(turns, line)
        if alignment is None:
            return None
        known = line[: alignment.known]
        if alignment.new:
            after = known[-1].id if known else None
            done = await memory.sync(
                alignment.new, conversation_id=conversation, after=after, retention_days=days, since=since
            )
            known += map(LineTurn, alignment.new, done.turn_ids)
            line = known
        self._remember(principal, conversation, line)
        return known if alignment.new else line, alignment.positions

    async def _read(self, memory: Memory, principal: str, conversation: str) -> list[LineTurn]:
        """Returns the current branch; only what hooks have added since is read."""
        head = await memory.stored_head(conversation)
        if head is None:
            self._lines.pop((principal, conversation), None)
            return []
        line = self._lines.get((principal, conversation), [])
        if line and line[-1].id == head:
            return line
        if line:
            later = await memory.turns(conversation, first=len(line) - 1)
            if later and later[0].id == line[-1].id:
                return [*line, *map(_line_turn, later[1:])]
        return [_line_turn(turn) for turn in await memory.turns(conversation)]

    def _remember(self, principal: str, conversation: str, line: list[LineTurn]) -> None:
        self._lines[principal, conversation] = line
        self._lines.move_to_end((principal, conversation))
        while len(self._lines) > LINES_MAX:
            self._lines.popitem(last=False)


def _line_turn(turn: Turn) -> LineTurn:
    return LineTurn(NewTurn(turn.role, turn.content, turn.name, call_id=turn.call_id), turn.id)
