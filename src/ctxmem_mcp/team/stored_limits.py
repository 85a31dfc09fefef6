"""Limits of a memory: the bytes of its files, and its turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import LimitReached

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

BYTES_SETTING, TURNS_SETTING = "CTXMEM_STORED_BYTES_MAX", "CTXMEM_STORED_TURNS_MAX"


@dataclass(slots=True)
class _Stored:
    bytes: int
    turns: int


class StoredLimits:
    """Refuses to append to a full memory. A request that begins below the limits is stored whole.

    The size of a memory is read when it is first needed, and again before anything is refused. In between it is
    estimated from the requests since.
    """

    def __init__(self, bytes_max: int | None, turns_max: int | None) -> None:
        """None: no limit."""
        self._bytes_max, self._turns_max = bytes_max, turns_max
        self._stored: dict[str, _Stored] = {}

    @property
    def are_set(self) -> bool:
        return self._bytes_max is not None or self._turns_max is not None

    async def check(self, tenant: str, memory: Memory) -> None:
        """Raises LimitReached if the memory is full."""
        if not self.are_set:
            return
        stored = self._stored.get(tenant)
        if stored is None or self._excess(stored):
            stored = self._stored[tenant] = await _measure(memory)
        if excess := self._excess(stored):
            raise LimitReached(*excess)

    def add(self, tenant: str, characters: int, turns: int) -> None:
        """Counts turns that were sent to a memory."""
        stored = self._stored.get(tenant)
        if stored is not None:
            stored.bytes += 4 * characters  # the most that UTF-8 takes
            stored.turns += turns

    def _excess(self, stored: _Stored) -> tuple[str, str] | None:
        """Returns the size that is too large, in words, and the setting that limits it."""
        if self._bytes_max is not None and stored.bytes >= self._bytes_max:
            return f"{stored.bytes:,} bytes", BYTES_SETTING
        if self._turns_max is not None and stored.turns >= self._turns_max:
            return f"{stored.turns:,} turns", TURNS_SETTING
        return None


async def _measure(memory: Memory) -> _Stored:
    listed = await memory.all_conversations()
    return _Stored(sum(one.bytes for one in listed), sum(one.turns for one in listed))
