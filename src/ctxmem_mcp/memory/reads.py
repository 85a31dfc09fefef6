"""Lists conversations, and reads their turns, branches and tree."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctxmem_mcp.errors import AmbiguousId, UnknownConversation
from ctxmem_mcp.memory import outline, recent, usage
from ctxmem_mcp.memory.branches import Lineage, branch_tips
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.core import MemoryCore, conversation_of
from ctxmem_mcp.memory.expiry import ANY_TIME
from ctxmem_mcp.memory.short_ids import ShortIds
from ctxmem_mcp.models import Turn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import Change, Conversation, ConversationInfo, ConversationPage, ModelUsage, OutlineNode
from ctxmem_mcp.stores.extensions import WatchableStore
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import TimestampPrinter, quote_text

# User turns among this many last turns make the query; a turn of this many words is one on its own.
QUERY_WITHIN_TURNS, QUERY_WORDS = 64, 4
# An error about an ambiguous id names so many.
CANDIDATES_NAMED = 10


class MemoryReads(MemoryCore):
    """The methods that list conversations and read turns."""

    async def conversations(
        self,
        *,
        space: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        project: Project | None = None,
    ) -> ConversationPage:
        """Lists conversations, the most recently active first.

        Args:
            space: Only those in this space.
            limit: The most that a page holds.
            cursor: `next_cursor` of the previous page.
            project: Only those of this project.

        Raises:
            InvalidArgument: The cursor is malformed.
        """
        page = await self._store.conversations(self._clock(), space, limit, cursor, project)
        return replace(page, events_pending=self._count_pending())

    async def watch(self, listener: Callable[[Change], Awaitable[None]]) -> Callable[[], None] | None:
        """Calls a listener after each change by any process; see `WatchableStore`.

        Returns:
            Ends that when it is called, as closing the memory does. None: the store notices no changes.
        """
        return await self._store.watch(listener) if isinstance(self._store, WatchableStore) else None

    async def count_expired(self) -> int:
        """Returns how many conversations have expired by this clock, and are therefore hidden, but are not deleted."""
        return len(await self._store.expired(self._clock()))

    async def all_conversations(self) -> list[ConversationInfo]:
        """Lists all conversations, the most recently active first."""
        return list((await self.conversations(limit=sys.maxsize)).conversations)

    async def info(self, conversation_id: str) -> Conversation:
        """Returns a conversation's title, counts and retention.

        Raises:
            UnknownConversation: It never existed, has expired or was forgotten.
        """
        return conversation_of(await self._state(conversation_id))

    async def resolve_id(self, given: str, *, only_shortened: bool = False) -> str:
        """Returns the id of a conversation, given the id or a beginning of it that no other one has.

        Args:
            given: The id or its beginning.
            only_shortened: Accept only beginnings that views of projects may show, so that the id of a conversation
                that is gone does not mean another one.

        Raises:
            UnknownConversation: No conversation's id begins so.
            AmbiguousId: Those of several do.
        """
        if await self._store.load(given, self._clock()) is not None:
            return given
        if only_shortened and await self._store.is_forgotten(given):
            raise UnknownConversation(given)
        ids = await self._short_ids()
        found = ids.matching_shortened(given) if only_shortened else ids.matching(given)
        if len(found) > 1:
            raise AmbiguousId(given, found[:CANDIDATES_NAMED])
        if not found:
            raise UnknownConversation(given)
        return found[0]

    async def _short_ids(self, *, listed: bool = False) -> ShortIds:
        """listed: the conversations were listed just now."""
        page = await self._store.conversations(self._clock(), limit=sys.maxsize, listed=listed)
        return ShortIds(info.conversation_id for info in page.conversations)

    @retry_if_replaced
    async def turn(self, conversation_id: str, turn_id: str) -> Turn:
        """Returns one turn, its content byte for byte.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: The id fits several turns.
        """
        return await self._turn_at(conversation_id, await (await self._ids(conversation_id)).turn_seq(turn_id))

    @retry_if_replaced
    async def turns(
        self, conversation_id: str, *, first: int = 0, last: int | None = None, turn_id: str | None = None
    ) -> list[Turn]:
        """Returns the turns at indexes first..last of a branch (inclusive; None: to its end).

        Args:
            conversation_id: The conversation.
            first: Index of the first turn.
            last: Index of the last turn; indexes outside the branch are ignored.
            turn_id: The last turn of the branch (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        seqs = lineage.seqs(max(0, first), lineage.length - 1 if last is None else last)
        return await self._turns_at(conversation_id, seqs)

    @retry_if_replaced
    async def head(self, conversation_id: str) -> Turn:
        """Returns the turn that the next one would follow.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return await self._turn_at(conversation_id, (await self._state(conversation_id)).head)

    async def stored_head(self, conversation_id: str) -> str | None:
        """Returns the head's turn id, also of a conversation that has expired but is not deleted yet; None without one.

        To decide on a conversation's absence, use this rather than `info`: the clock may be wrong for a moment.
        """
        state = await self._store.load(conversation_id, ANY_TIME)
        return None if state is None else (await self._turn_at(conversation_id, state.head)).id

    @retry_if_replaced
    async def history(self, conversation_id: str, *, turn_id: str | None = None) -> list[Turn]:
        """Returns all turns of a branch, up to `turn_id` (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        lineage = (await self._reader(conversation_id, turn_id)).lineage
        return await self._turns_at(conversation_id, lineage.seqs(0, lineage.length - 1))

    @retry_if_replaced
    async def last_turns(
        self, conversation_id: str, *, token_budget: int, overhead: int = 0, turn_id: str | None = None
    ) -> list[Turn]:
        """Returns as many of the last turns of a branch as fit a budget, oldest first.

        Args:
            conversation_id: The conversation.
            token_budget: The most that they cost together.
            overhead: Tokens that each costs beside its content.
            turn_id: The last turn of the branch (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        return await recent.last_turns(branch, token_budget, overhead)

    @retry_if_replaced
    async def turn_sizes(self, conversation_id: str, *, turn_id: str | None = None) -> list[int]:
        """Returns the tokens of each turn of a branch, up to `turn_id` (default: the head).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        return [turn.tokens for turn in await branch.metadata(0, branch.lineage.length - 1)]

    @retry_if_replaced
    async def last_user_query(self, conversation_id: str, *, turn_id: str | None = None) -> str | None:
        """Returns the user's last words on a branch (up to `turn_id`, by default the head) as a query.

        The turn before is part of it if the last one is only a few words ("go on").

        Returns:
            None if the last 64 turns hold no words of the user's.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch = await self._reader(conversation_id, turn_id, cached=True)
        query = await recent.last_user_query(branch, within=QUERY_WITHIN_TURNS, enough_words=QUERY_WORDS)
        return query.strip() or None

    @staticmethod
    def quote(turns: Sequence[Turn]) -> str:
        """Returns the text of these turns as views quote them: each under a line with its id, role, name and time."""
        timestamps = TimestampPrinter()
        return "".join(quote_text(Quote.all_of(turn), timestamps) for turn in turns)

    @retry_if_replaced
    async def turn_digests(self, conversation_id: str) -> list[tuple[bytes, bool]]:
        """Returns the digest of every turn on all branches, in the order in which they were stored, and whether it is
        redacted.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        state = await self._state(conversation_id)
        turns = await self._turns_at(conversation_id, range(1, state.next_seq), metadata_only=True)
        return [(turn.digest, turn.is_redacted) for turn in turns]

    @retry_if_replaced
    async def branches(self, conversation_id: str) -> list[Turn]:
        """Returns the last turn of every branch, oldest branch first.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return await self._turns_at(conversation_id, branch_tips(await self._state(conversation_id)))

    @retry_if_replaced
    async def branches_with_parting(self, conversation_id: str) -> list[tuple[Turn, int]]:
        """Returns the last turn of every branch, oldest branch first, each with the number of turns from the beginning
        that it shares with the head's branch.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        state = await self._state(conversation_id)
        head = Lineage.of(state.runs, state.head)
        tips = branch_tips(state)
        turns = await self._turns_at(conversation_id, tips)
        return [(turn, Lineage.of(state.runs, seq).shared_length(head)) for seq, turn in zip(tips, turns, strict=True)]

    @retry_if_replaced
    async def outline(
        self, conversation_id: str, *, turn_id: str | None = None, depth: int | None = None
    ) -> list[OutlineNode]:
        """Returns the tree of a branch with its summaries: the topmost closed nodes, then the open tail.

        Args:
            conversation_id: The conversation.
            turn_id: The last turn of the branch (default: the head).
            depth: How many levels below the topmost nodes to include (default: all).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
        """
        branch, _ = await self._indexed_reader(conversation_id, turn_id, seconds=None)
        return await outline.outline(branch, self._summarizer, depth)

    async def model_usage(self, conversation_id: str) -> ModelUsage:
        """Returns what summaries by the configured model have cost, and the limits.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._state(conversation_id)
        return await usage.usage(self._store, conversation_id, self._spend_limits, self._clock())

    async def gateway_usage(self, conversation_id: str) -> Mapping[str, Any] | None:
        """Returns the gateway's usage for this conversation, by day; None if there is no record of it.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._state(conversation_id)
        return await self._usage_of(conversation_id)
