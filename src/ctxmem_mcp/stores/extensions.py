"""What a store may offer beyond the contract of `base`: an index over all conversations, a move of its tombstones to
another store, news of other processes' commits, vectors of a neural model, and repair. Callers look with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from ctxmem_mcp.results import Change
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import BlockHits, Salvage
from ctxmem_mcp.stores.tombstones import TombstoneRecords

T = TypeVar("T")


@runtime_checkable
class IndexedStore(Protocol):
    """A store with an index over all its conversations."""

    async def find_blocks(self, terms: Sequence[str], now: float, seconds: float, *, listed: bool = False) -> BlockHits:
        """Returns where terms occur, after reading the conversations that changed for at most so many seconds.

        listed: The caller has listed the conversations just now: what changed since may be missing.
        """
        ...


@runtime_checkable
class DenseVectorStore(Store, Protocol):
    """A store that keeps vectors of a neural model beside a conversation's chunks.

    They are gone with the conversation, and with every rebuild of it: when a branch is forgotten, a turn is redacted or
    the conversation is repaired. Each rebuild begins another generation, so that vectors which somebody computes of the
    old texts are not stored with the new ones.
    """

    async def dense_generation(self, conversation_id: str) -> bytes:
        """Returns the generation of the conversation's vectors."""
        ...

    async def dense_vectors(self, conversation_id: str, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
        """Returns those vectors of these chunks that begin with the tag, which names a model.

        A damaged one is left out: a view is right without it, and `verify` reports it.
        """
        ...

    async def add_dense_vectors(self, conversation_id: str, generation: bytes, vectors: Mapping[int, bytes]) -> None:
        """Adds vectors by chunk, in place of those of other models; does nothing if the generation is another one."""
        ...


class MovableStore(Store, Protocol):
    """A store whose tombstones can be moved to another one, with the key that they are made with."""

    async def tombstone_records(self) -> TombstoneRecords:
        """Returns all tombstones."""
        ...

    async def adopt_tombstones(self, given: TombstoneRecords) -> None:
        """Takes over another store's tombstones and their key. Those that were taken over earlier are not added again.

        Raises:
            StoreUnavailable: This store has tombstones of its own.
        """
        ...


@runtime_checkable
class WatchableStore(Protocol):
    """A store that notices the commits of all processes that use it."""

    async def watch(self, listener: Callable[[Change], Awaitable[None]]) -> Callable[[], None]:
        """Calls `listener` after each change, this process's own too, until the returned function is called.

        After a gap, for instance a restart of the server, it is called with a change of no single conversation. A
        change may be reported more than once, and later than it can be read. An unreachable server raises nothing: it
        is watched as soon as it is back.
        """
        ...


@runtime_checkable
class RepairableStore(Protocol):
    """A store of files, which may be damaged and rebuilt."""

    async def damaged(self, seconds: float) -> dict[str, str]:
        """Checks the files' structure and state, for at most so many seconds.

        Returns:
            What is wrong with each damaged conversation, by its id; by its file's path, with the remedy, if the id is
            lost or the file is not one of this store.
        """
        ...

    async def rebuild(self, conversation_id: str, build: Callable[[Store, Salvage], Awaitable[T]]) -> tuple[T, str]:
        """Replaces a conversation by one that `build` makes of what can be read of it.

        Args:
            conversation_id: The conversation.
            build: Stores it in an empty store. If it fails, nothing is changed. If it stores nothing, the damaged files
                are moved aside, and there is no such conversation any more.

        Returns:
            Its result, and where the damaged files are kept.

        Raises:
            UnknownConversation: There is no such conversation.
            StoreUnavailable: The conversation was changed during the call.
        """
        ...

    async def has_damaged_copy(self, conversation_id: str) -> bool:
        """Whether a repair has kept damaged files of the conversation."""
        ...

    async def remove_unfinished_redactions(self) -> None:
        """Removes what killed processes left of a redaction. No redaction may be running."""
        ...
