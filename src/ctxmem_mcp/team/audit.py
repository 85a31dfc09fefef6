"""Writes the audit of a server: who read, stored, forgot or shared what. Lines have ids, never words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.team.records import DENIED, LOCAL, AuditLine

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.team.base import TeamStore

# An agent reads and appends again and again: of the same kind, one line in this time is enough.
REPEATED = ("append", "list", "read")
REPEAT_SECONDS = 60.0
RECENT_MAX = 10_000

_log = logging.getLogger(__name__)


class Audit:
    """Adds lines to a team store. An error is logged and fails nothing: forgetting works on a full disk too."""

    def __init__(self, store: TeamStore, keep: int, clock: Callable[[], float] = time.time) -> None:
        """keep: how many lines are kept; 0: none is written."""
        self._store, self._keep, self._clock = store, keep, clock
        self._recent: LRU[tuple[str | None, ...], float] = LRU(RECENT_MAX)

    async def record(
        self,
        principal: str,
        action: str,
        *,
        space: str | None = None,
        conversation: str | None = None,
        target: str | None = None,
        denied: bool = False,
    ) -> None:
        """Adds a line, unless the same was repeated within REPEAT_SECONDS."""
        now = self._clock()
        if not self._keep or (not denied and self._is_repeated((principal, action, space, conversation), now)):
            return
        outcome = DENIED if denied else "done"
        try:
            await self._store.record(
                AuditLine(now, principal, action, space, conversation, target, outcome), self._keep
            )
        except CtxmemError as error:
            _log.warning("The audit lacks a line (%s by %s): %s", action, principal, error)

    def _is_repeated(self, key: tuple[str | None, ...], now: float) -> bool:
        if key[1] not in REPEATED:
            return False
        before = self._recent.get(key)
        if before is not None and 0 <= now - before < REPEAT_SECONDS:
            return True
        self._recent[key] = now
        return False


async def record_local(
    settings: Settings,
    action: str,
    *,
    space: str | None = None,
    conversation: str | None = None,
    target: str | None = None,
) -> None:
    """Adds a line about a command on this machine, if a team uses its data folder or its database.

    Args:
        settings: name the team store, and how many lines are kept.
        action: the command, as a word.
        space, conversation, target: the objects of the command.
    """
    from ctxmem_mcp.team.stores import open_team

    store = open_team(settings)
    try:
        if settings.audit_lines and await store.is_configured():
            await Audit(store, settings.audit_lines).record(
                LOCAL, action, space=space, conversation=conversation, target=target
            )
    finally:
        await store.close()
