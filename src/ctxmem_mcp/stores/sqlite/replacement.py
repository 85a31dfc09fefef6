"""Replaces a conversation's file by one that is built from it: a repair, a removed branch, redacted turns."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.stores.records import Salvage
from ctxmem_mcp.stores.sqlite import file_repair
from ctxmem_mcp.stores.sqlite.catalog import Catalog
from ctxmem_mcp.stores.sqlite.conversation_files import with_side_files
from ctxmem_mcp.stores.sqlite.salvage import salvage

T = TypeVar("T")


async def replace_conversation(
    catalog: Catalog,
    conversation_id: str,
    copy: Path | None,
    build_in: Callable[[Path, Salvage], Awaitable[tuple[T, Path]]],
    before_swap: Callable[[], None],
    prefix: str,
) -> T:
    """Replaces a conversation by what `build_in` makes of a copy of it.

    Args:
        catalog: The catalog of the conversation's folder.
        conversation_id: The conversation, whose file is closed.
        copy: Where the copy is kept. If None, it is removed.
        build_in: Stores the conversation in an empty folder. Returns its own result and the path of the new file.
        before_swap: Called under the catalog's lock, if the conversation has not changed since.
        prefix: Of the name of the folder in which it is built.
    """
    path = catalog.path_of(conversation_id)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=catalog.path.parent) as folder:
        copied = copy or Path(folder) / "replaced"
        try:
            await catalog.run_locked(lambda _: file_repair.copy_files(path, copied))
        except UnknownConversation:
            raise UnknownConversation(conversation_id) from None
        log_copy = with_side_files(copied)[1]
        salvaged = await anyio.to_thread.run_sync(salvage, copied, log_copy)
        done, rebuilt = await build_in(Path(folder), salvaged)
        if copy is not None and not rebuilt.exists():
            await catalog.run_locked(lambda db: file_repair.set_aside(catalog, db, path, copied))
            return done
        await anyio.to_thread.run_sync(file_repair.copy_extras_and_calls, copied, rebuilt)
        await catalog.run_locked(lambda db: file_repair.swap(catalog, db, path, copied, rebuilt, before_swap))
    return done
