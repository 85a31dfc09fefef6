"""Fills the records that hooks read, from the turns that were stored: failed calls, and what was said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from ctxmem_mcp.capture import failed_calls, spoken_turns
from ctxmem_mcp.capture.call_failures import find_outcomes
from ctxmem_mcp.capture.said_turns import find_spoken_turns
from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Turn

# After a drain, so many last turns are read; after an import, so many. Older ones have little to say to a hook.
DRAINED_TURNS, IMPORTED_TURNS = 150, 5_000
_log = logging.getLogger(__name__)


async def record(memory: Memory, data_dir: Path, conversation: str, cwd: str, last: int = DRAINED_TURNS) -> None:
    """Records the failed calls and what was said among a conversation's last turns. Not for two at once.

    An error is logged: the turns are stored, which matters more.

    Args:
        memory: where the conversation is.
        data_dir: the data folder.
        conversation: its id.
        cwd: the folder that the session worked in.
        last: how many turns are read.
    """
    try:
        turns = await memory.turns(conversation, last=last)
        await asyncio.to_thread(_record, str(data_dir), turns, conversation, cwd)
    except (OSError, NotFound) as error:
        _log.warning("Failed calls of %s and what was said are not recorded: %s", conversation, error)


def _record(data_dir: str, turns: Sequence[Turn], conversation: str, cwd: str) -> None:
    found = find_outcomes(turns, conversation, failed_calls.load_secret(data_dir, create=True))
    if found.failed or found.succeeded:
        failed_calls.update(data_dir, cwd, found.failed, found.succeeded)
    hasher = spoken_turns.load_hasher(data_dir, create=True)
    if hasher is not None:
        spoken_turns.add(data_dir, cwd, find_spoken_turns(turns, conversation, hasher))
