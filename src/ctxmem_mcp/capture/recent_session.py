"""Which conversation is meant where none is named: the session last active, in a folder or anywhere."""

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


async def last_session(memory: Memory, space: str | None = None) -> str | None:
    """The session last active. A sub-agent's conversation, which may have been stored after it, stands for its session;
    one that looks like it and has no session is taken where there is nothing else, but not for a folder's."""
    alone: str | None = None
    for info in (await memory.conversations(space=space, limit=_CONVERSATIONS_MAX)).conversations:
        session = info.conversation_id.partition(OF_AGENT)[0]
        if session == info.conversation_id or await conversation_exists(memory, session):
            return session
        alone = alone or info.conversation_id
    return alone if space is None else None


async def last_session_in(memory: Memory, folder: str) -> str | None:
    """The session last active in the folder, or in the nearest one above it in the same repository."""
    for space in _up_to_repository(folder):
        session = await last_session(memory, space)
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
    here = Path(os.path.normpath(folder))
    above = [here, *here.parents]
    root = next((i for i, one in enumerate(above) if os.path.exists(one / _REPOSITORY)), 0)
    return [str(one) for one in above[: root + 1]]
