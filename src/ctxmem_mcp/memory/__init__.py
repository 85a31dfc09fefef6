"""Memory: everything that can be done with conversations. Adapters call it; it uses the tree, retrieval and a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctxmem_mcp.errors import CtxmemError, InvalidArgument, StoreUnavailable
from ctxmem_mcp.memory import repair
from ctxmem_mcp.memory.append_target import AppendOutcome, AppendTarget
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.core import conversation_of
from ctxmem_mcp.memory.redactions import MemoryRedactions
from ctxmem_mcp.memory.redactor import redact_summary, redact_title, redact_turns
from ctxmem_mcp.memory.repair import Repaired
from ctxmem_mcp.memory.validation import check_or_create_id, check_retention_days, check_turn
from ctxmem_mcp.memory.views import MemoryViews
from ctxmem_mcp.models import TITLE_CHARS_MAX, Highlight, NewTurn, Node, Source, Summary, iso
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import Appended, Conversation, Reverted, Synced
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.extensions import RepairableStore
from ctxmem_mcp.stores.records import AGENT, ORIGIN, PROJECT, Salvage
from ctxmem_mcp.summarizers.base import is_uninformative

__all__ = ["Memory"]


class Memory(MemoryRedactions, MemoryViews):
    """An open memory. Its methods may be called concurrently, in the event loop that it was opened in.

    Times are ISO 8601 in arguments and seconds since 1970 in `Conversation`. Budgets are tokens of the conversation's
    encoding. Ids of turns and nodes may be shortened, as views show them.

    Beside what it lists, each method raises:
        Unavailable: The store can't be read or written, or a newer version of ctxmem-mcp wrote the file.
        Corrupt: Stored data is damaged.
        HeadMoved: The conversation was forgotten and restarted again and again during the call.
    """

    # ------------------------------------------------------------ writing

    async def append(
        self,
        turn: NewTurn,
        *,
        conversation_id: str | None = None,
        parent_id: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
        may_shorten_retention: bool = True,
    ) -> Appended:
        """Appends one turn. It is stored durably when this returns.

        Args:
            turn: The turn.
            conversation_id: Created if unknown. By default a new conversation gets a new id.
            parent_id: The turn it follows (default: the head). With it a retry returns the same turn and stores
                nothing; a parent that is not the head forks.
            retention_days: Days to keep the conversation after its last append (1..365).
            space: The space of a new conversation.
            may_shorten_retention: Fewer `retention_days` than the conversation has may be set; else they are ignored.

        Raises:
            InvalidArgument: An argument breaks its rule.
            UnknownTurn: The conversation has no turn `parent_id`.
            AmbiguousId: `parent_id` fits several turns.
            Forgotten: The conversation was forgotten during the call.
        """
        since = await self._store.count_tombstones()
        check_turn(turn, "")
        conversation = check_or_create_id(conversation_id)
        days = check_retention_days(retention_days)
        target = AppendTarget(
            conversation, parent_id, True, days, space, since, may_shorten_retention=may_shorten_retention
        )
        done = await self._extend(await redact_turns([turn], self._redact, self._workers), target)
        new = done.turns[0] if done.turns else await self._turn_at(conversation, done.known[0])
        head = new if new.seq == done.after.head else await self._turn_at(conversation, done.after.head)
        return Appended(
            conversation, new.id, done.start, new.index, new.tokens, head.id, done.forked,
            list(done.closed), iso(done.after.expires),
        )  # fmt: skip

    async def sync(
        self,
        turns: Sequence[NewTurn],
        *,
        conversation_id: str | None = None,
        after: str | None = None,
        retention_days: int | None = None,
        space: str | None = None,
        source: Source = Source.MESSAGES,
        since: int | None = None,
        moves_head: bool = True,
        stored_at: float | None = None,
        may_shorten_retention: bool = True,
    ) -> Synced:
        """Stores a transcript: finds its longest known prefix and appends the rest in one transaction.

        Turns that differ from the stored ones fork.

        Args:
            turns: The transcript so far, or the turns that follow `after`.
            conversation_id: Created if unknown. By default the conversation is found by its first turns.
            after: The turn that they follow; by default they start the conversation. Needs `conversation_id`.
            retention_days: Days to keep the conversation after its last append (1..365).
            space: The space of a new conversation.
            source: Where the turns come from.
            since: `count_tombstones` when the turns were said, if that was before this call. What was forgotten since
                refuses them.
            moves_head: The last turn becomes the head. If not, the head of an existing conversation stays.
            stored_at: When the turns were stored elsewhere (seconds since 1970), which they are kept from; None: now.
            may_shorten_retention: Fewer `retention_days` than the conversation has may be set; else they are ignored.

        Raises:
            InvalidArgument: An argument breaks its rule.
            UnknownTurn: The conversation has no turn `after`.
            AmbiguousId: `after` fits several turns.
            Forgotten: The turns were forgotten with their conversation, or it was forgotten during the call.
        """
        since = await self.count_tombstones() if since is None else since
        if not turns:
            raise InvalidArgument("messages", "must contain at least one message", "Send the transcript so far.")
        for i, turn in enumerate(turns):
            check_turn(turn, f"messages[{i}].")
        turns = await redact_turns(turns, self._redact, self._workers)
        days = check_retention_days(retention_days)
        if conversation_id is None and after is not None:
            raise InvalidArgument(
                "after", "needs a conversation_id", "Pass the id of the conversation that the turn belongs to."
            )
        target = AppendTarget(
            conversation_id or "", after, False, days, space, since, source, moves_head=moves_head, stored_at=stored_at,
            may_shorten_retention=may_shorten_retention,
        )  # fmt: skip
        if conversation_id is not None:
            return await self._sync(turns, replace(target, conversation_id=check_or_create_id(conversation_id)))
        async with self._writer.locked_by_opening(turns):
            found = check_or_create_id(await self._writer.find(turns))
            return await self._sync(turns, replace(target, conversation_id=found, is_found=True))

    async def _sync(self, turns: Sequence[NewTurn], target: AppendTarget) -> Synced:
        conversation = target.conversation_id
        done = await self._extend(turns, target)
        ids = [turn.id for turn in await self._turns_at(conversation, done.known, metadata_only=True)]
        ids += [turn.id for turn in done.turns]
        return Synced(conversation, ids[-1], len(done.known), len(done.turns), done.forked, ids)

    async def _extend(self, turns: Sequence[NewTurn], target: AppendTarget) -> AppendOutcome:
        try:
            done = await self._writer.extend(turns, target)
        except CtxmemError:
            raise
        except Exception as error:
            await self._diagnose(target.conversation_id, error)
            raise
        if self._dense:
            self._dense.add(target.conversation_id)
        return done

    async def revert(self, conversation_id: str, turn_id: str) -> Reverted:
        """Moves the head to a turn. Deletes nothing: reverting to `previous_head` undoes it.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: The id fits several turns.
        """
        before, seq = await self._writer.revert(conversation_id, turn_id)
        head = await self._turn_at(conversation_id, seq)
        previous = await self._turn_at(conversation_id, before.head)
        left_branch = before.head not in Lineage.of(before.runs, seq)
        return Reverted(conversation_id, head.id, previous.id, previous.id if left_branch else None)

    async def advance_head(self, conversation_id: str, before: str, turn_id: str) -> bool:
        """Moves the head from the turn `before` to another; returns False, and moves nothing, if it is elsewhere.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
        """
        return await self._writer.advance_head(conversation_id, before, turn_id)

    async def extend_retention(self, other: Conversation) -> Conversation:
        """Keeps a conversation at least as long as a copy of it elsewhere is kept: `other`, with the same id.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        state = await self._writer.extend_retention(
            other.conversation_id, other.retention_days, other.updated, other.expires
        )
        return conversation_of(state)

    async def set_retention(self, conversation_id: str, retention_days: int) -> Conversation:
        """Sets how many days (1..365) the conversation is kept after its last append, its whole outputs with it.

        Raises:
            InvalidArgument: The number is out of range.
            UnknownConversation: There is no such conversation.
        """
        check_retention_days(retention_days)
        state = await self._writer.set_retention(conversation_id, retention_days)
        for output in await self._outputs_of(conversation_id):
            await self._follow_session(output)
        return conversation_of(state)

    async def set_space(self, conversation_id: str, space: str | None) -> Conversation:
        """Moves the conversation to a space; None takes it out of any.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        return conversation_of(await self._writer.set_space(conversation_id, space))

    async def set_title(self, conversation_id: str, title: str) -> Conversation:
        """Names the conversation, until turns appended later give it another topic.

        Args:
            conversation_id: The conversation.
            title: One line, at most 200 characters: more white space becomes one space, and the rest is cut. A title
                that says nothing, or that quotes a turn that was redacted, is ignored.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        line = " ".join(title.encode("utf-8", "replace").decode().split())
        line = redact_title(line, self._redact)[:TITLE_CHARS_MAX].rstrip()
        if is_uninformative(line) or await self._store.is_redacted_title(line):
            return await self.info(conversation_id)
        return conversation_of(await self._writer.set_title(conversation_id, line))

    async def set_agent(self, conversation_id: str, agent: str) -> None:
        """Stores which agent's session a conversation is, for listings.

        Args:
            conversation_id: The conversation.
            agent: The agent's id.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        if await self._store.extra(conversation_id, AGENT) != (value := agent.encode()):
            await self._store.set_extra(conversation_id, AGENT, value, self._clock())

    async def set_origin(self, conversation_id: str, origin: Mapping[str, object]) -> None:
        """Stores where an exported conversation comes from, and what was taken out of it.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        await self._store.set_extra(conversation_id, ORIGIN, json.dumps(origin).encode(), self._clock())

    async def origin(self, conversation_id: str) -> Mapping[str, Any] | None:
        """Returns what `set_origin` stored; None if there is nothing, or nothing that can be read.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        try:
            found = json.loads(await self._store.extra(conversation_id, ORIGIN) or b"null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    async def set_project(self, conversation_id: str, project: Project) -> None:
        """Stores which project a session was captured in, unless it is stored already.

        Args:
            conversation_id: The conversation.
            project: The project.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        if project.folders and await self._store.extra(conversation_id, PROJECT) is None:
            await self._store.set_extra(conversation_id, PROJECT, project.record(), self._clock())

    @retry_if_replaced
    async def add_summary(self, conversation_id: str, node_id: str, summary: Summary) -> str:
        """Adds a summary to a closed node, beside those of other authors.

        Returns:
            The node's id, in full.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownNode: It has no such node.
            AmbiguousId: The id fits several nodes.
        """
        await self._index(conversation_id)
        node, _ = await (await self._ids(conversation_id)).node(node_id)
        return await self._join_summary(conversation_id, node, summary)

    @retry_if_replaced
    async def write_summary(
        self, conversation_id: str, node_id: str, title: str, summary: str, author: str = "agent"
    ) -> str:
        """Adds a summary in plain text to a closed node; each line becomes a highlight.

        Returns:
            The node's id, in full.

        Raises:
            InvalidArgument: The title or the summary is empty.
            UnknownConversation: There is no such conversation.
            UnknownNode: It has no such node.
            AmbiguousId: The id fits several nodes.
        """
        title, lines = " ".join(title.split()), [" ".join(line.split()) for line in summary.splitlines()]
        if not title or not any(lines):
            raise InvalidArgument("summary", "needs a title and some text", "Write what happened, one point per line.")
        await self._index(conversation_id)
        node, _ = await (await self._ids(conversation_id)).node(node_id)
        highlights = tuple(Highlight("fact", node.first, "assistant", line) for line in lines if line)
        first = (await self._store.summaries(conversation_id, [node.digest]))[node.digest][0]
        written = Summary(author, title, highlights, first.identifiers, first.open_for)
        return await self._join_summary(conversation_id, node, written)

    async def _join_summary(self, conversation_id: str, node: Node, summary: Summary) -> str:
        redacted = redact_summary(summary, self._redact)
        await self._store.add_summary(conversation_id, node.digest, redacted, self._clock())
        return node.id

    async def damaged(self, *, seconds: float) -> dict[str, str]:
        """Looks for damaged conversations, for at most so many seconds. `verify` finds more.

        Returns:
            What is wrong with each, by its id.
        """
        return await self._store.damaged(seconds) if isinstance(self._store, RepairableStore) else {}

    async def repair(self, conversation_id: str) -> Repaired:
        """Rebuilds a conversation from all turns that can be read, and keeps the damaged files beside it.

        Tree, index, summaries and the catalog's entry are made anew; written summaries and branches are kept as far as
        they can be read. A turn that can't be read is replaced by a note. If none can be read, the damaged
        files are moved aside, so that the conversation can be stored again.

        Raises:
            UnknownConversation: There is no such conversation.
            StoreUnavailable: It was changed during the repair, its file is not a file or can't be opened, or this store
                holds no files. Nothing was changed.
        """
        if not isinstance(self._store, RepairableStore):
            raise StoreUnavailable("This store holds no files that could be damaged.", "Use a store on disk.")
        empty = self._writer.new_state(conversation_id)

        async def build(store: Store, salvage: Salvage) -> tuple[int, tuple[tuple[int, str], ...]]:
            return await repair.rebuild(store, salvage, empty, self._summarizer, self._embedder)

        async with self._writer.locked(conversation_id):
            self._drop(conversation_id)
            (turns, lost), kept = await self._store.rebuild(conversation_id, build)
        return Repaired(conversation_id, turns, lost, kept)

    async def close(self) -> None:
        """Closes the store. Later calls raise StoreUnavailable."""
        await self._writer.indexer.close()
        if self._vectors:
            await self._vectors.close()
        if self._dense:
            await self._dense.close()
        self._writer.clear()
        self._caches.clear()
        await self._store.close()
