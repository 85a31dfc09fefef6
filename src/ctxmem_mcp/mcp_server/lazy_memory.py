"""The memory behind a server, opened when it is first needed: a host gets its answer to `initialize` before that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

Opener = Callable[[], "AbstractAsyncContextManager[Memory]"]

# A server that is never called opens by itself after this long, so that what has expired is swept even then.
OPENS_BY_ITSELF_AFTER_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Opened:
    """A memory that is there, or an opener for one: entered once, at the first `get`, and left with this."""

    def __init__(self, memory: Memory | Opener) -> None:
        self._opener: Opener | None = memory if callable(memory) else None
        self._memory: Memory | None = None if callable(memory) else memory
        self._open = AsyncExitStack()
        self._one = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    async def get(self) -> Memory:
        """The memory. What opening raises is raised here, and the next call tries again."""
        if self._memory is None:
            async with self._one:
                if self._memory is None and self._opener is not None:
                    self._memory = await self._open.enter_async_context(self._opener())
        assert self._memory is not None
        return self._memory

    async def __aenter__(self) -> Opened:
        if self._memory is None:
            self._later = asyncio.create_task(self._open_by_itself(), name="ctxmem opening")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._later is not None:
            self._later.cancel()
            with suppress(asyncio.CancelledError):
                await self._later
        await self._open.aclose()

    async def _open_by_itself(self) -> None:
        await asyncio.sleep(OPENS_BY_ITSELF_AFTER_SECONDS)
        try:
            await self.get()
        except Exception as error:
            _log.warning("The memory can't be opened: %s", error)
