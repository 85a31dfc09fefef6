"""Forgets conversations and branches, and deletes what has expired."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import anyio.to_thread

from ctxmem_mcp.agents import OF_OUTPUT, session_of_output
from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.errors import (
    Corrupt,
    HeadMoved,
    NotConfirmed,
    StoreReadOnly,
    StoreUnavailable,
    Unavailable,
    UnknownConversation,
)
from ctxmem_mcp.memory import branch_removal
from ctxmem_mcp.memory.branches import branch_tips
from ctxmem_mcp.memory.commit_builder import chain_digests
from ctxmem_mcp.memory.expiry import ANY_TIME, DAY
from ctxmem_mcp.memory.id_resolver import IdResolver
from ctxmem_mcp.memory.projects import MemoryProjects
from ctxmem_mcp.memory.redactor import redact_turns
from ctxmem_mcp.models import OF_AGENT, NewTurn, Turn, iso
from ctxmem_mcp.results import Receipt
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.extensions import RepairableStore
from ctxmem_mcp.stores.records import Salvage, State

# A branch is removed by rebuilding its conversation, again and again if others write to it meanwhile.
TRIES = 20
# So long before the whole of an output would expire, a sweep gives it its session's expiry. There is one a day or more.
FOLLOW_SECONDS = 2 * DAY
_log = logging.getLogger(__name__)


class MemoryRemovals(MemoryProjects):
    """The methods that remove what is stored."""

    async def forget(self, conversation_id: str, confirm: str, turn_id: str | None = None) -> Receipt:
        """Removes every byte of a conversation, or of one of its branches.

        The whole outputs beside it are removed too: all with the conversation, those that the removed turns name with a
        branch. The receipt counts none of them.

        Args:
            conversation_id: The conversation.
            confirm: Its id once more.
            turn_id: The last turn of a branch, or one that no other branch has. Only the turns that no other branch
                has are removed; if there is no other branch, the conversation is.

        Raises:
            NotConfirmed: `confirm` is not the id. Nothing was removed.
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
            InvalidArgument: Several branches run through `turn_id`.
            StoreUnavailable: Others change it again and again. None of its turns was removed.
        """
        if confirm != conversation_id:
            raise NotConfirmed(conversation_id, 0 if turn_id else await self._count_other_branches(conversation_id))
        await self._store_pending(conversation_id)  # words that only the spool has are of the conversation too
        if turn_id is not None and (receipt := await self._forget_branch(conversation_id, turn_id)):
            return receipt
        # Read first: an error afterwards would withhold the receipt.
        listed = await self.all_conversations()
        beside = [one.conversation_id for one in listed if one.conversation_id.startswith(conversation_id + OF_AGENT)]
        others = [one for one in beside if not one.startswith(conversation_id + OF_OUTPUT)]
        other_branches = await self._count_other_branches(conversation_id)
        async with self._writer.locked(conversation_id):
            self._drop(conversation_id)
            receipt = await run_to_completion(self._forget_with_outputs(conversation_id))
        return replace(receipt, others=others, other_branches=other_branches)

    async def _forget_with_outputs(self, conversation_id: str) -> Receipt:
        """Forgets the outputs first: if a process is killed in between, the session is still there to be forgotten."""
        await self._forget_outputs(await self._outputs_of(conversation_id))
        receipt = await self._forget(conversation_id)
        await self._forget_outputs(await self._outputs_of(conversation_id))  # stored just before the session was gone
        return receipt

    async def _outputs_of(self, conversation_id: str) -> list[str]:
        """Returns the conversations that have the whole of outputs of a session, also those that have expired."""
        ids = [one.conversation_id for one in await self.all_conversations()]
        ids += await self._store.expired(self._clock())
        return [one for one in dict.fromkeys(ids) if one.startswith(conversation_id + OF_OUTPUT)]

    async def _forget_outputs(self, conversation_ids: Iterable[str]) -> None:
        for one in conversation_ids:
            await self.forget_output(one)

    async def forget_output(self, conversation_id: str) -> None:
        """Forgets the whole of an output that a hook shortened, which was stored beside its session, if it is there."""
        async with self._writer.locked(conversation_id):
            self._drop(conversation_id)
            with suppress(UnknownConversation):
                await run_to_completion(self._forget(conversation_id))

    async def _count_other_branches(self, conversation_id: str) -> int:
        """Returns how many branches there are besides the head's; 0 if that can't be read."""
        try:
            state = await self._store.load(conversation_id, ANY_TIME)
        except (Corrupt, Unavailable):
            return 0
        return len(branch_tips(state)) - 1 if state else 0

    async def has_damaged_copy(self, conversation_id: str) -> bool:
        """Whether a repair has kept damaged files of the conversation, which `forget` removes with it."""
        store = self._store
        return isinstance(store, RepairableStore) and await store.has_damaged_copy(conversation_id)

    async def _forget_branch(self, conversation_id: str, turn_id: str) -> Receipt | None:
        """Removes a branch. Returns None, and removes nothing, if there is no other branch."""

        async def plan(state: State) -> branch_removal.Removal | None:
            seq = await IdResolver(self._store, state).turn_seq(turn_id)
            return branch_removal.plan_removal(state, branch_removal.find_tip(state, seq, turn_id))

        return await self._remove(conversation_id, plan)

    async def forget_from(self, conversation_id: str, turn_id: str) -> Receipt:
        """Removes a turn with all turns that follow it, on every branch; the conversation, if nothing else is left.

        The whole outputs that the removed turns name are removed too. The receipt doesn't count them.

        Raises:
            UnknownConversation: There is no such conversation.
            UnknownTurn: It has no turn `turn_id`.
            AmbiguousId: `turn_id` fits several turns.
            StoreUnavailable: Others change it again and again. None of its turns was removed.
        """

        async def plan(state: State) -> branch_removal.Removal | None:
            return branch_removal.plan_subtree_removal(state, await IdResolver(self._store, state).turn_seq(turn_id))

        return await self._remove(conversation_id, plan) or await self.forget(conversation_id, conversation_id)

    async def _remove(
        self, conversation_id: str, plan: Callable[[State], Awaitable[branch_removal.Removal | None]]
    ) -> Receipt | None:
        """Removes what is planned. Returns None, and removes nothing, if the plan is None."""
        await self._index(conversation_id)
        async with self._writer.locked(conversation_id):
            attempt = 0
            while True:
                attempt += 1
                state = await self._state(conversation_id)
                removal = await plan(state)
                if removal is None:
                    return None
                self._drop(conversation_id)
                try:
                    return await run_to_completion(self._rebuild_without(state, removal))
                except StoreReadOnly:
                    raise
                except (HeadMoved, StoreUnavailable):
                    if attempt == TRIES:
                        raise
                await anyio.sleep(0.01)

    async def _rebuild_without(self, state: State, removal: branch_removal.Removal) -> Receipt:
        conversation_id, empty = state.conversation_id, self._writer.new_state(state.conversation_id)
        removed = await self._turns_at(conversation_id, removal.seqs)
        branch = await branch_removal.identify(self._store, state, removal)
        await self._forget_outputs(_outputs_in(conversation_id, removed))  # first, as long as the turns name them

        async def build(store: Store, salvage: Salvage) -> int:
            if salvage.state is None or salvage.state["version"] != state.version:
                raise StoreUnavailable(f"Conversation {conversation_id!r} was changed during this call.", "Try again.")
            await branch_removal.rebuild_without(store, salvage, removal, empty, self._summarizer, self._embedder)
            after = await store.load(conversation_id, ANY_TIME)
            return after.nodes if after else 0

        nodes, warnings = await self._store.remove_branch(conversation_id, branch, build)
        self._on_branch_forgotten(conversation_id, branch.had_head)
        size = sum(len(turn.content.encode()) for turn in removed)
        checked = ["the conversation's file was built anew without the branch, and the replaced file is gone"]
        return Receipt(conversation_id, len(removed), max(0, state.nodes - nodes), size, checked, warnings=warnings)

    async def _forget(self, conversation_id: str) -> Receipt:
        """Forgets it with all that is stored beside it, even if a process killed while forgetting left only that."""
        try:
            receipt = await self._store.forget(conversation_id)
        except UnknownConversation:
            self._on_forgotten([conversation_id])
            raise
        self._on_forgotten([conversation_id])
        return receipt

    async def remove_moved(self, conversation_id: str, tips: Collection[str]) -> bool:
        """Removes a conversation whose words another one has now. Unlike forgotten words, they may be stored again.

        Args:
            conversation_id: The conversation.
            tips: The ids of the last turns of the branches that the other one has.

        Returns:
            False if it has a branch with another last turn: it was added to, and must be moved again. Nothing is
            removed then.
        """
        async with self._writer.locked(conversation_id):
            state = await self._store.load(conversation_id, ANY_TIME)
            if state is None:
                return True
            turns = await self._turns_at(conversation_id, branch_tips(state), metadata_only=True)
            if not {turn.id for turn in turns} <= set(tips):
                return False
            await run_to_completion(self._remove_files({conversation_id: state.expires}))
            return True

    async def count_tombstones(self) -> int:
        """Returns a number that grows with each forgotten conversation or branch, as `since` of a later `sync`."""
        return await self._store.count_tombstones()

    async def is_forgotten(self, conversation_id: str) -> bool:
        """Returns whether a conversation with this id was forgotten, and not imported again since."""
        return await self._store.is_forgotten(conversation_id)

    async def forget_also(self, conversation_id: str, turns: Sequence[NewTurn]) -> None:
        """Keeps turns from being stored that were sent while their conversation was being forgotten.

        Args:
            conversation_id: The conversation that was forgotten.
            turns: A branch of it, from the first turn.
        """
        await self._store.bury(conversation_id, await redact_turns(turns, self._redact, self._workers))

    async def allow_again(self, conversation_id: str | None, branches: Sequence[Sequence[NewTurn]]) -> None:
        """Allows what was forgotten to be stored again, because the user says so explicitly. Stores nothing itself.

        Args:
            conversation_id: The conversation that was forgotten, if it is named.
            branches: The turns of each of its branches, from the first.
        """
        redacted = [await redact_turns(turns, self._redact, self._workers) for turns in branches]
        salt = self._writer.new_state("").salt
        if conversation_id is not None and (state := await self._store.load(conversation_id, ANY_TIME)):
            salt = state.salt
        digests = [digest for turns in redacted for digest in chain_digests(turns, b"", salt)]
        await self._store.lift(conversation_id, redacted, digests)

    async def sweep(self) -> list[str]:
        """Deletes conversations that have expired by this reading of the clock and by one a minute or more ago.

        Returns:
            Their ids.
        """
        return await run_to_completion(self._sweep())

    @property
    def has_unconfirmed_expiry(self) -> bool:
        """Whether a sweep in a minute may delete what the last one was the first to find expired."""
        return self._expiry_watch.is_waiting

    async def _sweep(self) -> list[str]:
        forgotten = await self._remove_expired(self._expiry_watch.confirm(await self._expired()))
        if forgotten:
            expires = await self._store.expired(float("inf"))
            outputs = {one: at for one, at in expires.items() if session_of_output(one) in forgotten}
            forgotten += await self._remove_expired(outputs)
        return forgotten

    async def _remove_expired(self, expired: Mapping[str, float]) -> list[str]:
        forgotten = await self._remove_files(expired)
        for conversation_id in forgotten:
            _log.warning(
                "Deleted conversation %s, which expired at %s.", conversation_id, iso(expired[conversation_id])
            )
        return forgotten

    async def _remove_files(self, expires: Mapping[str, float]) -> list[str]:
        """Removes conversations with what is beside them, each if it still expires at this time. Returns their ids."""
        removed = await self._store.sweep(expires)
        for conversation_id in removed:
            self._drop(conversation_id)
        if removed:
            self._on_forgotten(removed)
        return removed

    async def _expired(self) -> dict[str, float]:
        """Returns what has expired, without outputs whose session is stored: a sweep removes them after it."""
        now = self._clock()
        due = await self._store.expired(now + FOLLOW_SECONDS)
        following = {one for one in due if session_of_output(one) is not None and await self._follow_session(one)}
        return {one: at for one, at in (await self._store.expired(now)).items() if one not in following}


def _outputs_in(conversation_id: str, turns: Iterable[Turn]) -> list[str]:
    """Returns the ids of the outputs that shortened ones among these turns name."""
    output_id = re.compile(re.escape(conversation_id + OF_OUTPUT) + "[0-9a-f]+")
    return list(dict.fromkeys(one for turn in turns if turn.role == "tool" for one in output_id.findall(turn.content)))
