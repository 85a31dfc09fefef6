"""Keeps what a request says, and folds it where it is long: the part of the gateway that asks Memory.

A conversation is known by its messages alone. Two requests of one conversation are kept one after the other, so that
neither of them begins it twice. A long history that is new is kept in steps, between which others have their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ctxmem_mcp.http_api.gateway.conversation import MESSAGE_TOKENS, Said, Sizes, quoted, turns_of
from ctxmem_mcp.http_api.gateway.cut_point import cut_of, view_budget
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxmem_mcp.http_api.gateway.memory_options import Wish
    from ctxmem_mcp.http_api.gateway.provider import Shape
    from ctxmem_mcp.memory import Memory

# Turns that are kept in one step; system prompts and views that are remembered.
STEP_TURNS, LANES_KEPT, VIEWS_KEPT = 200, 2_000, 64
QUERY_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a conversation is kept. turn_ids: of its system prompt and all messages, in order."""

    conversation_id: str
    turn_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What goes upstream. body: None where the conversation fits and goes as it came.

    tokens_in: of the conversation as it came; tokens_sent: as it goes on.
    """

    kept: Kept
    body: dict[str, Any] | None
    tokens_in: int
    tokens_sent: int


class Keeping:
    """What one gateway remembers between requests; all of it can be lost."""

    def __init__(self, budget: int, encoding: str) -> None:
        self.sizes = Sizes(encoding)
        self._budget = budget
        self._lanes: LRU[tuple[str, bytes], tuple[NewTurn, ...]] = LRU(LANES_KEPT)
        self._locks: WeakValueDictionary[tuple[str, bytes], asyncio.Lock] = WeakValueDictionary()
        self._views: LRU[tuple[str, str, int, str], tuple[str, int]] = LRU(VIEWS_KEPT)

    async def prepared(
        self, memory: Memory, principal: str, shape: Shape, body: Mapping[str, Any], wish: Wish
    ) -> Prepared:
        """Keeps the request's messages, and folds them where they are too many."""
        await asyncio.sleep(0)
        said = shape.said(body, self.sizes)
        kept = await self._kept(memory, principal, said, wish.days)
        budget = wish.budget(self._budget)
        cut = cut_of(said.blocks, budget)
        as_it_came = Prepared(kept, None, said.tokens, said.tokens)
        if cut is None:
            return as_it_came
        turns = len(kept.turn_ids) - sum(len(message.turns) for message in said.messages[cut.start :])
        if not turns:  # nothing was said in what would be folded
            return as_it_came
        query = "" if cut.asked is None else said.words(cut.asked)[:QUERY_CHARS_MAX]
        text, shown = await self._view(memory, kept, kept.turn_ids[turns - 1], query, view_budget(budget))
        rest = [*cut.kept, *range(cut.start, len(said.messages))]
        sent = said.lead_tokens + shown + sum(said.messages[i].block.tokens for i in rest)
        if sent >= said.tokens:
            return as_it_came
        return Prepared(kept, shape.folded(body, cut, text), said.tokens, sent)

    async def remember(self, memory: Memory, kept: Kept, answer: Sequence[NewTurn]) -> None:
        """Keeps the answer to a request."""
        await memory.sync(answer, conversation_id=kept.conversation_id, after=kept.turn_ids[-1])

    async def _kept(self, memory: Memory, principal: str, said: Said, days: int | None) -> Kept:
        key = (principal, said.lane())
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            # A system prompt that tells the time is another at each request; it is kept as it first was.
            lead = self._lanes.setdefault(key, said.lead)
            return await _synced(memory, turns_of(said, lead), days)

    async def _view(self, memory: Memory, kept: Kept, turn_id: str, query: str, budget: int) -> tuple[str, int]:
        """What was said up to a turn, as a message's text, and its tokens: the same until the cut moves."""
        key = (kept.conversation_id, turn_id, budget, query)
        found = self._views.get(key)
        if found is None:
            view = await memory.view(
                kept.conversation_id, query=query or None, token_budget=budget, turn_id=turn_id, layout="stable"
            )
            found = self._views[key] = (view.text, self.sizes(quoted(view.text)) + MESSAGE_TOKENS)
        return found


async def _synced(memory: Memory, turns: Sequence[NewTurn], days: int | None) -> Kept:
    """All turns kept, from the first on."""
    done = await memory.sync(turns[:STEP_TURNS], retention_days=days)
    ids = list(done.turn_ids)
    for at in range(STEP_TURNS, len(turns), STEP_TURNS):
        await asyncio.sleep(0)
        step = turns[at : at + STEP_TURNS]
        done = await memory.sync(step, conversation_id=done.conversation_id, after=ids[-1], retention_days=days)
        ids += done.turn_ids
    return Kept(done.conversation_id, tuple(ids))
