"""Reads that belong together: where a conversation was forgotten between two of them, and another one begun under its
id, they are all taken again."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from ctxmem_mcp.errors import HeadMoved, UnknownConversation
from ctxmem_mcp.stores.base import State

# To be begun anew so often within one look, somebody has to mean it.
TRIES = 5

Verb = TypeVar("Verb", bound=Callable[..., Awaitable[Any]])


class _Informed(Protocol):
    async def _state(self, conversation_id: str) -> State: ...


def retry_if_replaced(verb: Verb) -> Verb:
    """The verb, whose first argument is a conversation's id, with all that it reads from one and the same.

    Nothing else that was stored ever goes, so this is looked at before and after and not at every read. What goes wrong
    in between is the verb's own affair only where the conversation is still the one it was.
    """

    @functools.wraps(verb)
    async def whole(self: _Informed, conversation_id: str, *given: Any, **more: Any) -> Any:
        for _ in range(TRIES):
            before = await self._state(conversation_id)
            try:
                found = await verb(self, conversation_id, *given, **more)
            except Exception:
                if await _is_still(self, before):
                    raise
            else:
                if await _is_still(self, before):
                    return found
        raise HeadMoved(conversation_id)

    return cast("Verb", whole)


async def _is_still(memory: _Informed, before: State) -> bool:
    try:
        now = await memory._state(before.conversation_id)
    except UnknownConversation:
        return False
    return now.created == before.created and now.version >= before.version
