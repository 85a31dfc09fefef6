"""Tenants: each principal, and each shared space, has a data folder, memory and MCP server of its own.

    data_dir/                                the default principal's
    data_dir/principals/HASH/                another tenant's: the same files, and
    data_dir/principals/HASH/salt            the key of its ids

A tenant's key is that of its principal, or `space:ID`. It is opened at the first request and stays open while it is
used. Expired data of closed tenants is swept too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ctxmem_mcp.composition import database_principals, database_salt, open_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL, access_of
from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory
from ctxmem_mcp.private_files import PRINCIPALS, SALT
from ctxmem_mcp.record_stores import RecordStore, open_record_store
from ctxmem_mcp.sweeper import Sweeper
from ctxmem_mcp.team.access import guard
from ctxmem_mcp.team.folders import load_or_create_salt, tenant_folder

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.requests import Request

    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.settings import Settings

# With more open tenants than this, those unused for IDLE_SECONDS are closed.
OPEN_TENANTS_MAX, IDLE_SECONDS = 32, 300.0

_log = logging.getLogger(__name__)


class Tenant:
    """The memory and MCP server of a principal or a shared space.

    Attributes:
        users: requests in progress.
        used_at: time.monotonic() of the last use.
    """

    def __init__(self, settings: Settings, salt: bytes, principal: str) -> None:
        """principal: the name of its rows in a PostgreSQL database."""
        self._memory = LazyMemory(partial(open_memory, settings, salt=salt, principal=principal))
        self._closing = asyncio.Event()
        self._ready = asyncio.Event()
        self._sessions = _mcp_session_manager(self._lend_memory)
        # The MCP server must be exited by the task that entered it, which can't be a request's.
        self._runner = asyncio.create_task(self._run(), name="ctxmem tenant")
        self.users = 0
        self.used_at = time.monotonic()

    async def memory(self) -> Memory:
        """Returns the memory, which the first call opens."""
        return await self._memory.get()

    async def mcp(self) -> StreamableHTTPSessionManager:
        """Returns the running MCP server."""
        await self._ready.wait()
        return self._sessions

    async def close(self) -> None:
        """Closes the MCP server and the memory."""
        self._closing.set()
        await self._runner

    async def _run(self) -> None:
        async with self._memory, self._sessions.run():
            self._ready.set()
            await self._closing.wait()

    @asynccontextmanager
    async def _lend_memory(self) -> AsyncIterator[Memory]:
        yield await self._memory.get()


def _mcp_session_manager(lend_memory: object) -> StreamableHTTPSessionManager:
    """Returns a stateless MCP server. The middleware has already checked host, size and token."""
    from mcp.server.transport_security import TransportSecuritySettings

    from ctxmem_mcp.mcp_server.lazy_memory import Opener
    from ctxmem_mcp.mcp_server.server import build_server

    server = build_server(cast("Opener", lend_memory), one_client=False, restrict=_restrict)
    server.streamable_http_app(
        stateless_http=True,
        json_response=False,
        max_request_body_size=2**31 - 1,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return server.session_manager


def _restrict(memory: Memory, request: object) -> Memory:
    """Returns the memory as the request may use it."""
    return guard(memory, access_of(cast("Request", request)))


async def _sweep_tenant(settings: Settings, sweeper: Sweeper, principal: str) -> None:
    records = open_record_store(settings, principal)
    try:
        async with open_memory(settings, sweeper=sweeper, principal=principal) as memory:
            await sweeper.sweep(memory, records)
    finally:
        await records.close()


class Tenants:
    """All tenants. An async context manager, entered once while the service runs."""

    def __init__(self, settings: Settings, single_tenant: bool) -> None:
        """single_tenant: the default principal is the only one."""
        self._settings, self._single_tenant = settings, single_tenant
        self._tenants: dict[str, Tenant] = {}
        self._records: dict[str, RecordStore] = {}
        self._sweepers: dict[Path, Sweeper] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.serving = False

    @property
    def open_count(self) -> int:
        """The number of open tenants."""
        return len(self._tenants)

    def folder_of(self, key: str) -> Path:
        """Returns a tenant's data folder, which may not exist yet."""
        if key == DEFAULT_PRINCIPAL:
            return self._settings.data_dir
        return tenant_folder(self._settings.data_dir, key)

    def records_of(self, key: str) -> RecordStore:
        """Returns what is stored beside a tenant's memory, which need not be open."""
        records = self._records.get(key)
        if records is None:
            settings = replace(self._settings, data_dir=self.folder_of(key))
            records = self._records[key] = open_record_store(settings, self._rows_of(key))
        return records

    def _rows_of(self, key: str) -> str:
        """Returns the principal of a tenant's rows in a PostgreSQL database: the name of its folder."""
        return key if key == DEFAULT_PRINCIPAL else self.folder_of(key).name

    async def _salt(self, key: str) -> bytes:
        if key == DEFAULT_PRINCIPAL:
            return b""
        if self._settings.store_url is not None:
            return await database_salt(self._settings, self._rows_of(key))
        return await asyncio.to_thread(load_or_create_salt, self.folder_of(key))

    async def get(self, key: str) -> Tenant:
        """Returns a tenant, and opens it if it is closed."""
        tenant = self._tenants.get(key)
        if tenant is None:
            settings, salt = replace(self._settings, data_dir=self.folder_of(key)), await self._salt(key)
            # Another request may have opened it while this one waited.
            tenant = self._tenants.get(key) or Tenant(settings, salt, self._rows_of(key))
            self._tenants[key] = tenant
        tenant.used_at = time.monotonic()
        return tenant

    async def memory_for(self, key: str) -> Memory:
        """Returns a tenant's memory, and opens it if it is closed."""
        return await (await self.get(key)).memory()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Keeps a tenant open inside the `async with` block."""
        tenant = await self.get(key)
        tenant.users += 1
        try:
            yield
        finally:
            tenant.users -= 1
            tenant.used_at = time.monotonic()
            await self._close_idle()

    async def __aenter__(self) -> Tenants:
        self.serving = True
        if self._single_tenant:
            # Opened without a request, so that expired data is swept and spooled hook events are stored in any case.
            await self.get(DEFAULT_PRINCIPAL)
        self._sweeper = asyncio.create_task(self._sweep_closed(), name="ctxmem sweep of tenants")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        tenants = list(self._tenants.values())
        self._tenants.clear()
        await asyncio.gather(*(tenant.close() for tenant in tenants))

    async def close_records(self) -> None:
        """Closes the records of all tenants, after the last route has written to them."""
        while self._records:
            await self._records.popitem()[1].close()

    async def _close_idle(self) -> None:
        if len(self._tenants) <= OPEN_TENANTS_MAX:
            return
        idle_since = time.monotonic() - IDLE_SECONDS
        for key, tenant in list(self._tenants.items()):
            # While another one was closed, this one may have been closed and opened again.
            is_current = self._tenants.get(key) is tenant
            if is_current and tenant.users == 0 and tenant.used_at < idle_since:
                del self._tenants[key]
                records = self._records.pop(key, None)  # now, because a request may open the tenant again meanwhile
                await tenant.close()
                if records is not None:
                    await records.close()

    async def _sweep_closed(self) -> None:
        """Sweeps closed tenants' folders every `sweep_seconds`; one again in a minute if that may delete something."""
        from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS

        next_round = float("-inf")
        while True:
            is_round = time.monotonic() >= next_round
            if is_round:
                next_round = time.monotonic() + self._settings.sweep_seconds
            for folder in await self._closed_folders():
                sweeper = self._sweepers.setdefault(folder, Sweeper())
                if not (is_round or sweeper.is_waiting):
                    continue
                try:
                    # Without a model: a sweep only removes expired data and must not cost anything.
                    settings = replace(self._settings, data_dir=folder, llm_base_url=None, llm_model=None)
                    await _sweep_tenant(settings, sweeper, folder.name)
                except Exception:
                    _log.exception("Sweeping a principal's folder failed.")
            seconds = max(0.0, next_round - time.monotonic())
            is_waiting = any(sweeper.is_waiting for sweeper in self._sweepers.values())
            await asyncio.sleep(min(seconds, CONFIRM_SECONDS) if is_waiting else seconds)

    async def _closed_folders(self) -> list[Path]:
        opened = {self.folder_of(key) for key in self._tenants}
        return [folder for folder in await self._folders() if folder not in opened]

    async def _folders(self) -> list[Path]:
        """Returns the folders of all principals but the default one. With a database, they need not exist."""
        if self._settings.store_url is not None:
            try:
                names = await database_principals(self._settings)
            except CtxmemError as error:
                _log.warning("The principals to sweep can't be read: %s", error)
                return []
            return [self._settings.data_dir / PRINCIPALS / name for name in names if name != DEFAULT_PRINCIPAL]
        return await asyncio.to_thread(self._folders_on_disk)

    def _folders_on_disk(self) -> list[Path]:
        try:
            folders = list((self._settings.data_dir / PRINCIPALS).iterdir())
        except OSError:
            return []
        return [folder for folder in folders if (folder / SALT).is_file()]
