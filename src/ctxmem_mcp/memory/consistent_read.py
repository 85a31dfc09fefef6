"""Several reads of one conversation, repeated if it was forgotten and restarted under its id between two of them."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

from ctxmem_mcp.errors import HeadMoved, UnknownConversation
from ctxmem_mcp.stores.records import State

# Give up after this many replacements during a single call.
TRIES = 5

_loaded: ContextVar[State | None] = ContextVar("_loaded", default=None)

Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])


class _HasState(Protocol):
    async def _state(self, conversation_id: str) -> State: ...

    async def _diagnose(self, conversation_id: str, error: Exception) -> None: ...


def retry_if_replaced(method: Method) -> Method:
    """Decorates a method whose first argument is a conversation id, so that all it reads is of one conversation.

    Stored data is otherwise immutable, so it is enough to compare the conversation's creation time and version before
    and after the call. An exception is raised only if it is still the same one; otherwise the call is repeated.

    Raises:
        HeadMoved: The conversation was replaced during each of several calls.
    """

    @functools.wraps(method)
    async def wrapper(self: _HasState, conversation_id: str, *args: Any, **kwargs: Any) -> Any:
        for _ in range(TRIES):
            before = await self._state(conversation_id)
            _loaded.set(before)
            try:
                result = await method(self, conversation_id, *args, **kwargs)
            except Exception as error:
                if await _is_same(self, before):
                    await self._diagnose(conversation_id, error)
                    raise
            else:
                if await _is_same(self, before):
                    return result
            finally:
                _loaded.set(None)
        raise HeadMoved(conversation_id)

    return cast("Method", wrapper)


def take_loaded(conversation_id: str) -> State | None:
    """Returns the state that the running call loaded just before it began; once, so that later reads are as late as
    they are written."""
    state = _loaded.get()
    _loaded.set(None)
    return state if state is not None and state.conversation_id == conversation_id else None


async def _is_same(memory: _HasState, before: State) -> bool:
    try:
        now = await memory._state(before.conversation_id)
    except UnknownConversation:
        return False
    return now.created == before.created and now.version >= before.version
