"""Reads of a store's tombstones, the same wherever they are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.tombstones import ForgetGuard, Tombstones


class TombstoneReads(ABC):
    """The methods of the store contract that only read tombstones."""

    @abstractmethod
    async def _known_tombstones(self) -> Tombstones:
        """Returns the tombstones that are stored now."""

    async def count_tombstones(self) -> int:
        return (await self._known_tombstones()).count

    async def check_forgotten(self, conversation_id: str, guard: ForgetGuard) -> None:
        (await self._known_tombstones()).check(conversation_id, guard)

    async def find_redacted(
        self, turns: Sequence[NewTurn], digests: Sequence[bytes], *, at_start: bool
    ) -> Sequence[int]:
        return (await self._known_tombstones()).find_redacted(turns, digests, at_start=at_start)

    async def is_forgotten(self, conversation_id: str) -> bool:
        return (await self._known_tombstones()).has_id(conversation_id)

    async def is_redacted_title(self, title: str) -> bool:
        return (await self._known_tombstones()).is_redacted_title(title)
