"""Records which project a session was captured in, so that it is found there after its folder was moved."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

import anyio.to_thread

from ctxmem_mcp.projects import Project, find_project

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

_find_project = lru_cache(maxsize=64)(find_project)


async def record_project(memory: Memory, conversation_id: str, folder: str | None) -> None:
    """Records the project of the folder, if it is there.

    Raises:
        UnknownConversation: There is no such conversation.
    """
    project = await anyio.to_thread.run_sync(_project_in, folder) if folder else None
    if project is not None:
        await memory.set_project(conversation_id, project)


def _project_in(folder: str) -> Project | None:
    return _find_project(folder) if os.path.isdir(folder) else None
