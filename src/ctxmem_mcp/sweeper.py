"""Deletes expired conversations and sessions in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import CtxmemError, StoreReadOnly

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.record_stores.base import RecordStore

_log = logging.getLogger(__name__)


class Sweeper:
    """Deletes what has expired of one principal: what two sweeps, a minute or more apart, both find expired.

    It outlives the memories that it sweeps, so that a memory may be closed between its two sweeps.
    """

    def __init__(self) -> None:
        from ctxmem_mcp.memory.expiry import ExpiryWatch

        self.conversations, self._sessions = ExpiryWatch(), ExpiryWatch()

    @property
    def is_waiting(self) -> bool:
        """Whether another sweep in CONFIRM_SECONDS may delete something."""
        return self.conversations.is_waiting or self._sessions.is_waiting

    @property
    def is_due(self) -> bool:
        """Whether the last sweep was to delete something."""
        return self.conversations.is_due or self._sessions.is_due

    async def sweep(self, memory: Memory, records: RecordStore) -> list[str]:
        """Deletes expired conversations, and expired sessions without messages.

        Args:
            memory: The principal's memory, which was opened with this sweeper.
            records: The principal's records.

        Returns:
            The ids of the conversations.
        """
        gone = await memory.sweep()
        for session in self._sessions.confirm(await records.expired_sessions(time.time())):
            if await memory.stored_head(session) is None:
                _log.info("Deleted session %s, which has expired.", session)
                await records.forget([session])
        return gone


async def sweep_repeatedly(
    memory: Memory, records: RecordStore, sweeper: Sweeper, every: float, closing: asyncio.Event
) -> None:
    """Sweeps at once and then every `every` seconds, until the memory closes; sooner if that may delete something."""
    from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS

    while not closing.is_set():
        try:
            gone = await sweeper.sweep(memory, records)
            if gone:
                _log.info("Swept %d expired conversations.", len(gone))
        # The next sweep tries again; until then, what has expired is invisible.
        except CtxmemError as error:
            # A folder that can't be written matters only if something in it is due to be deleted.
            matters = sweeper.is_due or not isinstance(error, StoreReadOnly)
            level = logging.WARNING if matters else logging.INFO
            _log.log(level, "The sweep of expired conversations failed: %s", error)
        except Exception:
            _log.exception("The sweep of expired conversations failed.")
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), min(every, CONFIRM_SECONDS) if sweeper.is_waiting else every)
