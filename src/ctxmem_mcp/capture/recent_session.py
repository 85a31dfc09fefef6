"""Finds the conversation to use if none is named: the session last active, in a folder or anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.models import OF_AGENT

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

_CONVERSATIONS_MAX = 20
_REPOSITORY = ".git"


async def last_session(memory: Memory, space: str | None = None, *, other_than: str | None = None) -> str | None:
    """Returns the conversation of the session last active; None if there is none.

    A sub-agent's conversation may have been stored after its session's: the session's is returned for it. An id that
    looks like a sub-agent's but has no session is returned only if there is nothing else, and never for a space.

    Args:
        memory: the memory to look in.
        space: only conversations of this space.
        other_than: the id of a session that is left out.
    """
    without_session: str | None = None
    for info in (await memory.conversations(space=space, limit=_CONVERSATIONS_MAX)).conversations:
        session = info.conversation_id.partition(OF_AGENT)[0]
        if session == other_than:
            continue
        if session == info.conversation_id or await conversation_exists(memory, session):
            return session
        without_session = without_session or info.conversation_id
    return without_session if space is None else None


async def last_session_in(memory: Memory, folder: str, *, other_than: str | None = None) -> str | None:
    """Returns the conversation of the session last active in the folder, else in the nearest folder above it in the
    same git repository; None if there is none. other_than: the id of a session that is left out."""
    for space in _up_to_repository(folder):
        session = await last_session(memory, space, other_than=other_than)
        if session is not None:
            return session
    return None


async def conversation_exists(memory: Memory, conversation_id: str) -> bool:
    try:
        await memory.info(conversation_id)
    except NotFound:
        return False
    return True


def _up_to_repository(folder: str) -> list[str]:
    """The folder and those above it, up to the root of its repository; outside one, the folder alone."""
    here = Path(os.path.normpath(folder))
    above = [here, *here.parents]
    root = next((i for i, one in enumerate(above) if os.path.exists(one / _REPOSITORY)), 0)
    return [str(one) for one in above[: root + 1]]
