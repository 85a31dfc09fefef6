"""Where the memories of a server's principals and shared spaces are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.private_files import PRINCIPALS
from ctxmem_mcp.team.names import principal_key
from ctxmem_mcp.team.sqlite import SqliteTeam


def tenant_folder(data_dir: Path, key: str) -> Path:
    """Returns the data folder of a principal or a shared space, by its key. A listing of folders names nobody."""
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return data_dir / PRINCIPALS / name


async def find_folder(data_dir: Path, principal: str | None, space: str | None) -> Path:
    """Returns the folder of the principal or the shared space with this name.

    Raises:
        NotFound: there is no such space, or nothing is stored.
    """
    if space is None:
        key, name = principal_key(principal or "", "--principal"), principal
    else:
        team = SqliteTeam(data_dir)
        try:
            found = next((one for one in await team.spaces() if one.name == space), None)
        finally:
            await team.close()
        if found is None:
            raise NotFound(f"No space {space!r}.", "`ctxmem-mcp spaces list` prints them.")
        key, name = found.tenant, space
    folder = tenant_folder(data_dir, key)
    if not folder.is_dir():
        raise NotFound(f"Nothing of {name!r} is stored.", "A folder is made at the first request.")
    return folder
