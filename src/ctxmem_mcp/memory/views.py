"""Views of a conversation within a token budget, and parts of it in full."""

from __future__ import annotations

from collections.abc import Collection

from ctxmem_mcp.memory import expand, unindexed_view, view
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.core import INDEX_SECONDS
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.reads import MemoryReads
from ctxmem_mcp.memory.recap import find_recap, left_out
from ctxmem_mcp.memory.view import ViewRequest
from ctxmem_mcp.memory.view_continuation import ContinuationRequest, continue_view
from ctxmem_mcp.results import View


class MemoryViews(MemoryReads):
    """Views of a conversation, and parts of it in full."""

    @retry_if_replaced
    async def view(
        self,
        conversation_id: str,
        *,
        query: str | None = None,
        token_budget: int = 8_000,
        turn_id: str | None = None,
        layout: str = "tree",
        explain: bool = False,
        reader_can_write: bool = False,
        omitted_turns: Collection[int] = (),
    ) -> View:
        """Returns the history within a token budget: all of it in outline, what matters to the query in full.

        Args:
            conversation_id: The conversation.
            query: What the reader wants to know. By default the last user turns.
            token_budget: The most that header and text take together.
            turn_id: The view as of that turn (default: the head).
            layout: `tree`, in conversation order, or `stable`, with a prefix that the next turns don't change.
            explain: Say why each excerpt was chosen (tree layout only).
            reader_can_write: The reader can write summaries, so the header may name nodes that need a better one, if
                this memory requests summaries (tree layout only).
            omitted_turns: Indexes of turns that the reader has already: they are not quoted (stable layout only).

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
            InvalidArgument: `layout` is unknown.
            BudgetTooSmall: No view fits; its `floor` is the smallest budget that does.
        """
        # A stable view must not depend on how far the index is.
        seconds = INDEX_SECONDS if layout == "tree" else None
        branch, unindexed = await self._indexed_reader(conversation_id, turn_id, cached=True, seconds=seconds)
        requests = reader_can_write and self._request_summaries
        request = ViewRequest(
            query, token_budget, layout, explain, requests, frozenset(omitted_turns), self._count_pending()
        )  # fmt: skip
        if unindexed:
            return await unindexed_view.view(branch, unindexed, self._summarizer, request)
        return await view.view(branch, self._summarizer, request)

    @retry_if_replaced
    async def continue_view(
        self,
        conversation_id: str,
        *,
        after: str,
        query: str | None = None,
        token_budget: int = 1_000,
        turn_id: str | None = None,
        omitted_turns: Collection[int] = (),
        looks_back: bool = False,
    ) -> str:
        """Returns a text that continues a view which ended with a turn: about the turns since then.

        Args:
            conversation_id: The conversation.
            after: The last turn of the view.
            query: What the reader wants to know.
            token_budget: The most that the text takes.
            turn_id: The text as of that turn (default: the head).
            omitted_turns: Indexes of turns that the reader has already: they are not quoted.
            looks_back: Turns from before may be quoted for the query too.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: An id fits several turns.
        """
        first = (await self.turn(conversation_id, after)).index + 1
        branch, _ = await self._indexed_reader(conversation_id, turn_id, cached=True, seconds=None)
        wanted = ContinuationRequest(first, query, token_budget, frozenset(omitted_turns), looks_back)
        return await continue_view(branch, wanted)

    @retry_if_replaced
    async def expand(
        self, conversation_id: str, node_id: str, *, token_budget: int = 4_000, cursor: str | None = None
    ) -> View:
        """Returns a node's outline, the turns of a leaf or span, or the content of one turn, in pages.

        Args:
            conversation_id: The conversation.
            node_id: A node, a turn, or a span of turns.
            token_budget: The most that header and text of a page take together.
            cursor: `next_cursor` of the previous page.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownNode, UnknownTurn: It has no such node or turn.
            AmbiguousId: The id fits several.
            InvalidArgument: The cursor is none of this node.
            BudgetTooSmall: No page fits; its `floor` is the smallest budget that does.
        """
        if node_id.lstrip().startswith("n"):
            await self._index(conversation_id, INDEX_SECONDS)
        state = await self._state(conversation_id)
        named, lineage = await IdResolver(self._store, state).resolve(node_id)
        return await expand.expand(BranchReader(self._store, state, lineage), named, token_budget, cursor)

    @retry_if_replaced
    async def left_out_of_recap(self, conversation_id: str, *, token_budget: int = 1_300) -> str | None:
        """Returns what the newest recap, a host's summary of the history that it compacted, leaves out of that history.

        Args:
            conversation_id: The conversation.
            token_budget: Maximum tokens of the text.

        Returns:
            Lines with the ids of their turns; empty if nothing was left out, None if no recap is among the last turns.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        branch = await self._reader(conversation_id)
        recap = await find_recap(branch)
        if recap is None:
            return None
        if recap.index == 0:
            return ""
        last = (await branch.metadata(recap.index - 1, recap.index - 1))[0]
        before, _ = await self._indexed_reader(conversation_id, last.id)
        return await left_out(before, self._summarizer, recap.content, token_budget)
