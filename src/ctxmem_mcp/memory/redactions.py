"""Finds turns to redact, and redacts them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import anyio
import anyio.to_thread

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import HeadMoved, StoreReadOnly, StoreUnavailable, UnknownConversation
from ctxmem_mcp.memory import turn_redaction
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.removals import TRIES, MemoryRemovals
from ctxmem_mcp.memory.turn_redaction import TurnRedaction
from ctxmem_mcp.models import Turn
from ctxmem_mcp.results import FoundTurn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.extensions import RepairableStore
from ctxmem_mcp.stores.records import Salvage, State

_TURNS_AT_ONCE = 500


class MemoryRedactions(MemoryRemovals):
    """The methods that redact turns."""

    async def find_copies(self, conversation_id: str, turn_id: str) -> list[FoundTurn]:
        """Returns a turn, and the same turn in every other conversation: one with the same turns before it.

        One that is redacted already is left out.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no such turn.
            AmbiguousId: The id fits several turns.
        """
        state = await self._state(conversation_id)
        seq = await IdResolver(self._store, state).turn_seq(turn_id)
        (digest,) = await self._store.digests(conversation_id, seq, seq)
        return await self.find_turns({digest})

    async def find_matches(self, pattern: re.Pattern[str], conversation_id: str | None = None) -> list[FoundTurn]:
        """Returns the turns in whose contents a pattern is found, with their copies in other conversations.

        Args:
            pattern: The pattern.
            conversation_id: The conversation to search. By default, all are searched.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        digests: set[bytes] = set()
        for one in [conversation_id] if conversation_id else await self._ids_of_all():
            state = await self._state(one)
            for start in range(1, state.next_seq, _TURNS_AT_ONCE):
                turns = await self._store.turns(one, range(start, min(start + _TURNS_AT_ONCE, state.next_seq)))
                digests |= await anyio.to_thread.run_sync(_matching, pattern, turns)
        return await self.find_turns(digests) if digests else []

    async def redact(self, conversation_id: str, digests: Collection[bytes], day: str) -> list[Turn]:
        """Redacts the turns with these digests: their contents are removed, and everything computed from them.

        They keep their ids and their places. If they are sent again, nothing of them is stored.

        Args:
            conversation_id: The conversation.
            digests: The turns' digests. Those that it does not have, or that are redacted already, are ignored.
            day: The day in the note that replaces them, in ISO 8601.

        Returns:
            The turns that were redacted, with their contents.

        Raises:
            UnknownConversation: There is no such conversation.
            DamagedConversation: Some of its turns can't be read. Repair it first.
            StoreUnavailable: Others change it again and again, or this store can't redact. Nothing was redacted.
        """
        await self._index(conversation_id)
        async with self._writer.locked(conversation_id):
            for attempt in range(TRIES):
                try:
                    state = await self._state(conversation_id)
                    seqs = await turn_redaction.find_seqs(self._store, state, digests)
                    if not seqs:
                        return []
                    plan = await turn_redaction.plan_redaction(self._store, state, seqs)
                    self._drop(conversation_id)
                    await run_to_completion(self._redact_turns(state, plan, day))
                    return [one.turn for one in plan.turns]
                except StoreReadOnly:
                    raise
                except (HeadMoved, StoreUnavailable):
                    if attempt + 1 == TRIES:
                        raise
                await anyio.sleep(0.01)
        return []

    async def remove_unfinished_redactions(self) -> None:
        """Removes what killed processes left of a redaction. No redaction may be running."""
        if isinstance(self._store, RepairableStore):
            await self._store.remove_unfinished_redactions()

    async def _redact_turns(self, state: State, plan: TurnRedaction, day: str) -> None:
        conversation_id, empty = state.conversation_id, self._writer.new_state(state.conversation_id)
        titles: list[str] = []

        async def build(store: Store, salvage: Salvage) -> None:
            found = salvage.state
            if found is None or (found["version"], found["created"]) != (state.version, state.created):
                raise StoreUnavailable(f"Conversation {conversation_id!r} was changed during this call.", "Try again.")
            quoting = await turn_redaction.rebuild_redacted(
                store, salvage, plan, day, empty, self._summarizer, self._embedder
            )
            titles.extend(filter(None, [quoting]))

        await self._store.redact(conversation_id, plan.turns, build, titles)

    async def find_turns(self, digests: Collection[bytes]) -> list[FoundTurn]:
        """Returns the turns with these digests in all conversations, without those that are redacted already."""
        found: list[FoundTurn] = []
        for one in await self._ids_of_all():
            try:
                state = await self._state(one)
                seqs = await turn_redaction.find_seqs(self._store, state, digests)
                found += [FoundTurn(one, turn) for turn in await self._turns_at(one, seqs)]
            except UnknownConversation:  # forgotten since
                continue
        return found

    async def _ids_of_all(self) -> Sequence[str]:
        return [one.conversation_id for one in await self.all_conversations()]


def _matching(pattern: re.Pattern[str], turns: Sequence[Turn]) -> set[bytes]:
    return {turn.digest for turn in turns if not turn.is_redacted and pattern.search(turn.content)}
