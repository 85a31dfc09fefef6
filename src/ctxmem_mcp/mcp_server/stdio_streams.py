"""One of the SDK's two streams of messages, handed on, for whoever wants to look at what comes and goes."""

from __future__ import annotations

import contextvars
from types import TracebackType
from typing import Any, Self

from mcp.shared.message import SessionMessage


class Stream:
    """The stream as it is. A subclass looks at what comes in `__anext__`, at what goes in `send`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def last_context(self) -> contextvars.Context | None:
        found: contextvars.Context | None = getattr(self._stream, "last_context", None)
        return found

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)

    async def __anext__(self) -> SessionMessage | Exception:
        item: SessionMessage | Exception = await anext(self._stream)
        return item

    def __aiter__(self) -> Self:
        return self

    async def send(self, item: SessionMessage) -> None:
        await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        done: bool | None = await self._stream.__aexit__(kind, error, trace)
        return done
