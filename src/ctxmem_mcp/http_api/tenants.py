"""A room for each principal: a data folder, the memory over it and an MCP server of its own, nothing shared.

    data_dir/                                the default principal's
    data_dir/principals/HASH/                everybody else's: the same inside, and
    data_dir/principals/HASH/salt            what keys the ids in it

A room is opened at its principal's first request and kept while it is used. What expires in rooms that nobody enters
is swept all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ctxmem_mcp.composition import open_memory, sweep
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL
from ctxmem_mcp.mcp_server.lazy_memory import Opened

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.settings import Settings

FOLDER, SALT = "principals", "salt"
SALT_BYTES = 32
# Beyond this many, rooms that nobody has used for so long are closed.
ROOMS_OPEN_MAX, IDLE_SECONDS = 32, 300.0

_log = logging.getLogger(__name__)


class Room:
    """One principal's. users: requests that are under way in it."""

    def __init__(self, settings: Settings, salt: bytes) -> None:
        self._opened = Opened(partial(open_memory, settings, salt=salt))
        self._closing = asyncio.Event()
        self._ready = asyncio.Event()
        self._sessions = _mcp_sessions(self._lent)
        # What the MCP server enters must be left by the task that entered it, and requests come and go.
        self._keeper = asyncio.create_task(self._keep(), name="ctxmem room")
        self.users = 0
        self.used_at = time.monotonic()

    async def memory(self) -> Memory:
        return await self._opened.get()

    async def mcp(self) -> StreamableHTTPSessionManager:
        await self._ready.wait()
        return self._sessions

    async def close(self) -> None:
        self._closing.set()
        await self._keeper

    async def _keep(self) -> None:
        async with self._opened, self._sessions.run():
            self._ready.set()
            await self._closing.wait()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Memory]:
        yield await self._opened.get()


def _mcp_sessions(lent: object) -> StreamableHTTPSessionManager:
    """An MCP server over the memory that is lent, stateless. Hosts, sizes and tokens are looked at before it."""
    from typing import cast

    from mcp.server.transport_security import TransportSecuritySettings

    from ctxmem_mcp.mcp_server.lazy_memory import Opener
    from ctxmem_mcp.mcp_server.server import build_server

    server = build_server(cast("Opener", lent), one_client=False)
    server.streamable_http_app(
        stateless_http=True,
        json_response=False,
        max_request_body_size=2**31 - 1,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return server.session_manager


class Rooms:
    """All rooms. Entered once, for as long as the service runs."""

    def __init__(self, settings: Settings, everybodys: bool) -> None:
        """everybodys: there is one principal, the default one."""
        self._settings, self._everybodys = settings, everybodys
        self._rooms: dict[str, Room] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.serving = False

    @property
    def open_now(self) -> int:
        return len(self._rooms)

    def folder_of(self, principal: str) -> Path:
        if principal == DEFAULT_PRINCIPAL:
            return self._settings.data_dir
        name = hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        return self._settings.data_dir / FOLDER / name

    async def room(self, principal: str) -> Room:
        """The principal's room, opened if need be."""
        room = self._rooms.get(principal)
        if room is None:
            folder = self.folder_of(principal)
            salt = b"" if principal == DEFAULT_PRINCIPAL else await asyncio.to_thread(salt_in, folder)
            # Somebody else may have opened it meanwhile.
            room = self._rooms.get(principal) or Room(replace(self._settings, data_dir=folder), salt)
            self._rooms[principal] = room
        room.used_at = time.monotonic()
        return room

    async def memory_for(self, principal: str) -> Memory:
        return await (await self.room(principal)).memory()

    @asynccontextmanager
    async def used(self, principal: str) -> AsyncIterator[None]:
        """While it lasts, the principal's room stays open."""
        room = await self.room(principal)
        room.users += 1
        try:
            yield
        finally:
            room.users -= 1
            room.used_at = time.monotonic()
            await self._close_idle()

    async def __aenter__(self) -> Rooms:
        self.serving = True
        if self._everybodys:
            # Opens by itself, so that what has expired is swept and what hooks left is taken in, asked or not.
            await self.room(DEFAULT_PRINCIPAL)
        self._sweeper = asyncio.create_task(self._sweep_unentered(), name="ctxmem sweep of rooms")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        rooms = list(self._rooms.values())
        self._rooms.clear()
        await asyncio.gather(*(room.close() for room in rooms))

    async def _close_idle(self) -> None:
        if len(self._rooms) <= ROOMS_OPEN_MAX:
            return
        long_ago = time.monotonic() - IDLE_SECONDS
        for principal, room in list(self._rooms.items()):
            if room.users == 0 and room.used_at < long_ago:
                del self._rooms[principal]
                await room.close()

    async def _sweep_unentered(self) -> None:
        while True:
            for folder in await asyncio.to_thread(self._unentered):
                try:
                    # No model: this is for what has expired, and not worth a word to anybody.
                    settings = replace(self._settings, data_dir=folder, llm_base_url=None, llm_model=None)
                    async with open_memory(settings) as memory:
                        await sweep(memory, folder)
                except Exception:
                    _log.exception("The sweep of a principal's folder failed.")
            await asyncio.sleep(self._settings.sweep_seconds)

    def _unentered(self) -> list[Path]:
        try:
            there = list((self._settings.data_dir / FOLDER).iterdir())
        except OSError:
            return []
        entered = {self.folder_of(principal) for principal in self._rooms}
        return [folder for folder in there if folder not in entered and (folder / SALT).is_file()]


def salt_in(folder: Path) -> bytes:
    """The salt of a principal's folder, made with the folder and never changed: ids hang on it."""
    path = folder / SALT
    with suppress(FileNotFoundError):
        return path.read_bytes()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = folder / f"{SALT}.{secrets.token_hex(8)}"
    with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(SALT_BYTES))
        file.flush()
        os.fsync(file.fileno())
    # A link fails where another process was first: its salt is the one.
    with suppress(FileExistsError):
        os.link(mine, path)
    mine.unlink()
    return path.read_bytes()
