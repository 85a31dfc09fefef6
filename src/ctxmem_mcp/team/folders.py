"""The data folders of a server's principals and shared spaces, and the salts in them."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.private_files import PRINCIPALS, SALT, create_folder, open_new
from ctxmem_mcp.team.names import principal_key
from ctxmem_mcp.team.refusals import unknown_space
from ctxmem_mcp.team.sqlite import SqliteTeam

SALT_BYTES = 32


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
            raise unknown_space(space)
        key, name = found.tenant, space
    folder = tenant_folder(data_dir, key)
    if not folder.is_dir():
        raise NotFound(f"Nothing of {name!r} is stored.", "A folder is made at the first request.")
    return folder


def load_or_create_salt(folder: Path, new_salt: bytes | None = None) -> bytes:
    """Returns the salt of a principal's folder, created with the folder. It never changes, since ids depend on it.

    new_salt: used if there is none yet; by default, random bytes.
    """
    path = folder / SALT
    with suppress(FileNotFoundError):
        return path.read_bytes()
    create_folder(folder)
    new = folder / f"{SALT}.{secrets.token_hex(8)}"
    with os.fdopen(open_new(new), "wb") as file:
        file.write(new_salt or secrets.token_bytes(SALT_BYTES))
        file.flush()
        os.fsync(file.fileno())
    # The link fails if another process was first; its salt is used then.
    with suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    return path.read_bytes()
